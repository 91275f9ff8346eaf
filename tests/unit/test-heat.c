// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of heat: rates are events over exposure, forget with one half-life, say how sure they
 * are, come from the sharper evidence, and remember as long as the guest stays the same.
 *
 * timeout: 60
 */
#include "host/heat.h"

#include <math.h>
#include <string.h>

#define SAMPLED (1u << HEAT_SAMPLES)
#define PROBED  (1u << HEAT_PROBES)
#define WRITTEN (1u << HEAT_WRITES)
#define ALL     (SAMPLED | PROBED | WRITTEN | 1u << HEAT_HINTS)
#define ROUND   0.25

static struct heat make(guint32 n, bool samples)
{
    struct heat h;

    heat_init(&h);
    heat_resize(&h, n);
    heat_use_samples(&h, samples);
    heat_set_unit(&h, HEAT_SAMPLES, 1);
    return h;
}

static double rate_of(const struct heat *h, guint32 granule)
{
    return heat_rate(h, granule).rate;
}

/* Nothing is known: no rate, and no certainty at all. */
static void test_unknown(void)
{
    struct heat h = make(2, false);

    g_assert_cmpfloat(rate_of(&h, 1), ==, 0);
    g_assert_true(isinf(heat_rate(&h, 1).sd));
    g_assert_true(isinf(heat_moved_since(&h, 1, 100)));
    heat_clear(&h);
}

/* A steady load's rate is right however long it has been watched, also when memory is scaled back. */
static void test_steady_probes(void)
{
    struct heat h = make(2, false);

    heat_set_unit(&h, HEAT_PROBES, 100);
    for (int i = 0; i < 20000; i++) {
        heat_advance(&h, ROUND, ALL);
        heat_add(&h, HEAT_PROBES, 0, 6, 2);
        heat_add(&h, HEAT_PROBES, 1, 0, 2);
        g_assert_cmpfloat_with_epsilon(rate_of(&h, 0), 300, 0.1);
        g_assert_cmpfloat(rate_of(&h, 1), ==, 0);
    }
    g_assert_cmpfloat(h.memory[HEAT_PROBED].log_scale, >, 100);     /* it was */
    heat_clear(&h);
}

static void test_steady_samples(void)
{
    struct heat h = make(2, true);

    for (int i = 0; i < 20000; i++) {
        heat_advance(&h, ROUND, ALL);
        heat_add(&h, HEAT_SAMPLES, 0, 5, 0);
        heat_add(&h, HEAT_SAMPLES, 1, 1, 0);
        g_assert_cmpfloat_with_epsilon(rate_of(&h, 0), 20, 0.01);
    }
    g_assert_cmpfloat(h.memory[HEAT_LONG].log_scale, >, 100);
    heat_clear(&h);
}

/* While nobody samples there is no exposure. */
static void test_sampler_off(void)
{
    struct heat h = make(1, true);

    heat_advance(&h, 1, ALL);
    heat_add(&h, HEAT_SAMPLES, 0, 8, 0);
    for (int i = 0; i < 8; i++)
        heat_advance(&h, ROUND, PROBED);
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 0), 8, 0.01);
    heat_clear(&h);
}

/* After the load has ended its weight halves every half-life against the new quiet. */
static void test_forgets(void)
{
    struct heat h = make(1, false);
    double before;

    heat_set_unit(&h, HEAT_PROBES, 1);
    for (int i = 0; i < 4000; i++) {
        heat_advance(&h, ROUND, ALL);
        heat_add(&h, HEAT_PROBES, 0, 4, 1);
    }
    before = rate_of(&h, 0);
    h.touches = 1e6;            /* others are touched: so the half-life is the shortest */
    for (int i = 0; i < HEAT_HALF_LIFE * 4; i++) {
        h.touches = 1e6;
        heat_advance(&h, ROUND, ALL);
        heat_add(&h, HEAT_PROBES, 0, 0, 1);
    }
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 0), before / 2, before * 0.02);
    heat_clear(&h);
}

/* More evidence, more certainty; and the certainty is what a count's is: about sqrt(n) / n. */
static void test_certainty(void)
{
    struct heat h = make(2, false);
    struct estimate few, many;

    heat_add(&h, HEAT_PROBES, 0, 10, 1);
    heat_add(&h, HEAT_PROBES, 1, 1000, 100);
    few = heat_rate(&h, 0);
    many = heat_rate(&h, 1);
    g_assert_cmpfloat_with_epsilon(few.rate, many.rate, 1e-3);
    g_assert_cmpfloat(few.sd, >, 8 * many.sd);
    g_assert_cmpfloat_with_epsilon(many.sd / many.rate, 1 / sqrt(1000), 1e-3);
    heat_clear(&h);
}

/* The spread of samples' rates over many granules alike is what their sd says. */
static void test_sd_of_samples(void)
{
    enum { N = 4000 };
    struct heat h = make(N, true);
    double sum = 0, squares = 0, mean;

    heat_set_unit(&h, HEAT_SAMPLES, 10);
    for (int i = 0; i < 200; i++) {
        heat_advance(&h, ROUND, ALL);
        for (int k = 0; k < N / 2; k++)
            heat_add(&h, HEAT_SAMPLES, (guint32)g_test_rand_int_range(0, N), 10, 0);
    }
    for (guint32 g = 0; g < N; g++) {
        sum += rate_of(&h, g);
        squares += rate_of(&h, g) * rate_of(&h, g);
    }
    mean = sum / N;
    g_assert_cmpfloat_with_epsilon(mean, 20, 0.2);
    for (guint32 g = 0; g < N; g++)
        if (fabs(rate_of(&h, g) - mean) < 0.2) {
            g_assert_cmpfloat_with_epsilon(heat_rate(&h, g).sd, sqrt(squares / N - mean * mean), 0.3);
            break;
        }
    heat_clear(&h);
}

/* An armed probe that saw nothing is evidence of cold: the longer, the surer. */
static void test_silence(void)
{
    struct heat h = make(2, false);

    heat_add(&h, HEAT_PROBES, 0, 0, 1);
    heat_add(&h, HEAT_PROBES, 1, 0, 100);
    g_assert_true(isfinite(heat_rate(&h, 0).sd));
    g_assert_cmpfloat(heat_rate(&h, 0).sd, >, 50 * heat_rate(&h, 1).sd);
    heat_clear(&h);
}

/* --- which evidence ------------------------------------------------------------------------------- */

/* Granule 0 has one hot page that probes miss, 1 few samples and good probes, 2 many samples. */
static void test_sharper(void)
{
    struct heat h = make(3, true);

    heat_set_unit(&h, HEAT_SAMPLES, 100);
    heat_set_unit(&h, HEAT_PROBES, 1000);
    heat_advance(&h, 1, ALL);
    heat_add(&h, HEAT_PROBES, 0, 0, 100);
    heat_add(&h, HEAT_SAMPLES, 0, 1500, 0);
    heat_add(&h, HEAT_PROBES, 1, 20, 100);
    heat_add(&h, HEAT_SAMPLES, 1, 100, 0);
    heat_add(&h, HEAT_PROBES, 2, 300, 100);
    heat_add(&h, HEAT_SAMPLES, 2, 3200, 0);
    heat_use_samples(&h, true);
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 0), 1500, 1);
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 1), 200, 1);
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 2), 3200, 1);
    heat_use_samples(&h, false);
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 2), 3000, 1);
    heat_clear(&h);
}

/* Probes learn from samples what a touch stands for. */
static void test_calibration(void)
{
    struct heat h = make(64, true);

    heat_set_unit(&h, HEAT_PROBES, 1);          /* wrong: it is 500 */
    for (int i = 0; i < 200; i++) {
        heat_advance(&h, ROUND, ALL);
        for (guint32 g = 0; g < 64; g++) {
            heat_add(&h, HEAT_SAMPLES, g, 1000, 0);
            heat_add(&h, HEAT_PROBES, g, 8, 1);
        }
    }
    g_assert_cmpfloat_with_epsilon(h.unit[HEAT_PROBES], 500, 5);
    heat_clear(&h);
}

/* What one sample stands for is guessed from the smallest, unless it is told. */
static void test_unit(void)
{
    struct heat h;

    heat_init(&h);
    heat_resize(&h, 8);
    heat_use_samples(&h, true);
    for (int i = 0; i < 100; i++) {
        heat_advance(&h, ROUND, ALL);
        for (guint32 g = 0; g < 8; g++)
            heat_add(&h, HEAT_SAMPLES, g, 640 * (1 + g), 0);
    }
    g_assert_cmpfloat_with_epsilon(h.unit[HEAT_SAMPLES], 640, 1);
    heat_set_unit(&h, HEAT_SAMPLES, 32);
    heat_set_unit(&h, HEAT_SAMPLES, NAN);
    heat_set_unit(&h, HEAT_SAMPLES, -1);
    heat_advance(&h, ROUND, ALL);
    g_assert_cmpfloat(h.unit[HEAT_SAMPLES], ==, 32);
    heat_clear(&h);
}

/* Hints add, as far as they are trusted, and make nothing certain. */
static void test_hints(void)
{
    struct heat h = make(2, true);
    double with, sd;

    heat_advance(&h, 4, ALL);
    heat_add(&h, HEAT_SAMPLES, 0, 400, 0);
    heat_add(&h, HEAT_HINTS, 0, 1000, 0);
    with = rate_of(&h, 0);
    sd = heat_rate(&h, 0).sd;
    g_assert_cmpfloat_with_epsilon(heat_rate_unhinted(&h, 0).rate, 100, 0.1);
    g_assert_cmpfloat(with, >, 150);
    g_assert_cmpfloat(sd, >, 2 * heat_rate_unhinted(&h, 0).sd);
    heat_trust_hints(&h, 0.5);
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 0) - 100, (with - 100) / 2, 1);
    heat_trust_hints(&h, 0);
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 0), 100, 0.1);
    heat_trust_hints(&h, 1);
    for (int i = 0; i < 400; i++)
        heat_advance(&h, ROUND, 0);
    g_assert_cmpfloat(rate_of(&h, 0) - heat_rate_unhinted(&h, 0).rate, <, with / 100);
    heat_clear(&h);
}

/* What has just ceased is seen in the short memory; what goes on is told as by the long one. */
static void test_lately(void)
{
    struct heat h = make(2, true);

    for (int i = 0; i < 160 + 32; i++) {
        heat_advance(&h, ROUND, ALL);
        heat_add(&h, HEAT_SAMPLES, 0, 25, 0);
        heat_add(&h, HEAT_SAMPLES, 1, i < 160 ? 25 : 0, 0);
    }
    heat_digest(&h);
    g_assert_cmpfloat_with_epsilon(heat_rate_lately(&h, 0).rate, rate_of(&h, 0), 1e-6);
    g_assert_cmpfloat(rate_of(&h, 1), >, 50);
    g_assert_cmpfloat(heat_rate_lately(&h, 1).rate, <, 25);
    heat_use_samples(&h, false);
    g_assert_cmpfloat(heat_rate_lately(&h, 1).rate, ==, rate_of(&h, 1));
    heat_clear(&h);
}

static void test_write_share(void)
{
    struct heat h = make(2, false);

    g_assert_cmpfloat(heat_write_share(&h, 0, 512), ==, 0);
    heat_advance(&h, 1, WRITTEN);
    heat_add(&h, HEAT_WRITES, 0, 128, 1);
    heat_add(&h, HEAT_WRITES, 1, 100000, 1);
    g_assert_cmpfloat_with_epsilon(heat_write_share(&h, 0, 512), 0.25, 1e-3);
    g_assert_cmpfloat(heat_write_share(&h, 1, 512), ==, 1);
    g_assert_cmpfloat(heat_write_share(&h, 0, 0), ==, 0);
    for (int i = 0; i < 40; i++)
        heat_advance(&h, ROUND, WRITTEN);
    g_assert_cmpfloat(heat_write_share(&h, 0, 512), <, 0.001);   /* only lately counts */
    heat_clear(&h);
}

/* What makes no sense is no evidence. */
static void test_nonsense(void)
{
    static const double bad[] = { NAN, -1, -INFINITY, INFINITY };
    struct heat h = make(2, true);

    heat_advance(&h, 1, ALL);
    for (int kind = 0; kind < HEAT_KINDS; kind++)
        for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
            heat_add(&h, kind, 0, bad[i], 1);
            heat_add(&h, kind, 0, 1, bad[i]);
        }
    for (int kind = 0; kind < HEAT_KINDS; kind++)
        heat_add(&h, kind, 1, 1e300, 1e300);
    for (int i = 0; i < 2000; i++) {
        heat_advance(&h, ROUND, ALL);
        heat_add(&h, HEAT_SAMPLES, 1, 1e300, 0);
    }
    g_assert_cmpfloat(heat_rate_unhinted(&h, 0).rate, <, 1);
    g_assert_true(isfinite(rate_of(&h, 1)));
    g_assert_true(isfinite(heat_write_share(&h, 1, 512)));
    heat_clear(&h);
}

/* --- how long to remember --------------------------------------------------------------------------- */

/* `hot` of the granules from `first` on get nine tenths of 5000 samples per round. */
static void sample_round(struct heat *h, guint32 first, guint32 hot)
{
    heat_advance(h, ROUND, ALL);
    for (int i = 0; i < 5000; i++) {
        guint32 in = (guint32)g_test_rand_int_range(0, (gint32)hot);
        guint32 any = (guint32)g_test_rand_int_range(0, (gint32)h->n);

        heat_add(h, HEAT_SAMPLES, g_test_rand_int_range(0, 10) ? first + in : any, 1, 0);
    }
}

static void test_stays_the_same(void)
{
    struct heat h = make(2048, true);

    for (int i = 0; i < 160; i++)
        sample_round(&h, 0, 256);
    g_assert_cmpfloat(h.memory[HEAT_LONG].half_life, ==, HEAT_LONGEST);
    g_assert_cmpfloat(heat_changing(&h), ==, 0);
    g_assert_cmpuint(h.breaks, ==, 0);
    heat_clear(&h);
}

/* The hot set jumps: within two seconds the new one is known to be hotter than the old one. */
static void test_break(void)
{
    struct heat h = make(2048, true);

    for (int i = 0; i < 160; i++)
        sample_round(&h, 0, 256);
    for (int i = 0; i < 8; i++)
        sample_round(&h, 1024, 256);
    g_assert_cmpuint(h.breaks, ==, 1);
    g_assert_cmpfloat(heat_changing(&h), >, 0.9);
    for (guint32 g = 0; g < 256; g += 16)
        g_assert_cmpfloat(rate_of(&h, 1024 + g), >, rate_of(&h, g));
    heat_clear(&h);
}

/* It slides: no break, but a short memory. */
static void test_slides(void)
{
    struct heat h = make(2048, true);

    for (int i = 0; i < 400; i++)
        sample_round(&h, (guint32)i * 2, 128);
    g_assert_cmpfloat(heat_changing(&h), >, 0.5);
    heat_clear(&h);
}

/* Probes that have long been silent all go off: what they say now counts more than their past. */
static void test_probes_break(void)
{
    struct heat h = make(256, false);

    for (int i = 0; i < 240; i++) {
        heat_advance(&h, ROUND, ALL);
        for (guint32 g = 0; g < 256; g++)
            heat_add(&h, HEAT_PROBES, g, g < 64 ? 12 : 0, 2);
    }
    g_assert_cmpuint(h.breaks, ==, 0);
    for (int i = 0; i < 4; i++) {
        heat_advance(&h, ROUND, ALL);
        for (guint32 g = 0; g < 256; g++)
            heat_add(&h, HEAT_PROBES, g, g >= 64 && g < 128 ? 12 : 0, 2);
    }
    g_assert_cmpuint(h.breaks, ==, 1);
    heat_clear(&h);
}

/*
 * One round of a guest with small pages: probes of four, a few of the 32 hot granules' each time; of the
 * others one page in passing now and then, and else that they were silent.
 */
static void small_round(struct heat *h, int round, guint32 hot, double touches)
{
    heat_advance(h, ROUND, ALL);
    for (guint32 g = 0; g < 256; g++) {
        if (g >= hot && g < hot + 32) {
            if ((g + (guint32)round) % 2)
                heat_add(h, HEAT_PROBES, g, touches, 1);
        } else if ((g + (guint32)round) % 16 == 0) {
            heat_add(h, HEAT_PROBES, g, g % 3 == 0, 12);
        }
    }
    heat_digest(h);
}

/* As many touches as a real guest's budget allows, and no more, have to do; its speed alone is no break. */
static void test_small_probes_break(void)
{
    struct heat h = make(256, false);
    int i;

    for (i = 0; i < 240; i++)
        small_round(&h, i, 0, 2);
    for (; i < 280; i++)
        small_round(&h, i, 0, i / 10 % 2 ? 4 : 1);
    g_assert_cmpuint(h.breaks, ==, 0);
    g_assert_cmpfloat(heat_changing(&h), ==, 0);
    for (; i < 288; i++)
        small_round(&h, i, 64, 3);
    g_assert_cmpuint(h.breaks, ==, 1);
    g_assert_cmpfloat(heat_changing(&h), >, 0.3);
    for (guint32 g = 0; g < 32; g++)
        g_assert_cmpfloat(heat_rate(&h, 64 + g).rate, >, heat_rate(&h, 128 + g).rate);
    for (; i < 400; i++)
        small_round(&h, i, 64, 3);
    g_assert_cmpuint(h.breaks, ==, 1);
    g_assert_cmpfloat(heat_changing(&h), ==, 0);
    heat_clear(&h);
}

/* --- of all granules ---------------------------------------------------------------------------------- */

static void test_ranks(void)
{
    struct heat h = make(1000, false);
    guint32 list[1000];

    g_assert_cmpfloat(heat_at_rank(&h, 10), ==, 0);
    for (guint32 i = 0; i < 1000; i++)
        heat_add(&h, HEAT_PROBES, i * 7 % 1000, 1 + i, 1);      /* 7 and 1000 have no common factor */
    g_assert_cmpuint(heat_hottest(&h, list, 10), ==, 10);
    for (guint32 i = 0; i < 10; i++)
        g_assert_cmpuint(list[i], ==, (999 - i) * 7 % 1000);
    for (guint32 k = 1; k <= 1000; k += 37) {
        double exact = 1001 - k, got = heat_at_rank(&h, k);

        g_assert_cmpfloat(got, <=, exact);
        g_assert_cmpfloat(got, >=, exact * 8 / 9 - 1e-6);
    }
    g_assert_cmpuint(heat_hottest(&h, list, 1000), ==, 1000);
    g_assert_cmpfloat(heat_at_rank(&h, 1001), ==, 0);
    heat_clear(&h);
}

/* --- since ---------------------------------------------------------------------------------------------- */

/* Only what came after the mark counts, of either kind, and none means nothing is known. */
static void test_since(void)
{
    struct heat h = make(2, true);
    struct heat_mark mark;

    for (int i = 0; i < 400; i++) {
        heat_advance(&h, ROUND, ALL);
        heat_add(&h, HEAT_SAMPLES, 0, 100, 0);
    }
    mark = heat_mark(&h, 0);
    g_assert_true(isinf(heat_since(&h, 0, &mark).sd));
    for (int i = 0; i < 40; i++) {
        heat_advance(&h, ROUND, ALL);
        heat_add(&h, HEAT_SAMPLES, 0, 10, 0);
    }
    g_assert_cmpfloat_with_epsilon(heat_since(&h, 0, &mark).rate, 40, 0.5);
    g_assert_cmpfloat(rate_of(&h, 0), >, 60);
    heat_use_samples(&h, false);
    mark = heat_mark(&h, 1);
    heat_add(&h, HEAT_PROBES, 1, 3, 1);
    g_assert_cmpfloat_with_epsilon(heat_since(&h, 1, &mark).rate, 3 * h.unit[HEAT_PROBES], 0.1);
    heat_clear(&h);
}

static void test_moves(void)
{
    struct heat h = make(2, false);

    heat_note_moved(&h, 0, 70000);      /* the clock is 16 bits wide */
    g_assert_cmpfloat(heat_moved_since(&h, 0, 70030), ==, 30);
    g_assert_true(isinf(heat_moved_since(&h, 1, 70030)));
    for (int i = 0; i < 300; i++)
        heat_note_judged(&h, 0, 70040 + i, false);
    g_assert_cmpuint(h.bounces[0], ==, 255);
    heat_note_judged(&h, 0, 80000, true);
    g_assert_cmpuint(h.bounces[0], ==, 0);
    heat_clear(&h);
}

static void test_grow(void)
{
    struct heat h = make(1, false);

    heat_add(&h, HEAT_PROBES, 0, 3, 1);
    heat_resize(&h, 1000);
    g_assert_cmpfloat_with_epsilon(rate_of(&h, 0), 3, 1e-6);
    g_assert_true(isinf(heat_rate(&h, 999).sd));
    heat_resize(&h, 10);
    g_assert_cmpuint(h.n, ==, 1000);
    heat_clear(&h);
    g_assert_cmpuint(h.n, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/heat/unknown", test_unknown);
    g_test_add_func("/heat/steady/probes", test_steady_probes);
    g_test_add_func("/heat/steady/samples", test_steady_samples);
    g_test_add_func("/heat/sampler-off", test_sampler_off);
    g_test_add_func("/heat/forgets", test_forgets);
    g_test_add_func("/heat/certainty", test_certainty);
    g_test_add_func("/heat/sd-of-samples", test_sd_of_samples);
    g_test_add_func("/heat/silence", test_silence);
    g_test_add_func("/heat/sharper", test_sharper);
    g_test_add_func("/heat/calibration", test_calibration);
    g_test_add_func("/heat/unit", test_unit);
    g_test_add_func("/heat/hints", test_hints);
    g_test_add_func("/heat/lately", test_lately);
    g_test_add_func("/heat/write-share", test_write_share);
    g_test_add_func("/heat/nonsense", test_nonsense);
    g_test_add_func("/heat/stays-the-same", test_stays_the_same);
    g_test_add_func("/heat/break", test_break);
    g_test_add_func("/heat/slides", test_slides);
    g_test_add_func("/heat/probes-break", test_probes_break);
    g_test_add_func("/heat/small-probes-break", test_small_probes_break);
    g_test_add_func("/heat/ranks", test_ranks);
    g_test_add_func("/heat/since", test_since);
    g_test_add_func("/heat/moves", test_moves);
    g_test_add_func("/heat/grow", test_grow);
    return g_test_run();
}
