// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of what policies share: their table, and the selection of the best few.
 *
 * timeout: 30
 */
#include "host/policy/policy.h"

#include <stdlib.h>

static void test_find(void)
{
    g_assert_true(policy_find("cbx") == &policy_cbx);
    g_assert_null(policy_find("nonsense"));
    g_assert_null(policy_find(""));
}

static const float *sort_key;

static int by_key(const void *a, const void *b)
{
    float x = sort_key[*(const guint32 *)a], y = sort_key[*(const guint32 *)b];

    return (y > x) - (y < x);
}

/* Against qsort(), with equal keys among them: the keys in order are the same, and all different. */
static void check_selection(guint32 n, guint32 k, guint32 values)
{
    g_autofree guint32 *list = g_new(guint32, n + 1), *sorted = g_new(guint32, n + 1);
    g_autofree float *key = g_new(float, n + 1);
    g_autofree bool *taken = g_new0(bool, n + 1);

    for (guint32 i = 0; i < n; i++) {
        list[i] = sorted[i] = i;
        key[i] = (float)g_test_rand_int_range(-(gint32)values, (gint32)values);
    }
    sort_key = key;
    qsort(sorted, n, sizeof(sorted[0]), by_key);
    g_assert_cmpuint(policy_select(list, key, n, k), ==, MIN(n, k));
    for (guint32 i = 0; i < MIN(n, k); i++) {
        g_assert_cmpfloat(key[list[i]], ==, key[sorted[i]]);
        g_assert_false(taken[list[i]]);
        taken[list[i]] = true;
    }
}

static void test_select(void)
{
    static const guint32 sizes[] = { 0, 1, 2, 3, 7, 100, 1000 };

    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++)
        for (gsize j = 0; j < G_N_ELEMENTS(sizes); j++)
            for (guint32 values = 1; values <= 10000; values *= 100)
                check_selection(sizes[i], sizes[j], values);
    for (int i = 0; i < 1000; i++)
        check_selection((guint32)g_test_rand_int_range(0, 60),
                        (guint32)g_test_rand_int_range(0, 60), 20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/policy/find", test_find);
    g_test_add_func("/policy/select", test_select);
    return g_test_run();
}
