// SPDX-License-Identifier: GPL-2.0-or-later
/* Loads that are recordings of real guests (*.vmtrace): see recorded.c. */
#ifndef VMTIER_BENCH_PLACE_RECORDED_H
#define VMTIER_BENCH_PLACE_RECORDED_H

#include "bench/place/sim.h"
#include "common/err.h"

struct recorded {
    struct load load;           /* first: a load is its recording */
    char *name;
    guint32 n;                  /* granules */
    guint64 granule;            /* bytes */
    double seconds;
    GPtrArray *windows;         /* of float[n]: accesses per second */
};

/* NULL: it cannot be read, or sampled nothing. */
struct recorded *recorded_open(const char *path, struct vt_err *err);
void recorded_free(struct recorded *r);

#endif
