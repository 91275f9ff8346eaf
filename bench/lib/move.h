// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a move costs, in three kinds of measurement: speed against memcpy(), how long an access waits,
 * and what is left of a vCPU's throughput. Each case runs in a child of its own.
 */
#ifndef VMTIER_BENCH_MOVE_H
#define VMTIER_BENCH_MOVE_H

#include "bench/lib/stat.h"
#include "bench/lib/tune.h"

#define BENCH_REPS 15

/* What goes on in a vCPU case's phases: moves, or less than that to compare with. */
enum bench_control { BENCH_MOVES, BENCH_SLEEPS, BENCH_COPIES };

/* What all kinds of cases have. */
struct bench_case {
    enum bench_backing backing;
    guint64 granule;
    guint64 run_bytes;          /* 0: no two granules moved together are neighbours */
    bool keep;                  /* a pool of spare memory; else allocate, and punch afterwards */
    bool aged;                  /* speed: after many moves in no order */
    guint threads;
    guint reps;                 /* speed */
    guint rate;                 /* vCPU: MB/s of moves */
    enum bench_control control; /* vCPU */
    guint seconds;              /* stalls, vCPU */
};

struct speed_result {
    bool ok;
    char why[200];
    guint reps;
    double move_gbs[BENCH_REPS], copy_gbs[BENCH_REPS];  /* per second of CPU time */
    double ratio[BENCH_REPS];
    double wall_gbs[BENCH_REPS], copy_wall_gbs[BENCH_REPS];
    double step_us[MOVER_STEPS], granule_us;            /* CPU time of one granule */
    guint64 huge_bytes;
};

struct stall_result {
    bool ok;
    char why[200];
    double copy_us;                                     /* memcpy() of a granule */
    struct bench_spread writer, reader;                 /* us; n counts clean epochs */
    struct bench_spread writer_floor, reader_floor;     /* without moves */
    guint epochs;                                       /* of each of the four */
};

struct vcpu_result {
    bool ok;
    char why[200];
    struct bench_spread ratio;
    double error;               /* standard error of the median */
    double ops;                 /* millions per runnable second without moves */
    double moved_mbs;           /* what was moved in the phases with moves, per second of them */
};

/* For bench_child(): `what` is a struct bench_case, `result` one of the above. */
void bench_speed(const void *what, void *result);
void bench_stall(const void *what, void *result);
void bench_vcpu(const void *what, void *result);

/* Opens the case's memory and applies its settings; false with the reason in why[200]. */
bool bench_case_open(const struct bench_case *c, guint64 size, struct bench_memory *m, char *why);

#endif
