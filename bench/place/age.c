// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * LRU by age, as memtierd's "age" policy does with page_idle bits on 2 MiB pages: the bits are read and
 * cleared every 5 s; active for 10 s means dram, idle for 15 s means the slow tier.
 */
#include "bench/place/contenders.h"

#define SCAN_S   5.0
#define ACTIVE_S 10.0
#define IDLE_S   15.0

struct age {
    double *accessed, *since;   /* when it was last seen accessed; since when, without a pause */
};

static gpointer create(struct sim *sim)
{
    struct age *a = g_new0(struct age, 1);

    a->accessed = g_new0(double, sim->n);
    a->since = g_new0(double, sim->n);
    return a;
}

static void destroy(gpointer state)
{
    struct age *a = state;

    g_free(a->accessed);
    g_free(a->since);
    g_free(a);
}

static void scan(struct age *a, struct sim *sim)
{
    for (guint32 g = 0; g < sim->n; g++) {
        sim_charge(sim, COST_BIT);
        if (!sim_touched(sim, g, SCAN_S))
            continue;
        if (sim->now - a->accessed[g] > 1.5 * SCAN_S)
            a->since[g] = sim->now;
        a->accessed[g] = sim->now;
    }
}

static void tick(struct sim *sim, gpointer state)
{
    struct age *a = state;
    guint32 from;

    if (!sim->tick || !sim_every(sim, SCAN_S))
        return;
    scan(a, sim);
    from = sim_below(sim, sim->n);
    for (guint32 i = 0; i < sim->n && sim_may_move(sim, 1); i++) {
        guint32 g = (from + i) % sim->n;

        if (sim_in_dram(sim, g) && sim->now - a->accessed[g] >= IDLE_S)
            sim_move(sim, g, 1);
    }
    for (guint32 i = 0; i < sim->n && sim_may_move(sim, 1) && !sim_full(sim); i++) {
        guint32 g = (from + i) % sim->n;

        if (!sim_in_dram(sim, g) && a->accessed[g] == sim->now && sim->now - a->since[g] >= ACTIVE_S)
            sim_move(sim, g, 0);
    }
}

const struct contender contender_age = {
    .name = "LRU/age", .summary = "idle bits of 2 MiB pages every 5 s", .create = create, .tick = tick,
    .destroy = destroy,
};
