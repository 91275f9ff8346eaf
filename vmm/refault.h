// SPDX-License-Identifier: GPL-2.0-or-later
/* Accessed bits on any kernel: unmap a little, see what is mapped again. */
#ifndef VMTIER_REFAULT_H
#define VMTIER_REFAULT_H

#include "common/err.h"
#include "vmm/obs.h"

#include <stdbool.h>
#include <stdint.h>

/* Once. Fails where the kernel cannot tell present pages. */
int refault_init(struct vt_err *err);

/* Whose time the probes cost: so many vCPUs, which pay more for a fault under KVM. */
void refault_set_guest(unsigned vcpus, bool kvm);

/*
 * Polls and arms probes for about budget_us of CPU time and some milliseconds at most; emits what was
 * learned. Takes ram_lock() for moments.
 */
void refault_harvest(uint32_t budget_us, obs_fn emit, void *opaque);

/* The granules were remapped: what was known of their mappings is void. Under ram_lock(). */
void refault_forget(uint32_t first, uint32_t n);

/* Since the start: our CPU time, the vCPUs' time by estimate, touches seen. */
struct refault_cost {
    uint64_t cpu_ns, vcpu_ns, events;
};
void refault_get_cost(struct refault_cost *cost);

#endif
