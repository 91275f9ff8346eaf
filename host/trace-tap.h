// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a VM's recording listens in: all that its sources saw in a round goes by here, on its way to heat.
 * On the VM's worker. Without a recording each call costs a look at a pointer.
 */
#ifndef VMTIER_TRACE_TAP_H
#define VMTIER_TRACE_TAP_H

#include "host/trace-record.h"
#include "host/vm.h"

/* A round's harvest begins, dt seconds after the last one. */
void tap_begin(struct vm *vm, double dt);
/* The harvest is complete. */
void tap_end(struct vm *vm);

/* `events` as heat takes them. Only between tap_begin() and tap_end(). */
static inline void tap_observe(struct vm *vm, unsigned source, guint8 tier, guint32 granule,
                               double events, double exposure_s)
{
    if (vm->tap)
        recorder_observe(vm->tap, (guint8)source, tier, granule, events, exposure_s);
}

/* What a recording of this VM begins with, in the main thread. */
struct trace_header tap_header(struct vm *vm);

/* The VM goes away: its recording ends. */
void tap_close(struct vm *vm);

#endif
