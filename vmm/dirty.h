// SPDX-License-Identifier: GPL-2.0-or-later
/* Source "dirty": pages written, from QEMU's dirty log. */
#ifndef VMTIER_DIRTY_H
#define VMTIER_DIRTY_H

#include "vmm/obs.h"

/* Reports what was collected and asks the main loop to collect more. Any thread. */
void dirty_harvest(obs_fn emit, void *opaque);

/*
 * Pages of [offset, offset + length) of a block written since the last look; for tests and
 * x-vmtier-query. Starts the log when it is off. BQL. Negative errno on failure.
 * QEMU clears its log in windows of 64 pages: unless offset and length are multiples of 256 KiB, what
 * was written beside the range is forgotten as well.
 */
int64_t dirty_count(const char *block, uint64_t offset, uint64_t length);

void dirty_get_cost(uint64_t *cpu, uint64_t *events);

#endif
