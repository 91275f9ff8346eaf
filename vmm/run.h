// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One run: neighbouring granules that go from one tier to another under one protection.
 *
 * mover.c decides what makes a run, run-prepare.c looks where it lies and makes its memory, run.c
 * carries out the protocol.
 */
#ifndef VMTIER_RUN_H
#define VMTIER_RUN_H

#include "vmm/copy.h"
#include "vmm/mover.h"
#include "vmm/ram.h"

#include <stddef.h>
#include <string.h>

#define SMALL_PAGE  4096u
#define RUN_PIECES  64          /* stretches that lie in one piece in both files */
/* Stretches of data; more count as one. RUN_MOST has no more of small pages. */
#define RUN_EXTENTS 1024

struct piece {
    uint64_t at, length;        /* in the run */
    uint64_t from, to;          /* in the areas of both tiers */
    bool spare;                 /* the destination has memory, with stale contents */
    bool whole;                 /* the source has no hole */
    bool mapped;                /* ... and all of it is mapped in the view */
    bool write;                 /* the destination has no memory: it is written, see run-prepare.c */
};

struct run {
    struct ram_block *b;
    uint32_t first, n;          /* granules */
    unsigned from, to;          /* tiers; equal if only the slot changes */
    bool bare;                  /* nobody uses the memory yet: no protection needed */
    bool used;                  /* the guest has a good part of it mapped */
    bool through_caches;        /* the copy; else past them where that is faster */
    bool fenced;                /* no DMA into it begins */
    uint64_t offset, length;    /* in the block */
    uint32_t arrived;           /* granules, when it is over */
    uint64_t pages, helpers_ns; /* 4 KiB pages copied; CPU time of other threads */
    uint64_t hold_ns;           /* how long that was: from protection to wake-up */
    uint32_t n_pieces, n_data;
    struct piece piece[RUN_PIECES]; /* from here on nothing is cleared by run_start() */
    struct copy_part data[RUN_EXTENTS]; /* addresses in the views */
    struct {
        uint64_t at;            /* in the run */
        uint32_t piece;
    } data_at[RUN_EXTENTS];
};

/* Where in its file the destination of a part is, which is told as an address in the view. */
static inline uint64_t run_file_offset(const struct run *r, const struct copy_part *d)
{
    return r->b->base[r->to] + (uint64_t)(d->to - r->b->view[r->to]);
}

/* A run of granules from `first` on, which is large, begins with this. */
static inline void run_start(struct run *r, struct ram_block *b, uint32_t first, unsigned to)
{
    memset(r, 0, offsetof(struct run, piece));
    r->b = b;
    r->first = first;
    r->n = 1;
    r->to = to;
}

/* The slot at an offset of an area, and how many slots a length takes up. */
static inline uint32_t run_slot(uint64_t offset)
{
    return (uint32_t)(offset / ram_granule());
}

static inline uint32_t run_slots(uint64_t length)
{
    return run_slot(length + ram_granule() - 1);
}

/*
 * Fills in the run for granules [first, first + n), all in tier `from`: takes slots for them in tier
 * `to`. May shorten it. false: there is no slot for the first one.
 */
bool run_prepare(struct run *r, bool tidy);

/* The same, with each granule's destination the slot of its own number. */
bool run_prepare_exact(struct run *r);

/*
 * Carries it out. VT_ST_OK: all have arrived; else r->arrived of them have, and the others are where
 * they were. The slots left behind, and those not needed after all, become spare. Under ram_lock().
 */
enum vt_status run_carry_out(struct run *r);

/*
 * Finds the run's data and makes everything ready that the copy needs: 0, or a negative errno. May be
 * done again, when nobody can write any more. *since: see run_step().
 */
int run_make_ready(struct run *r, uint64_t *since);

/* Is no data at all in this range of a block's tier? Cheap. */
bool run_is_empty(const struct ram_block *b, unsigned tier, uint64_t offset, uint64_t length);

/*
 * Time spent in each step, since the start. run_step() adds the time since *since to a step's, and
 * starts the next one.
 */
void run_step(enum mover_step s, uint64_t *since);
void run_add_step(enum mover_step s, uint64_t ns);
void run_get_steps(uint64_t ns[MOVER_STEPS]);

#endif
