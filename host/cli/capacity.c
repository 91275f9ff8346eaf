// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier capacity`: how much of a VM could be on CXL, by a recording. Needs no daemon. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/replay.h"
#include "host/trace-capacity.h"

#include <string.h>
#include <unistd.h>

#define BAR 24                          /* cells */

static char *slow, *policy, *rate, *use;

static const GOptionEntry options[] = {
    { "slow", 's', 0, G_OPTION_ARG_STRING, &slow, NULL, NULL },
    { "policy", 'p', 0, G_OPTION_ARG_STRING, &policy, NULL, NULL },
    { "rate", 'r', 0, G_OPTION_ARG_STRING, &rate, NULL, NULL },
    { "use", 'u', 0, G_OPTION_ARG_STRING, &use, NULL, NULL },
    { 0 },
};

static const double usual[] = { 0.01, 0.02, 0.05, 0.10 };

struct answers {
    struct capacity_answer list[G_N_ELEMENTS(usual)];
    guint n;
};

/* --- text ------------------------------------------------------------------------------------------------ */

static char *share_text(double share)
{
    return g_strdup_printf(share < 0.1 ? "%.2f %%" : "%.1f %%", 100 * share);
}

static char *size_text(const struct capacity *c, guint32 granules)
{
    return fmt_size((gint64)(granules * c->whole.header.granule));
}

/* "640 MiB (62 %)": what need not be DRAM. */
static char *cxl_text(const struct capacity *c, guint32 dram)
{
    const guint32 cxl = c->whole.granules - dram;
    g_autofree char *size = size_text(c, cxl);

    return g_strdup_printf("%s (%.0f %%)", size, 100.0 * cxl / c->whole.granules);
}

static void answer_rows(const struct capacity *c, const struct answers *a, GString *out)
{
    struct fmt_table t;

    fmt_table_init(&t, 5);
    fmt_table_add(&t, g_strdup("SLOW ACCESSES"));
    fmt_table_add(&t, g_strdup("ON CXL, TIERED"));
    fmt_table_add(&t, g_strdup("DRAM LEFT"));
    fmt_table_add(&t, g_strdup("MOVED"));
    fmt_table_add(&t, g_strdup("ON CXL, FIXED"));
    for (guint i = 0; i < a->n; i++) {
        const struct capacity_answer *x = &a->list[i];

        fmt_table_add(&t, g_strdup_printf("<= %g %%", 100 * x->slow));
        fmt_table_add(&t, cxl_text(c, x->tiered.dram));
        fmt_table_add(&t, size_text(c, x->tiered.dram));
        fmt_table_add(&t, g_strdup_printf("%.2f MB/s", x->tiered.moved_per_s / 1e6));
        fmt_table_add(&t, cxl_text(c, x->fixed.dram));
    }
    fmt_table_print(&t, 2, out);
}

static void chart(const struct capacity *c, GString *out)
{
    double most = 1e-9;
    struct fmt_table t;

    for (int i = 0; i < CAPACITY_STEPS; i++) {
        most = MAX(most, c->curve[i].tiered);
    }
    fmt_table_init(&t, 5);
    fmt_table_add(&t, g_strdup("DRAM"));
    fmt_table_add(&t, g_strdup(""));
    fmt_table_add(&t, g_strdup("SLOW ACCESSES, TIERED"));
    fmt_table_add(&t, g_strdup(""));
    fmt_table_add(&t, g_strdup("FIXED"));
    for (int i = 0; i < CAPACITY_STEPS; i++) {
        const struct capacity_point *p = &c->curve[i];

        fmt_table_add(&t, g_strdup_printf("%d %%", (i + 1) * 100 / CAPACITY_STEPS));
        fmt_table_add(&t, size_text(c, p->dram));
        fmt_table_add(&t, fmt_bar(p->tiered / most, BAR));
        fmt_table_add(&t, share_text(p->tiered));
        fmt_table_add(&t, share_text(p->fixed));
    }
    g_string_append_c(out, '\n');
    fmt_table_print(&t, 2, out);
}

static void print_text(const struct capacity *c, const struct answers *a)
{
    const struct replay_result *w = &c->whole;
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *vm = fmt_safe(w->header.vm), *ram = size_text(c, w->granules);
    g_autofree char *time = fmt_duration(w->seconds), *left = fmt_duration(w->skip_s);

    g_string_append_printf(out, "%s: %s of RAM; %s after the first %s, %" G_GUINT64_FORMAT
                           " samples; placed by %s\n\n", vm, ram, time, left, w->samples,
                           c->options->policy->name);
    answer_rows(c, a, out);
    chart(c, out);
    g_string_append(out, "\nFixed: the best placement that never moves, which nobody knows beforehand.\n");
    replay_notes(w, out);
    g_print("%s", out->str);
}

/* --- JSON ------------------------------------------------------------------------------------------------ */

static JsonObject *point_object(const struct capacity *c, const struct capacity_point *p, bool tiered)
{
    const guint64 granule = c->whole.header.granule;
    JsonObject *o = json_object_new();

    json_object_set_int_member(o, "dram_bytes", (gint64)(p->dram * granule));
    json_object_set_int_member(o, "cxl_bytes", (gint64)((c->whole.granules - p->dram) * granule));
    if (tiered) {
        json_object_set_double_member(o, "tiered", p->tiered);
        json_object_set_double_member(o, "moved_bytes_per_s", p->moved_per_s);
    }
    json_object_set_double_member(o, "fixed", p->fixed);
    return o;
}

static JsonArray *answers_array(const struct capacity *c, const struct answers *a)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < a->n; i++) {
        JsonObject *o = json_object_new();

        json_object_set_double_member(o, "slow", a->list[i].slow);
        json_object_set_object_member(o, "tiered", point_object(c, &a->list[i].tiered, true));
        json_object_set_object_member(o, "fixed", point_object(c, &a->list[i].fixed, false));
        json_array_add_object_element(list, o);
    }
    return list;
}

static void print_json(const struct capacity *c, const struct answers *a)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *all = json_object_new();
    JsonArray *curve = json_array_new();

    for (int i = 0; i < CAPACITY_STEPS; i++) {
        json_array_add_object_element(curve, point_object(c, &c->curve[i], true));
    }
    replay_describe(all, c->path, &c->whole);
    json_object_set_string_member(all, "policy", c->options->policy->name);
    json_object_set_double_member(all, "skipped_s", c->whole.skip_s);
    json_object_set_double_member(all, "seconds", c->whole.seconds);
    json_object_set_int_member(all, "samples", (gint64)c->whole.samples);
    json_object_set_array_member(all, "answers", answers_array(c, a));
    json_object_set_array_member(all, "curve", curve);
    json_node_take_object(node, all);
    cli_print_json(node);
}

/* --- the command ---------------------------------------------------------------------------------------- */

/* "3", "3%", "0.5 %". */
static bool read_slow(struct answers *a, double *wanted, GError **error)
{
    char *end;

    a->n = slow ? 1 : G_N_ELEMENTS(usual);
    memcpy(wanted, usual, sizeof(usual));
    if (!slow) {
        return true;
    }
    wanted[0] = g_ascii_strtod(slow, &end) / 100;
    end += strspn(end, " ");
    if (end == slow || (*end && !g_str_equal(end, "%")) || !(wanted[0] >= 0 && wanted[0] < 1)) {
        g_set_error_literal(error, CLI_ERROR, CLI_USAGE, "--slow takes a share of all accesses in percent, "
                            "such as 5%");
        return false;
    }
    return true;
}

static void show_progress(guint32 replays)
{
    if (isatty(STDERR_FILENO)) {
        g_printerr("\r%u replays\033[K", replays);
    }
}

static bool measure(struct capacity *c, struct answers *a, const double *wanted, GError **error)
{
    struct vt_err err = { 0 };
    int rc = capacity_measure(c, &err);

    for (guint i = 0; i < a->n && !rc; i++) {
        rc = capacity_answer(c, wanted[i], &a->list[i], &err);
    }
    if (isatty(STDERR_FILENO)) {
        g_printerr("\r\033[K");
    }
    if (rc) {
        g_set_error_literal(error, CLI_ERROR, CLI_REFUSED, err.text);
    }
    return !rc;
}

static bool run_capacity(struct cli *cli, char **args, GError **error)
{
    struct replay_options o = { .skip_s = -1 };
    struct capacity c = { .path = args[0], .options = &o, .progress = show_progress };
    struct answers answers;
    double wanted[G_N_ELEMENTS(usual)];
    bool ok;

    if (!read_slow(&answers, wanted, error) || !replay_policy(policy, &o.policy, error) ||
        !replay_rate(rate, &o.rate, error) || !replay_use(use, &o.use, error)) {
        return false;
    }
    ok = measure(&c, &answers, wanted, error);
    if (ok) {
        (cli->json ? print_json : print_text)(&c, &answers);
    }
    capacity_clear(&c);
    return ok;
}

const struct cli_command cli_capacity = {
    .name = "capacity",
    .usage = "F.vmtrace [-s PCT%]",
    .summary = "how much of a recorded VM could be on CXL",
    .details = "Says how much of the VM's RAM could be on CXL so that at most 1, 2, 5 and 10 % of its\n"
               "accesses go there: by replays of the daemon's placement with less and less DRAM, and by the\n"
               "best placement that never moves. No daemon and no VM are needed.\n\n"
               "  -s, --slow PCT    this share of accesses instead\n"
               "  -p, --policy P    the policy (cbx)\n"
               "  -r, --rate SIZE   bytes that may be moved per second (256M)\n"
               "  -u, --use S       samples, probes, or as recorded: what placement follows",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_capacity,
};
