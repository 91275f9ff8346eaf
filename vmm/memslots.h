// SPDX-License-Identifier: GPL-2.0-or-later
/* Reading QEMU's memory layout into the RAM tables, and the list of what cannot be tiered. */
#ifndef VMTIER_MEMSLOTS_H
#define VMTIER_MEMSLOTS_H

#include "common/err.h"
#include "vmm/ram.h"

#include <stdbool.h>

/*
 * Reads RAM blocks and memslots of QEMU as they are now. Blocks that left the guest are marked, new
 * ones added with all granules in tier 0. Returns true if anything changed. BQL; takes ram_lock().
 */
bool memslots_refresh(void);

/* Block b cannot be tiered after all, now or later: forgets it. It must be in tier 0. Under ram_lock(). */
void memslots_leave_out(struct ram_block *b);

/* 0 if there is RAM that can be tiered, else what is in the way and what to do about it. BQL. */
int memslots_usable(struct vt_err *err);

/*
 * Looks for devices and features that reach guest RAM past QEMU's mapping, so that a moved page
 * would be lost to them. 0, or -EBUSY naming the device. BQL.
 */
int memslots_check_devices(struct vt_err *err);

#endif
