// SPDX-License-Identifier: GPL-2.0-or-later
/* What bounds the others: nothing moves at all; who knows everything moves at the same rate. */
#include "bench/place/contenders.h"

#include <string.h>

static gpointer create(struct sim *sim)
{
    return g_new0(guint32, 2 * sim->n);
}

static void stand_still(struct sim *sim, gpointer state)
{
    (void)sim;
    (void)state;
}

/* Exchanges the hottest of the slow tier with the coldest of dram while it is half as hot again. */
static void limited(struct sim *sim, gpointer state)
{
    const double *rate = sim->reference ? sim->reference : sim->rate;
    guint32 *up = state, *down = up + sim->n, n_up = 0, n_down = 0;

    if (!sim_every(sim, 0.25))
        return;
    for (guint32 g = 0; g < sim->n; g++)
        if (sim_in_dram(sim, g))
            down[n_down++] = g;
        else
            up[n_up++] = g;
    sim_sort(up, n_up, rate);
    sim_sort(down, n_down, rate);
    for (guint32 i = 0; i < n_down && i < n_up && sim_may_move(sim, 2); i++) {
        guint32 hot = up[n_up - 1 - i];

        if (rate[hot] <= rate[down[i]] * 1.05)
            return;
        sim_move(sim, down[i], 1);
        sim_move(sim, hot, 0);
    }
}

const struct contender contender_static = {
    .name = "static", .summary = "nothing moves", .create = create, .tick = stand_still,
    .destroy = g_free,
};
const struct contender contender_limited = {
    .name = "oracle limited", .summary = "knows every rate, moves at the same rate", .create = create,
    .tick = limited, .destroy = g_free,
};
