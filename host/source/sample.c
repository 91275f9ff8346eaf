// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "sample": one access in N of an emulated guest; see vmm/sample.c. Each sample tells which
 * tier served it, so this is also where the DRAM hit ratio comes from. Whether placement may use it
 * as well is a setting (sample-use): with "measure" the ratio judges the other sources' work, and heat does
 * not hear of it.
 */
#include "host/source/source.h"

static void absorb(struct vm *vm, const struct vt_obs *obs)
{
    const bool dram = obs->tier == 0;

    if (!vm->hits[0])
        return;                 /* HELLO said that it could not */
    vm->hits[dram ? 0 : 1][obs->granule] += obs->events;
    vm->window[vm->window_at].all += obs->events;
    vm->window[vm->window_at].dram += dram ? obs->events : 0;
    if (!vm->config.sample_places)
        return;
    heat_set_unit(&vm->heat, HEAT_SAMPLES, vm->config.sample_period);
    source_observe(vm, SRC_SAMPLE, obs->granule, (double)obs->events * vm->config.sample_period, 0);
}

static bool drives(const struct vm *vm)
{
    return vm->config.sample_places;
}

const struct source source_sample = {
    .name = "sample",
    .summary = "one access in so many of an emulated guest",
    .unit = "sampled accesses",
    .enable = "an emulated guest (-accel tcg)",
    .id = SRC_SAMPLE,
    .kind = HEAT_SAMPLES,
    .absorb = absorb,
    .drives = drives,
};
