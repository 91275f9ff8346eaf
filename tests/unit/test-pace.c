// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the pace of moving: the rate is kept over any time, quiet times do not add up, and a
 * rate of zero means no moves.
 *
 * timeout: 30
 */
#include "host/pace.h"

#define UNIT (2ull << 20)
#define ROUND 0.25

/* Moves all that may be moved, for so many rounds; the units moved. */
static guint64 run(struct pace *p, guint64 rate, int rounds)
{
    guint64 moved = 0;

    for (int i = 0; i < rounds; i++) {
        pace_advance(p, ROUND, rate, UNIT);
        guint32 n = pace_units(p, UNIT);

        pace_spend(p, n * UNIT);
        moved += n;
    }
    return moved;
}

/* In whole units, so a rate below a unit per round has to wait for several rounds. */
static void test_rate(void)
{
    static const guint64 rates[] = { 1ull << 20, 7ull << 20, 256ull << 20, 1ull << 30 };

    for (gsize i = 0; i < G_N_ELEMENTS(rates); i++) {
        struct pace p = { 0 };
        double wanted = 100 * ROUND * (double)rates[i] / UNIT;

        g_assert_cmpfloat_with_epsilon((double)run(&p, rates[i], 100), wanted, 1.01);
    }
}

static void test_zero(void)
{
    struct pace p = { 0 };

    g_assert_cmpuint(run(&p, 0, 100), ==, 0);
    run(&p, 1ull << 30, 10);
    pace_advance(&p, ROUND, 1ull << 30, UNIT);
    g_assert_cmpuint(run(&p, 0, 10), ==, 0);
}

/* After an hour without moves there is a quarter of a second's worth, or two units, no more. */
static void test_no_burst(void)
{
    struct pace fast = { 0 }, slow = { 0 };

    pace_advance(&fast, 3600, 256ull << 20, UNIT);
    g_assert_cmpuint(pace_units(&fast, UNIT), ==, 32);
    pace_advance(&slow, 3600, 1 << 20, UNIT);
    g_assert_cmpuint(pace_units(&slow, UNIT), ==, 2);
}

/* What was spent too much is paid back before anything moves again. */
static void test_debt(void)
{
    struct pace p = { 0 };

    pace_advance(&p, 1, 256ull << 20, UNIT);
    pace_spend(&p, 64 * UNIT);
    g_assert_cmpuint(pace_units(&p, UNIT), ==, 0);
    pace_advance(&p, ROUND, 256ull << 20, UNIT);
    g_assert_cmpuint(pace_units(&p, UNIT), ==, 0);
    pace_advance(&p, ROUND, 256ull << 20, UNIT);
    g_assert_cmpuint(pace_units(&p, UNIT), >, 0);
}

static void test_huge_rate(void)
{
    struct pace p = { 0 };

    pace_advance(&p, 1, G_MAXUINT64, 4096);
    g_assert_cmpuint(pace_units(&p, 4096), ==, 1000000000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pace/rate", test_rate);
    g_test_add_func("/pace/zero", test_zero);
    g_test_add_func("/pace/no-burst", test_no_burst);
    g_test_add_func("/pace/debt", test_debt);
    g_test_add_func("/pace/huge-rate", test_huge_rate);
    return g_test_run();
}
