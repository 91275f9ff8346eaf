// SPDX-License-Identifier: GPL-2.0-or-later
/* Source "sample": one access in N of an emulated guest. */
#ifndef VMTIER_SAMPLE_H
#define VMTIER_SAMPLE_H

#include "common/err.h"
#include "vmm/obs.h"

#include <stdbool.h>

/* At plugin load, before the first translation; false with the reason where there is no TCG. */
bool sample_init(struct vt_err *err);

/* One access in `period`; 0 switches sampling off. */
void sample_set_period(uint32_t period);

/* Reports samples since the last call, per granule and tier. Link thread. */
void sample_harvest(obs_fn emit, void *opaque);

void sample_get_cost(uint64_t *cpu, uint64_t *events);

#endif
