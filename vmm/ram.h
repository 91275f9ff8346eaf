// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VM's tiered RAM: blocks, their files, and where every granule is.
 *
 * A block is a QEMU RAM block that can be tiered. Its granules are numbered from `first`; numbers
 * are never used twice while QEMU lives. ram_tier[] and ram_slot[] are the truth about placement in
 * this process: the tier, and the slot of that tier's file (pool.h). They change only together with
 * the mapping, under ram_lock().
 *
 * Locking. ram_lock() guards everything here. It is taken after the BQL, never before it, and its
 * holder never waits for the BQL, for the daemon or for the guest. The mover holds it for one run of
 * granules, so whoever needs it (a layout change in the main loop) waits for milliseconds at most.
 * ram_tier[] alone may be read without the lock.
 */
#ifndef VMTIER_RAM_H
#define VMTIER_RAM_H

#include "common/err.h"
#include "vmtier/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ram_block {
    char name[VT_NAME];
    uint8_t *host;
    uint64_t length;
    uint64_t ram_addr;          /* QEMU's offset of the block, for 7.2's access addresses */
    uint32_t page_size;
    uint32_t first, count;      /* granules */
    bool used;                  /* this entry of the table is taken */
    bool present;               /* it is in the guest's address space now */
    bool fresh;                 /* the guest has not run with it yet */
    bool watched;               /* registered with userfaultfd */
    ino_t inode;                /* of file[0]: tells a new block at an old address, */
    dev_t device;               /* together with this */
    int file[VT_TIERS];         /* -1: none. file[0] belongs to QEMU, the others to us */
    uint64_t base[VT_TIERS];    /* where in the file the block's area begins */
    uint8_t *view[VT_TIERS];    /* a second mapping of each area */
    struct pool *pool[VT_TIERS]; /* whose each slot is */
    bool small[VT_TIERS];       /* the file has 4 KiB pages for sure */
    bool flags_known;           /* the next two are */
    unsigned advice;            /* mask of advice_table rows to give again to a new mapping */
    int map_flags;              /* mmap()'s, without which a new mapping merges with no old one */
};

struct ram_slot {
    uint64_t gpa, length, offset;
    uint64_t block;             /* index; as wide as the others, so that slots compare as bytes */
};

#define RAM_SLOTS 256

extern uint8_t *ram_tier;       /* [VT_GRANULES_MAX]; valid after ram_init() */
extern uint32_t *ram_slot;      /* likewise */

void ram_lock(void);
void ram_unlock(void);

/* Between two holds of a long job: lets those who wait for ram_lock() have it first. */
void ram_give_way(void);

/* Once. Reserves address space for the tables, not memory. */
int ram_init(struct vt_err *err);

/* Bytes of a granule; 0 until the daemon has said so. Set once. */
uint64_t ram_granule(void);
void ram_set_granule(uint64_t bytes);

/* The table of blocks, VT_BLOCKS entries; look at `used`. Under ram_lock(). */
struct ram_block *ram_blocks(void);
struct ram_block *ram_block_named(const char *name);
struct ram_block *ram_block_of(uint32_t granule);

/*
 * Adds a block, its granules in tier 0, and its first view. Needs ram_granule(). Under ram_lock().
 * NULL with *err when the tables are full or a mapping fails.
 */
struct ram_block *ram_add(const char *name, uint8_t *host, uint64_t length, uint32_t page_size,
                          int fd, struct vt_err *err);
void ram_drop(struct ram_block *b);

/* The guest runs from now on: no block is fresh any more, and none that is added later. */
void ram_guest_runs(void);

/*
 * Gives block b the file of a tier, in which its area begins at `base`; takes fd. Under ram_lock().
 */
int ram_set_file(struct ram_block *b, unsigned tier, int fd, uint64_t base, struct vt_err *err);

/*
 * Looks up the flags of QEMU's mapping of blocks that are new. That reads smaps, which takes tens of
 * milliseconds in a large VM: any thread that has no lock, before the blocks are moved.
 */
void ram_find_flags(void);

/* The same of one block, under ram_lock(), if nobody has done it: 0, or a negative errno. */
int ram_need_flags(struct ram_block *b);

/* Re-applies the madvise() flags QEMU had set on the block to a part of it. */
void ram_readvise(const struct ram_block *b, uint64_t offset, uint64_t length);

/* Offset and length, within its block, of a granule. */
static inline uint64_t ram_offset(const struct ram_block *b, uint32_t granule)
{
    return (uint64_t)(granule - b->first) * ram_granule();
}

static inline uint64_t ram_length(const struct ram_block *b, uint32_t granule)
{
    uint64_t left = b->length - ram_offset(b, granule);

    return left < ram_granule() ? left : ram_granule();
}

/* Where a granule's contents are: file and offset in it, and in the view. Under ram_lock(). */
static inline void ram_place(const struct ram_block *b, uint32_t granule, int *fd, uint64_t *offset)
{
    unsigned tier = ram_tier[granule];

    *fd = b->file[tier];
    *offset = b->base[tier] + ram_slot[granule] * ram_granule();
}

static inline uint8_t *ram_view(const struct ram_block *b, uint32_t granule)
{
    return b->view[ram_tier[granule]] + ram_slot[granule] * ram_granule();
}

/* The memslots over tiered blocks. Under ram_lock(). */
struct ram_slots {
    uint64_t n;
    struct ram_slot slot[RAM_SLOTS];
};
extern struct ram_slots ram_slots;

/* Grows by one with each change of blocks or slots. */
uint32_t ram_generation(void);
void ram_changed(void);

/*
 * The granule an access address belongs to, from any thread, without a lock. A lookup that meets a
 * layout change fails. false: not tiered RAM.
 */
bool ram_find_gpa(uint64_t gpa, uint32_t *granule);
bool ram_find_addr(uint64_t ram_addr, uint32_t *granule);

#endif
