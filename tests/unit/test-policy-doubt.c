// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of what policy cbx doubts: granules that bounced, moves that did not pay, hints, memory that is not
 * there or not ready, and its first moment.
 *
 * timeout: 120
 */
#include "policy-world.h"

#include <math.h>

#define GATE_PROBES 2           /* exchanges a second that a closed gate may let through */

/* --- bounces and trust ------------------------------------------------------------------------ */

/* A granule whose moves did not pay is left alone, twice as long after each. */
static void test_back_off(void)
{
    struct world *w = world_new();

    w->now = 2;
    for (guint8 bounces = 1; bounces <= 4; bounces++) {
        guint32 hot = 300 + bounces;
        double quiet = 4.0 * (1 << (bounces - 1)), until = floor(w->now) + quiet;

        world_load_hot_set(w, 2000, 0, 1);
        w->load[hot] = 500;
        ledger_put(&w->ledger, hot, 1);
        w->heat.bounces[hot] = bounces;
        w->heat.moved_s[hot] = (guint16)(until - quiet);
        world_run(w, until - w->now - 2 * ROUND);
        g_assert_cmpuint(w->ledger.tier[hot], ==, 1);
        world_run(w, 3);
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
        world_observe(w);
        /* Bursts on the slow tier, each just long enough to look hot. */
        for (guint32 k = 0; k < 16; k++) {
            guint32 g = QUOTA + (guint32)(i / 4 * 16 + (int)k) % (GRANULES - QUOTA);

            if (w->ledger.tier[g] == 1)
                world_sample(w, g, 200);
        }
        world_plan(w);
        guint32 before = w->moved;

        world_carry_out(w);
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
        world_run(w, ROUND);
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

    world_load_hot_set(w, 200, 300, 3);
    for (int i = 0; i < 120; i++) {
        struct plan none = { .demote = w->demote, .promote = w->promote };

        w->now += ROUND;
        world_observe(w);
        world_plan(w);
        w->policy->carried_out(w->state, &w->look, &none);
    }
    g_assert_cmpuint(w->plan.n_promote, >, 0);
    world_carry_out(w);
    world_run(w, 10);
    g_assert_cmpfloat(world_share_in_dram(w), >, 0.95);
    world_free(w);
}

/* Memory that is not there has no place in a plan. */
static void test_holes(void)
{
    struct world *w = world_new();

    world_load_hot_set(w, 200, 300, 3);
    world_run(w, 3);
    for (guint32 g = 100; g < 400; g++)
        ledger_put(&w->ledger, g, LEDGER_NONE);
    world_run(w, 10);
    for (guint32 g = 100; g < 400; g++)
        g_assert_cmpuint(w->ledger.tier[g], ==, LEDGER_NONE);
    world_free(w);
}

/* What the mover would refuse is no candidate, and costs no other its place. */
static void test_not_ready(void)
{
    struct world *w = world_new();

    world_load_hot_set(w, 200, 300, 3);
    for (guint32 g = 200; g < 260; g++)
        w->stuck[g] = true;
    world_run(w, 15);
    for (guint32 g = 0; g < GRANULES; g++)
        if (world_is_hot(g, 200))
            g_assert_cmpuint(w->ledger.tier[g], ==, w->stuck[g]);
    world_free(w);
}

/* Written all the time, it moves a little later, but it does. */
static void test_written(void)
{
    guint64 at[2] = { 0 };

    for (int written = 0; written < 2; written++) {
        struct world *w = world_new();

        world_load_hot_set(w, 200, 300, 3);
        while (world_share_in_dram(w) < 0.9 && w->now < 60) {
            for (guint32 g = 0; written && g < GRANULES; g++)
                heat_add(&w->heat, HEAT_WRITES, g, 100, ROUND);
            world_run(w, ROUND);
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
    world_load_hot_set(w, 200, 20, 1);
    world_run(w, 1);
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
            world_sample(w, g, poisson(w->load[g] * ROUND));
            if (world_is_hot(g, first))
                heat_add(&w->heat, HEAT_HINTS, g, 300 * PERIOD * ROUND, 0);
        }
        world_place(w);
    }
}

/* Right hints place what samples do not see yet. */
static void test_good_hints(void)
{
    struct world *w = world_new();

    run_hinted(w, 200, 3);
    for (guint32 g = 0; g < GRANULES; g++)
        if (world_is_hot(g, 200))
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
        world_place(w);
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
        world_place(w);
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
    world_load_hot_set(w, 201, 300, 3);
    run_hinted(w, 200, 10);
    g_assert_cmpfloat(world_share_in_dram(w), >, 0.9);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
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
    return g_test_run();
}
