// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What kind of memory the VM got: the files of each block, where QEMU has mapped it, and by pages of
 * which size the guest's memory is mapped. Looked up, never taken from how it was asked for.
 */
#ifndef VMTIER_BACKING_H
#define VMTIER_BACKING_H

#include "vmm/ram.h"

/* Looks at the blocks' files and addresses anew. Link thread; takes ram_lock() for moments. */
void backing_refresh(void);

/*
 * Goes on with the look at the page table, for BACKING_BUDGET_NS of CPU time at most, and takes no lock
 * while it does. A look through all blocks begins every BACKING_PERIOD_MS; true when one is through.
 * Link thread.
 */
#define BACKING_PERIOD_MS 10000u
#define BACKING_FIRST_MS  1000u     /* after the block was first seen */
#define BACKING_BUDGET_NS 2000000u
bool backing_look(void);

/* What is known of block number `id` (in ram_blocks()), whose first granule is `first`. Any thread. */
bool backing_get(uint32_t id, uint32_t first, struct vt_backing *out);

/* Why the RAM of this file cannot be tiered, or NULL: userfaultfd cannot write-protect it. */
const char *backing_unfit(int fd, char text[VT_TEXT]);

/*
 * The VmFlags of the mappings at some addresses, "" where there is none: one pass over
 * /proc/self/smaps that ends behind the last of them. The kernel walks the page table of every mapping
 * on the way: with much RAM mapped by small pages that is tens of milliseconds, so no thread that holds
 * the BQL asks. 0, or a negative errno.
 */
struct backing_flags {
    const uint8_t *at;
    char text[128];
};
int backing_read_flags(struct backing_flags *ask, unsigned n);

#endif
