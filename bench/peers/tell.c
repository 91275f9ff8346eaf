// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * All runs together: report.json, and tables for people, a row per load and a column per system. What the runs were
 * asked to show is judged here, too, and a miss is written as one.
 */
#include "bench/lib/report.h"
#include "peers.h"

#include <math.h>
#include <string.h>

struct runs {
    JsonObject *run[16][8];             /* by load and system; NULL: there is none */
};

/* --- reading -------------------------------------------------------------------------------------------- */

static JsonObject *read_run(const char *dir, const char *load, const char *system)
{
    g_autofree char *file = g_strconcat(system, ".json", NULL);
    g_autofree char *path = g_build_filename(dir, "raw", load, file, NULL);
    g_autoptr(JsonParser) parser = json_parser_new();

    if (!json_parser_load_from_file(parser, path, NULL))
        return NULL;
    return json_object_ref(json_node_get_object(json_parser_get_root(parser)));
}

static guint read_runs(struct runs *runs, const char *dir)
{
    guint n = 0;

    for (guint l = 0; l < peers_n_loads; l++)
        for (guint s = 0; s < peers_n_systems; s++) {
            runs->run[l][s] = read_run(dir, peers_loads[l].name, peers_systems[s].name);
            n += runs->run[l][s] != NULL;
        }
    return n;
}

static double number(JsonObject *o, const char *key)
{
    return o && json_object_has_member(o, key) ? json_object_get_double_member(o, key) : NAN;
}

static JsonObject *phase_at(JsonObject *run, guint i)
{
    JsonArray *phases = json_object_get_array_member(run, "phases");

    return i < json_array_get_length(phases) ? json_array_get_object_element(phases, i) : NULL;
}

/* --- figures -------------------------------------------------------------------------------------------- */

/* The last phase's; as shares of what an oracle would serve. */
static double figure_share(JsonObject *run, JsonObject *dram)
{
    JsonArray *phases = json_object_get_array_member(run, "phases");
    JsonObject *last = phase_at(run, json_array_get_length(phases) - 1);

    (void)dram;
    return number(last, "steady") / number(last, "oracle");
}

static double figure_mean(JsonObject *run, JsonObject *dram)
{
    (void)dram;
    return number(run, "share_mean") / number(phase_at(run, 0), "oracle");
}

/* The mean of the phases after a jump; infinite if one was not over in its time. */
static double figure_shift(JsonObject *run, JsonObject *dram)
{
    guint n = json_array_get_length(json_object_get_array_member(run, "phases"));
    double sum = 0;

    (void)dram;
    for (guint i = 1; i < n; i++) {
        double s = number(phase_at(run, i), "to_90_s");

        sum += s < 0 ? INFINITY : s;
    }
    return n > 1 ? sum / (n - 1) : NAN;
}

static double figure_start(JsonObject *run, JsonObject *dram)
{
    double s = number(phase_at(run, 0), "to_90_s");

    (void)dram;
    return s < 0 ? INFINITY : s;
}

static double figure_moved(JsonObject *run, JsonObject *dram)
{
    (void)dram;
    return number(run, "moved_bytes") / MIB;
}

static double figure_back(JsonObject *run, JsonObject *dram)
{
    double all = number(run, "pages_seen_moved");

    (void)dram;
    return all > 0 ? number(run, "pages_seen_back") / all : 0;
}

static double figure_cpu(JsonObject *run, JsonObject *dram)
{
    JsonObject *cost = json_object_get_object_member(run, "cost");

    (void)dram;
    return number(cost, "kernel_threads_s") + number(cost, "daemon_s") + number(cost, "plugin_s");
}

static double figure_system(JsonObject *run, JsonObject *dram)
{
    (void)dram;
    return number(json_object_get_object_member(run, "cost"), "vcpu_system_s");
}

static double figure_ops(JsonObject *run, JsonObject *dram)
{
    if (!dram)
        return NAN;
    return number(run, "ops_per_s") * number(run, "spin_s") / (number(dram, "ops_per_s") * number(dram, "spin_s"));
}

static double figure_dram(JsonObject *run, JsonObject *dram)
{
    (void)dram;
    return number(run, "dram_most_bytes") / MIB;
}

static const struct figure {
    const char *key, *title, *format;
    double (*of)(JsonObject *run, JsonObject *dram);
} figures[] = {
    { "share_of_oracle", "Accesses served from node 0 at the end, as a share of the oracle's", "%.3f", figure_share },
    { "mean_of_oracle", "The same, all of the time", "%.3f", figure_mean },
    { "start_to_90_s", "Seconds to 90 % of the oracle from first touch", "%.1f", figure_start },
    { "shift_to_90_s", "Seconds to 90 % of the oracle after a jump (mean of the jumps)", "%.1f", figure_shift },
    { "moved_mib", "MiB moved, both directions", "%.0f", figure_moved },
    { "back", "Share of the moves seen that went back within 30 s", "%.2f", figure_back },
    { "tierer_cpu_s", "CPU seconds of who places: kdamond, kswapd, kcompactd, vmtierd, the plugin's thread", "%.2f",
      figure_cpu },
    { "vcpu_system_s", "CPU seconds of the vCPU in the kernel (hint faults and KVM's own)", "%.2f", figure_system },
    { "ops_ratio", "The guest's operations per second, by the machine's speed meanwhile, against everything in DRAM",
      "%.2f", figure_ops },
    { "dram_mib", "MiB of the guest on node 0 at most", "%.0f", figure_dram },
};

/* --- tables --------------------------------------------------------------------------------------------- */

static void add_cell(GString *to, const struct figure *f, double value)
{
    char text[32];

    if (isnan(value))
        g_string_append(to, " |");
    else if (isinf(value))
        g_string_append(to, " never |");
    else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        g_snprintf(text, sizeof(text), f->format, value);
#pragma GCC diagnostic pop
        g_string_append_printf(to, " %s |", text);
    }
}

static void add_table(GString *to, const struct runs *runs, const struct figure *f)
{
    g_string_append_printf(to, "%s:\n\n| load |", f->title);
    for (guint s = 0; s < peers_n_systems; s++)
        g_string_append_printf(to, " %s |", peers_systems[s].title);
    g_string_append(to, "\n|---|");
    for (guint s = 0; s < peers_n_systems; s++)
        g_string_append(to, "---|");
    for (guint l = 0; l < peers_n_loads; l++) {
        g_string_append_printf(to, "\n| %s |", peers_loads[l].title);
        for (guint s = 0; s < peers_n_systems; s++)
            add_cell(to, f, runs->run[l][s] ? f->of(runs->run[l][s], runs->run[l][0]) : NAN);
    }
    g_string_append(to, "\n\n");
}

static bool write_tables(const struct runs *runs, const char *dir)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *path = g_build_filename(dir, "table.md", NULL);

    for (guint i = 0; i < G_N_ELEMENTS(figures); i++)
        add_table(text, runs, &figures[i]);
    g_print("%s", text->str);
    return g_file_set_contents(path, text->str, -1, NULL);
}

/* --- what was to be shown ------------------------------------------------------------------------------- */

/* The best of the columns from `from` up to `to`; "best" is the largest, or the smallest that counts. */
static double best(const struct runs *runs, const char *load, const char *key, guint from, guint to, bool largest)
{
    double found = NAN;

    for (guint l = 0; l < peers_n_loads; l++) {
        for (guint s = from; s < to && g_str_equal(peers_loads[l].name, load); s++) {
            for (guint i = 0; runs->run[l][s] && i < G_N_ELEMENTS(figures); i++) {
                double v = figures[i].of(runs->run[l][s], runs->run[l][0]);

                if (g_str_equal(figures[i].key, key) && !isnan(v) &&
                    (isnan(found) || (largest ? v > found : v < found)))
                    found = v;
            }
        }
    }
    return found;
}

struct bar {
    const char *load, *key, *what;
    bool largest;
    double factor;                      /* of the best peer's, that is enough */
    guint peers;                        /* first column of the peers that count */
};

static const struct bar bars[] = {
    { "stable", "share_of_oracle", "at least the best peer", true, 1, 1 },
    { "zipf", "share_of_oracle", "at least the best peer", true, 1, 1 },
    { "shift", "shift_to_90_s", "at most half of the best peer", false, 0.5, 1 },
    { "uniform", "moved_mib", "at most the least of the peers that move", false, 1, 2 },
    { "scan", "moved_mib", "at most the least of the peers that move", false, 1, 2 },
};

/* Each of vmtier's two movers for itself. */
static void judge_one(const struct runs *runs, const struct bar *bar, guint column, JsonArray *to)
{
    double peer = best(runs, bar->load, bar->key, bar->peers, peers_n_systems - 2, bar->largest);
    double own = best(runs, bar->load, bar->key, column, column + 1, bar->largest);
    bool held = bar->largest ? own >= peer * bar->factor : own <= peer * bar->factor && isfinite(own);
    JsonObject *o = json_object_new();

    if (isnan(peer) || isnan(own)) {
        json_object_unref(o);
        return;
    }
    json_object_set_string_member(o, "load", bar->load);
    json_object_set_string_member(o, "system", peers_systems[column].name);
    json_object_set_string_member(o, "figure", bar->key);
    json_object_set_string_member(o, "bar", bar->what);
    json_object_set_double_member(o, "own", isinf(own) ? -1 : own);
    json_object_set_double_member(o, "peer", isinf(peer) ? -1 : peer);
    json_object_set_boolean_member(o, "held", held);
    json_array_add_object_element(to, o);
    g_print("%-4s %s, %s: %s %.3f, best peer %.3f (%s)\n", held ? "held" : "MISS", bar->load,
            peers_systems[column].title, bar->key, own, peer, bar->what);
}

static JsonArray *judge(const struct runs *runs)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < G_N_ELEMENTS(bars); i++)
        for (guint column = peers_n_systems - 2; column < peers_n_systems; column++)
            judge_one(runs, &bars[i], column, list);
    return list;
}

/* --- report.json ---------------------------------------------------------------------------------------- */

static JsonObject *with_figures(JsonObject *run, JsonObject *dram)
{
    JsonObject *f = json_object_new();

    for (guint i = 0; i < G_N_ELEMENTS(figures); i++) {
        double value = figures[i].of(run, dram);

        if (isfinite(value))
            json_object_set_double_member(f, figures[i].key, value);
        else
            json_object_set_null_member(f, figures[i].key);
    }
    json_object_set_object_member(run, "figures", f);
    return run;
}

static JsonObject *make_report(const struct runs *runs)
{
    JsonObject *report = json_object_new();
    JsonArray *list = json_array_new();

    for (guint l = 0; l < peers_n_loads; l++)
        for (guint s = 0; s < peers_n_systems; s++)
            if (runs->run[l][s])
                json_array_add_object_element(list, json_object_ref(with_figures(runs->run[l][s], runs->run[l][0])));
    json_object_set_object_member(report, "machine", bench_machine());
    json_object_set_int_member(report, "ram_bytes", (gint64)PEERS_RAM);
    json_object_set_int_member(report, "dram_bytes", (gint64)PEERS_DRAM);
    json_object_set_string_member(report, "note", "emulated: both nodes are equally fast; placement, moves and CPU "
                                  "compare, speeds of memory do not");
    json_object_set_array_member(report, "runs", list);
    json_object_set_array_member(report, "bars", judge(runs));
    return report;
}

int peers_tell(const char *dir)
{
    g_autofree char *file = g_build_filename(dir, "report.json", NULL);
    g_autofree char *picture = g_build_filename(dir, "peers.png", NULL);
    struct runs runs;
    JsonObject *report;
    bool ok;

    if (!read_runs(&runs, dir)) {
        g_printerr("peers: there are no runs in %s/raw\n", dir);
        return 1;
    }
    ok = write_tables(&runs, dir);
    report = make_report(&runs);
    ok = bench_write(report, file) && picture_draw(report, picture) && ok;
    json_object_unref(report);
    for (guint l = 0; l < peers_n_loads; l++)
        for (guint s = 0; s < peers_n_systems; s++)
            g_clear_pointer(&runs.run[l][s], json_object_unref);
    return ok ? 0 : 1;
}
