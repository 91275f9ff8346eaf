// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The arbiter: bounds that hold whatever the curves, what the modes are for, and that noise moves
 * nothing to and fro. Four VMs whose loads change places, as in docs/architecture.md.
 */
#include "arbiter-load.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#define VMS     4
#define N       4096u               /* granules of a VM */
#define GRANULE (2ull << 20)
#define RAM     (N * GRANULE)
#define POOL    (VMS * RAM / 4)
#define PHASE   120                 /* rounds until the loads change places */

static double rates[VMS][N];        /* hottest first */
static struct curve curves[VMS];
static struct share shares[VMS];

static void load(int vm, int kind)
{
    static const double accesses[VMS] = { 20e6, 5e6, 1e6, .2e6 };
    double sum = 0;

    for (guint i = 0; i < N; i++)
        sum += rates[vm][i] = load_shape((enum load_shape)kind, i, N);
    for (guint i = 0; i < N; i++)
        rates[vm][i] *= accesses[kind] / sum;
}

static void look(GRand *r, double noise)
{
    for (int v = 0; v < VMS; v++)
        load_look(&curves[v], GRANULE, rates[v], N, r, noise);
}

static double served(int v)
{
    double all = 0, hit = 0;

    for (guint i = 0; i < N; i++) {
        all += rates[v][i];
        hit += i < shares[v].quota / GRANULE ? rates[v][i] : 0;
    }
    return hit / all;
}

static void set_up(void)
{
    for (int v = 0; v < VMS; v++) {
        shares[v] = (struct share){ .min = 410 * GRANULE, .max = RAM, .weight = 100,
                                    .granule = GRANULE, .curve = &curves[v], .quota = RAM / 4 };
        load(v, v);
    }
}

static void assert_bounds(guint64 pool)
{
    guint64 sum = 0;

    for (int v = 0; v < VMS; v++) {
        g_assert_cmpuint(shares[v].quota, >=, shares[v].min);
        g_assert_cmpuint(shares[v].quota, <=, shares[v].max);
        g_assert_cmpuint(shares[v].quota % GRANULE, ==, 0);
        sum += shares[v].quota;
    }
    g_assert_cmpuint(sum, <=, pool);
}

struct outcome {
    double hits, least;             /* means over all rounds */
    guint reversals, rounds_to_settle;
};

/* Two directions of one VM within a phase: it was given what was then taken back, or the reverse. */
static void count_reversals(const guint64 *before, int *direction, struct outcome *o)
{
    for (int v = 0; v < VMS; v++) {
        int now = shares[v].quota > before[v] ? 1 : shares[v].quota < before[v] ? -1 : 0;

        o->reversals += now && direction[v] && now != direction[v];
        direction[v] = now ? now : direction[v];
    }
}

static struct outcome play(enum arbiter_mode mode, double noise, guint64 most)
{
    GRand *r = g_rand_new_with_seed(7);
    struct outcome o = { 0 };
    int direction[VMS];
    static const double accesses[VMS] = { 20e6, 5e6, 1e6, .2e6 };

    set_up();
    for (int t = 0; t < 4 * PHASE; t++) {
        guint64 before[VMS];
        double hits = 0, least = 1;

        if (t % PHASE == 0) {
            for (int v = 0; v < VMS; v++)
                load(v, (v + t / PHASE) % VMS);
            memset(direction, 0, sizeof(direction));
        }
        look(r, noise);
        for (int v = 0; v < VMS; v++)
            before[v] = shares[v].quota;
        arbiter_divide(mode, shares, VMS, POOL, most);
        assert_bounds(POOL);
        count_reversals(before, direction, &o);
        for (int v = 0; v < VMS; v++) {
            hits += served(v) * accesses[(v + t / PHASE) % VMS] / 26.2e6;
            least = MIN(least, served(v));
        }
        o.hits += hits / (4 * PHASE);
        o.least += least / (4 * PHASE);
    }
    g_rand_free(r);
    g_test_message("%s, noise %.1f: %.4f of all accesses served, of the worst VM %.4f, %u turns",
                   arbiter_mode_name(mode), noise, o.hits, o.least, o.reversals);
    return o;
}

/* A static quarter each serves .742 of all and .25 of the worst; the best there is .838 and .514. */
static void test_throughput(void)
{
    for (int noise = 0; noise < 2; noise++) {
        struct outcome o = play(ARBITER_THROUGHPUT, .3 * noise, 512ull << 20);

        g_assert_cmpfloat(o.hits, >, .82);
        g_assert_cmpuint(o.reversals, <=, 4);
    }
}

static void test_fair(void)
{
    for (int noise = 0; noise < 2; noise++) {
        struct outcome o = play(ARBITER_FAIR, .3 * noise, 512ull << 20);

        g_assert_cmpfloat(o.least, >, .48);
        g_assert_cmpuint(o.reversals, <=, 4);
    }
}

static void test_slowly(void)
{
    GRand *r = g_rand_new_with_seed(1);
    guint64 before[VMS], changed = 0;

    set_up();
    look(r, 0);
    for (int v = 0; v < VMS; v++)
        before[v] = shares[v].quota;
    arbiter_divide(ARBITER_THROUGHPUT, shares, VMS, POOL, 64ull << 20);
    for (int v = 0; v < VMS; v++)
        changed += shares[v].quota > before[v] ? shares[v].quota - before[v] : 0;
    g_assert_cmpuint(changed, >, 0);
    g_assert_cmpuint(changed, <=, 64ull << 20);
    g_rand_free(r);
}

/* Twice the weight counts as twice the heat. */
static void test_weight(void)
{
    guint64 equal = 0;

    for (int round = 0; round < 2; round++) {
        GRand *r = g_rand_new_with_seed(1);

        set_up();
        for (int v = 0; v < VMS; v++)
            load(v, 0);
        shares[2].weight = round ? 400 : 100;
        look(r, 0);
        for (int i = 0; i < 50; i++)
            arbiter_divide(ARBITER_THROUGHPUT, shares, VMS, POOL, POOL);
        assert_bounds(POOL);
        if (round)
            g_assert_cmpuint(shares[2].quota, >, 2 * equal);
        equal = shares[2].quota;
        g_rand_free(r);
    }
}

/* The pool shrinks, or a VM comes: quotas follow at once, down to the guarantees and no further. */
static void test_pool_shrinks(void)
{
    GRand *r = g_rand_new_with_seed(1);

    set_up();
    look(r, 0);
    arbiter_divide(ARBITER_FAIR, shares, VMS, POOL / 2, 0);
    assert_bounds(POOL / 2);
    arbiter_divide(ARBITER_FAIR, shares, VMS, GRANULE, 0);
    for (int v = 0; v < VMS; v++)
        g_assert_cmpuint(shares[v].quota, ==, shares[v].min);
    g_rand_free(r);
}

/* Of a new VM nothing is known: it keeps what it has, and takes nothing. */
static void test_unknown(void)
{
    GRand *r = g_rand_new_with_seed(1);

    set_up();
    look(r, 0);
    curve_clear(&curves[1]);
    curve_add(&curves[1], RAM, 0);
    for (int i = 0; i < 20; i++)
        arbiter_divide(ARBITER_THROUGHPUT, shares, VMS, POOL, POOL);
    g_assert_cmpuint(shares[1].quota, ==, RAM / 4);
    for (int v = 0; v < VMS; v++)
        curve_clear(&curves[v]);
    arbiter_divide(ARBITER_THROUGHPUT, shares, VMS, POOL / 2, POOL);
    assert_bounds(POOL / 2);
    g_rand_free(r);
}

/* All that is free is handed out, up to the last granule of max. */
static void test_free(void)
{
    set_up();
    for (int v = 0; v < VMS; v++) {
        curve_clear(&curves[v]);
        curve_add(&curves[v], RAM, 1e6);
        shares[v].max = 1000 * GRANULE;
        shares[v].quota = 410 * GRANULE;
    }
    arbiter_divide(ARBITER_THROUGHPUT, shares, VMS, 2 * POOL, 2 * POOL);
    for (int v = 0; v < VMS; v++)
        g_assert_cmpuint(shares[v].quota, ==, 1000 * GRANULE);
}

static void test_curve(void)
{
    struct curve c;

    curve_clear(&c);
    g_assert_cmpfloat(curve_served(&c, 1e9), ==, 0);
    curve_add(&c, 1000, 10);
    curve_add(&c, 1000, 1000);
    curve_add(&c, 5000, NAN);
    curve_add(&c, 0, 7);
    g_assert_cmpfloat(c.total, ==, 1010);
    g_assert_cmpfloat(fabs(curve_served(&c, 500) - 500), <, 1e-6);
    g_assert_cmpfloat(fabs(curve_served(&c, 1500) - 1005), <, 1e-6);
    g_assert_cmpfloat(curve_served(&c, 1e12), ==, 1010);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arbiter/curve", test_curve);
    g_test_add_func("/arbiter/throughput", test_throughput);
    g_test_add_func("/arbiter/fair", test_fair);
    g_test_add_func("/arbiter/slowly", test_slowly);
    g_test_add_func("/arbiter/weight", test_weight);
    g_test_add_func("/arbiter/pool-shrinks", test_pool_shrinks);
    g_test_add_func("/arbiter/unknown", test_unknown);
    g_test_add_func("/arbiter/free", test_free);
    return g_test_run();
}
