// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier replay`: what the daemon's placement would have done with a recording. Needs no daemon. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/replay.h"
#include "host/trace-replay.h"

#include <string.h>

#define RATE (256ll << 20)              /* the daemon's, where it is told nothing */

static char *policy, *dram, *rate, *use, *output;
static double skip, window;

static const GOptionEntry options[] = {
    { "policy", 'p', 0, G_OPTION_ARG_STRING, &policy, NULL, NULL },
    { "dram", 'd', 0, G_OPTION_ARG_STRING, &dram, NULL, NULL },
    { "rate", 'r', 0, G_OPTION_ARG_STRING, &rate, NULL, NULL },
    { "use", 'u', 0, G_OPTION_ARG_STRING, &use, NULL, NULL },
    { "skip", 0, 0, G_OPTION_ARG_DOUBLE, &skip, NULL, NULL },
    { "window", 0, 0, G_OPTION_ARG_DOUBLE, &window, NULL, NULL },
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &output, NULL, NULL },
    { 0 },
};

static bool usage(GError **error, const char *what)
{
    g_set_error_literal(error, CLI_ERROR, CLI_USAGE, what);
    return false;
}

/* --- what both commands that replay share --------------------------------------------------------------- */

bool replay_open(const char *path, struct replay_memory *m, GError **error)
{
    struct vt_err err = { 0 };
    g_autoptr(Trace) t = trace_open(path, &err);
    struct trace_item item;

    if (!t || trace_next(t, &item, &err) < 0) {
        g_set_error_literal(error, CLI_ERROR, CLI_REFUSED, err.text);
        return false;
    }
    *m = (struct replay_memory) { .granule = trace_header(t)->granule, .quota = trace_header(t)->quota };
    for (guint32 b = 0; item.what == TRACE_LAYOUT && b < item.layout->n_blocks; b++) {
        m->ram += item.layout->block[b].length;
    }
    return true;
}

bool replay_policy(const char *name, const struct policy **to, GError **error)
{
    *to = policy_find(name ? name : policy_cbx.name);
    if (!*to) {
        g_set_error(error, CLI_ERROR, CLI_USAGE, "there is no policy '%s'", name);
    }
    return *to;
}

bool replay_rate(const char *text, guint64 *to, GError **error)
{
    gint64 bytes = RATE;
    g_autofree char *size = g_strdup(text);

    if (size && g_str_has_suffix(size, "/s")) {
        size[strlen(size) - 2] = '\0';
    }
    if (size && !fmt_parse_size(size, &bytes, error)) {
        return false;
    }
    *to = (guint64)bytes;
    return true;
}

bool replay_use(const char *text, enum replay_use *to, GError **error)
{
    static const char *const names[] = { "recorded", "samples", "probes" };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == REPLAY_USE_END);
    *to = REPLAY_AS_RECORDED;
    for (guint i = 0; text && i < REPLAY_USE_END; i++) {
        if (g_str_equal(text, names[i])) {
            *to = i;
            return true;
        }
    }
    return !text || usage(error, "--use takes samples, probes or recorded");
}

void replay_notes(const struct replay_result *r, GString *out)
{
    if (r->cut) {
        g_string_append(out, "The recording was cut short; what there is of it was replayed.\n");
    }
    if (r->totals.lost_rounds || r->totals.lost_observations) {
        g_string_append_printf(out, "%" G_GUINT64_FORMAT " rounds and %" G_GUINT64_FORMAT
                               " observations are missing in it.\n", r->totals.lost_rounds,
                               r->totals.lost_observations);
    }
}

/* --- text ------------------------------------------------------------------------------------------------ */

static void add_row(struct fmt_table *t, const char *what, char *value /* take */, const char *more)
{
    fmt_table_add(t, g_strdup(what));
    fmt_table_add(t, value);
    fmt_table_add(t, g_strdup(more));
}

static char *percent(double part, double whole)
{
    return whole > 0 ? g_strdup_printf("%.2f %%", 100 * part / whole) : g_strdup("-");
}

static void table(const struct replay_result *r, GString *out)
{
    struct fmt_table t;
    g_autofree char *back = percent((double)r->back, (double)r->moves);
    g_autofree char *back_text = g_strdup_printf("%s of %" G_GUINT64_FORMAT " moves undone within %.0f s",
                                                 back, r->moves, REPLAY_BACK_S);

    fmt_table_init(&t, 3);
    add_row(&t, "hit ratio", percent(r->hits, r->accesses), "accesses that DRAM serves");
    add_row(&t, "oracle", percent(r->oracle, r->accesses), "each window's best, known beforehand");
    add_row(&t, "long run", percent(r->long_run, r->accesses), "the best that never moves");
    add_row(&t, "share of oracle", r->oracle > 0 ? fmt_number(r->hits / r->oracle) : g_strdup("-"), "");
    add_row(&t, "moved", r->seconds > 0 ? g_strdup_printf("%.2f MB/s", (double)r->moved / r->seconds / 1e6)
                                        : g_strdup("-"), back_text);
    fmt_table_print(&t, 2, out);
}

static void print_text(const struct replay_result *r, const struct replay_options *o)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *vm = fmt_safe(r->header.vm), *size = fmt_size((gint64)(r->dram_granules *
                                                                           r->header.granule));
    g_autofree char *ram = fmt_size((gint64)(r->granules * r->header.granule));
    g_autofree char *time = fmt_duration(r->seconds), *left = fmt_duration(r->skip_s);

    g_string_append_printf(out, "%s: %s, %s of %s in DRAM; %s after the first %s, %" G_GUINT64_FORMAT
                           " samples\n", vm, o->policy->name, size, ram, time, left, r->samples);
    table(r, out);
    if (!(r->accesses > 0)) {
        g_string_append(out, "No source in it samples accesses, so hits are not known.\n");
    }
    replay_notes(r, out);
    g_print("%s", out->str);
}

/* --- JSON ------------------------------------------------------------------------------------------------ */

void replay_set_ratio(JsonObject *o, const char *name, double part, double whole)
{
    if (whole > 0) {
        json_object_set_double_member(o, name, part / whole);
    } else {
        json_object_set_null_member(o, name);
    }
}

void replay_describe(JsonObject *o, const char *path, const struct replay_result *r)
{
    json_object_set_string_member(o, "file", path);
    json_object_set_string_member(o, "vm", r->header.vm);
    json_object_set_int_member(o, "granule_bytes", (gint64)r->header.granule);
    json_object_set_int_member(o, "granules", r->granules);
    json_object_set_boolean_member(o, "cut", r->cut);
    json_object_set_int_member(o, "lost_rounds", (gint64)r->totals.lost_rounds);
    json_object_set_int_member(o, "lost_observations", (gint64)r->totals.lost_observations);
}

static JsonArray *series(const struct replay_result *r)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < r->points->len; i++) {
        const struct replay_point *p = &g_array_index(r->points, struct replay_point, i);
        JsonObject *o = json_object_new();

        json_object_set_double_member(o, "at_s", p->at_s);
        json_object_set_double_member(o, "seconds", p->seconds);
        json_object_set_double_member(o, "accesses", p->accesses);
        replay_set_ratio(o, "hit_ratio", p->hits, p->accesses);
        replay_set_ratio(o, "oracle", p->oracle, p->accesses);
        json_object_set_int_member(o, "moved_bytes", (gint64)p->moved);
        json_array_add_object_element(list, o);
    }
    return list;
}

static void print_json(const char *path, const struct replay_result *r, const struct replay_options *o)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *all = json_object_new();

    replay_describe(all, path, r);
    json_object_set_string_member(all, "policy", o->policy->name);
    json_object_set_int_member(all, "dram_bytes", (gint64)(r->dram_granules * r->header.granule));
    json_object_set_int_member(all, "rate_bytes_per_s", (gint64)o->rate);
    json_object_set_double_member(all, "skipped_s", r->skip_s);
    json_object_set_double_member(all, "seconds", r->seconds);
    json_object_set_int_member(all, "samples", (gint64)r->samples);
    replay_set_ratio(all, "hit_ratio", r->hits, r->accesses);
    replay_set_ratio(all, "oracle", r->oracle, r->accesses);
    replay_set_ratio(all, "long_run", r->long_run, r->accesses);
    replay_set_ratio(all, "share_of_oracle", r->hits, r->oracle);
    replay_set_ratio(all, "moved_bytes_per_s", (double)r->moved, r->seconds);
    replay_set_ratio(all, "ping_pong", (double)r->back, (double)r->moves);
    json_object_set_int_member(all, "moves", (gint64)r->moves);
    json_object_set_double_member(all, "cpu_s", r->cpu_s);
    json_object_set_array_member(all, "series", series(r));
    json_node_take_object(node, all);
    cli_print_json(node);
}

/* --- the command ---------------------------------------------------------------------------------------- */

static bool read_options(const char *path, struct replay_options *o, GError **error)
{
    struct replay_memory m;
    gint64 bytes;

    if (skip < 0 || window < 0) {
        return usage(error, "--skip and --window take seconds");
    }
    if (!replay_policy(policy, &o->policy, error) || !replay_rate(rate, &o->rate, error) ||
        !replay_use(use, &o->use, error) || !replay_open(path, &m, error)) {
        return false;
    }
    bytes = (gint64)m.quota;
    if (dram && !fmt_parse_quota(dram, (gint64)m.ram, (gint64)m.granule, &bytes, error)) {
        return false;
    }
    if (bytes < (gint64)m.granule) {
        return usage(error, "--dram is less than a granule");
    }
    o->dram = (guint64)bytes;
    return true;
}

static bool run_replay(struct cli *cli, char **args, GError **error)
{
    struct replay_options o = { .skip_s = skip > 0 ? skip : -1, .window_s = window };
    struct replay_result result;
    struct vt_err err = { 0 };
    bool ok;

    if (!read_options(args[0], &o, error)) {
        return false;
    }
    ok = replay_run(args[0], &o, &result, &err) == 0;
    if (!ok) {
        g_set_error_literal(error, CLI_ERROR, CLI_REFUSED, err.text);
    } else if (cli->json) {
        print_json(args[0], &result, &o);
    } else {
        print_text(&result, &o);
    }
    if (ok && output) {
        ok = replay_png_draw(&result, o.policy->name, output, error);
    }
    replay_clear(&result);
    return ok;
}

const struct cli_command cli_replay = {
    .name = "replay",
    .usage = "F.vmtrace [-d SIZE|PCT%]",
    .summary = "what placement would have done with a recording",
    .details = "Runs the daemon's heat and placement on what `vmtier record` wrote, and counts the recorded\n"
               "samples that DRAM would have served. No daemon and no VM are needed.\n\n"
               "  -d, --dram SIZE   DRAM the VM may have, or a share of its RAM (as when it was recorded)\n"
               "  -p, --policy P    the policy (cbx)\n"
               "  -r, --rate SIZE   bytes that may be moved per second (256M)\n"
               "  -u, --use S       samples, probes, or as recorded: what placement follows\n"
               "  --skip S          seconds that do not count (a quarter of it, 60 at most)\n"
               "  --window S        seconds the oracle looks at in one piece (10)\n"
               "  -o, --output F    draw hits and moves over time as a PNG",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_replay,
};
