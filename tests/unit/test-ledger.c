// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the ledger: its counts are those of its table, whatever is put where.
 *
 * timeout: 30
 */
#include "host/ledger.h"

#define GRANULE (2ull << 20)

static void check_counts(const struct ledger *l)
{
    guint32 count[VT_TIERS] = { 0 };

    for (guint32 g = 0; g < l->n; g++)
        if (l->tier[g] != LEDGER_NONE)
            count[l->tier[g]]++;
    for (unsigned t = 0; t < VT_TIERS; t++) {
        g_assert_cmpuint(l->count[t], ==, count[t]);
        g_assert_cmpuint(ledger_bytes(l, t), ==, count[t] * GRANULE);
    }
}

static void test_new_is_nowhere(void)
{
    struct ledger l;

    ledger_init(&l, GRANULE);
    ledger_resize(&l, 100);
    for (guint32 g = 0; g < 100; g++)
        g_assert_cmpuint(l.tier[g], ==, LEDGER_NONE);
    check_counts(&l);
    ledger_clear(&l);
    g_assert_cmpuint(l.n, ==, 0);
    g_assert_cmpuint(l.granule, ==, GRANULE);
}

static void test_random(void)
{
    struct ledger l;

    ledger_init(&l, GRANULE);
    ledger_resize(&l, 500);
    for (int i = 0; i < 20000; i++) {
        int tier = g_test_rand_int_range(-1, VT_TIERS);

        ledger_put(&l, (guint32)g_test_rand_int_range(0, 500),
                   tier < 0 ? LEDGER_NONE : (guint8)tier);
    }
    check_counts(&l);
    ledger_clear(&l);
}

/* Growing keeps what there is; it never shrinks. */
static void test_resize(void)
{
    struct ledger l;

    ledger_init(&l, GRANULE);
    ledger_resize(&l, 3);
    ledger_put(&l, 2, 1);
    ledger_resize(&l, 1000);
    ledger_put(&l, 999, 0);
    ledger_resize(&l, 1);
    g_assert_cmpuint(l.n, ==, 1000);
    g_assert_cmpuint(l.tier[2], ==, 1);
    g_assert_cmpuint(l.tier[3], ==, LEDGER_NONE);
    g_assert_cmpuint(l.tier[999], ==, 0);
    check_counts(&l);
    ledger_clear(&l);
}

/* More than 4 GiB is no trouble for the bytes. */
static void test_bytes(void)
{
    struct ledger l;

    ledger_init(&l, 1ull << 30);
    ledger_resize(&l, 64);
    for (guint32 g = 0; g < 64; g++)
        ledger_put(&l, g, 1);
    g_assert_cmpuint(ledger_bytes(&l, 1), ==, 64ull << 30);
    ledger_clear(&l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ledger/new", test_new_is_nowhere);
    g_test_add_func("/ledger/random", test_random);
    g_test_add_func("/ledger/resize", test_resize);
    g_test_add_func("/ledger/bytes", test_bytes);
    return g_test_run();
}
