// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a move costs: the plugin's own mover on memory of a process, against memcpy() of the same
 * bytes in the same run; what an access waits for; what is left of a vCPU's throughput.
 *
 *   move            everything: each backing x granule x run x destination x threads
 *   move --quick    the rows that have a bar, less often repeated
 *
 * Output: build/bench/move.json (or move-quick.json) and a table. How it is measured is said in
 * bench/lib/speed.c, stall.c and vcpu.c. Needs root: for userfaultfd, a tmpfs with huge pages, and
 * nr_hugepages, which is raised and put back.
 */
#include "bench/lib/report.h"

#include <stdlib.h>
#include <string.h>

#define K (1ull << 10)
#define M (1ull << 20)

#define SPEED(backing_, granule_, run_, keep_, bar_) \
    { BENCH_SPEED, { .backing = (backing_), .granule = (granule_), .run_bytes = (run_), \
                     .keep = (keep_), .threads = 1 }, (bar_) }
#define AGED(backing_, granule_, run_) \
    { BENCH_SPEED, { .backing = (backing_), .granule = (granule_), .run_bytes = (run_), \
                     .keep = true, .aged = true, .threads = 1 }, 0 }
#define STALL(backing_, granule_, bar_) \
    { BENCH_STALL, { .backing = (backing_), .granule = (granule_), .keep = true, .threads = 1 }, \
      (bar_) }
#define VCPU(backing_, granule_, rate_, control_, bar_) \
    { BENCH_VCPU, { .backing = (backing_), .granule = (granule_), .keep = true, .threads = 1, \
                    .rate = (rate_), .control = (control_) }, (bar_) }

/* What the mover has to reach. */
static const struct bench_row key_rows[] = {
    SPEED(BENCH_HUGETLB, 2 * M, 0, true, 0.83),
    SPEED(BENCH_HUGETLB, 2 * M, 0, false, 0.78),
    SPEED(BENCH_HUGETLB, 2 * M, 32 * M, true, 0.85),
    SPEED(BENCH_THP, 2 * M, 0, true, 0.67),
    SPEED(BENCH_THP, 2 * M, 32 * M, true, 0.80),
    SPEED(BENCH_4K, 4 * K, 2 * M, true, 0.37),
    SPEED(BENCH_4K, 64 * K, 2 * M, true, 0.37),
    SPEED(BENCH_4K, 2 * M, 32 * M, true, 0.37),
    SPEED(BENCH_4K, 64 * K, 1 * M, false, 0.08),
    SPEED(BENCH_4K, 2 * M, 0, false, 0),
    SPEED(BENCH_4K, 64 * K, 0, true, 0.17),
    STALL(BENCH_HUGETLB, 2 * M, 1),
    STALL(BENCH_THP, 2 * M, 1),
    STALL(BENCH_4K, 2 * M, 1),
    VCPU(BENCH_THP, 2 * M, 100, BENCH_MOVES, 0.98),
    VCPU(BENCH_4K, 2 * M, 100, BENCH_MOVES, 0.95),
};

/* What else is measured when there is time: after long use, of stalls, of vCPUs. */
static const struct bench_row other_rows[] = {
    AGED(BENCH_HUGETLB, 2 * M, 32 * M),
    AGED(BENCH_THP, 2 * M, 32 * M),
    AGED(BENCH_4K, 64 * K, 2 * M),
    AGED(BENCH_4K, 2 * M, 32 * M),
    STALL(BENCH_4K, 4 * K, 0),
    STALL(BENCH_4K, 64 * K, 0),
    VCPU(BENCH_4K, 2 * M, 100, BENCH_SLEEPS, 0),
    VCPU(BENCH_4K, 2 * M, 100, BENCH_COPIES, 0),
    VCPU(BENCH_4K, 2 * M, 500, BENCH_COPIES, 0),
    VCPU(BENCH_4K, 2 * M, 500, BENCH_MOVES, 0),
    VCPU(BENCH_4K, 64 * K, 100, BENCH_MOVES, 0),
    VCPU(BENCH_4K, 64 * K, 500, BENCH_MOVES, 0),
    VCPU(BENCH_4K, 4 * K, 100, BENCH_MOVES, 0),
    VCPU(BENCH_THP, 2 * M, 100, BENCH_SLEEPS, 0),
    VCPU(BENCH_THP, 2 * M, 100, BENCH_COPIES, 0),
    VCPU(BENCH_THP, 2 * M, 500, BENCH_COPIES, 0),
    VCPU(BENCH_THP, 2 * M, 500, BENCH_MOVES, 0),
    VCPU(BENCH_HUGETLB, 2 * M, 100, BENCH_SLEEPS, 0),
    VCPU(BENCH_HUGETLB, 2 * M, 100, BENCH_COPIES, 0),
    VCPU(BENCH_HUGETLB, 2 * M, 500, BENCH_COPIES, 0),
    VCPU(BENCH_HUGETLB, 2 * M, 100, BENCH_MOVES, 0),
    VCPU(BENCH_HUGETLB, 2 * M, 500, BENCH_MOVES, 0),
};

static void run_row(struct bench_report *r, const struct bench_row *row, bool quick)
{
    struct bench_row copy = *row;

    copy.c.reps = quick ? 5 : 9;
    copy.c.seconds = copy.kind == BENCH_VCPU ? (quick ? 6 : 20) : (quick ? 1 : 4);
    bench_report_run(r, &copy);
}

static void run_runs(struct bench_report *r, struct bench_row *row)
{
    static const guint64 runs[] = { 0, 2 * M, 32 * M };

    for (gsize i = 0; i < G_N_ELEMENTS(runs); i++) {
        row->c.run_bytes = runs[i];
        if (runs[i] && runs[i] <= row->c.granule)
            continue;                       /* the same as separate */
        for (int keep = 1; keep >= 0; keep--)
            for (row->c.threads = 1; row->c.threads <= 2; row->c.threads++) {
                row->c.keep = keep;
                run_row(r, row, false);
            }
    }
}

static void run_matrix(struct bench_report *r)
{
    static const guint64 granules[] = { 4 * K, 64 * K, 2 * M };

    for (int backing = 0; backing < BENCH_BACKINGS; backing++)
        for (gsize g = 0; g < G_N_ELEMENTS(granules); g++) {
            struct bench_row row = { BENCH_SPEED, { .backing = backing, .granule = granules[g] }, 0 };

            if (backing != BENCH_HUGETLB || granules[g] == 2 * M)
                run_runs(r, &row);
        }
}

static void run_all(struct bench_report *r, bool quick, const char *only)
{
    for (gsize i = 0; i < G_N_ELEMENTS(key_rows); i++)
        if (!only || atoi(only) == (int)i)
            run_row(r, &key_rows[i], quick);
    for (gsize i = 0; i < G_N_ELEMENTS(other_rows); i++)
        if (only ? atoi(only) == (int)(G_N_ELEMENTS(key_rows) + i) : !quick)
            run_row(r, &other_rows[i], quick);
    if (!quick && !only)
        run_matrix(r);
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && !strcmp(argv[1], "--quick");
    const char *only = g_getenv("ROW");
    g_autofree char *path = bench_path(quick ? "move-quick.json" : "move.json");
    struct bench_report report;

    bench_report_begin(&report);
    run_all(&report, quick, only);
    if (!bench_report_write(&report, path))
        return 1;
    g_print("%u of the bars missed; %s\n", report.misses, path);
    return 0;
}
