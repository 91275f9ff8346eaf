// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Three VMs with different heat on one pool: how close the arbiter comes to the best split there is, how soon,
 * and how still it is then.
 *
 * The best split is searched for, with the true rates. The arbiter sees curves that are exact, or with noise
 * of 15 % for each granule, new in each round: as noise makes memory look hotter on top than it is, and more so
 * where all of it is alike, 30 % of it leave the VM that is served worst .93 of what it could have. Loads change
 * places, a VM goes, one comes, a guarantee rises. After each change there are ten rounds. From then on, for a
 * minute of rounds, each round is looked at: hits, guarantees, what has moved.
 */
#include "arbiter-load.h"

#include <glib.h>
#include <string.h>

#define VMS     3u
#define N       1024u               /* granules of a VM */
#define GRANULE (2ull << 20)
#define RAM     (N * GRANULE)
#define HAVE    (VMS * N / 4)       /* granules of dram in all */
#define POOL    (HAVE * GRANULE)
#define LEAST   (N / 16)            /* granules that each is guaranteed */
#define SEARCH  4u                  /* granules between two splits that are tried */
#define SETTLE  10u                 /* rounds */
#define MINUTE  60u
#define NOISE   .15

struct world {
    enum arbiter_mode mode;
    guint n;                        /* VMs there are */
    double rate[VMS][N];            /* true, hottest first */
    double served[VMS][N + 1];      /* of its accesses, by so many granules of dram */
    double accesses[VMS];
    struct curve curve[VMS];
    struct share share[VMS];
    GRand *random;
    double noise;
};

static guint vms(const struct world *w)
{
    return MIN(w->n, VMS);
}

/* --- loads -------------------------------------------------------------------------------------------- */

static void load(struct world *w, guint v, guint kind)
{
    static const enum load_shape shapes[] = { LOAD_ZIPF, LOAD_TENTH, LOAD_HALVES };
    static const double accesses[] = { 4e6, 1e6, 3e6 };
    double sum = 0;

    for (guint i = 0; i < N; i++)
        sum += w->rate[v][i] = load_shape(shapes[kind], i, N);
    for (guint i = 0; i < N; i++) {
        w->rate[v][i] *= accesses[kind] / sum;
        w->served[v][i + 1] = w->served[v][i] + w->rate[v][i] / accesses[kind];
    }
    w->accesses[v] = accesses[kind];
}

static void look(struct world *w)
{
    for (guint v = 0; v < vms(w); v++)
        load_look(&w->curve[v], GRANULE, w->rate[v], N, w->random, w->noise);
}

static struct share newcomer(const struct curve *curve)
{
    return (struct share){ .min = LEAST * GRANULE, .max = RAM, .weight = 100, .granule = GRANULE,
                           .curve = curve };
}

static struct world *world_new(enum arbiter_mode mode, double noise)
{
    struct world *w = g_new0(struct world, 1);

    w->mode = mode;
    w->noise = noise;
    w->n = VMS;
    w->random = g_rand_new_with_seed(7);
    for (guint v = 0; v < VMS; v++) {
        w->share[v] = newcomer(&w->curve[v]);
        w->share[v].quota = POOL / VMS;
        load(w, v, v);
    }
    return w;
}

static void world_free(struct world *w)
{
    g_rand_free(w->random);
    g_free(w);
}

/* --- how good a split is --------------------------------------------------------------------------------- */

/* In the mode's terms: of all accesses, or of those of the VM that is served worst. */
static double value_of(const struct world *w, const guint *granules)
{
    double hits = 0, all = 0, worst = 1;

    for (guint v = 0; v < vms(w); v++) {
        double served = w->served[v][granules[v]];

        hits += served * w->accesses[v];
        all += w->accesses[v];
        worst = MIN(worst, served);
    }
    return w->mode == ARBITER_FAIR ? worst : hits / all;
}

/* Of all splits that keep the guarantees. */
static double best_split(const struct world *w)
{
    const guint third = w->n > 2 ? (guint)(w->share[2].min / GRANULE) : 0;
    double best = 0;

    for (guint a = (guint)(w->share[0].min / GRANULE); a <= MIN(N, HAVE); a += SEARCH)
        for (guint b = (guint)(w->share[1].min / GRANULE); a + b + third <= HAVE && b <= N; b += SEARCH) {
            guint split[VMS] = { a, b, MIN(N, HAVE - a - b) };

            best = MAX(best, value_of(w, split));
        }
    return best;
}

static double value_now(const struct world *w)
{
    guint split[VMS] = { 0 };

    for (guint v = 0; v < vms(w); v++)
        split[v] = (guint)(w->share[v].quota / GRANULE);
    return value_of(w, split);
}

static void assert_bounds(const struct world *w)
{
    guint64 sum = 0;

    for (guint v = 0; v < vms(w); v++) {
        g_assert_cmpuint(w->share[v].quota, >=, w->share[v].min);
        g_assert_cmpuint(w->share[v].quota, <=, w->share[v].max);
        sum += w->share[v].quota;
    }
    g_assert_cmpuint(sum, <=, POOL);
}

/* --- a change and what follows ------------------------------------------------------------------------------ */

/* One round; the bytes that somebody was given. */
static guint64 run_round(struct world *w)
{
    guint64 before[VMS] = { 0 }, given = 0;

    look(w);
    for (guint v = 0; v < vms(w); v++)
        before[v] = w->share[v].quota;
    arbiter_divide(w->mode, w->share, w->n, POOL, POOL / 8);
    assert_bounds(w);
    for (guint v = 0; v < vms(w); v++)
        given += w->share[v].quota > before[v] ? w->share[v].quota - before[v] : 0;
    return given;
}

static void settles(struct world *w, const char *change)
{
    const double bar = w->mode == ARBITER_FAIR ? .95 : .97;
    double best = best_split(w), worst = 1;
    guint64 moved = 0, pool = POOL;
    guint rounds = 0;

    for (guint i = 1; i <= SETTLE; i++)
        if (run_round(w) > POOL / 100)
            rounds = i;
    for (guint i = 0; i < MINUTE; i++) {
        worst = MIN(worst, value_now(w) / best);
        moved += run_round(w);
    }
    g_test_message("%s, noise %.2f, %s: %.4f of the best split's %.4f at least, still after %u rounds; then %.2f %% "
                   "of the pool moved in a minute", arbiter_mode_name(w->mode), w->noise, change, worst, best,
                   rounds, 100 * (double)moved / (double)pool);
    g_assert_cmpfloat(worst, >=, bar);
    g_assert_cmpuint(moved, <, POOL / 100);
}

static void rotate(struct world *w, guint by)
{
    for (guint v = 0; v < VMS; v++)
        load(w, v, (v + by) % VMS);
}

static void play(enum arbiter_mode mode, double noise)
{
    struct world *w = world_new(mode, noise);

    settles(w, "three come");
    for (guint by = 1; by < VMS; by++) {
        rotate(w, by);
        settles(w, "loads change places");
    }
    w->n = 2;
    settles(w, "one goes");
    w->n = 3;
    w->share[2] = newcomer(&w->curve[2]);
    settles(w, "one comes");
    w->share[1].min = POOL / 2;
    settles(w, "a guarantee rises");
    world_free(w);
}

static void test_split(gconstpointer mode)
{
    play(GPOINTER_TO_INT(mode), 0);
    play(GPOINTER_TO_INT(mode), NOISE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/arbiter/split/throughput", GINT_TO_POINTER(ARBITER_THROUGHPUT), test_split);
    g_test_add_data_func("/arbiter/split/fair", GINT_TO_POINTER(ARBITER_FAIR), test_split);
    return g_test_run();
}
