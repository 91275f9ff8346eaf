// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the selection of the few best of many.
 *
 * timeout: 30
 */
#include "host/top.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x < y) - (x > y);
}

/* Against qsort(), with equal keys among them: the keys in order are the same, and each has its own granule. */
static void check(guint32 n, guint32 k, gint32 values)
{
    g_autofree float *key = g_new(float, n + 1), *sorted = g_new(float, n + 1);
    g_autofree bool *taken = g_new0(bool, n + 1);
    struct top top;

    top_init(&top);
    top_begin(&top, 3);
    top_offer(&top, 0, 1e9f);           /* of another time */
    top_begin(&top, k);
    for (guint32 i = 0; i < n; i++) {
        key[i] = sorted[i] = (float)g_test_rand_int_range(-values, values);
        top_offer(&top, i, key[i]);
    }
    qsort(sorted, n, sizeof(sorted[0]), descending);
    top_sort(&top);
    g_assert_cmpuint(top.n, ==, MIN(n, k));
    for (guint32 i = 0; i < top.n; i++) {
        g_assert_cmpfloat(top.entry[i].key, ==, sorted[i]);
        g_assert_cmpfloat(top.entry[i].key, ==, key[top.entry[i].granule]);
        g_assert_false(taken[top.entry[i].granule]);
        taken[top.entry[i].granule] = true;
    }
    top_clear(&top);
}

static void test_select(void)
{
    static const guint32 sizes[] = { 0, 1, 2, 3, 7, 100, 1000 };

    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++)
        for (gsize j = 0; j < G_N_ELEMENTS(sizes); j++)
            for (gint32 values = 1; values <= 10000; values *= 100)
                check(sizes[i], sizes[j], values);
    for (int i = 0; i < 1000; i++)
        check((guint32)g_test_rand_int_range(0, 60), (guint32)g_test_rand_int_range(0, 60), 20);
}

/* Minus infinity is what has no chance: it takes no place. */
static void test_no_chance(void)
{
    struct top top;

    top_init(&top);
    top_begin(&top, 4);
    top_offer(&top, 1, (float)-INFINITY);
    top_offer(&top, 2, 5);
    g_assert_cmpuint(top.n, ==, 1);
    top_clear(&top);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/top/select", test_select);
    g_test_add_func("/top/no-chance", test_no_chance);
    return g_test_run();
}
