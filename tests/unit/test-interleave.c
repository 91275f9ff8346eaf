// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of weights: shares, evenness, the least movement over many changes, and their text. */
#include "host/interleave.h"

#include <string.h>

static const char *const names[] = { "dram", "cxl0", "cxl1", NULL };

enum { N = 1000 };

static struct weights weights(guint32 a, guint32 b, guint32 c)
{
    return (struct weights){ .of = { a, b, c } };
}

static void count_points(const struct weights *w, guint32 first, guint32 n, guint32 count[VT_TIERS])
{
    memset(count, 0, VT_TIERS * sizeof(count[0]));
    for (guint32 g = first; g < first + n; g++)
        count[interleave_tier(w, INTERLEAVE_HOT, g)]++;
}

/* Any stretch of granules is spread by the weights: within 2 % of all, from some hundreds on. */
static void test_shares(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (int i = 0; i < 2000; i++) {
        const struct weights w = weights((guint32)g_rand_int_range(rand, 1, 10),
                                         (guint32)g_rand_int_range(rand, 0, 10),
                                         (guint32)g_rand_int_range(rand, 0, 10));
        guint32 n = (guint32)g_rand_int_range(rand, 300, 5000), count[VT_TIERS];

        count_points(&w, g_rand_int(rand) >> 10, n, count);
        for (guint t = 0; t < VT_TIERS; t++)
            g_assert_cmpfloat(ABS((double)count[t] / n - (double)w.of[t] / weights_sum(&w)), <, 0.02);
    }
}

/* What is hot on one tier is, when cold, on all: the two sets have nothing to do with each other. */
static void test_two_sets(void)
{
    const struct weights w = weights(0, 1, 1);
    guint32 both = 0, n = 0;

    for (guint32 g = 0; g < 4096; g++)
        if (interleave_tier(&w, INTERLEAVE_HOT, g) == 1) {
            n++;
            both += interleave_tier(&w, INTERLEAVE_COLD, g) == 1;
        }
    g_assert_cmpfloat(ABS((double)both / n - 0.5), <, 0.03);
}

/* With two tiers what moves is what has to, by the offset alone. */
static void test_two_tiers_by_offset(void)
{
    for (guint32 a = 1; a < 10; a++)
        for (guint32 b = 1; b < 10; b++) {
            const struct weights w = weights(a, 10 - a, 0), v = weights(b, 10 - b, 0);
            guint32 moved = 0, was[VT_TIERS], is[VT_TIERS];

            count_points(&w, 0, N, was);
            count_points(&v, 0, N, is);
            for (guint32 g = 0; g < N; g++)
                moved += interleave_tier(&w, INTERLEAVE_HOT, g) != interleave_tier(&v, INTERLEAVE_HOT, g);
            g_assert_cmpuint(moved, ==, ABS((int)was[0] - (int)is[0]));
        }
}

static void test_targets(void)
{
    guint32 t[VT_TIERS], sum;

    for (guint32 n = 0; n < 200; n++) {
        const struct weights w = weights(n % 7, n % 5 + 1, n % 3);

        interleave_targets(&w, n, t);
        sum = 0;
        for (guint i = 0; i < VT_TIERS; i++) {
            g_assert_cmpfloat(ABS((double)t[i] - (double)n * w.of[i] / weights_sum(&w)), <=, 1);
            sum += t[i];
        }
        g_assert_cmpuint(sum, ==, n);
    }
}

/* --- moves ------------------------------------------------------------------------------------------------- */

struct set {
    guint8 tier[N];
    guint32 is[VT_TIERS];
    guint32 moved;
};

static guint8 tier_of(gconstpointer of, guint32 granule)
{
    return ((const struct set *)of)->tier[granule];
}

/* Brings the set to its targets, a few moves at a time, as rounds do. */
static void settle(struct set *s, const struct weights *w, guint32 most)
{
    guint32 target[VT_TIERS];
    struct interleave_job job = { .weights = w, .set = INTERLEAVE_HOT, .tier = tier_of, .of = s, .n = N,
                                  .is = s->is, .target = target };
    struct vt_move_one moves[N];
    guint32 n, all = 0;

    for (guint t = 0; t < VT_TIERS; t++)
        all += s->is[t];
    interleave_targets(w, all, target);
    while ((n = interleave_balance(&job, most, moves)) > 0) {
        g_assert_cmpuint(n, <=, most);
        for (guint32 i = 0; i < n; i++) {
            g_assert_cmpuint(s->tier[moves[i].granule], !=, moves[i].tier);
            s->tier[moves[i].granule] = moves[i].tier;
        }
        s->moved += n;
    }
    for (guint t = 0; t < VT_TIERS; t++)
        g_assert_cmpuint(s->is[t], ==, target[t]);
}

/* The least there is to move: what is too many where it is. */
static guint32 least(const struct set *s, const struct weights *w)
{
    guint32 target[VT_TIERS], all = 0;

    for (guint t = 0; t < VT_TIERS; t++)
        all += s->is[t];
    interleave_targets(w, all, target);
    return interleave_surplus(s->is, target);
}

static void check_counts(const struct set *s)
{
    guint32 is[VT_TIERS] = { 0 };

    for (guint32 g = 0; g < N; g++)
        if (s->tier[g] < VT_TIERS)
            is[s->tier[g]]++;
    g_assert_cmpmem(is, sizeof(is), s->is, sizeof(s->is));
}

/* Is each stretch of the set on all tiers? Else there would be no bandwidth in it. */
static void check_even(const struct set *s, const struct weights *w)
{
    for (guint32 at = 0; at + 100 <= N; at += 100) {
        guint32 in[VT_TIERS] = { 0 };

        for (guint32 g = at; g < at + 100; g++)
            in[s->tier[g]]++;
        for (guint t = 0; t < 2; t++)
            g_assert_cmpfloat(ABS(in[t] / 100.0 - (double)w->of[t] / weights_sum(w)), <, 0.06);
    }
}

static void test_three_to_one(void)
{
    struct set *s = g_new0(struct set, 1);
    const struct weights before = weights(3, 1, 0), after = weights(1, 1, 0);

    s->is[0] = N;               /* all in dram, as without an interleave */
    settle(s, &before, 7);
    g_assert_cmpuint(s->moved, ==, N / 4);
    check_even(s, &before);
    s->moved = 0;
    settle(s, &after, 7);
    g_assert_cmpuint(s->moved, ==, N / 4);
    check_even(s, &after);
    s->moved = 0;
    settle(s, &before, 7);
    g_assert_cmpuint(s->moved, ==, N / 4);
    check_even(s, &before);
    g_free(s);
}

/* Over any number of changes, with granules that come and go and some that are not of the set. */
static void test_least_movement(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(2);
    struct set *s = g_new0(struct set, 1);

    for (guint32 g = 0; g < N; g++) {
        s->tier[g] = g % 3 ? 0 : VT_TIERS;
        s->is[0] += g % 3 > 0;
    }
    for (int i = 0; i < 300; i++) {
        const struct weights w = weights((guint32)g_rand_int_range(rand, 0, 9) + 1,
                                         (guint32)g_rand_int_range(rand, 0, 9),
                                         (guint32)g_rand_int_range(rand, 0, 9));
        guint32 must = least(s, &w), g = (guint32)g_rand_int_range(rand, 0, N);

        s->moved = 0;
        settle(s, &w, 13);
        check_counts(s);
        g_assert_cmpuint(s->moved, ==, must);
        if (s->tier[g] == VT_TIERS)
            s->is[s->tier[g] = interleave_tier(&w, INTERLEAVE_HOT, g)]++;
    }
    g_free(s);
}

/* Nothing goes to a tier that is shut, and what has room there stays undone. */
static void test_shut(void)
{
    struct set *s = g_new0(struct set, 1);
    const struct weights w = weights(1, 1, 2);
    guint32 target[VT_TIERS];
    struct vt_move_one moves[N];
    struct interleave_job job = { .weights = &w, .set = INTERLEAVE_HOT, .tier = tier_of, .of = s, .n = N,
                                  .is = s->is, .target = target, .shut = 1u << 2 };

    s->is[0] = N;
    interleave_targets(&w, N, target);
    g_assert_cmpuint(interleave_balance(&job, N, moves), ==, N / 4);
    for (int i = 0; i < N / 4; i++)
        g_assert_cmpuint(moves[i].tier, ==, 1);
    g_assert_cmpuint(interleave_join(&w, INTERLEAVE_HOT, 5, s->is, target, 1u << 2), <, 2);
    g_assert_cmpuint(interleave_join(&w, INTERLEAVE_HOT, 5, s->is, target, 7), ==, VT_TIERS);
    g_free(s);
}

/* Granules that join one by one keep the shares exact. */
static void test_join(void)
{
    const struct weights w = weights(5, 2, 1);
    guint32 is[VT_TIERS] = { 0 }, target[VT_TIERS];

    interleave_targets(&w, 400, target);
    for (guint32 i = 0; i < 400; i++)
        is[interleave_join(&w, INTERLEAVE_HOT, i * 37, is, target, 0)]++;
    g_assert_cmpmem(is, sizeof(is), target, sizeof(target));
}

/* --- text ---------------------------------------------------------------------------------------------------- */

static void good(const char *text, const char *is)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *again = NULL;
    struct weights w;

    g_assert_true(weights_parse(text, names, &w, &error));
    g_assert_no_error(error);
    again = weights_format(&w, names);
    g_assert_cmpstr(again, ==, is);
}

static void bad(const char *text, const char *pattern)
{
    g_autoptr(GError) error = NULL;
    struct weights w = weights(1, 2, 3), none = weights(0, 0, 0);

    g_assert_false(weights_parse(text, names, &w, &error));
    if (!g_pattern_match_simple(pattern, error->message))
        g_error("'%s': '%s'", text, error->message);
    g_assert_true(weights_equal(&w, &none));
}

static void test_text(void)
{
    good("dram=3 cxl0=1", "dram=3 cxl0=1");
    good("  cxl1=2\tdram=1 cxl0=0 ", "dram=1 cxl1=2");
    good("off", "off");
    bad("", "*two tiers at least*");
    bad("dram=3", "*two tiers at least*");
    bad("dram=0 cxl0=0", "*above 0");
    bad("dram=3 cxl=1", "there is no tier 'cxl'; there are dram, cxl0, cxl1");
    bad("dram=3 dram=1", "tier dram is there twice");
    bad("dram=3 cxl0", "'cxl0': it is TIER=WEIGHT*");
    bad("dram=3 cxl0=-1", "'cxl0=-1': a weight is 0 to 100");
    bad("dram=3 cxl0=101", "'cxl0=101': a weight is 0 to 100");
    bad("dram=3 cxl0=1.5", "'cxl0=1.5': a weight is 0 to 100");
    bad("3:1", "'3:1': it is TIER=WEIGHT*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/interleave/shares", test_shares);
    g_test_add_func("/interleave/two-sets", test_two_sets);
    g_test_add_func("/interleave/two-tiers-by-offset", test_two_tiers_by_offset);
    g_test_add_func("/interleave/targets", test_targets);
    g_test_add_func("/interleave/three-to-one", test_three_to_one);
    g_test_add_func("/interleave/least-movement", test_least_movement);
    g_test_add_func("/interleave/shut", test_shut);
    g_test_add_func("/interleave/join", test_join);
    g_test_add_func("/interleave/text", test_text);
    return g_test_run();
}
