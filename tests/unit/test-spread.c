// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of placing with pins, an interleave and several slower tiers: rounds of the placing part with a
 * mover that only keeps books, and sometimes refuses.
 *
 * Whatever happens, dram never has more granules than the quota, not in the middle of a round either.
 */
#include "host/place.h"

#include <string.h>

enum { N = 400, TIERS = 3, QUOTA = 200 };

struct toy {
    struct heat heat;
    struct ledger ledger;
    struct pace pace;
    struct spread spread;
    struct placing p;
    GRand *rand;
    gint32 noise;               /* a cold granule is touched fewer times than that in a round */
    guint32 sent;               /* moves that were asked for, */
    guint32 between;            /* those among them from one slower tier to another, */
    double refused;             /* and the share of all that is refused */
    guint32 full;               /* mask of tiers without memory */
    guint32 most;               /* the most dram had */
};

static int carry_out(gpointer of, struct vt_move_one *moves, guint32 n, guint32 coming, struct vt_err *err)
{
    struct toy *t = of;

    (void)coming, (void)err;
    for (guint32 i = 0; i < n; i++) {
        g_assert_cmpuint(moves[i].tier, <, TIERS);
        g_assert_cmpuint(moves[i].tier, !=, t->ledger.tier[moves[i].granule]);
        t->sent++;
        t->between += moves[i].tier && t->ledger.tier[moves[i].granule];
        if (t->full & 1u << moves[i].tier)
            moves[i].status = VT_ST_NOMEM;
        else if (g_rand_double(t->rand) < t->refused)
            moves[i].status = VT_ST_BUSY;
        else
            ledger_put(&t->ledger, moves[i].granule, moves[i].tier);
        t->most = MAX(t->most, t->ledger.count[0]);
    }
    return 0;
}

static struct toy *toy_new(guint32 cold0, guint32 cold1)
{
    const struct weights cold = { .of = { 0, cold0, cold1 } };
    struct toy *t = g_new0(struct toy, 1);

    t->rand = g_rand_new_with_seed(3);
    t->noise = 3;
    heat_init(&t->heat);
    heat_resize(&t->heat, N);
    heat_use_samples(&t->heat, true);
    ledger_init(&t->ledger, 2 << 20);
    ledger_resize(&t->ledger, N);
    spread_init(&t->spread, TIERS, &cold);
    for (guint32 g = 0; g < N; g++)
        ledger_put(&t->ledger, g, spread_first(&t->spread, g, g < QUOTA));
    t->p = (struct placing){
        .policy = &policy_cbx, .policy_state = policy_cbx.create(), .heat = &t->heat, .ledger = &t->ledger,
        .pace = &t->pace, .granule = 2 << 20, .dram_most = QUOTA, .move_cost_s = 1e-6, .moves = true,
        .spread = &t->spread, .of = t, .carry_out = carry_out,
    };
    return t;
}

static void toy_free(struct toy *t)
{
    g_assert_cmpuint(t->most, <=, QUOTA);
    policy_cbx.destroy(t->p.policy_state);
    heat_clear(&t->heat);
    ledger_clear(&t->ledger);
    spread_clear(&t->spread);
    g_rand_free(t->rand);
    g_free(t);
}

/* `hot_from`: where 150 hot granules are; the others are touched now and then. */
static void rounds(struct toy *t, int n, guint32 hot_from)
{
    while (n--) {
        t->p.now += 0.25;
        heat_advance(&t->heat, 0.25, 1u << HEAT_SAMPLES);
        for (guint32 g = 0; g < N; g++)
            heat_add(&t->heat, HEAT_SAMPLES, g, g - hot_from < 150 ? 200 + g_rand_int_range(t->rand, 0, 40)
                                                                   : g_rand_int_range(t->rand, 0, t->noise), 0);
        heat_digest(&t->heat);
        pace_advance(&t->pace, 0.25, 256 << 20, 2 << 20);
        g_assert_cmpint(place_round(&t->p, NULL), ==, 0);
    }
}

static void interleave(struct toy *t, guint32 a, guint32 b, guint32 c)
{
    spread_interleave(&t->spread, &(struct weights){ .of = { a, b, c } });
}

static guint32 hot_on(struct toy *t, guint tier)
{
    guint32 hot[VT_TIERS], target[VT_TIERS];

    spread_count(&t->spread, &t->ledger, hot, target);
    return hot[tier];
}

/* --- several slower tiers ------------------------------------------------------------------------------- */

/* What is cold is on the slower tiers by their weights, and nothing moves between them without need. */
static void test_cold(void)
{
    struct toy *t = toy_new(3, 1);

    g_assert_cmpuint(t->ledger.count[0], ==, QUOTA);
    g_assert_cmpint(ABS((int)t->ledger.count[2] - 50), <=, 4);
    rounds(t, 200, 220);
    g_assert_cmpuint(t->ledger.count[0], ==, QUOTA);
    g_assert_cmpint(ABS((int)t->ledger.count[2] - 50), <=, 4);
    for (guint32 g = 220; g < 370; g++)
        g_assert_cmpuint(t->ledger.tier[g], ==, 0);
    toy_free(t);
}

/* Other weights, as after a restart with another configuration: the least moves, besides what the policy exchanges. */
static void test_cold_weights(void)
{
    struct toy *t = toy_new(1, 0);

    t->noise = 1;               /* none: the policy has nothing to exchange */
    rounds(t, 40, 0);
    g_assert_cmpuint(t->ledger.count[2], ==, 0);
    t->between = 0;
    t->spread.weights[INTERLEAVE_COLD] = (struct weights){ .of = { 0, 1, 1 } };
    rounds(t, 40, 0);
    g_assert_cmpuint(t->ledger.count[0], ==, QUOTA);
    g_assert_cmpint(ABS((int)t->ledger.count[2] - 100), <=, 2);
    g_assert_cmpint(ABS((int)t->between - 100), <=, 2);
    toy_free(t);
}

/* A tier without memory is left alone for a while, and others take what it cannot. */
static void test_full(void)
{
    struct toy *t = toy_new(1, 1);
    guint32 before = t->ledger.count[1];

    t->full = 1u << 1;
    t->p.dram_most = QUOTA - 60;
    rounds(t, 40, 0);
    g_assert_cmpuint(t->ledger.count[0], ==, QUOTA - 60);
    g_assert_cmpuint(t->ledger.count[1], <=, before);
    g_assert_cmpuint(t->sent, <, 60 + 200);
    t->full = 0;
    rounds(t, 60, 0);
    g_assert_cmpint(ABS((int)t->ledger.count[1] - (int)t->ledger.count[2]), <=, 4);
    toy_free(t);
}

/* --- interleave -------------------------------------------------------------------------------------------- */

static void test_live(void)
{
    struct toy *t = toy_new(1, 1);

    interleave(t, 3, 1, 0);
    rounds(t, 40, 0);
    g_assert_cmpuint(hot_on(t, 0), ==, QUOTA * 3 / 4);
    g_assert_cmpuint(hot_on(t, 1), ==, QUOTA / 4);
    g_assert_cmpuint(t->ledger.count[0], ==, QUOTA * 3 / 4);
    t->sent = 0;
    interleave(t, 1, 1, 0);
    rounds(t, 40, 0);
    g_assert_cmpuint(hot_on(t, 0), ==, QUOTA / 2);
    g_assert_cmpuint(hot_on(t, 1), ==, QUOTA / 2);
    g_assert_cmpuint(t->sent, ==, QUOTA / 4);
    interleave(t, 1, 1, 2);
    rounds(t, 40, 0);
    g_assert_cmpuint(hot_on(t, 2), ==, QUOTA / 2);
    interleave(t, 0, 0, 0);
    rounds(t, 200, 0);
    for (guint32 g = 0; g < 150; g++)
        g_assert_cmpuint(t->ledger.tier[g], ==, 0);
    toy_free(t);
}

/* The hot set moves on, the mover refuses one in five, and shares stay what they are. */
static void test_churn(void)
{
    struct toy *t = toy_new(1, 1);

    interleave(t, 2, 1, 1);
    t->refused = 0.2;
    for (int i = 0; i < 6; i++) {
        rounds(t, 120, i % 2 ? 0 : 230);
        g_assert_cmpint(ABS((int)hot_on(t, 0) - QUOTA / 2), <=, 4);
        g_assert_cmpint(ABS((int)hot_on(t, 1) - QUOTA / 4), <=, 4);
        g_assert_cmpint(ABS((int)hot_on(t, 2) - QUOTA / 4), <=, 4);
    }
    toy_free(t);
}

/* The quota shrinks and grows under it. */
static void test_quota(void)
{
    struct toy *t = toy_new(1, 1);

    interleave(t, 3, 1, 0);
    rounds(t, 40, 0);
    t->p.dram_most = 100;
    rounds(t, 60, 0);
    g_assert_cmpint(ABS((int)hot_on(t, 0) - 75), <=, 1);
    g_assert_cmpint(ABS((int)hot_on(t, 1) - 25), <=, 1);
    t->p.dram_most = QUOTA;
    rounds(t, 120, 0);
    g_assert_cmpint(ABS((int)hot_on(t, 0) - QUOTA * 3 / 4), <=, 2);
    toy_free(t);
}

/* --- pins -------------------------------------------------------------------------------------------------------- */

static void pin(struct toy *t, guint number, guint32 first, guint32 n, guint8 tier)
{
    for (guint32 g = first; g < first + n; g++)
        spread_pin(&t->spread, &t->ledger, g, number, tier);
}

static void check_pinned(struct toy *t, guint32 first, guint32 n, guint8 tier)
{
    for (guint32 g = first; g < first + n; g++)
        g_assert_cmpuint(t->ledger.tier[g], ==, tier);
}

/* Cold granules in dram, hot ones elsewhere: they get there, and stay. */
static void test_pins(void)
{
    struct toy *t = toy_new(1, 1);

    rounds(t, 100, 0);
    pin(t, 0, 350, 40, 0);
    pin(t, 1, 0, 30, 2);
    pin(t, 2, 30, 30, 1);
    for (int i = 0; i < 5; i++) {
        rounds(t, 60, 0);
        check_pinned(t, 350, 40, 0);
        check_pinned(t, 0, 30, 2);
        check_pinned(t, 30, 30, 1);
        check_pinned(t, 60, 90, 0);     /* the rest of what is hot */
    }
    spread_unpin(&t->spread);
    rounds(t, 200, 0);
    check_pinned(t, 0, 150, 0);
    toy_free(t);
}

/* What is pinned elsewhere and cannot leave has dram all the same: only what is free is filled. */
static void test_stuck(void)
{
    struct toy *t = toy_new(1, 1);

    t->p.dram_most = QUOTA - 5;
    rounds(t, 20, 0);
    t->full = 1u << 2;
    pin(t, 0, 0, 30, 2);
    t->p.dram_most = QUOTA;
    rounds(t, 20, 200);
    g_assert_cmpuint(t->ledger.count[0], ==, QUOTA);
    check_pinned(t, 0, 30, 0);
    toy_free(t);
}

/* All of the quota pinned: the others have none of it, and nothing breaks. */
static void test_all_pinned(void)
{
    struct toy *t = toy_new(1, 1);

    pin(t, 0, 200, QUOTA, 0);
    rounds(t, 200, 0);
    check_pinned(t, 200, QUOTA, 0);
    g_assert_cmpuint(t->ledger.count[0], ==, QUOTA);
    toy_free(t);
}

static void test_pins_and_weights(void)
{
    struct toy *t = toy_new(2, 1);

    t->refused = 0.1;
    interleave(t, 3, 1, 0);
    pin(t, 0, 300, 40, 0);
    pin(t, 1, 0, 20, 2);
    rounds(t, 200, 0);
    check_pinned(t, 300, 40, 0);
    check_pinned(t, 0, 20, 2);
    g_assert_cmpint(ABS((int)hot_on(t, 0) - 120), <=, 2);
    g_assert_cmpint(ABS((int)hot_on(t, 1) - 40), <=, 2);
    toy_free(t);
}

/* By the first placement, too. */
static void test_first(void)
{
    struct toy *t = toy_new(1, 1);
    guint32 n[VT_TIERS] = { 0 };

    pin(t, 0, 10, 1, 2);
    interleave(t, 1, 1, 0);
    for (guint32 g = 0; g < N; g++)
        n[spread_first(&t->spread, g, g < 200)]++;
    g_assert_cmpuint(spread_first(&t->spread, 10, true), ==, 2);
    g_assert_cmpint(ABS((int)n[0] - 100), <=, 2);
    g_assert_cmpint(ABS((int)n[1] - 200), <=, 4);
    g_assert_cmpint(ABS((int)n[2] - 100), <=, 4);
    toy_free(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/spread/cold", test_cold);
    g_test_add_func("/spread/cold-weights", test_cold_weights);
    g_test_add_func("/spread/full", test_full);
    g_test_add_func("/spread/live", test_live);
    g_test_add_func("/spread/churn", test_churn);
    g_test_add_func("/spread/quota", test_quota);
    g_test_add_func("/spread/pins", test_pins);
    g_test_add_func("/spread/stuck", test_stuck);
    g_test_add_func("/spread/all-pinned", test_all_pinned);
    g_test_add_func("/spread/pins-and-weights", test_pins_and_weights);
    g_test_add_func("/spread/first", test_first);
    return g_test_run();
}
