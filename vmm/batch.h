// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Batches: several short runs of one list, carried out under one hold of ram_lock().
 *
 * A granule of 64 KiB in small pages costs five times its copy, for the calls that change a mapping.
 * What need not be done for each run alone is done for several at once: dropping the page table's
 * entries before, flags and registration of the new mappings afterwards. Each run still has a window
 * of its own, so nobody waits longer.
 *
 * All under ram_lock(). Outside of it no batch is open, and all that was moved is registered.
 */
#ifndef VMTIER_BATCH_H
#define VMTIER_BATCH_H

#include "vmm/ram.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Opens a batch for the first moves of a list, of `bytes` at most; returns how many it is for, 0 if it
 * is not worth while, with none opened.
 */
uint32_t batch_begin(const struct vt_move_one *moves, uint32_t n, uint64_t bytes);
bool batch_is_open(void);

/*
 * In an open batch, before its first moves and again when these are done: gets the next few ready.
 * Returns how many.
 */
uint32_t batch_ahead(const struct vt_move_one *moves, uint32_t n);

/* Was this granule got ready, as the first of a run? *used: had the guest a good part of it mapped then? */
bool batch_was_used(uint32_t granule, bool *used);

/* A range of a block that is mapped anew, with none of its flags. Registered at once if no batch is open. */
void batch_add(const struct ram_block *b, uint64_t offset, uint64_t length);

/* Registers what was added so far; false: it was nothing. */
bool batch_register(void);

/* Ends the batch, if one is open. What cannot be registered freezes the mover. */
void batch_end(void);

#endif
