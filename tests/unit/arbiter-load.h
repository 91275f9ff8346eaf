// SPDX-License-Identifier: GPL-2.0-or-later
/* Loads of VMs for tests of the arbiter: shapes of heat, hottest granule first, and how the arbiter sees them. */
#ifndef VT_TEST_ARBITER_LOAD_H
#define VT_TEST_ARBITER_LOAD_H

#include "host/arbiter.h"

#include <glib.h>

enum load_shape { LOAD_ZIPF, LOAD_HALVES, LOAD_EVEN, LOAD_TENTH };

/* The heat of the i-th of n granules; only ratios count. */
double load_shape(enum load_shape shape, guint i, guint n);

/* A curve of n granules; each rate is off by a factor of exp(noise), whose mean is 1. */
void load_look(struct curve *curve, guint64 granule, const double *rate, guint n, GRand *random, double noise);

#endif
