// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Movers: how granules change tiers. A mover carries out a list and says how each one ended; it knows
 * nothing of heat. A new mover is a new file.
 */
#ifndef VMTIER_MOVER_H
#define VMTIER_MOVER_H

#include "host/vm.h"

struct mover {
    const char *name;
    /*
     * Carries out moves[0..n) in order and fills in status and tier of each; updates the ledger and
     * the VM's counts. `fresh`: memory the guest has not touched. 0, or a negative errno: link lost.
     */
    int (*carry_out)(struct vm *vm, struct vt_move_one *moves, guint32 n, bool fresh,
                     struct vt_err *err);
};

extern const struct mover mover_remap;

#endif
