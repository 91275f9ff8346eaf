// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replays of recordings whose best placement is known, and what can be said of their memory.
 */
#include "host/trace-capacity.h"
#include "trace-fixture.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define REAL        "bench/traces"
#define GRANULES    100u
#define HOT         10u
#define FIRST_HOT   50u
#define ROUNDS      240
#define PER_ROUND   200         /* samples */

struct load {
    guint8 source;
    guint shift_at;             /* the round from which other granules are hot; 0: never */
    guint32 places;
    const struct trace_layout *then;    /* the memory from half-time on; NULL: as before */
};

static guint32 pick(GRand *rand, const struct load *l, guint round)
{
    const guint32 first = l->shift_at && round >= l->shift_at ? FIRST_HOT + 2 * HOT : FIRST_HOT;

    return (guint32)g_rand_int_range(rand, 0, 10) ? first + (guint32)g_rand_int_range(rand, 0, HOT)
                                                  : (guint32)g_rand_int_range(rand, 0, GRANULES);
}

/* Nine of ten samples are of HOT granules, the tenth of any. Probes see the same as touches. */
static void write_round(TraceWriter *w, GRand *rand, const struct load *l, guint round)
{
    struct trace_obs obs[GRANULES] = { 0 };

    for (guint32 g = 0; g < GRANULES; g++)
        obs[g] = (struct trace_obs){ .granule = g, .exposure_s = l->source == 1 ? 4 : 0 };
    for (int i = 0; i < PER_ROUND; i++)
        obs[pick(rand, l, round)].events += 1;
    trace_write_round(w, 250000, 3, NULL);
    trace_write_obs(w, l->source, 0, obs, l->then && round >= ROUNDS / 2 ? HOT : GRANULES, NULL);
}

static char *write_file(const struct load *l)
{
    struct trace_header header = fixture_header();
    const struct trace_layout layout = fixture_layout(GRANULES);
    g_autoptr(GByteArray) file = g_byte_array_new();
    g_autoptr(TraceWriter) w = NULL;
    GRand *rand = g_rand_new_with_seed(7);
    char *path = NULL;

    header.places = l->places;
    w = trace_writer_new(&header, fixture_put, file);
    trace_write_layout(w, &layout, NULL);
    for (guint r = 0; r < ROUNDS; r++) {
        if (l->then && r == ROUNDS / 2)
            trace_write_layout(w, l->then, NULL);
        write_round(w, rand, l, r);
    }
    trace_write_end(w, TRACE_ASKED, NULL);
    g_rand_free(rand);
    close(g_file_open_tmp("vmtier-XXXXXX", &path, NULL));
    g_assert_true(g_file_set_contents(path, (const char *)file->data, file->len, NULL));
    return path;
}

static struct replay_options usual(void)
{
    return (struct replay_options){ .policy = &policy_cbx, .dram = 20ull * FIXTURE_GRANULE,
                                    .rate = 256 << 20, .skip_s = -1 };
}

static int run(const struct load *l, const struct replay_options *o, struct replay_result *r,
               struct vt_err *err)
{
    g_autofree char *path = write_file(l);
    int rc = replay_run(path, o, r, err);

    unlink(path);
    return rc;
}

/* --- replays ------------------------------------------------------------------------------------------- */

static void test_finds_hot(void)
{
    const struct load load = { .places = 1 };
    const struct replay_options o = usual();
    struct replay_result r;

    g_assert_cmpint(run(&load, &o, &r, NULL), ==, 0);
    g_assert_cmpuint(r.granules, ==, GRANULES);
    g_assert_cmpuint(r.dram_granules, ==, 20);
    g_assert_cmpuint(r.totals.rounds, ==, ROUNDS);
    g_assert_false(r.cut);
    g_assert_cmpfloat(r.skip_s, ==, 15);
    g_assert_cmpfloat_with_epsilon(r.seconds, 40, 1);       /* whole windows of 10 s */
    g_assert_cmpfloat(r.accesses, >, 64 * PER_ROUND * 150.0);
    g_assert_cmpfloat(r.hits, <=, r.oracle);
    g_assert_cmpfloat(r.long_run, <=, r.oracle);
    /* 0.9 + 0.1 x 20 of 100; the oracle knows which of the others are lucky */
    g_assert_cmpfloat_with_epsilon(r.hits / r.accesses, 0.92, 0.01);
    g_assert_cmpfloat_with_epsilon(r.long_run / r.accesses, 0.92, 0.01);
    g_assert_cmpuint(r.points->len, ==, 6);
    replay_clear(&r);
}

/* Nothing may be moved: DRAM is the first 20 granules, and serves a fiftieth. */
static void test_no_rate(void)
{
    const struct load load = { .places = 1 };
    struct replay_options o = usual();
    struct replay_result r;

    o.rate = 0;
    g_assert_cmpint(run(&load, &o, &r, NULL), ==, 0);
    g_assert_cmpfloat_with_epsilon(r.hits / r.accesses, 0.02, 0.005);
    g_assert_cmpuint(r.moved, ==, 0);
    g_assert_cmpuint(r.moves, ==, 0);
    replay_clear(&r);
}

static void test_all_in_dram(void)
{
    const struct load load = { .places = 1 };
    struct replay_options o = usual();
    struct replay_result r;

    o.dram = G_MAXUINT64;
    g_assert_cmpint(run(&load, &o, &r, NULL), ==, 0);
    g_assert_cmpfloat(r.hits, ==, r.accesses);
    g_assert_cmpfloat(r.oracle, ==, r.accesses);
    g_assert_cmpuint(r.moves, ==, 0);
    replay_clear(&r);
}

static void test_shift(void)
{
    const struct load load = { .places = 1, .shift_at = ROUNDS / 2 };
    struct replay_options o = usual();
    struct replay_result r;
    const struct replay_point *p;

    o.window_s = 5;
    g_assert_cmpint(run(&load, &o, &r, NULL), ==, 0);
    p = (const struct replay_point *)(gpointer)r.points->data;
    g_assert_cmpuint(r.points->len, ==, 12);
    g_assert_cmpfloat(p[5].hits / p[5].accesses, >, 0.9);       /* 25 s: settled */
    g_assert_cmpfloat(p[6].hits / p[6].accesses, <, 0.9);       /* 30 s: it shifts */
    g_assert_cmpfloat(p[10].hits / p[10].accesses, >, 0.9);     /* and settles again */
    g_assert_cmpfloat(r.long_run / r.accesses, <, 0.95);
    g_assert_cmpuint(r.moved, >=, 2 * HOT * FIXTURE_GRANULE);
    replay_clear(&r);
}

/* Placement follows probes, and samples only tell how good it is. */
static void test_evidence(void)
{
    const struct load probes = { .source = 1 }, samples = { .places = 0 };
    struct replay_options o = usual();
    struct replay_result r;
    struct vt_err err;

    g_assert_cmpint(run(&probes, &o, &r, NULL), ==, 0);
    g_assert_cmpfloat(r.accesses, ==, 0);               /* hits are not known */
    replay_clear(&r);
    o.use = REPLAY_SAMPLES;
    g_assert_cmpint(run(&probes, &o, &r, &err), ==, -ENODATA);
    g_assert_nonnull(strstr(err.text, "sampled accesses"));
    replay_clear(&r);
    o.use = REPLAY_PROBES;
    g_assert_cmpint(run(&samples, &o, &r, &err), ==, -ENODATA);
    g_assert_nonnull(strstr(err.text, "probed pages"));
    replay_clear(&r);
}

/* Half of the memory goes away while it is recorded. */
static void test_layout_changes(void)
{
    struct trace_layout half = fixture_layout(GRANULES / 2);
    const struct load load = { .places = 1, .then = &half };
    const struct replay_options o = usual();
    struct replay_result r;

    g_assert_cmpint(run(&load, &o, &r, NULL), ==, 0);
    g_assert_cmpuint(r.granules, ==, GRANULES / 2);
    g_assert_cmpuint(r.numbers, ==, GRANULES);
    replay_clear(&r);
}

static void test_no_file(void)
{
    const struct replay_options o = usual();
    struct replay_result r;
    struct vt_err err;

    g_assert_cmpint(replay_run("/nonexistent", &o, &r, &err), ==, -ENOENT);
    replay_clear(&r);
}

/* Recordings of real guests (bench/traces): placement is near what can be had, on a quarter of the RAM. */
static void replay_real(const char *name)
{
    g_autofree char *path = g_build_filename(REAL, name, NULL);
    struct replay_options o = usual();
    struct replay_result r;
    struct vt_err err;

    o.dram = 256ull << 20;
    if (replay_run(path, &o, &r, &err))
        g_error("%s", err.text);
    g_test_message("%s: %.2f %% of accesses, the oracle has %.2f %%, %.2f MB/s", name,
                   100 * r.hits / r.accesses, 100 * r.oracle / r.accesses,
                   (double)r.moved / r.seconds / 1e6);
    g_assert_false(r.cut);
    g_assert_cmpuint(r.totals.lost_rounds, ==, 0);
    g_assert_cmpuint(r.granules, ==, 4096);
    g_assert_cmpfloat(r.hits, >=, 0.97 * r.oracle);
    g_assert_cmpfloat(r.seconds, >, 40);
    replay_clear(&r);
}

static void test_real(void)
{
    g_autoptr(GDir) dir = g_dir_open(REAL, 0, NULL);
    const char *name;
    guint n = 0;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir)))
        if (g_str_has_suffix(name, ".vmtrace")) {
            replay_real(name);
            n++;
        }
    g_assert_cmpuint(n, ==, 4);
}

/* --- capacity ------------------------------------------------------------------------------------------ */

static void test_capacity(void)
{
    const struct load load = { .places = 1 };
    g_autofree char *path = write_file(&load);
    const struct replay_options o = usual();
    struct capacity c = { .path = path, .options = &o };
    struct capacity_answer a;

    g_assert_cmpint(capacity_measure(&c, NULL), ==, 0);
    g_assert_cmpfloat(c.curve[CAPACITY_STEPS - 1].tiered, ==, 0);
    for (int i = 1; i < CAPACITY_STEPS; i++)
        g_assert_cmpfloat(c.curve[i].fixed, <=, c.curve[i - 1].fixed);
    g_assert_cmpint(capacity_answer(&c, 0.095, &a, NULL), ==, 0);
    g_assert_cmpuint(a.fixed.dram, ==, HOT);
    g_assert_cmpuint(a.tiered.dram, <=, HOT + 2);
    g_assert_cmpfloat(a.tiered.tiered, <=, 0.095);
    /* 0.05 = 0.1 x 50 of 100 */
    g_assert_cmpint(capacity_answer(&c, 0.05, &a, NULL), ==, 0);
    g_assert_cmpuint(a.fixed.dram, >, 35);
    g_assert_cmpuint(a.fixed.dram, <=, 51);
    g_assert_cmpuint(a.tiered.dram, >=, a.fixed.dram);
    g_assert_cmpint(capacity_answer(&c, 0, &a, NULL), ==, 0);
    g_assert_cmpuint(a.tiered.dram, >, 90);
    capacity_clear(&c);
    unlink(path);
}

static void test_capacity_unknown(void)
{
    const struct load load = { .source = 1 };
    g_autofree char *path = write_file(&load);
    const struct replay_options o = usual();
    struct capacity c = { .path = path, .options = &o };
    struct vt_err err;

    g_assert_cmpint(capacity_measure(&c, &err), ==, -ENODATA);
    g_assert_nonnull(strstr(err.text, "samples accesses"));
    capacity_clear(&c);
    unlink(path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trace-replay/finds-hot", test_finds_hot);
    g_test_add_func("/trace-replay/no-rate", test_no_rate);
    g_test_add_func("/trace-replay/all-in-dram", test_all_in_dram);
    g_test_add_func("/trace-replay/shift", test_shift);
    g_test_add_func("/trace-replay/evidence", test_evidence);
    g_test_add_func("/trace-replay/layout-changes", test_layout_changes);
    g_test_add_func("/trace-replay/no-file", test_no_file);
    g_test_add_func("/trace-replay/real", test_real);
    g_test_add_func("/trace-replay/capacity", test_capacity);
    g_test_add_func("/trace-replay/capacity-unknown", test_capacity_unknown);
    return g_test_run();
}
