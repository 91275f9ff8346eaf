// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From a sample to the granule that was accessed, and if there is none, why not.
 *
 * What an address is worth depends on the event. IBS tells where in the host an op's data is, guest or not; so
 * does an event with PERF_SAMPLE_PHYS_ADDR, but only for the process itself: of a guest's access the kernel
 * translates the guest's address as if it were QEMU's, so these are dropped. Both go through the reverse map.
 * A fault's address is QEMU's own, and needs none.
 *
 * Of IBS ops those that caches served are dropped: where they lie makes no difference.
 */
#ifndef VMTIER_PERF_RESOLVE_H
#define VMTIER_PERF_RESOLVE_H

#include "host/perf/event.h"
#include "host/rmap.h"
#include "host/vm.h"

struct resolver {
    enum event_space space;
    bool erratum;               /* ibs_has_erratum_1293() of this CPU */
    struct rmap *map;           /* not for EVENT_VIRTUAL */
    guint64 seen, placed;       /* samples; those that have a granule; and the others: */
    guint64 cached;             /* an op that caches served, or that accesses nothing */
    guint64 guest;              /* an address of the guest's */
    guint64 nowhere;            /* no address, or none of the VM's RAM */
    guint64 bad;                /* a raw part that is not an op's */
};

bool resolve(struct resolver *r, const struct vm *vm, const struct perf_sample *sample, guint32 *granule);

#endif
