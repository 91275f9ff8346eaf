// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Movers: how granules change tiers. A mover carries out a list and says how each one ended; it knows
 * nothing of heat. A new mover is a new file.
 *
 * How a VM is moved is settled when it attaches: `remap` for one whose QEMU has the plugin, which tells
 * of itself over its link; `numa` for one that was attached by its pid, of which nothing comes unasked,
 * so that mover finds out itself what the link tells of the others.
 */
#ifndef VMTIER_MOVER_H
#define VMTIER_MOVER_H

#include "host/vm.h"

struct process;

struct mover {
    const char *name;
    /*
     * Carries out moves[0..n) in order and fills in status and tier of each; updates the ledger and
     * the VM's counts. `fresh`: memory the guest has not touched. 0, or a negative errno: link lost.
     */
    int (*carry_out)(struct vm *vm, struct vt_move_one *moves, guint32 n, bool fresh,
                     struct vt_err *err);

    /* These are NULL where the link does it. 0, or a negative errno: the VM is gone. */
    int (*attach)(struct vm *vm, struct vt_err *err);
    int (*take_news)(struct vm *vm, struct vt_err *err);

    /* Bytes that are in the tier, as seen; NULL: the files tell. */
    guint64 (*bytes)(const struct vm *vm, guint tier);
    /* Is it worth to try and move this granule now? NULL: always. */
    bool (*ready)(const struct vm *vm, guint32 granule);
    /* Frees vm->mover_state; NULL: there is none. */
    void (*close)(struct vm *vm);
};

extern const struct mover mover_remap, mover_numa;

/* --- numa.c ------------------------------------------------------------------------------------------- */

/* Makes a new VM one of mover_numa. `monitor`: path of its QEMU's QMP socket, or NULL. */
void numa_take(struct vm *vm, struct process *process /* take */, const char *monitor);

#endif
