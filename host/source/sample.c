// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "sample": one access in N of an emulated guest; see vmm/sample.c. Each sample tells which
 * tier served it, so this is also where the DRAM hit ratio comes from. Whether placement may use it
 * as well is a setting (sample-use): with "measure" the ratio judges the other sources' work.
 */
#include "host/source/source.h"

static void absorb(struct vm *vm, const struct vt_obs *obs)
{
    const bool dram = obs->tier == 0;

    vm->hits[dram ? 0 : 1][obs->granule] += obs->events;
    vm->window[vm->window_at].all += obs->events;
    vm->window[vm->window_at].dram += dram ? obs->events : 0;
    heat_observe(&vm->heat, obs);
}

static bool drives(const struct vm *vm)
{
    return vm->heat.by_samples;
}

const struct source source_sample = {
    .name = "sample",
    .id = VT_SRC_SAMPLE,
    .enable = "an emulated guest (-accel tcg)",
    .absorb = absorb,
    .drives = drives,
};
