// SPDX-License-Identifier: GPL-2.0-or-later
/* Which pages of a hugetlbfs file there are: the file system itself does not tell. */
#ifndef VMTIER_HUGE_H
#define VMTIER_HUGE_H

#include "vmm/ram.h"

/* From an open /dev/userfaultfd, once. Without it, or if it fails, all pages count as being there. */
void huge_open(int device);

/* Is the huge page at this offset of a tier's area there? Makes none. Under ram_lock(). */
bool huge_is_there(const struct ram_block *b, unsigned tier, uint64_t offset);

/* The block, or one of its files, goes. Under ram_lock(). */
void huge_forget(const struct ram_block *b);

#endif
