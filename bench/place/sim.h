// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest's memory that is only numbers: how often each granule is accessed, where it is, and what is
 * seen of it. Policies are run against it faster than real time; bench/place.c says what is measured.
 *
 * Time goes in ticks. In each, the load says how many accesses per second each granule gets; a flicker
 * that is redrawn each second makes it as uneven as a real guest. Then the contender looks, at a cost
 * that it is charged for, and moves within the rate.
 */
#ifndef VMTIER_BENCH_PLACE_SIM_H
#define VMTIER_BENCH_PLACE_SIM_H

#include "host/ledger.h"
#include "host/pace.h"

#include <stdbool.h>

#define SIM_GRANULE (2ull << 20)
#define SIM_PAGES   512u        /* of 4 KiB in a granule */
#define SIM_TICK    0.05        /* seconds */
#define SIM_VISIT   4.0         /* accesses that miss the caches, per visit of a page */

/* CPU time of looking, in microseconds; measured where the project has, else assumed. */
#define COST_SAMPLE  1.5        /* a hardware sample, taken and resolved */
#define COST_ZAP     0.15       /* taking a page's mapping away, or its accessed bit */
#define COST_TOUCH   1.0        /* the fault that brings a 4 KiB page back */
#define COST_FAULT   12.0       /* a hint fault on a 2 MiB page */
#define COST_POLL    0.05       /* asking whether a probe was touched */
#define COST_BIT     0.3        /* testing and clearing one accessed bit */

struct sim;

struct load {
    const char *name, *summary;
    bool held_out;              /* nothing was tuned on it */
    bool recorded;              /* of a real guest: it flickers by itself */
    void (*start)(struct sim *sim);
    /* Called each tick; true: sim->rate has changed. */
    bool (*step)(struct sim *sim);
};
extern const struct load *const loads[];
extern const guint n_loads;

struct contender {
    const char *name, *summary;
    gpointer (*create)(struct sim *sim);
    void (*tick)(struct sim *sim, gpointer state);
    void (*destroy)(gpointer state);
};
extern const struct contender *const contenders[];
extern const guint n_contenders;

struct sim {
    /* what is given */
    guint32 n, quota;           /* granules; those that may be in dram */
    double seconds, warm_s;     /* how long; how much of it is not counted */
    guint64 rate_limit;         /* bytes per second, both directions */
    double depth_s;             /* of it, how much may be saved up */
    const struct load *load;
    guint64 random[2];

    /* the load */
    guint64 tick;
    double now;
    double total;               /* accesses per second to begin with */
    double *rate, *flicker;     /* of each granule: without flicker; the flicker */
    double *seen;               /* rate x flicker: what happens */
    double *reference;          /* what the oracle knows; NULL: rate */
    double *sum;                /* running sum of `seen`, for drawing samples */
    bool summed;
    guint16 *active;            /* pages of the granule that are accessed */
    guint32 *order, *other;     /* two random orders of the granules */
    bool shifted;               /* the hot set jumped in this tick */
    double own[8];              /* the load's */

    /* where it is */
    struct ledger ledger;
    struct pace pace;
    float *moved_at;            /* when each granule moved last */

    /* what came of it */
    double hit, oracle, hits, oracles;
    guint64 moves, back;        /* after warming up; of these, back within 30 s */
    guint64 all_moves;
    double track_us, tracked_us;
    double cold_s, waiting_since, shift_s;  /* seconds to 90 % of the oracle */
    guint shifts, missed;
    guint64 ticks;
};

void sim_begin(struct sim *sim, const struct load *load, guint64 seed);
void sim_end(struct sim *sim);
void sim_run(struct sim *sim, const struct contender *c);

/* --- for loads ------------------------------------------------------------------------------------ */

double sim_uniform(struct sim *sim);            /* [0, 1) */
double sim_normal(struct sim *sim);
guint32 sim_below(struct sim *sim, guint32 n);
void sim_shuffle(struct sim *sim, guint32 *list, guint32 n);
void sim_scale(struct sim *sim, double total);  /* makes the rates' sum `total` */
bool sim_every(const struct sim *sim, double seconds);

/* --- for contenders ---------------------------------------------------------------------------------- */

guint32 sim_poisson(struct sim *sim, double mean);
guint32 sim_binomial(struct sim *sim, guint32 n, double p);
/* A granule, drawn by how often it is accessed. */
guint32 sim_draw(struct sim *sim);
/* Accesses per second in all. */
double sim_all(struct sim *sim);
bool sim_may_move(const struct sim *sim, guint32 n);
void sim_move(struct sim *sim, guint32 granule, guint8 tier);
bool sim_full(const struct sim *sim);
static inline bool sim_in_dram(const struct sim *sim, guint32 granule)
{
    return sim->ledger.tier[granule] == 0;
}
static inline void sim_charge(struct sim *sim, double us)
{
    sim->track_us += us;
}
/* Did anything touch this granule in a span of so many seconds, as things are now? */
bool sim_touched(struct sim *sim, guint32 granule, double seconds);

/* Sorts granules by a key, ascending. */
void sim_sort(guint32 *list, guint32 n, const double *key);

#endif
