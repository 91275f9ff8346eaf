// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replays a recording: the daemon's heat and placement, fed with what the VM's sources saw, and what would
 * have come of it.
 *
 * Accesses are what the recording's sampling sources saw. Each is counted as served by the tier that its
 * granule is in at that moment of the replay, before heat hears of it and anything moves. Moves take no
 * time here but what the rate allows, and do not slow the guest.
 *
 * Two bounds are computed from the same samples. "oracle": in each window the granules with the most
 * samples in just that window are in dram, known beforehand and moved for nothing. With few samples per
 * granule some of them are luck, so it is a bound that nothing can reach. "long run": one placement for all
 * the time, by all samples in it.
 */
#ifndef VMTIER_TRACE_REPLAY_H
#define VMTIER_TRACE_REPLAY_H

#include "host/policy/policy.h"
#include "host/trace-read.h"

#define REPLAY_BACK_S 30.0      /* a move that undoes another one so soon is ping-pong */

enum replay_use { REPLAY_AS_RECORDED, REPLAY_SAMPLES, REPLAY_PROBES, REPLAY_USE_END };

struct replay_options {
    const struct policy *policy;
    guint64 dram;               /* bytes the VM may have */
    guint64 rate;               /* bytes moved per second; 0: none */
    enum replay_use use;        /* which evidence placement follows */
    double skip_s;              /* not part of the result; < 0: a quarter, a minute at most */
    double window_s;            /* of the oracle and of the series; 0: 10 */
};

/* One window. */
struct replay_point {
    double at_s, seconds;       /* where it begins, how long it is */
    double accesses, hits, oracle;
    guint64 moved;              /* bytes */
};

struct replay_result {
    struct trace_header header;
    struct trace_footer totals;
    bool cut;                   /* the recording ends in the middle */
    guint32 granules, numbers;  /* at the end; their numbers are below `numbers` */
    guint32 dram_granules;      /* as the options allow */
    double skip_s, seconds;     /* left out; what is behind it */
    guint64 samples;            /* observations of sampling sources behind it */
    double accesses;            /* 0: nothing sampled them, so nothing of the following is known */
    double hits, oracle, long_run;      /* accesses */
    guint64 moves, back, moved; /* granules moved, those of them that undid a move, bytes */
    double cpu_s;               /* that heat and placement took */
    GArray *points;             /* of struct replay_point, all windows */
    double *total;              /* [numbers] accesses behind the skipped part */
};

void replay_clear(struct replay_result *result);

/* 0, or a negative errno: not readable, or no good recording. Clear `result` in any case. */
int replay_run(const char *path, const struct replay_options *options, struct replay_result *result,
               struct vt_err *err);

/* The sum of the k greatest of n values. */
double replay_top_sum(const double *values, guint32 n, guint32 k);

#endif
