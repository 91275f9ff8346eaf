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
 * How to move; the daemon says so with each list. Zero is a good start: see mover.c for defaults.
 */
struct mover_tuning {
    uint64_t rate;              /* bytes per second, spread evenly; 0: as fast as it goes */
    uint64_t keep[VT_TIERS];    /* bytes of spare memory that may stay when a list is done */
    uint64_t run_bytes;         /* longest run; 0: as much as fits HOLD_NS */
    unsigned threads;           /* that copy; 0: one */
    bool through_caches;        /* copy with ordinary stores */
};
void mover_set_tuning(const struct mover_tuning *tuning);
void mover_get_tuning(struct mover_tuning *tuning);

/*
 * Carries out moves in order; fills in each one's `status` and, in `tier`, where the granule is
 * afterwards. Neighbouring moves of one kind become one run. Any thread; takes ram_lock() per run.
 */
enum {
    MOVER_FRESH = 1,            /* blocks still marked fresh need no protection: nobody uses them */
    MOVER_PACED = 2,            /* at the rate of the tuning; sleeps. The link's thread only */
    MOVER_TIDY = 4,             /* no spare memory stays: the daemon would not know of it */
};
struct mover_cost {
    uint64_t pages;             /* 4 KiB pages copied */
    uint64_t cpu_ns;
};
void mover_carry_out(struct vt_move_one *moves, uint32_t n, unsigned flags, struct mover_cost *cost);

/*
 * Gives back what is spare in each tier beyond so many bytes. However much it is, nobody waits for all of it:
 * ram_lock() is taken for a part at a time. Any thread.
 */
void mover_trim(const uint64_t most[VT_TIERS]);

/* Nobody will ask for the spare memory that was left for his next moves: he is gone. Any thread. */
void mover_give_back(void);

/*
 * Brings everything back to tier 0, each granule into the slot of its number, as if nothing had ever
 * been moved: for when a device appears that placement cannot serve. Returns how many granules are
 * still elsewhere, because of a DMA or for want of memory: try again. Any thread.
 */
uint32_t mover_retreat(void);

/*
 * Freezing: from then on moves are refused with VT_ST_FROZEN. The first reason is kept. A freeze
 * because of an inconsistency (final) cannot be lifted.
 */
void mover_freeze(bool final, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool mover_thaw(void);
bool mover_frozen(char reason[VT_TEXT]);
bool mover_is_frozen(void);

/* The steps of a run, as far as they take time. */
enum mover_step {
    STEP_FIND, STEP_POPULATE, STEP_PROTECT, STEP_COPY, STEP_MAP, STEP_REGISTER, STEP_MAP_IN,
    STEP_WAKE, STEP_PUNCH, MOVER_STEPS
};
const char *mover_step_name(enum mover_step step);

/* Counters since the start, for x-vmtier-query. */
struct mover_stats {
    uint64_t moved[VT_ST_END];  /* granules, by status */
    uint64_t pages, runs, cpu_ns;
    uint64_t step_ns[MOVER_STEPS]; /* wall time */
    uint64_t spare[VT_TIERS];   /* bytes now */
};
void mover_get_stats(struct mover_stats *stats);

#endif
