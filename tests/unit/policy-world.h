// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A world for tests of policies: granules with a load, played to heat round by round as the daemon does it, and
 * moves that succeed.
 *
 * A load says how often each granule is accessed; the sampling source is played by Poisson counts,
 * so that what the policy sees is as noisy as the real thing.
 */
#pragma once

#include "host/policy/policy.h"

#define GRANULES 512
#define QUOTA    128
#define HOT      96
#define MOST     64             /* moves per round */
#define ROUND    0.25           /* seconds */
#define MIB      (1ull << 20)
#define PERIOD   64.0           /* accesses that a sample stands for */

struct world {
    struct heat heat;
    struct ledger ledger;
    double load[GRANULES];      /* samples per second */
    const struct policy *policy;
    gpointer state;
    double now;
    bool stuck[GRANULES];       /* the mover would refuse it */
    guint32 quota, moved, most_in_dram;
    double move_cost_s;
    guint32 demote[MOST], promote[MOST];
    struct outlook look;
    struct plan plan;
};

/* DRAM has the first QUOTA granules, as after the first placement; `world_new` is with policy cbx. */
struct world *world_with(const struct policy *policy);
struct world *world_new(void);
void world_free(struct world *w);

void world_sample(struct world *w, guint32 granule, guint32 n);     /* n samples, now */
void world_observe(struct world *w);                                /* a round's samples, as the load says */
void world_plan(struct world *w);
void world_carry_out(struct world *w);  /* as the daemon's round does, and never above the quota */
void world_place(struct world *w);      /* plans, carries out, and a round is over */
void world_run(struct world *w, double seconds);

guint32 poisson(double mean);

/* HOT granules from `first` on, every third, are accessed so often (samples a second); the others rarely. */
bool world_is_hot(guint32 granule, guint32 first);
void world_load_hot_set(struct world *w, guint32 first, double hot, double cold);
double world_share_in_dram(const struct world *w);  /* of the accesses */
