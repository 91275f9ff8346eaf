// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of placement: the policies on synthetic loads, round by round as the daemon runs it.
 *
 * A load says how often each granule is accessed; the sampling source is played by Poisson counts,
 * so that what the policy sees is as noisy as the real thing.
 *
 * timeout: 120
 */
#include "host/policy/policy.h"

#include <math.h>
#include <stdlib.h>

#define GRANULES 512
#define QUOTA    128
#define HOT      96
#define MOST     64             /* moves per round */
#define ROUND    0.25
#define MIB      (1ull << 20)
#define PERIOD   64.0           /* accesses that a sample stands for */
#define GATE_PROBES 2           /* exchanges a second that a closed gate may let through */

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

/* Knuth's for small means, the normal distribution for others. */
static guint32 poisson(double mean)
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

/* DRAM has the first `quota` granules, as after the first placement. */
static struct world *world_with(const struct policy *policy)
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

static struct world *world_new(void)
{
    return world_with(&policy_cbx);
}

static void world_free(struct world *w)
{
    w->policy->destroy(w->state);
    heat_clear(&w->heat);
    ledger_clear(&w->ledger);
    g_free(w);
}

static void sample(struct world *w, guint32 granule, guint32 n)
{
    if (n)
        heat_add(&w->heat, HEAT_SAMPLES, granule, n * PERIOD, 0);
}

static void observe(struct world *w)
{
    heat_advance(&w->heat, ROUND, 1u << HEAT_SAMPLES | 1u << HEAT_WRITES);
    for (guint32 g = 0; g < GRANULES; g++)
        sample(w, g, poisson(w->load[g] * ROUND));
}

static bool is_ready(gconstpointer of, guint32 granule)
{
    const struct world *w = of;

    return !w->stuck[granule];
}

static void plan(struct world *w)
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

/* As the daemon's round does: first what makes room, and never above the quota. */
static void carry_out(struct world *w)
{
    for (guint32 i = 0; i < w->plan.n_demote; i++)
        move_one(w, w->demote[i], 1);
    for (guint32 i = 0; i < w->plan.n_promote; i++)
        move_one(w, w->promote[i], 0);
    w->policy->carried_out(w->state, &w->look, &w->plan);
    w->most_in_dram = MAX(w->most_in_dram, w->ledger.count[0]);
}

static void place(struct world *w)
{
    plan(w);
    carry_out(w);
    w->now += ROUND;
}

static void run(struct world *w, double seconds)
{
    double end = w->now + seconds;

    while (w->now < end) {
        observe(w);
        place(w);
    }
}

/* HOT granules from `first` on, every third, are accessed so often; the others rarely. */
static bool is_hot(guint32 granule, guint32 first)
{
    return granule >= first && (granule - first) % 3 == 0 && (granule - first) / 3 < HOT;
}

static void load_hot_set(struct world *w, guint32 first, double hot, double cold)
{
    for (guint32 g = 0; g < GRANULES; g++)
        w->load[g] = is_hot(g, first) ? hot : cold;
}

static double share_in_dram(const struct world *w)
{
    double dram = 0, all = 0;

    for (guint32 g = 0; g < GRANULES; g++) {
        all += w->load[g];
        dram += w->ledger.tier[g] == 0 ? w->load[g] : 0;
    }
    return dram / all;
}

/* --- cbx -------------------------------------------------------------------------------------- */

static void test_hot_set(void)
{
    struct world *w = world_new();

    load_hot_set(w, 200, 300, 3);
    run(w, 15);
    g_test_message("%.3f of the accesses go to dram after %u moves", share_in_dram(w), w->moved);
    g_assert_cmpfloat(share_in_dram(w), >, 0.95);
    g_assert_cmpuint(w->moved, <, 4 * HOT);
    world_free(w);
}

static void test_shift(void)
{
    struct world *w = world_new();

    load_hot_set(w, 200, 300, 3);
    run(w, 60);
    load_hot_set(w, 1, 300, 3);
    g_assert_cmpfloat(share_in_dram(w), <, 0.6);
    run(w, 30);
    g_test_message("%.3f of the accesses go to dram after the jump", share_in_dram(w));
    g_assert_cmpfloat(share_in_dram(w), >, 0.95);
    world_free(w);
}

/* Once the hot set is there, nothing moves any more. */
static void test_settles(void)
{
    struct world *w = world_new();

    load_hot_set(w, 200, 300, 3);
    run(w, 30);
    guint32 before = w->moved;

    run(w, 60);
    g_test_message("%u moves in a minute", w->moved - before);
    g_assert_cmpuint(w->moved - before, <=, 60);
    world_free(w);
}

/* All alike: not one granule is provably hotter than another, so moves are bad luck and rare. */
static void test_uniform(gconstpointer rate)
{
    struct world *w = world_new();

    for (guint32 g = 0; g < GRANULES; g++)
        w->load[g] = atof(rate);
    run(w, 60);
    guint32 before = w->moved;

    run(w, 120);
    double bytes_per_s = (double)(w->moved - before) * 2 * MIB / 120;

    g_test_message("%.2f MB/s", bytes_per_s / 1e6);
    g_assert_cmpfloat(bytes_per_s, <=, 2e6);
    world_free(w);
}

/* Exactly the same evidence for all: no exchange at all. */
static void test_equal(void)
{
    struct world *w = world_new();

    for (int i = 0; i < 120; i++) {
        w->now += ROUND;
        heat_advance(&w->heat, ROUND, 1u << HEAT_SAMPLES);
        for (guint32 g = 0; g < GRANULES; g++)
            sample(w, g, 25);
        plan(w);
        carry_out(w);
    }
    g_assert_cmpuint(w->moved, ==, 0);
    world_free(w);
}

/* A single access is no reason to move anything. */
static void test_one_access(void)
{
    struct world *w = world_new();

    heat_advance(&w->heat, ROUND, 1u << HEAT_SAMPLES);
    for (guint32 g = QUOTA; g < GRANULES; g++)
        sample(w, g, 1);
    plan(w);
    g_assert_cmpuint(w->plan.n_promote + w->plan.n_demote, ==, 0);
    world_free(w);
}

/* A difference that is proved without doubt, but not worth two moves until they are cheap. */
static void test_payback(void)
{
    struct world *w = world_new();

    w->move_cost_s = 20e-3;
    load_hot_set(w, 200, 10, 0);
    run(w, 30);
    g_assert_cmpuint(w->moved, ==, 0);
    w->move_cost_s = 200e-6;
    run(w, 30);
    g_assert_cmpfloat(share_in_dram(w), >, 0.95);
    world_free(w);
}

static void test_quota(void)
{
    struct world *w = world_new();

    for (guint32 g = 0; g < QUOTA; g++)
        ledger_put(&w->ledger, g, 1);
    for (int i = 0; i < 20; i++) {
        w->quota = (guint32)g_test_rand_int_range((gint32)w->ledger.count[0], GRANULES / 2);
        w->most_in_dram = 0;
        load_hot_set(w, (guint32)g_test_rand_int_range(0, 200), 300, 30);
        run(w, 5);
        g_assert_cmpuint(w->most_in_dram, <=, w->quota);
    }
    g_assert_cmpuint(w->ledger.count[0], >, 0);
    world_free(w);
}

/* --- bounces and trust ------------------------------------------------------------------------ */

/* A granule whose moves did not pay is left alone, twice as long after each. */
static void test_back_off(void)
{
    struct world *w = world_new();

    w->now = 2;
    for (guint8 bounces = 1; bounces <= 4; bounces++) {
        guint32 hot = 300 + bounces;
        double quiet = 4.0 * (1 << (bounces - 1)), until = floor(w->now) + quiet;

        load_hot_set(w, 2000, 0, 1);
        w->load[hot] = 500;
        ledger_put(&w->ledger, hot, 1);
        w->heat.bounces[hot] = bounces;
        w->heat.moved_s[hot] = (guint16)(until - quiet);
        run(w, until - w->now - 2 * ROUND);
        g_assert_cmpuint(w->ledger.tier[hot], ==, 1);
        run(w, 3);
        g_assert_cmpuint(w->ledger.tier[hot], ==, 0);
        ledger_put(&w->ledger, QUOTA - 1, 1);
    }
    world_free(w);
}

/*
 * A load that lies: what has been hot is cold as soon as it has been moved. Once the first exchanges
 * have been judged the gate closes, and little more than probing is left.
 */
static void test_trust(void)
{
    struct world *w = world_new();
    guint32 first = 0, late = 0;

    for (guint32 g = 0; g < GRANULES; g++)
        w->load[g] = 20;
    for (int i = 0; i < 480; i++) {
        w->now += ROUND;
        observe(w);
        /* Bursts on the slow tier, each just long enough to look hot. */
        for (guint32 k = 0; k < 16; k++) {
            guint32 g = QUOTA + (guint32)(i / 4 * 16 + (int)k) % (GRANULES - QUOTA);

            if (w->ledger.tier[g] == 1)
                sample(w, g, 200);
        }
        plan(w);
        guint32 before = w->moved;

        carry_out(w);
        first += i < 80 ? w->moved - before : 0;
        late += i >= 400 ? w->moved - before : 0;
    }
    g_test_message("%u moves in the first 20 s, %u in the last", first, late);
    g_assert_cmpuint(first, >, 40);
    g_assert_cmpuint(late * 3, <, first);
    world_free(w);
}

/*
 * A scan: what is hot now was cold and will be. Each granule comes by so rarely that having been left alone
 * for a while does not matter; it is the kind of exchange that must have lost all trust.
 */
static void test_gate(void)
{
    struct world *w = world_new();
    guint32 before = 0;

    for (int i = 0; i < 4 * 64; i++) {
        for (guint32 g = 0; g < GRANULES; g++)
            w->load[g] = g / 16 == (guint32)i / 4 % 32 ? 400 : 10;
        if (i == 4 * 32)
            before = w->moved;
        run(w, ROUND);
    }
    g_test_message("%u moves in the first 32 s, %u in the next", before, w->moved - before);
    g_assert_cmpuint(before, >, 80);
    g_assert_cmpuint(w->moved - before, <=, 2 * GATE_PROBES * 32);
    world_free(w);
}

/* Moves that failed are no promises: nothing is judged, nothing else happens. */
static void test_nothing_carried_out(void)
{
    struct world *w = world_new();

    load_hot_set(w, 200, 300, 3);
    for (int i = 0; i < 120; i++) {
        struct plan none = { .demote = w->demote, .promote = w->promote };

        w->now += ROUND;
        observe(w);
        plan(w);
        w->policy->carried_out(w->state, &w->look, &none);
    }
    g_assert_cmpuint(w->plan.n_promote, >, 0);
    carry_out(w);
    run(w, 10);
    g_assert_cmpfloat(share_in_dram(w), >, 0.95);
    world_free(w);
}

/* Memory that is not there has no place in a plan. */
static void test_holes(void)
{
    struct world *w = world_new();

    load_hot_set(w, 200, 300, 3);
    run(w, 3);
    for (guint32 g = 100; g < 400; g++)
        ledger_put(&w->ledger, g, LEDGER_NONE);
    run(w, 10);
    for (guint32 g = 100; g < 400; g++)
        g_assert_cmpuint(w->ledger.tier[g], ==, LEDGER_NONE);
    world_free(w);
}

/* What the mover would refuse is no candidate, and costs no other its place. */
static void test_not_ready(void)
{
    struct world *w = world_new();

    load_hot_set(w, 200, 300, 3);
    for (guint32 g = 200; g < 260; g++)
        w->stuck[g] = true;
    run(w, 15);
    for (guint32 g = 0; g < GRANULES; g++)
        if (is_hot(g, 200))
            g_assert_cmpuint(w->ledger.tier[g], ==, w->stuck[g]);
    world_free(w);
}

/* Written all the time, it moves a little later, but it does. */
static void test_written(void)
{
    guint64 at[2] = { 0 };

    for (int written = 0; written < 2; written++) {
        struct world *w = world_new();

        load_hot_set(w, 200, 300, 3);
        while (share_in_dram(w) < 0.9 && w->now < 60) {
            for (guint32 g = 0; written && g < GRANULES; g++)
                heat_add(&w->heat, HEAT_WRITES, g, 100, ROUND);
            run(w, ROUND);
        }
        at[written] = (guint64)(w->now / ROUND);
        world_free(w);
    }
    g_test_message("%u rounds, %u if all is written", (guint)at[0], (guint)at[1]);
    g_assert_cmpuint(at[1], >, at[0]);
    g_assert_cmpuint(at[1], <, at[0] + 40);
}

/* Dram that the quota leaves free is used at once, by the hottest, proof or not. */
static void test_free_dram(void)
{
    struct world *w = world_new();

    for (guint32 g = 0; g < 64; g++)
        ledger_put(&w->ledger, g, 1);
    load_hot_set(w, 200, 20, 1);
    run(w, 1);
    g_assert_cmpuint(w->ledger.count[0], ==, QUOTA);
    g_assert_cmpuint(w->ledger.tier[200], ==, 0);
    world_free(w);
}

/* --- hints ---------------------------------------------------------------------------------------- */

/* Rounds with few samples and hints for granules from `first` on; samples tell where the truth is. */
static void run_hinted(struct world *w, guint32 first, double seconds)
{
    for (int i = (int)(seconds / ROUND); i > 0; i--) {
        heat_advance(&w->heat, ROUND, 1u << HEAT_SAMPLES | 1u << HEAT_HINTS);
        for (guint32 g = 0; g < GRANULES; g++) {
            sample(w, g, poisson(w->load[g] * ROUND));
            if (is_hot(g, first))
                heat_add(&w->heat, HEAT_HINTS, g, 300 * PERIOD * ROUND, 0);
        }
        place(w);
    }
}

/* Right hints place what samples do not see yet. */
static void test_good_hints(void)
{
    struct world *w = world_new();

    run_hinted(w, 200, 3);
    for (guint32 g = 0; g < GRANULES; g++)
        if (is_hot(g, 200))
            g_assert_cmpuint(w->ledger.tier[g], ==, 0);
    world_free(w);
}

/* Where nothing samples, and probes know of the rest, a hint is proof enough by itself. */
static void test_lone_hints(void)
{
    struct world *w = world_new();

    heat_use_samples(&w->heat, false);
    for (int i = 40; i >= 0; i--) {
        heat_advance(&w->heat, ROUND, 1u << HEAT_PROBES | 1u << HEAT_HINTS);
        for (guint32 g = 0; g < GRANULES; g++)
            heat_add(&w->heat, HEAT_PROBES, g, g < 32 ? 4000 : 0, 8 * ROUND);
        heat_add(&w->heat, HEAT_HINTS, 300, i ? 0 : 2000 * HEAT_HALF_LIFE / M_LN2, 0);
        place(w);
    }
    g_assert_cmpuint(w->ledger.tier[300], ==, 0);
    world_free(w);
}

/* What a scan passes in the first second looks hot, however many probes say so; what is hot after that is. */
static void test_first_moment(void)
{
    struct world *w = world_new();

    heat_use_samples(&w->heat, false);
    for (int i = 0; i < 12; i++) {
        heat_advance(&w->heat, ROUND, 1u << HEAT_PROBES);
        for (guint32 g = 0; g < GRANULES; g++)
            heat_add(&w->heat, HEAT_PROBES, g, g >= 200 && g < 232 ? 4000 : 0, 8 * ROUND);
        place(w);
        if (i < 4)
            g_assert_cmpuint(w->moved, ==, 0);
    }
    for (guint32 g = 200; g < 232; g++)
        g_assert_cmpuint(w->ledger.tier[g], ==, 0);
    world_free(w);
}

/* Wrong hints lose their own trust and nobody else's: the hot set is placed all the same. */
static void test_bad_hints(void)
{
    struct world *w = world_new();

    run_hinted(w, 200, 20);
    g_test_message("trust in hints: %.2f", w->heat.hint_trust);
    g_assert_cmpfloat(w->heat.hint_trust, <, 0.4);
    load_hot_set(w, 201, 300, 3);
    run_hinted(w, 200, 10);
    g_assert_cmpfloat(share_in_dram(w), >, 0.9);
    world_free(w);
}

/* --- lru ------------------------------------------------------------------------------------------ */

static void test_lru(void)
{
    struct world *w = world_with(&policy_lru);

    load_hot_set(w, 200, 30, 0);
    run(w, 30);
    g_test_message("lru: %.3f, %u moves", share_in_dram(w), w->moved);
    g_assert_cmpfloat(share_in_dram(w), >, 0.99);
    load_hot_set(w, 1, 30, 0);
    run(w, 30);
    g_assert_cmpfloat(share_in_dram(w), >, 0.99);
    g_assert_cmpuint(w->most_in_dram, <=, QUOTA);
    world_free(w);
}

/* An access in one round only is no reason; nor is anything idle brought in. */
static void test_lru_once(void)
{
    struct world *w = world_with(&policy_lru);

    for (int i = 0; i < 80; i++) {
        heat_advance(&w->heat, ROUND, 1u << HEAT_SAMPLES);
        sample(w, QUOTA + (guint32)i, 50);
        place(w);
    }
    g_assert_cmpuint(w->moved, ==, 0);
    world_free(w);
}

static void test_find(void)
{
    g_autofree char *names = policy_names();

    g_assert_true(policy_find("cbx") == &policy_cbx);
    g_assert_true(policy_find("lru") == &policy_lru);
    g_assert_null(policy_find("nonsense"));
    g_assert_null(policy_find(""));
    g_assert_cmpstr(names, ==, "cbx, lru");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/policy/cbx/hot-set", test_hot_set);
    g_test_add_func("/policy/cbx/shift", test_shift);
    g_test_add_func("/policy/cbx/settles", test_settles);
    g_test_add_data_func("/policy/cbx/uniform/rare", "2", test_uniform);
    g_test_add_data_func("/policy/cbx/uniform/usual", "40", test_uniform);
    g_test_add_data_func("/policy/cbx/uniform/busy", "1000", test_uniform);
    g_test_add_func("/policy/cbx/equal", test_equal);
    g_test_add_func("/policy/cbx/one-access", test_one_access);
    g_test_add_func("/policy/cbx/payback", test_payback);
    g_test_add_func("/policy/cbx/quota", test_quota);
    g_test_add_func("/policy/cbx/back-off", test_back_off);
    g_test_add_func("/policy/cbx/trust", test_trust);
    g_test_add_func("/policy/cbx/gate", test_gate);
    g_test_add_func("/policy/cbx/nothing-carried-out", test_nothing_carried_out);
    g_test_add_func("/policy/cbx/holes", test_holes);
    g_test_add_func("/policy/cbx/not-ready", test_not_ready);
    g_test_add_func("/policy/cbx/written", test_written);
    g_test_add_func("/policy/cbx/free-dram", test_free_dram);
    g_test_add_func("/policy/cbx/hints/good", test_good_hints);
    g_test_add_func("/policy/cbx/hints/alone", test_lone_hints);
    g_test_add_func("/policy/cbx/hints/bad", test_bad_hints);
    g_test_add_func("/policy/cbx/first-moment", test_first_moment);
    g_test_add_func("/policy/lru/hot-set", test_lru);
    g_test_add_func("/policy/lru/once", test_lru_once);
    g_test_add_func("/policy/find", test_find);
    return g_test_run();
}
