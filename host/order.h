// SPDX-License-Identifier: GPL-2.0-or-later
/* Moves that an operator asks for, with the command vmtier-move. */
#ifndef VMTIER_ORDER_H
#define VMTIER_ORDER_H

#include "host/vm.h"

struct order_range {
    guint32 first, count;
};

struct vm_order {
    gint64 id;
    guint8 tier;
    GArray *ranges;             /* of struct order_range; those at the front are taken from */
    guint at;                   /* the range that is next */
    guint32 asked, moved, busy, failed, over_quota;
};

void order_free(struct vm_order *order);

/* A round's part of the VM's order, if it has one. On a worker. 0, or a negative errno. */
int order_carry_out(struct vm *vm, struct vt_err *err);

#endif
