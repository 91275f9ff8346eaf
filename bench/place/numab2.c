// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * NUMA balancing mode 2 (memory tiering), Linux 5.18 on: a page of the slow tier whose hint fault comes
 * within a threshold after it was unmapped is promoted, within the rate limit. The threshold starts at
 * 1 s and is adjusted each 60 s, in sixteenths of 2 s, so that candidates come at about the rate limit.
 * Kswapd demotes to keep room. 2 MiB pages.
 */
#include "bench/place/contenders.h"
#include "bench/place/hintfault.h"

#define FIRST_S  1.0            /* numa_balancing hot_threshold_ms */
#define ADJUST_S 60.0           /* numa_balancing_scan_period_max_ms */
#define STEPS    16

struct numab2 {
    struct hintfault h;
    double threshold, adjusted;
    guint64 candidates;         /* bytes since then */
};

static gpointer create(struct sim *sim)
{
    struct numab2 *b = g_new0(struct numab2, 1);

    hintfault_begin(&b->h, sim);
    b->threshold = FIRST_S;
    return b;
}

static void destroy(gpointer state)
{
    struct numab2 *b = state;

    hintfault_end(&b->h);
    g_free(b);
}

static void adjust(struct numab2 *b, const struct sim *sim)
{
    double wanted = (double)sim->rate_limit * ADJUST_S, step = 2 * FIRST_S / STEPS;

    if (sim->now - b->adjusted < ADJUST_S)
        return;
    if ((double)b->candidates > wanted * 1.1)
        b->threshold -= step;
    else if ((double)b->candidates < wanted * 0.9)
        b->threshold += step;
    b->threshold = CLAMP(b->threshold, step, 2 * FIRST_S);
    b->candidates = 0;
    b->adjusted = sim->now;
}

static void tick(struct sim *sim, gpointer state)
{
    struct numab2 *b = state;
    double latency;

    hintfault_scan(&b->h, sim);
    for (guint32 g = 0; g < sim->n; g++) {
        if (!hintfault_taken(&b->h, sim, g, &latency) || latency >= b->threshold)
            continue;
        b->candidates += SIM_GRANULE;
        if (!sim_may_move(sim, 2))
            continue;
        if (sim_full(sim))
            sim_move(sim, hintfault_victim(&b->h, sim), 1);
        sim_move(sim, g, 0);
    }
    adjust(b, sim);
}

const struct contender contender_numab2 = {
    .name = "NUMA balancing 2", .summary = "hint faults faster than an adjusted threshold",
    .create = create, .tick = tick, .destroy = destroy,
};
