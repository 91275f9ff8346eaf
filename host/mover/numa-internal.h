// SPDX-License-Identifier: GPL-2.0-or-later
/* What the parts of the mover "numa" share: numa.c moves and counts, numa-layout.c finds RAM. */
#ifndef VMTIER_NUMA_INTERNAL_H
#define VMTIER_NUMA_INTERNAL_H

#include "host/daemon.h"
#include "host/mover/mover.h"
#include "host/mover/pages.h"
#include "host/process.h"

struct cell {
    guint8 level;               /* how often in a row it could not be moved whole */
    guint8 want;                /* the tier its last pages have to go to; LEDGER_NONE: none waits */
    bool listed;                /* among the stragglers */
    guint32 until;              /* on the VM's clock, seconds */
};

struct numa {
    struct process *process;
    char *monitor;
    struct pages *pages;
    char *never;                /* why nothing can be moved on this host, or NULL */
    guint64 at[VT_BLOCKS];      /* addresses of the blocks */
    guint32 *in;                /* [granule][tiers + 1] */
    struct cell *cell;          /* [granule] */
    guint64 bytes[VT_TIERS + 1];
    guint32 next;               /* granule of the census */
    GArray *stragglers;         /* guint32 */
    double next_maps, thaw, thaw_wait;
    double moved;               /* when going home got on last; on the VM's clock */
    char frozen[VT_TEXT];       /* why it was frozen last */
};

/* Enters where a granule's pages are: in[tiers + 1]. */
void numa_book(struct vm *vm, guint32 granule, const guint32 *in);
/* Nothing of it waits any more. */
void numa_release(struct vm *vm, guint32 granule);

/* Finds the VM's RAM and fills in blocks, slots and arrays. */
bool numa_learn(struct vm *vm, GError **error);
/* Is it still mapped? What is not is forgotten. 0, or a negative errno: nothing is left. */
int numa_look_at_maps(struct vm *vm, struct vt_err *err);


#endif
