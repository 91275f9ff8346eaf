// SPDX-License-Identifier: GPL-2.0-or-later
/* The mover's settings of one case, and its cost by step. */
#ifndef VMTIER_BENCH_TUNE_H
#define VMTIER_BENCH_TUNE_H

#include "bench/lib/memory.h"
#include "vmm/mover.h"

struct bench_tuning {
    guint64 run_bytes;          /* longest run */
    guint threads;
    guint64 keep;               /* spare bytes kept in each of the two tiers */
};

void bench_tune(const struct bench_tuning *t);

/* ns per step since the start. */
void bench_step_ns(guint64 ns[MOVER_STEPS]);

/* Carries out a list; false if one of them was not moved, with its status in *status. */
bool bench_move(struct vt_move_one *m, guint32 n, guint8 *status);

/* The same, whatever becomes of them; returns how many pages were copied. */
guint64 bench_move_some(struct vt_move_one *m, guint32 n);

/* The other tier of one granule, by its place in the block, as a move. */
struct vt_move_one bench_toggle(const struct bench_memory *m, guint32 index);

#endif
