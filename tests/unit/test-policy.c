// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of placement: where the policies bring synthetic loads to. What cbx doubts is in test-policy-doubt.c.
 *
 * timeout: 120
 */
#include "policy-world.h"

#include <stdlib.h>

/* --- cbx -------------------------------------------------------------------------------------- */

static void test_hot_set(void)
{
    struct world *w = world_new();

    world_load_hot_set(w, 200, 300, 3);
    world_run(w, 15);
    g_test_message("%.3f of the accesses go to dram after %u moves", world_share_in_dram(w), w->moved);
    g_assert_cmpfloat(world_share_in_dram(w), >, 0.95);
    g_assert_cmpuint(w->moved, <, 4 * HOT);
    world_free(w);
}

static void test_shift(void)
{
    struct world *w = world_new();

    world_load_hot_set(w, 200, 300, 3);
    world_run(w, 60);
    world_load_hot_set(w, 1, 300, 3);
    g_assert_cmpfloat(world_share_in_dram(w), <, 0.6);
    world_run(w, 30);
    g_test_message("%.3f of the accesses go to dram after the jump", world_share_in_dram(w));
    g_assert_cmpfloat(world_share_in_dram(w), >, 0.95);
    world_free(w);
}

/* Once the hot set is there, nothing moves any more. */
static void test_settles(void)
{
    struct world *w = world_new();

    world_load_hot_set(w, 200, 300, 3);
    world_run(w, 30);
    guint32 before = w->moved;

    world_run(w, 60);
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
    world_run(w, 60);
    guint32 before = w->moved;

    world_run(w, 120);
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
            world_sample(w, g, 25);
        world_plan(w);
        world_carry_out(w);
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
        world_sample(w, g, 1);
    world_plan(w);
    g_assert_cmpuint(w->plan.n_promote + w->plan.n_demote, ==, 0);
    world_free(w);
}

/* A difference that is proved without doubt, but not worth two moves until they are cheap. */
static void test_payback(void)
{
    struct world *w = world_new();

    w->move_cost_s = 20e-3;
    world_load_hot_set(w, 200, 10, 0);
    world_run(w, 30);
    g_assert_cmpuint(w->moved, ==, 0);
    w->move_cost_s = 200e-6;
    world_run(w, 30);
    g_assert_cmpfloat(world_share_in_dram(w), >, 0.95);
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
        world_load_hot_set(w, (guint32)g_test_rand_int_range(0, 200), 300, 30);
        world_run(w, 5);
        g_assert_cmpuint(w->most_in_dram, <=, w->quota);
    }
    g_assert_cmpuint(w->ledger.count[0], >, 0);
    world_free(w);
}

/* --- lru ------------------------------------------------------------------------------------------ */

static void test_lru(void)
{
    struct world *w = world_with(&policy_lru);

    world_load_hot_set(w, 200, 30, 0);
    world_run(w, 30);
    g_test_message("lru: %.3f, %u moves", world_share_in_dram(w), w->moved);
    g_assert_cmpfloat(world_share_in_dram(w), >, 0.99);
    world_load_hot_set(w, 1, 30, 0);
    world_run(w, 30);
    g_assert_cmpfloat(world_share_in_dram(w), >, 0.99);
    g_assert_cmpuint(w->most_in_dram, <=, QUOTA);
    world_free(w);
}

/* An access in one round only is no reason; nor is anything idle brought in. */
static void test_lru_once(void)
{
    struct world *w = world_with(&policy_lru);

    for (int i = 0; i < 80; i++) {
        heat_advance(&w->heat, ROUND, 1u << HEAT_SAMPLES);
        world_sample(w, QUOTA + (guint32)i, 50);
        world_place(w);
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
    g_test_add_func("/policy/lru/hot-set", test_lru);
    g_test_add_func("/policy/lru/once", test_lru_once);
    g_test_add_func("/policy/find", test_find);
    return g_test_run();
}
