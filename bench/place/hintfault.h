// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What NUMA balancing and TPP share: pages of the slow tier are unmapped by a scanner that goes round,
 * the first access to one is a hint fault; pages of dram leave by a clock over their accessed bits,
 * as kswapd's lists approximate.
 */
#ifndef VMTIER_BENCH_PLACE_HINTFAULT_H
#define VMTIER_BENCH_PLACE_HINTFAULT_H

#include "bench/place/sim.h"

struct hintfault {
    double *unmapped;           /* when; < 0: it is mapped */
    double *looked;             /* when the clock passed last */
    guint32 scan, clock;
    double period_s;            /* of one whole scan */
};

void hintfault_begin(struct hintfault *h, const struct sim *sim);
void hintfault_end(struct hintfault *h);
void hintfault_scan(struct hintfault *h, struct sim *sim);

/* Was it accessed in this tick for the first time since it was unmapped? *latency: after how long. */
bool hintfault_taken(struct hintfault *h, struct sim *sim, guint32 granule, double *latency);

/* A granule of dram that has not been accessed since the clock passed it last, or else any. */
guint32 hintfault_victim(struct hintfault *h, struct sim *sim);

#endif
