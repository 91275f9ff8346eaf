// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which placement is right how often, and at what price: the daemon's own heat and policies (its
 * objects) and others' on simulated loads, policy x load x seed.
 *
 *   place                    everything: build/bench/place.json and a table, some minutes
 *   place --quick            one seed, shorter, without the loads that are held out: < 60 s
 *   place --load L --policy P --seeds N --seconds S     parts of it
 *
 * A row says, as means over the seeds and without the first 60 s: the share of accesses served from
 * dram over the share that the truly hottest granules would serve, and the least of the seeds; bytes
 * moved, both directions; the share of moves that go back within 30 s; the CPU time that looking takes.
 * And how long it takes to 90 % of the oracle after a cold start and after a shift of the hot set ("*":
 * not always). The time counted is a whole number of scans. 16 GiB of 2 MiB granules, a quarter may be in
 * dram, 1 GiB/s may move, a second of it may be saved up; bench/place/sim.h has what else is assumed.
 *
 * Recordings of real guests (bench/traces) come last: as much memory as they have, a quarter of it dram, and
 * a quarter of their time to warm up. Sampling rows only.
 */
#include "bench/place/contenders.h"
#include "bench/place/loads.h"
#include "bench/place/recorded.h"

#include <json-glib/json-glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GRANULES 8192u
#define QUOTA    2048u
#define RATE     (1024ull << 20)
#define WARM_S   60.0
#define RECORDED_WARM 0.25      /* of a recording's time, at most */

static struct {
    gboolean quick;
    char *load, *policy, *traces;
    int seeds;
    double seconds, depth_s;
} opt = { .seeds = 3, .seconds = 228, .depth_s = 1 };

struct row {
    double share, least, mbps, back, track_ms, cold_s, shift_s;
    guint n, shifts, missed, cold_missed;
};

/* The simulation takes each granule for one of 2 MiB: the same bytes per second are more of smaller ones. */
static double as_recorded(struct sim *sim, const struct recorded *r)
{
    sim->n = r->n;
    sim->quota = r->n / 4;
    sim->seconds = r->seconds;
    sim->warm_s = MIN(WARM_S, RECORDED_WARM * r->seconds);
    sim->rate_limit = (guint64)((double)RATE * (double)SIM_GRANULE / (double)r->granule);
    return (double)r->granule;
}

static void run(struct row *row, const struct load *load, const struct contender *c, guint64 seed)
{
    struct sim sim = { .n = GRANULES, .quota = QUOTA, .seconds = opt.seconds, .warm_s = WARM_S,
                       .rate_limit = RATE, .depth_s = opt.depth_s };
    double bytes = SIM_GRANULE, counted, share;

    if (load->recorded)
        bytes = as_recorded(&sim, (const struct recorded *)(const void *)load);
    counted = sim.seconds - sim.warm_s;
    sim_begin(&sim, load, seed);
    sim_run(&sim, c);
    share = sim.hits / sim.oracles;
    row->least = row->n ? MIN(row->least, share) : share;
    row->share += share;
    row->mbps += (double)sim.moves * bytes / counted / 1e6;
    row->back += sim.moves ? (double)sim.back / (double)sim.moves : 0;
    row->track_ms += sim.tracked_us / counted / 1e3;
    row->cold_s += MAX(sim.cold_s, 0);
    row->cold_missed += sim.cold_s < 0;
    row->shift_s += sim.shift_s;
    row->shifts += sim.shifts;
    row->missed += sim.missed + (sim.waiting_since >= 0);
    row->n++;
    sim_end(&sim);
}

static void finish(struct row *row)
{
    row->share /= row->n;
    row->mbps /= row->n;
    row->back /= row->n;
    row->track_ms /= row->n;
    row->cold_s = row->cold_missed < row->n ? row->cold_s / (row->n - row->cold_missed) : -1;
    row->shift_s = row->shifts ? row->shift_s / row->shifts : -1;
}

/* --- output ------------------------------------------------------------------------------------------- */

static const char *seconds_text(char *to, gsize size, double s, guint missed)
{
    if (s < 0)
        g_snprintf(to, size, "%s", missed ? "never" : "-");
    else
        g_snprintf(to, size, "%.2f%s", s, missed ? "*" : "");
    return to;
}

static void print_row(const struct load *load, const struct contender *c, const struct row *r)
{
    char cold[16], shift[16];

    g_print("%-10s %-20s %6.3f %6.3f %7.1f %6.3f %8s %8s %7.1f\n", load->name, c->name, r->share, r->least,
            r->mbps, r->back, seconds_text(cold, sizeof(cold), r->cold_s, r->cold_missed),
            seconds_text(shift, sizeof(shift), r->shift_s, r->missed), r->track_ms);
}

static void add_row(JsonBuilder *b, const struct load *load, const struct contender *c,
                    const struct row *r)
{
    const struct {
        const char *name;
        double value;
    } values[] = {
        { "share", r->share }, { "share_least", r->least }, { "moved_mb_s", r->mbps },
        { "ping_pong", r->back }, { "tracking_ms_s", r->track_ms }, { "cold_s", r->cold_s },
        { "shift_s", r->shift_s }, { "shifts", r->shifts }, { "shifts_missed", r->missed },
    };

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "load");
    json_builder_add_string_value(b, load->name);
    json_builder_set_member_name(b, "held_out");
    json_builder_add_boolean_value(b, load->held_out);
    json_builder_set_member_name(b, "policy");
    json_builder_add_string_value(b, c->name);
    json_builder_set_member_name(b, "seeds");
    json_builder_add_int_value(b, r->n);
    for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
        json_builder_set_member_name(b, values[i].name);
        json_builder_add_double_value(b, values[i].value);
    }
    json_builder_end_object(b);
}

static bool wanted(const char *pattern, const char *name)
{
    g_auto(GStrv) names = pattern ? g_strsplit(pattern, ",", -1) : NULL;

    return !names || g_strv_contains((const gchar *const *)names, name);
}

/* Hints are given when the hot set jumps, so only there they are worth a row. */
static bool is_hint_row(const struct contender *c)
{
    return strstr(c->name, "S/8") != NULL;
}

/* Which of a granule's pages were accessed is not recorded, so there is nothing for probes to find. */
static bool is_probe_row(const struct contender *c)
{
    return g_str_has_prefix(c->name, "cbx") && g_str_has_suffix(c->name, "P");
}

static void run_load(JsonBuilder *b, const struct load *load)
{
    for (guint i = 0; i < n_contenders; i++) {
        const struct contender *c = contenders[i];
        struct row row = { 0 };

        if (!wanted(opt.policy, c->name) || (is_hint_row(c) && load != &load_shift))
            continue;
        if (load->recorded && is_probe_row(c))
            continue;
        for (int seed = 1; seed <= opt.seeds; seed++)
            run(&row, load, c, (guint64)seed);
        finish(&row);
        print_row(load, c, &row);
        add_row(b, load, c, &row);
    }
}

static bool write_json(JsonBuilder *b, const char *path)
{
    g_autoptr(JsonGenerator) g = json_generator_new();
    g_autoptr(JsonNode) root = json_builder_get_root(b);
    g_autoptr(GError) error = NULL;

    json_generator_set_pretty(g, TRUE);
    json_generator_set_root(g, root);
    if (!json_generator_to_file(g, path, &error)) {
        g_printerr("place: %s\n", error->message);
        return false;
    }
    g_print("%s\n", path);
    return true;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool run_recorded(JsonBuilder *b, const char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while (d && (name = g_dir_read_name(d)))
        if (g_str_has_suffix(name, ".vmtrace"))
            g_ptr_array_add(names, g_build_filename(dir, name, NULL));
    g_ptr_array_sort(names, by_name);
    for (guint i = 0; i < names->len; i++) {
        struct vt_err err = { 0 };
        struct recorded *r = recorded_open(names->pdata[i], &err);

        if (!r) {
            g_printerr("place: %s\n", err.text);
            return false;
        }
        if (wanted(opt.load, r->name))
            run_load(b, &r->load);
        recorded_free(r);
    }
    return true;
}

static bool parse(int *argc, char ***argv)
{
    const GOptionEntry entries[] = {
        { "quick", 0, 0, G_OPTION_ARG_NONE, &opt.quick, "one seed, shorter, no held-out loads", NULL },
        { "load", 0, 0, G_OPTION_ARG_STRING, &opt.load, "only these loads", "L,L" },
        { "policy", 0, 0, G_OPTION_ARG_STRING, &opt.policy, "only these policies", "P,P" },
        { "traces", 0, 0, G_OPTION_ARG_FILENAME, &opt.traces, "where recordings are (bench/traces)", "DIR" },
        { "seeds", 0, 0, G_OPTION_ARG_INT, &opt.seeds, "how many seeds (3)", "N" },
        { "seconds", 0, 0, G_OPTION_ARG_DOUBLE, &opt.seconds, "simulated (228)", "S" },
        { "depth", 0, 0, G_OPTION_ARG_DOUBLE, &opt.depth_s, "seconds of the rate saved up (1)", "S" },
        { 0 }
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- placement, simulated");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (g_option_context_parse(context, argc, argv, &error))
        return true;
    g_printerr("place: %s\n", error->message);
    return false;
}

int main(int argc, char **argv)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    const char *build = g_getenv("BUILD");
    g_autofree char *path = NULL;

    if (!parse(&argc, &argv))
        return 2;
    if (opt.quick) {
        opt.seeds = 1;
        opt.seconds = 127;
    }
    path = g_strdup_printf("%s/bench/place%s.json", build ? build : "build", opt.quick ? "-quick" : "");
    g_print("%-10s %-20s %6s %6s %7s %6s %8s %8s %7s\n", "load", "policy", "share", "least", "MB/s",
            "back", "cold s", "shift s", "ms/s");
    json_builder_begin_array(b);
    for (guint i = 0; i < n_loads; i++)
        if (wanted(opt.load, loads[i]->name) && !(opt.quick && loads[i]->held_out))
            run_load(b, loads[i]);
    if (!opt.quick && !run_recorded(b, opt.traces ? opt.traces : "bench/traces"))
        return 1;
    json_builder_end_array(b);
    return write_json(b, path) ? 0 : 1;
}
