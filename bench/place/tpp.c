// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TPP (ASPLOS 2023): a page of the slow tier is promoted by a hint fault if it is on the active list,
 * which takes an earlier fault; demotion is decoupled and keeps 2 % of dram free, of the inactive tail.
 */
#include "bench/place/contenders.h"
#include "bench/place/hintfault.h"

#define FREE_SHARE 0.02         /* demote_scale_factor: 200 of 10 000 */

struct tpp {
    struct hintfault h;
    bool *active;
};

static gpointer create(struct sim *sim)
{
    struct tpp *t = g_new0(struct tpp, 1);

    hintfault_begin(&t->h, sim);
    t->active = g_new0(bool, sim->n);
    return t;
}

static void destroy(gpointer state)
{
    struct tpp *t = state;

    hintfault_end(&t->h);
    g_free(t->active);
    g_free(t);
}

static void tick(struct sim *sim, gpointer state)
{
    struct tpp *t = state;
    guint32 most = (guint32)((1 - FREE_SHARE) * sim->quota);
    double latency;

    hintfault_scan(&t->h, sim);
    for (guint32 g = 0; g < sim->n; g++) {
        bool was = t->active[g];

        if (!hintfault_taken(&t->h, sim, g, &latency))
            continue;
        t->active[g] = true;
        if (was && !sim_full(sim) && sim_may_move(sim, 1))
            sim_move(sim, g, 0);
    }
    while (sim->ledger.count[0] > most && sim_may_move(sim, 1)) {
        guint32 victim = hintfault_victim(&t->h, sim);

        sim_move(sim, victim, 1);
        t->active[victim] = false;
    }
}

const struct contender contender_tpp = {
    .name = "TPP", .summary = "the second hint fault promotes, 2 % of dram kept free", .create = create,
    .tick = tick, .destroy = destroy,
};
