// SPDX-License-Identifier: GPL-2.0-or-later
/* Source "dirty": pages written, from the dirty log of QEMU or of KVM. */
#ifndef VMTIER_DIRTY_H
#define VMTIER_DIRTY_H

#include "vmm/obs.h"

#include <stdbool.h>

/* Reports what was collected and has more collected. Link thread. */
void dirty_harvest(obs_fn emit, void *opaque);

/* Nobody wants the log any more: the guest runs without until the next harvest. Link thread. */
void dirty_stop(void);

/*
 * Pages of [offset, offset + length) of a block written since the last look, by whom it was: this
 * takes them away from dirty_harvest(). `bits`, unless NULL, has a bit for each page of the range, and
 * those of pages that were written are set. For tests and x-vmtier-query. Starts the log when it is
 * off. BQL. Negative errno on failure.
 */
int64_t dirty_count(const char *block, uint64_t offset, uint64_t length, uint8_t *bits);

struct dirty_stats {
    const char *route;          /* "qemu", "kvm", or "none" before the first use */
    char why[VT_NAME];          /* it is not "kvm" */
    uint64_t passes;            /* over all RAM */
    uint64_t bql_max_ns;        /* longest hold of QEMU's big lock for a chunk */
    uint64_t bql_start_ns;      /* the same for switching a log on */
    uint64_t pages;             /* reported, and so to be protected again */
};
void dirty_get_stats(struct dirty_stats *out);

/* CPU time of ours, pages reported, and an estimate of the CPU time that they cost the guest. */
void dirty_get_cost(uint64_t *cpu, uint64_t *events, uint64_t *vcpu);

#endif
