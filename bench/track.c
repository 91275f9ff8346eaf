// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What tracking costs.
 *
 *   track [-p PAIRS] [-s SECONDS] [-q] [-w WORD]
 *
 * Each source against none, in turn, in one run: PAIRS pairs of phases of SECONDS each. A ratio is of a
 * phase with the source to the mean of its neighbours without; the median counts, and the noise is the
 * same of two phases without. Refault is looked at in memory of this process (bench/lib/track-memory.c) and
 * all of QEMU's sources in guests (track-guest.c). -w: only what has the word in its line, such as "memory",
 * "KVM" or "dirty"; -q: a quick look, of no value as a measurement.
 *
 * Output: build/bench/track.json and a table. Needs root, and the test guest (make guest).
 */
#include "bench/lib/child.h"
#include "bench/lib/report.h"
#include "bench/lib/track.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GUEST_BAR   0.99            /* speed left */
#define TRACKER_BAR 0.02            /* of a core, for 16 GiB, busy */
#define IDLE_BAR    0.002
#define FILE_PAGES  520             /* of 2 MiB, in the file that hugetlb cases map */
#define GUEST_PAGES 300
#define GIB         16u

static struct {
    guint pairs;
    double seconds;
    const char *word;
} options = { 15, 2, "" };

static guint misses;

/* --- verdicts ------------------------------------------------------------------------------- */

/* Further from the bar than twice the error of the median, or the noise can do either. */
static const char *guest_verdict(const struct track_result *r)
{
    if (r->ratio.median - 2 * r->error >= GUEST_BAR)
        return "reached";
    if (r->ratio.median + 2 * r->error < GUEST_BAR)
        return "MISSED";
    return r->ratio.median >= GUEST_BAR ? "reached, within the noise" : "undecided: the noise is wider";
}

static void put_spread(JsonObject *o, const char *name, const struct bench_spread *s)
{
    JsonObject *all = json_object_new();

    json_object_set_int_member(all, "n", s->n);
    json_object_set_double_member(all, "median", s->median);
    json_object_set_double_member(all, "q1", s->q1);
    json_object_set_double_member(all, "q3", s->q3);
    json_object_set_double_member(all, "low", s->low);
    json_object_set_double_member(all, "high", s->high);
    json_object_set_object_member(o, name, all);
}

static void judge(JsonObject *o, const char *name, const char *verdict)
{
    json_object_set_string_member(o, name, verdict);
    misses += g_str_has_prefix(verdict, "MISSED");
    g_print("; %s %s", name, verdict);
}

static void put_result(JsonObject *o, const struct track_result *r)
{
    if (r->ratio.n) {
        put_spread(o, "ratio", &r->ratio);
        put_spread(o, "noise", &r->noise);
        json_object_set_double_member(o, "ratio_error", r->error);
        g_print("guest %.4f +- %.4f (noise %.4f..%.4f), ", r->ratio.median, r->error, r->noise.q1,
                r->noise.q3);
    }
    if (r->kernel != 0) {
        json_object_set_double_member(o, "kernel_share", r->kernel);
        json_object_set_double_member(o, "kernel_error", r->kernel_error);
        g_print("kernel %+.3f +- %.3f %%, ", 100 * r->kernel, 100 * r->kernel_error);
    }
    json_object_set_double_member(o, "tracker_cores", r->tracker);
    json_object_set_double_member(o, "vcpu_estimate", r->vcpu);
    json_object_set_double_member(o, "events_per_s", r->events_per_s);
    json_object_set_double_member(o, "speed_without", r->speed);
    g_print("tracker %.3f %% of a core, vCPU by estimate %.3f %%, %.0f events/s", 100 * r->tracker,
            100 * r->vcpu, r->events_per_s);
}

static JsonObject *begin(JsonArray *list, const char *line)
{
    JsonObject *o = json_object_new();

    json_array_add_object_element(list, o);
    g_print("%s ", line);
    return o;
}

static void skip(JsonObject *o, const char *why)
{
    json_object_set_string_member(o, "skipped", why);
    g_print("skipped: %s\n", why);
}

/* --- memory of this process ----------------------------------------------------------------- */

static void run_memory(JsonArray *list, enum bench_backing backing, enum track_load load, bool split)
{
    g_autofree char *line = g_strdup_printf("%-8s memory, %-18s %-5s", split ? "split" : "refault",
                                            bench_backing_names[backing], track_load_names[load]);
    const struct track_case c = {
        .backing = backing, .load = load, .split = split, .pairs = options.pairs,
        .phase_s = options.seconds, .gib = GIB,
    };
    struct track_result r = { 0 };
    const char *wrong = NULL;
    bool huge = backing == BENCH_HUGETLB;
    JsonObject *o;

    if (!strstr(line, options.word))
        return;
    o = begin(list, line);

    json_object_set_string_member(o, "source", split ? "none, but mapped by small pages" : "refault");
    json_object_set_string_member(o, "backing", bench_backing_names[backing]);
    json_object_set_string_member(o, "load", track_load_names[load]);
    json_object_set_int_member(o, "gib", GIB);
    if (!huge || bench_huge_take(FILE_PAGES, r.why))
        wrong = bench_child(track_memory_run, &c, &r, sizeof(r), 1800);
    if (huge)
        bench_huge_give();
    if (wrong || !r.ok) {
        skip(o, wrong ? wrong : r.why);
        return;
    }
    put_result(o, &r);
    if (!split && load == TRACK_BUSY)
        judge(o, "guest", guest_verdict(&r));
    if (!split)
        judge(o, "tracker", r.tracker <= (load == TRACK_IDLE ? IDLE_BAR : TRACKER_BAR) ? "reached"
                                                                                        : "MISSED");
    g_print("\n");
}

static JsonArray *run_memories(void)
{
    JsonArray *list = json_array_new();

    for (int b = 0; b < BENCH_BACKINGS; b++)
        for (int load = 0; load < TRACK_LOADS; load++)
            run_memory(list, (enum bench_backing)b, (enum track_load)load, false);
    run_memory(list, BENCH_THP, TRACK_BUSY, true);
    return list;
}

/* --- guests --------------------------------------------------------------------------------- */

static const struct track_guest guests[] = {
    { "KVM, 4 KiB pages", "refault", true, false, 0, 0 },
    { "KVM, 2 MiB pages", "refault", true, true, 0, 0 },
    { "KVM, 4 KiB pages", "dirty", true, false, 0, 0 },
    { "KVM, 2 MiB pages", "dirty", true, true, 0, 0 },
    { "emulated Linux", "refault", false, false, 0, 0 },
    { "emulated Linux", "dirty", false, false, 0, 0 },
    { "emulated Linux", "sample", false, false, 0, 0 },
};

static void run_guest(JsonArray *list, struct track_guest g)
{
    g_autofree char *line = g_strdup_printf("%-8s %-24s", g.source, g.name);
    struct track_result r = { 0 };
    JsonObject *o;

    if (!strstr(line, options.word))
        return;
    o = begin(list, line);
    g.pairs = options.pairs;
    g.phase_s = options.seconds;
    json_object_set_string_member(o, "source", g.source);
    json_object_set_string_member(o, "guest", g.name);
    if (!g.huge || bench_huge_take(GUEST_PAGES, r.why))
        track_guest_run(&g, &r);
    if (g.huge)
        bench_huge_give();
    if (!r.ok) {
        skip(o, r.why);
        return;
    }
    put_result(o, &r);
    if (g_str_equal(g.source, "refault"))
        judge(o, "guest", guest_verdict(&r));
    g_print("\n");
}

static JsonArray *run_guests(void)
{
    JsonArray *list = json_array_new();

    for (gsize i = 0; i < G_N_ELEMENTS(guests); i++)
        run_guest(list, guests[i]);
    return list;
}

/* --- the program ---------------------------------------------------------------------------- */

static bool put(JsonObject *o)
{
    g_autofree char *path = bench_path("track.json");
    bool written = bench_write(o, path);

    g_print("%s: %u bars missed\n", path, misses);
    return written;
}

/* The lab keeps the files of VMs that ran outside of a test, so this is one. */
static void run(void)
{
    g_autoptr(JsonObject) o = json_object_new();

    json_object_set_int_member(o, "pairs", options.pairs);
    json_object_set_double_member(o, "phase_s", options.seconds);
    json_object_set_array_member(o, "memory", run_memories());
    json_object_set_array_member(o, "guests", run_guests());
    json_object_set_object_member(o, "machine", bench_machine());
    g_assert_true(put(o));
}

static bool parse(int argc, char **argv)
{
    int c;

    while ((c = getopt(argc, argv, "p:s:qw:")) >= 0) {
        if (c == 'p')
            options.pairs = (guint)g_ascii_strtoull(optarg, NULL, 10);
        else if (c == 's')
            options.seconds = g_ascii_strtod(optarg, NULL);
        else if (c == 'q')
            options.pairs = 2, options.seconds = 2;
        else if (c == 'w')
            options.word = optarg;
        else
            return false;
    }
    return optind == argc && options.pairs && options.pairs <= TRACK_PAIRS_MOST && options.seconds > 0;
}

int main(int argc, char **argv)
{
    char *own[] = { argv[0], NULL }, **list = own;
    int n = 1;

    if (!parse(argc, argv)) {
        g_printerr("usage: track [-p PAIRS] [-s SECONDS] [-q] [-w WORD]\n");
        return 2;
    }
    g_test_init(&n, &list, NULL);
    g_test_add_func("/track", run);
    return g_test_run();
}
