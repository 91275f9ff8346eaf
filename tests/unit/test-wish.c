// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of wishes: what becomes of a plan. */
#include "host/policy/wish.h"

#include <string.h>

enum { N = 16, MOST = 8, QUOTA = 8 };

/* Granules 0 to 7 are in dram, 8 to 15 are not; granule g's heat grows with g within each tier. */
struct table {
    struct heat heat;
    struct ledger ledger;
    struct wishes wishes;
    struct outlook look;
    struct plan plan;
    guint32 promote[MOST], demote[MOST];
};

static struct table *table_new(void)
{
    struct table *t = g_new0(struct table, 1);

    heat_init(&t->heat);
    heat_resize(&t->heat, N);
    heat_use_samples(&t->heat, true);
    heat_advance(&t->heat, 1, ~0u);
    ledger_init(&t->ledger, 2 << 20);
    ledger_resize(&t->ledger, N);
    wishes_resize(&t->wishes, N);
    for (guint32 g = 0; g < N; g++) {
        ledger_put(&t->ledger, g, g >= QUOTA);
        heat_add(&t->heat, HEAT_SAMPLES, g, 1000 * (g % QUOTA + 1), 1);
    }
    t->look = (struct outlook){ .heat = &t->heat, .ledger = &t->ledger, .dram_most = QUOTA,
                                .moves_most = MOST };
    t->plan = (struct plan){ .promote = t->promote, .demote = t->demote };
    return t;
}

static void table_free(struct table *t)
{
    heat_clear(&t->heat);
    ledger_clear(&t->ledger);
    wishes_clear(&t->wishes);
    g_free(t);
}

static void expect(const guint32 *list, guint32 n, const char *text)
{
    g_autoptr(GString) is = g_string_new(NULL);

    for (guint32 i = 0; i < n; i++)
        g_string_append_printf(is, "%s%u", i ? " " : "", list[i]);
    g_assert_cmpstr(is->str, ==, text);
}

static void amend(struct table *t, const char *promote, const char *demote)
{
    wishes_amend(&t->wishes, &t->look, &t->plan);
    expect(t->promote, t->plan.n_promote, promote);
    expect(t->demote, t->plan.n_demote, demote);
    table_free(t);
}

static void plan_one(struct table *t, guint32 up, guint32 down)
{
    t->promote[t->plan.n_promote++] = up;
    t->demote[t->plan.n_demote++] = down;
    t->plan.wanted = t->plan.n_promote;
}

static void test_none(void)
{
    struct table *t = table_new();

    plan_one(t, 15, 0);
    amend(t, "15", "0");
}

static void test_keep(void)
{
    struct table *t = table_new();

    wish_set(&t->wishes, 0, WISH_KEEP);         /* stays, the next coldest goes in its place */
    wish_set(&t->wishes, 9, WISH_KEEP);         /* comes, and before others */
    plan_one(t, 15, 0);
    amend(t, "9 15", "1 2");
}

static void test_keep_all(void)
{
    struct table *t = table_new();

    for (guint32 g = 0; g < QUOTA; g++)
        wish_set(&t->wishes, g, WISH_KEEP);
    plan_one(t, 15, 0);                         /* there is nobody who could go */
    amend(t, "", "");
}

static void test_empty(void)
{
    struct table *t = table_new();

    wish_set(&t->wishes, 7, WISH_EMPTY);        /* goes instead, however warm it was */
    wish_set(&t->wishes, 15, WISH_EMPTY);       /* does not come */
    plan_one(t, 15, 0);
    plan_one(t, 14, 1);
    amend(t, "14", "7 1");
}

/* There are warm ones outside: the empty ones go, and nobody else. */
static void test_empty_makes_room(void)
{
    struct table *t = table_new();

    wish_set(&t->wishes, 6, WISH_EMPTY);
    wish_set(&t->wishes, 7, WISH_EMPTY);
    amend(t, "", "6 7");
}

static void test_nobody_wants(void)
{
    struct table *t = table_new();

    for (guint32 g = 6; g < N; g++)
        wish_set(&t->wishes, g, WISH_EMPTY);
    amend(t, "", "");
}

static void test_cold(void)
{
    struct table *t = table_new();

    wish_set(&t->wishes, 1, WISH_COLD);         /* half of 2000 is no more than 0 has: either may go */
    wish_set(&t->wishes, 2, WISH_COLD);
    wish_set(&t->wishes, 12, WISH_KEEP);
    g_assert_cmpfloat(wish_key(&t->wishes, 2, 3000), >, wish_key(&t->wishes, 3, 2000));
    wishes_amend(&t->wishes, &t->look, &t->plan);
    g_assert_cmpuint(t->plan.n_promote, ==, 1);
    g_assert_cmpuint(t->plan.n_demote, ==, 1);
    g_assert_cmpuint(t->demote[0], <=, 1);
    table_free(t);
}

/* However much is wished, the plan stays within its moves, and a promotion has room. */
static void test_bounds(void)
{
    for (int round = 0; round < 5000; round++) {
        struct table *t = table_new();
        guint8 seen[N] = { 0 };

        t->look.moves_most = (guint32)g_test_rand_int_range(0, MOST + 1);
        t->look.dram_most = (guint32)g_test_rand_int_range(QUOTA, N);
        for (guint32 g = 0; g < N; g++)
            wish_set(&t->wishes, g, (enum wish)g_test_rand_int_range(0, WISH_END));
        for (guint32 i = 0; i < t->look.moves_most / 2 && g_test_rand_bit(); i++)
            plan_one(t, N - 1 - i, i);
        t->plan.wanted = (guint32)g_test_rand_int_range((gint32)t->plan.n_promote, N + 1);
        wishes_amend(&t->wishes, &t->look, &t->plan);
        g_assert_cmpuint(t->plan.n_promote + t->plan.n_demote, <=, MAX(t->look.moves_most, 1));
        g_assert_cmpuint(t->plan.n_promote, <=, t->look.dram_most - QUOTA + t->plan.n_demote);
        for (guint32 i = 0; i < t->plan.n_promote; i++)
            g_assert_true(t->promote[i] >= QUOTA && !seen[t->promote[i]]++);
        for (guint32 i = 0; i < t->plan.n_demote; i++)
            g_assert_true(t->demote[i] < QUOTA && !seen[t->demote[i]]++ &&
                          wish_of(&t->wishes, t->demote[i]) != WISH_KEEP);
        table_free(t);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wish/none", test_none);
    g_test_add_func("/wish/keep", test_keep);
    g_test_add_func("/wish/keep-all", test_keep_all);
    g_test_add_func("/wish/empty", test_empty);
    g_test_add_func("/wish/empty-makes-room", test_empty_makes_room);
    g_test_add_func("/wish/nobody-wants", test_nobody_wants);
    g_test_add_func("/wish/cold", test_cold);
    g_test_add_func("/wish/bounds", test_bounds);
    return g_test_run();
}
