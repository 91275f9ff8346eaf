// SPDX-License-Identifier: GPL-2.0-or-later
/* Source "refault": pages mapped again after QEMU's part unmapped them; see vmm/refault.c. */
#include "host/source/source.h"

static void absorb(struct vm *vm, const struct vt_obs *obs)
{
    heat_observe(&vm->heat, obs);
}

static bool drives(const struct vm *vm)
{
    return vm->sources & (1u << VT_SRC_REFAULT) && !vm->heat.by_samples;
}

const struct source source_refault = {
    .name = "refault",
    .id = VT_SRC_REFAULT,
    .enable = "/proc in QEMU's mount namespace",
    .absorb = absorb,
    .drives = drives,
};
