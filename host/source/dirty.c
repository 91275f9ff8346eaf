// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "dirty": pages written, from the dirty log of QEMU or of KVM; see vmm/dirty.c. It says nothing
 * about reads, so it never decides where a granule belongs; it tells which granules are being written,
 * for the moment of a move.
 */
#include "host/source/source.h"

static bool drives(const struct vm *vm)
{
    (void)vm;
    return false;
}

const struct source source_dirty = {
    .name = "dirty",
    .summary = "pages written, from the dirty log of QEMU or KVM",
    .unit = "pages written",
    .enable = "a QEMU with a dirty log",
    .id = SRC_DIRTY,
    .kind = HEAT_WRITES,
    .drives = drives,
};
