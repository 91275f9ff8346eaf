// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Plain top-K: an exponential mean of samples per granule, half-life 8 s; four times a second the K
 * hottest are what has to be in dram, whatever it costs.
 */
#include "bench/place/contenders.h"

#include <math.h>

#define HALF_LIFE 8.0
#define SAMPLES   20e3
#define ROUND     0.25

struct topk {
    double *count;
    guint32 *up, *down;
};

static gpointer create(struct sim *sim)
{
    struct topk *t = g_new0(struct topk, 1);

    t->count = g_new0(double, sim->n);
    t->up = g_new0(guint32, sim->n);
    t->down = g_new0(guint32, sim->n);
    return t;
}

static void destroy(gpointer state)
{
    struct topk *t = state;

    g_free(t->count);
    g_free(t->up);
    g_free(t->down);
    g_free(t);
}

static void sample(struct topk *t, struct sim *sim)
{
    double all = sim_all(sim), period = MAX(all / SAMPLES, 1);
    guint32 n = sim_poisson(sim, all * SIM_TICK / period);

    sim_charge(sim, n * COST_SAMPLE);
    while (n--)
        t->count[sim_draw(sim)] += 1;
}

static void place(struct topk *t, struct sim *sim)
{
    guint32 n_up = 0, n_down = 0;

    for (guint32 g = 0; g < sim->n; g++)
        if (sim_in_dram(sim, g))
            t->down[n_down++] = g;
        else
            t->up[n_up++] = g;
    sim_sort(t->up, n_up, t->count);
    sim_sort(t->down, n_down, t->count);
    for (guint32 i = 0; i < MIN(n_up, n_down) && sim_may_move(sim, 2); i++) {
        guint32 hot = t->up[n_up - 1 - i];

        if (t->count[hot] <= t->count[t->down[i]])
            return;
        sim_move(sim, t->down[i], 1);
        sim_move(sim, hot, 0);
    }
}

static void tick(struct sim *sim, gpointer state)
{
    struct topk *t = state;

    sample(t, sim);
    if (!sim_every(sim, ROUND))
        return;
    for (guint32 g = 0; g < sim->n; g++)
        t->count[g] *= exp2(-ROUND / HALF_LIFE);
    place(t, sim);
}

const struct contender contender_topk = {
    .name = "top-K", .summary = "the K hottest by 20 000 samples/s", .create = create, .tick = tick,
    .destroy = destroy,
};
