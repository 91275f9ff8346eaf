// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Slots: where in a tier's file a granule's contents are.
 *
 * A block has an area in each tier's file, as long as the block and cut into slots of a granule. A
 * slot is USED by one granule, or nobody's: EMPTY (a hole in the file) or SPARE (it has memory still).
 * Moves leave spare slots behind and take them as destinations, so that the exchange of a hot granule
 * with a cold one makes and frees no memory.
 *
 * Where there is a choice a granule takes the slot of its own number: only then do the mappings of
 * neighbours merge. All under ram_lock().
 */
#ifndef VMTIER_POOL_H
#define VMTIER_POOL_H

#include <stdbool.h>
#include <stdint.h>

struct ram_block;
struct pool;

/* `used`: all slots are used, each by the granule of its number; else all are empty. NULL: no memory. */
struct pool *pool_new(uint32_t slots, bool used);
void pool_free(struct pool *p, unsigned tier);

/*
 * Takes up to n slots in a row for granules of which the first has the number `wish` in its block;
 * returns how many, 0 if there are none. *spare: they have memory, and stale contents.
 * `tidy`: better the granule's own slot than a spare one elsewhere.
 */
struct slots {
    uint32_t first, n;
    bool spare;
};
struct slots pool_take(struct ram_block *b, unsigned tier, uint32_t wish, uint32_t n, bool tidy);

/* Takes just this slot if it is nobody's. */
bool pool_take_exact(struct ram_block *b, unsigned tier, uint32_t slot, bool *spare);

/* The number, in its block, of the granule that uses a slot; UINT32_MAX: nobody. */
uint32_t pool_owner(const struct ram_block *b, unsigned tier, uint32_t slot);

/* Gives n used slots in a row back as spare ones. Those that cannot be kept are punched at once. */
void pool_give(struct ram_block *b, unsigned tier, uint32_t first, uint32_t n);

/* Gives them back as empty ones: their memory may be looked at still, and is to be no other's. */
void pool_drop(struct ram_block *b, unsigned tier, uint32_t first, uint32_t n);

/*
 * Whether all of n slots in a row is known to be there and mapped in the view, so that it need not be
 * looked up; and to say so. What punches a hole into a slot takes it back; the kernel may swap a page
 * out without a word, which costs a fault, no more.
 */
bool pool_is_mapped(const struct ram_block *b, unsigned tier, uint32_t first, uint32_t n);
void pool_note_mapped(const struct ram_block *b, unsigned tier, uint32_t first, uint32_t n, bool mapped);
void pool_forget_mapped(void);      /* of all slots */

/*
 * Punches spare slots of a tier, neighbours together, until no more than `bytes` are left, but no more than
 * POOL_TRIM_MOST of them: who wants ram_lock() meanwhile may be the main loop, with all of the guest waiting.
 * Returns how many bytes it was; 0: there is nothing more to do now.
 */
#define POOL_TRIM_MOST (8ull << 20)
uint64_t pool_trim(unsigned tier, uint64_t bytes);

/* Bytes in spare slots of a tier, of all blocks. Any time, any thread. */
uint64_t pool_spare(unsigned tier);

#endif
