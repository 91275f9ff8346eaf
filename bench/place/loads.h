// SPDX-License-Identifier: GPL-2.0-or-later
/* The simulated loads, and what they share. */
#ifndef VMTIER_BENCH_PLACE_LOADS_H
#define VMTIER_BENCH_PLACE_LOADS_H

#include "bench/place/sim.h"

extern const struct load load_zipf99, load_zipf60, load_hot, load_shift, load_drift, load_zigzag15,
    load_zigzag5, load_scan, load_uniform, load_diurnal, load_stream, load_sparse, load_quiet;
extern const struct load load_walk, load_phases, load_bursts, load_sweep, load_breathe, load_batch;

/* `hot` granules from `first` in the random order get `share` of all accesses. */
void load_hot_set(struct sim *sim, guint32 first, guint32 hot, double share, double total);

/* Adds a scan in the order of addresses, so many granules per second. */
void load_add_scan(struct sim *sim, double per_s);

#endif
