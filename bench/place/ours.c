// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The daemon's own heat and policies, run round by round as host/round.c does: these are its objects,
 * not a copy of them. What differs between the rows is which sources they have.
 */
#include "bench/place/contenders.h"
#include "bench/place/prober.h"
#include "host/policy/policy.h"

#include <math.h>

#define ROUND      0.25
#define MOVES_MOST 256          /* as host/round.c */
#define POLL       0.1          /* seconds between polls of the probes */

struct setup {
    const struct policy *policy;
    double samples_per_s;       /* 0: no sampling source */
    double probe_us;            /* CPU per second; 0: no probes */
    double hint_share, hint_false;  /* when the hot set jumps: told of it; told besides */
};

struct ours {
    const struct setup *setup;
    const struct policy *policy;
    gpointer state;
    struct heat heat;
    struct prober prober;
    guint32 promote[MOVES_MOST], demote[MOVES_MOST];
};

static gpointer begin(struct sim *sim, const struct setup *setup)
{
    struct ours *o = g_new0(struct ours, 1);

    o->setup = setup;
    o->policy = setup->policy;
    o->state = o->policy->create();
    heat_init(&o->heat);
    heat_resize(&o->heat, sim->n);
    heat_use_samples(&o->heat, setup->samples_per_s > 0);
    heat_set_unit(&o->heat, HEAT_PROBES, SIM_PAGES * SIM_VISIT);
    if (setup->probe_us > 0)
        prober_begin(&o->prober, sim, setup->probe_us);
    return o;
}

static void destroy(gpointer state)
{
    struct ours *o = state;

    o->policy->destroy(o->state);
    heat_clear(&o->heat);
    prober_end(&o->prober);
    g_free(o);
}

/* One sample in so many accesses that there are about as many per second as there may be. */
static void take_samples(struct ours *o, struct sim *sim)
{
    double all = sim_all(sim), period = MAX(all / o->setup->samples_per_s, 1);
    guint32 n = sim_poisson(sim, all * SIM_TICK / period);

    heat_set_unit(&o->heat, HEAT_SAMPLES, period);
    sim_charge(sim, n * COST_SAMPLE);
    while (n--)
        heat_add(&o->heat, HEAT_SAMPLES, sim_draw(sim), period, 0);
}

/* Somebody tells of the new hot set, a quarter of what it gets in HEAT's memory, and is partly wrong. */
static void give_hints(struct ours *o, struct sim *sim)
{
    double mean = sim_all(sim) / sim->n, hot = 0;

    for (guint32 g = 0; g < sim->n; g++)
        hot += sim->rate[g] > 2 * mean;
    for (guint32 g = 0; g < sim->n; g++) {
        bool is_hot = sim->rate[g] > 2 * mean;
        double share = is_hot ? o->setup->hint_share : o->setup->hint_false * hot / (sim->n - hot);

        if (sim_uniform(sim) < share)
            heat_add(&o->heat, HEAT_HINTS, g, 9 * mean * HEAT_HALF_LIFE / M_LN2 / 4, 0);
    }
}

static void carry_out(struct ours *o, struct sim *sim, const struct outlook *look, struct plan *p)
{
    for (guint32 i = 0; i < p->n_demote; i++)
        sim_move(sim, p->demote[i], 1);
    for (guint32 i = 0; i < p->n_promote; i++)
        sim_move(sim, p->promote[i], 0);
    for (guint32 i = 0; i < p->n_demote; i++)
        heat_note_moved(&o->heat, p->demote[i], look->now);
    for (guint32 i = 0; i < p->n_promote; i++)
        heat_note_moved(&o->heat, p->promote[i], look->now);
    o->policy->carried_out(o->state, look, p);
}

static void round_once(struct ours *o, struct sim *sim)
{
    struct plan p = { .promote = o->promote, .demote = o->demote };
    struct outlook look = {
        .heat = &o->heat, .ledger = &sim->ledger, .dram_most = sim->quota,
        .moves_most = MIN(pace_units(&sim->pace, SIM_GRANULE), MOVES_MOST), .now = sim->now,
        .move_cost_s = 200e-6, .pages = SIM_PAGES,
    };
    guint32 kinds = (o->setup->samples_per_s > 0 ? 1u << HEAT_SAMPLES : 0) |
                    (o->setup->probe_us > 0 ? 1u << HEAT_PROBES : 0);

    heat_digest(&o->heat);
    o->policy->plan(o->state, &look, &p);
    carry_out(o, sim, &look, &p);
    heat_advance(&o->heat, ROUND, kinds);
}

static void tick(struct sim *sim, gpointer state)
{
    struct ours *o = state;

    if (o->setup->samples_per_s > 0)
        take_samples(o, sim);
    if (o->setup->probe_us > 0 && sim_every(sim, POLL))
        prober_poll(&o->prober, sim, &o->heat, POLL);
    if (o->setup->hint_share > 0 && sim->shifted)
        give_hints(o, sim);
    if (sim->tick && sim_every(sim, ROUND))
        round_once(o, sim);
}

#define OURS(id, name_, summary_, ...) \
    static gpointer create_##id(struct sim *sim) \
    { \
        static const struct setup setup = { __VA_ARGS__ }; \
 \
        return begin(sim, &setup); \
    } \
    const struct contender contender_##id = { .name = (name_), .summary = (summary_), \
        .create = create_##id, .tick = tick, .destroy = destroy }

OURS(cbx_s, "cbx S", "cbx, 20 000 samples/s", .policy = &policy_cbx, .samples_per_s = 20e3);
OURS(cbx_s5, "cbx S/4", "cbx, 5 000 samples/s", .policy = &policy_cbx, .samples_per_s = 5e3);
OURS(cbx_p, "cbx P", "cbx, probes of 20 ms/s", .policy = &policy_cbx, .probe_us = 20e3);
OURS(cbx_sp, "cbx S/4+P", "cbx, 5 000 samples/s and probes of 10 ms/s", .policy = &policy_cbx,
     .samples_per_s = 5e3, .probe_us = 10e3);
OURS(lru_s, "lru S", "lru, 20 000 samples/s", .policy = &policy_lru, .samples_per_s = 20e3);
OURS(hint_good, "cbx S/8+good hints", "80 % of the hot set told, 10 % besides", .policy = &policy_cbx,
     .samples_per_s = 2500, .hint_share = 0.8, .hint_false = 0.1);
OURS(hint_bad, "cbx S/8+bad hints", "1 % of the hot set told, twice as much besides",
     .policy = &policy_cbx, .samples_per_s = 2500, .hint_share = 0.01, .hint_false = 2);
OURS(hint_none, "cbx S/8", "cbx, 2 500 samples/s", .policy = &policy_cbx, .samples_per_s = 2500);
