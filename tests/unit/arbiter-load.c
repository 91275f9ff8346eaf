// SPDX-License-Identifier: GPL-2.0-or-later
/* See arbiter-load.h. */
#include "arbiter-load.h"

#include <math.h>

double load_shape(enum load_shape shape, guint i, guint n)
{
    const guint tenth = n / 10;

    switch (shape) {
    case LOAD_ZIPF:
        return pow(i + 1, -.99);
    case LOAD_HALVES:
        return i < n / 2 ? 9 : 1;
    case LOAD_EVEN:
        return 1;
    default:
        return i < tenth ? 9.0 / tenth : 1.0 / (n - tenth);
    }
}

void load_look(struct curve *curve, guint64 granule, const double *rate, guint n, GRand *random, double noise)
{
    curve_clear(curve);
    for (guint i = 0; i < n; i++) {
        double r = g_rand_double(random) + 1e-300, a = 2 * G_PI * g_rand_double(random);
        double gauss = sqrt(-2 * log(r)) * cos(a);

        curve_add(curve, granule, rate[i] * exp(noise * gauss - noise * noise / 2));
    }
}
