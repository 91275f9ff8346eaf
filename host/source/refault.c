// SPDX-License-Identifier: GPL-2.0-or-later
/* Source "refault": pages mapped again after QEMU's part unmapped them; see vmm/refault.c. */
#include "host/source/source.h"

const struct source source_refault = {
    .name = "refault",
    .summary = "pages touched after they were unmapped, from QEMU's page table",
    .unit = "pages touched",
    .enable = "/proc in QEMU's mount namespace",
    .id = SRC_REFAULT,
    .kind = HEAT_PROBES,
};
