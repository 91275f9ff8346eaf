// SPDX-License-Identifier: GPL-2.0-or-later
/* Carries granules from one tier's file to another's while the guest runs. */
#ifndef VMTIER_MOVER_H
#define VMTIER_MOVER_H

#include "common/err.h"
#include "vmm/ram.h"

#include <stdbool.h>

/* Puts a block under userfaultfd. Under ram_lock(). */
int mover_watch(struct ram_block *b, struct vt_err *err);

/*
 * Carries out moves in order; fills in each one's `status` and, in `tier`, where the granule is
 * afterwards. Neighbouring moves of one kind become one run. Any thread; takes ram_lock() per run.
 * `fresh`: blocks still marked fresh may be remapped without protection, nothing uses them yet.
 */
struct mover_cost {
    uint64_t pages;             /* 4 KiB pages copied */
    uint64_t cpu_ns;
};
void mover_carry_out(struct vt_move_one *moves, uint32_t n, bool fresh, struct mover_cost *cost);

/*
 * Brings everything back to tier 0, for when a device appears that placement cannot serve. Returns how
 * many granules are still elsewhere, because of a DMA or for want of memory: try again.
 */
uint32_t mover_retreat(void);

/*
 * Freezing: from then on moves are refused with VT_ST_FROZEN. The first reason is kept. A freeze
 * because of an inconsistency (final) cannot be lifted.
 */
void mover_freeze(bool final, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool mover_thaw(void);
bool mover_frozen(char reason[VT_TEXT]);

/* Counters since the start, for x-vmtier-query. */
struct mover_stats {
    uint64_t moved[VT_ST_END];  /* granules, by status */
    uint64_t pages, runs, cpu_ns;
};
void mover_get_stats(struct mover_stats *stats);

#endif
