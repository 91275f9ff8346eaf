// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of heat: rates are events over exposure, forget with one half-life, say how sure they
 * are, and never mix two kinds of evidence.
 *
 * timeout: 30
 */
#include "host/heat.h"

#include <math.h>

#define ALL ((1u << VT_SRC_REFAULT) | (1u << VT_SRC_DIRTY) | (1u << VT_SRC_SAMPLE))

static void observe(struct heat *h, guint32 granule, int source, guint32 events, guint32 exposure)
{
    struct vt_obs o = { .granule = granule, .source = (guint8)source, .events = events,
                        .exposure = exposure };

    heat_observe(h, &o);
}

static struct heat make(guint32 n, bool samples)
{
    struct heat h;

    heat_init(&h);
    heat_resize(&h, n);
    heat_use_samples(&h, samples);
    return h;
}

/* Nothing is known: no rate, and no certainty at all. */
static void test_unknown(void)
{
    struct heat h = make(2, false);
    struct estimate e = heat_rate(&h, 1);

    g_assert_cmpfloat(e.rate, ==, 0);
    g_assert_true(isinf(e.sd));
    heat_clear(&h);
}

/* A steady load's rate is right however long it has been watched. */
static void test_steady_probes(void)
{
    struct heat h = make(2, false);

    for (int i = 0; i < 200; i++) {
        heat_advance(&h, 0.25, ALL);
        observe(&h, 0, VT_SRC_REFAULT, 6, 2000);
        observe(&h, 1, VT_SRC_REFAULT, 0, 2000);
        g_assert_cmpfloat_with_epsilon(heat_rate(&h, 0).rate, 3, 1e-3);
        g_assert_cmpfloat(heat_rate(&h, 1).rate, ==, 0);
    }
    heat_clear(&h);
}

static void test_steady_samples(void)
{
    struct heat h = make(1, true);

    for (int i = 0; i < 200; i++) {
        heat_advance(&h, 0.25, ALL);
        observe(&h, 0, VT_SRC_SAMPLE, 5, 0);
    }
    g_assert_cmpfloat_with_epsilon(heat_rate(&h, 0).rate, 20, 0.1);
    heat_clear(&h);
}

/* Samples that a source takes while it is off are no exposure. */
static void test_sampler_off(void)
{
    struct heat h = make(1, true);

    heat_advance(&h, 1, ALL);
    observe(&h, 0, VT_SRC_SAMPLE, 8, 0);
    for (int i = 0; i < 8; i++)
        heat_advance(&h, 0.25, 1u << VT_SRC_REFAULT);
    g_assert_cmpfloat_with_epsilon(heat_rate(&h, 0).rate, 8, 0.01);
    heat_clear(&h);
}

/* After the load has ended its weight halves every half-life against the new quiet. */
static void test_forgets(void)
{
    struct heat h = make(1, true);

    for (int i = 0; i < 4000; i++) {
        heat_advance(&h, 0.25, ALL);
        observe(&h, 0, VT_SRC_SAMPLE, 4, 0);
    }
    double before = heat_rate(&h, 0).rate;

    for (int i = 0; i < HEAT_HALF_LIFE * 4; i++)
        heat_advance(&h, 0.25, ALL);
    g_assert_cmpfloat_with_epsilon(heat_rate(&h, 0).rate, before / 2, before * 0.01);
    heat_clear(&h);
}

/* More evidence, more certainty; and the certainty is what a count's is: about sqrt(n) / n. */
static void test_certainty(void)
{
    struct heat h = make(2, false);

    observe(&h, 0, VT_SRC_REFAULT, 10, 1000);
    observe(&h, 1, VT_SRC_REFAULT, 1000, 100000);
    struct estimate few = heat_rate(&h, 0), many = heat_rate(&h, 1);

    g_assert_cmpfloat_with_epsilon(few.rate, many.rate, 1e-6);
    g_assert_cmpfloat(few.sd, >, 8 * many.sd);
    g_assert_cmpfloat_with_epsilon(many.sd / many.rate, 1 / sqrt(1000), 1e-3);
    heat_clear(&h);
}

/* An armed probe that saw nothing is evidence of cold: the longer, the surer. */
static void test_silence(void)
{
    struct heat h = make(2, false);

    observe(&h, 0, VT_SRC_REFAULT, 0, 1000);
    observe(&h, 1, VT_SRC_REFAULT, 0, 100000);
    g_assert_true(isfinite(heat_rate(&h, 0).sd));
    g_assert_cmpfloat(heat_rate(&h, 0).sd, >, 50 * heat_rate(&h, 1).sd);
    heat_clear(&h);
}

/* Each kind of evidence answers alone, and what settles decisions starts anew with a new kind. */
static void test_two_kinds(void)
{
    struct heat h = make(1, false);
    double events, exposure;

    heat_advance(&h, 1, ALL);
    observe(&h, 0, VT_SRC_SAMPLE, 50, 0);
    observe(&h, 0, VT_SRC_REFAULT, 2, 1000);
    observe(&h, 0, VT_SRC_DIRTY, 700, 1000);
    g_assert_cmpfloat_with_epsilon(heat_rate(&h, 0).rate, 2, 1e-6);
    heat_totals(&h, 0, &events, &exposure);
    g_assert_cmpfloat(events, ==, 2);
    g_assert_cmpfloat(exposure, ==, 1);
    heat_use_samples(&h, true);
    g_assert_cmpfloat_with_epsilon(heat_rate(&h, 0).rate, 50, 1e-6);
    heat_totals(&h, 0, &events, &exposure);
    g_assert_cmpfloat(events, ==, 0);
    g_assert_cmpfloat(exposure, ==, 0);
    heat_clear(&h);
}

/* Totals do not forget. */
static void test_totals(void)
{
    struct heat h = make(1, true);
    double events, exposure;

    for (int i = 0; i < 1000; i++) {
        heat_advance(&h, 0.25, ALL);
        observe(&h, 0, VT_SRC_SAMPLE, 3, 0);
    }
    heat_totals(&h, 0, &events, &exposure);
    g_assert_cmpfloat(events, ==, 3000);
    g_assert_cmpfloat_with_epsilon(exposure, 250, 1e-6);
    heat_clear(&h);
}

static void test_write_share(void)
{
    struct heat h = make(2, false);

    g_assert_cmpfloat(heat_write_share(&h, 0, 512), ==, 0);
    heat_advance(&h, 1, ALL);
    observe(&h, 0, VT_SRC_DIRTY, 128, 1000);
    observe(&h, 1, VT_SRC_DIRTY, 100000, 1000);
    g_assert_cmpfloat_with_epsilon(heat_write_share(&h, 0, 512), 0.25, 1e-6);
    g_assert_cmpfloat(heat_write_share(&h, 1, 512), ==, 1);
    g_assert_cmpfloat(heat_write_share(&h, 0, 0), ==, 0);
    heat_clear(&h);
}

static void test_grow(void)
{
    struct heat h = make(1, false);

    observe(&h, 0, VT_SRC_REFAULT, 3, 1000);
    heat_resize(&h, 1000);
    g_assert_cmpfloat_with_epsilon(heat_rate(&h, 0).rate, 3, 1e-6);
    g_assert_true(isinf(heat_rate(&h, 999).sd));
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
    g_test_add_func("/heat/silence", test_silence);
    g_test_add_func("/heat/two-kinds", test_two_kinds);
    g_test_add_func("/heat/totals", test_totals);
    g_test_add_func("/heat/write-share", test_write_share);
    g_test_add_func("/heat/grow", test_grow);
    return g_test_run();
}
