// SPDX-License-Identifier: GPL-2.0-or-later
/* Accessed bits on any kernel: unmap a little, see what is mapped again. */
#ifndef VMTIER_REFAULT_H
#define VMTIER_REFAULT_H

#include "common/err.h"
#include "vmm/obs.h"

#include <stdint.h>

/* Once. Fails where the kernel cannot tell present pages. */
int refault_init(struct vt_err *err);

/* Polls and re-arms probes for at most budget_us of CPU; emits what was learned. Takes ram_lock(). */
void refault_harvest(uint32_t budget_us, obs_fn emit, void *opaque);

/* The granules were remapped: what was known of their mappings is void. Under ram_lock(). */
void refault_forget(uint32_t first, uint32_t n);

void refault_get_cost(uint64_t *cpu, uint64_t *events);

#endif
