// SPDX-License-Identifier: GPL-2.0-or-later
/* See policy-world.h. */
#include "policy-world.h"

#include <math.h>

/* Knuth's for small means, the normal distribution for others. */
guint32 poisson(double mean)
{
    double limit = exp(-mean), p = 1, sum = 0;
    guint32 n = 0;

    if (mean < 30) {
        while ((p *= g_test_rand_double()) > limit)
            n++;
        return n;
    }
    for (int i = 0; i < 12; i++)
        sum += g_test_rand_double();
    return (guint32)MAX(0, mean + (sum - 6) * sqrt(mean));
}

struct world *world_with(const struct policy *policy)
{
    struct world *w = g_new0(struct world, 1);

    w->quota = QUOTA;
    w->move_cost_s = 200e-6;
    heat_init(&w->heat);
    ledger_init(&w->ledger, 2 * MIB);
    heat_resize(&w->heat, GRANULES);
    ledger_resize(&w->ledger, GRANULES);
    heat_use_samples(&w->heat, true);
    heat_set_unit(&w->heat, HEAT_SAMPLES, PERIOD);
    for (guint32 g = 0; g < GRANULES; g++)
        ledger_put(&w->ledger, g, g < QUOTA ? 0 : 1);
    w->policy = policy;
    w->state = policy->create();
    return w;
}

struct world *world_new(void)
{
    return world_with(&policy_cbx);
}

void world_free(struct world *w)
{
    w->policy->destroy(w->state);
    heat_clear(&w->heat);
    ledger_clear(&w->ledger);
    g_free(w);
}

void world_sample(struct world *w, guint32 granule, guint32 n)
{
    if (n)
        heat_add(&w->heat, HEAT_SAMPLES, granule, n * PERIOD, 0);
}

void world_observe(struct world *w)
{
    heat_advance(&w->heat, ROUND, 1u << HEAT_SAMPLES | 1u << HEAT_WRITES);
    for (guint32 g = 0; g < GRANULES; g++)
        world_sample(w, g, poisson(w->load[g] * ROUND));
}

static bool is_ready(gconstpointer of, guint32 granule)
{
    const struct world *w = of;

    return !w->stuck[granule];
}

void world_plan(struct world *w)
{
    w->look = (struct outlook){
        .heat = &w->heat, .ledger = &w->ledger, .dram_most = w->quota, .moves_most = MOST,
        .now = w->now, .move_cost_s = w->move_cost_s, .pages = 512, .ready = is_ready, .of = w,
    };
    w->plan = (struct plan){ .demote = w->demote, .promote = w->promote };
    w->policy->plan(w->state, &w->look, &w->plan);
    g_assert_cmpuint(w->plan.n_promote + w->plan.n_demote, <=, MOST);
}

static void move_one(struct world *w, guint32 granule, guint8 to)
{
    g_assert_cmpuint(w->ledger.tier[granule], ==, 1 - to);
    g_assert_false(w->stuck[granule]);
    ledger_put(&w->ledger, granule, to);
    heat_note_moved(&w->heat, granule, w->now);
    w->moved++;
}

/* First what makes room. */
void world_carry_out(struct world *w)
{
    for (guint32 i = 0; i < w->plan.n_demote; i++)
        move_one(w, w->demote[i], 1);
    for (guint32 i = 0; i < w->plan.n_promote; i++)
        move_one(w, w->promote[i], 0);
    w->policy->carried_out(w->state, &w->look, &w->plan);
    w->most_in_dram = MAX(w->most_in_dram, w->ledger.count[0]);
}

void world_place(struct world *w)
{
    world_plan(w);
    world_carry_out(w);
    w->now += ROUND;
}

void world_run(struct world *w, double seconds)
{
    double end = w->now + seconds;

    while (w->now < end) {
        world_observe(w);
        world_place(w);
    }
}

bool world_is_hot(guint32 granule, guint32 first)
{
    return granule >= first && (granule - first) % 3 == 0 && (granule - first) / 3 < HOT;
}

void world_load_hot_set(struct world *w, guint32 first, double hot, double cold)
{
    for (guint32 g = 0; g < GRANULES; g++)
        w->load[g] = world_is_hot(g, first) ? hot : cold;
}

double world_share_in_dram(const struct world *w)
{
    double dram = 0, all = 0;

    for (guint32 g = 0; g < GRANULES; g++) {
        all += w->load[g];
        dram += w->ledger.tier[g] == 0 ? w->load[g] : 0;
    }
    return dram / all;
}
