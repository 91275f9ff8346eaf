// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How much of a VM's memory could be on the slow tier, by a recording.
 *
 * Two curves of the share of accesses that the slow tier serves, over DRAM:
 *   fixed    the best placement that never moves, by all samples of the recording: known afterwards only
 *   tiered   what a replay of the daemon's placement gets, with nothing known beforehand
 * Where few samples make up a granule's count, the first is too good to be true.
 */
#ifndef VMTIER_TRACE_CAPACITY_H
#define VMTIER_TRACE_CAPACITY_H

#include "host/trace-replay.h"

#define CAPACITY_STEPS 20       /* of the curves: DRAM in twentieths */

struct capacity_point {
    guint32 dram;               /* granules */
    double fixed, tiered;       /* shares of accesses served by the slow tier, 0..1 */
    double moved_per_s;         /* bytes, by the replay */
};

struct capacity {
    struct replay_result whole; /* with all memory in dram: what the recording says of itself */
    struct capacity_point curve[CAPACITY_STEPS];    /* 5 %, 10 % ... 100 % of the memory */
    const struct replay_options *options;
    const char *path;
    guint32 replays;            /* done so far */
    void (*progress)(guint32 replays);  /* may be NULL */
};

/* The least DRAM with which at most `slow` of all accesses go elsewhere. */
struct capacity_answer {
    double slow;                /* asked for */
    struct capacity_point fixed, tiered;
};

/* 0, or a negative errno. `options` but for `dram`. Clear it in any case. */
int capacity_measure(struct capacity *capacity, struct vt_err *err);
int capacity_answer(struct capacity *capacity, double slow, struct capacity_answer *answer,
                    struct vt_err *err);
void capacity_clear(struct capacity *capacity);

#endif
