// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sources: where observations come from. A source hands what it saw to heat and counts it; it knows
 * nothing of placement. A new source is a new file and a row in source.c.
 */
#ifndef VMTIER_SOURCE_H
#define VMTIER_SOURCE_H

#include "host/vm.h"

struct source {
    const char *name;
    enum vt_source id;
    const char *enable;         /* what would make it available where it is not */
    /* Takes one checked observation. */
    void (*absorb)(struct vm *vm, const struct vt_obs *obs);
    /* Does placement follow it, in this VM, now? */
    bool (*drives)(const struct vm *vm);
};

extern const struct source source_refault, source_dirty, source_sample;
extern const struct source *const sources[VT_SRC_END];

/* Can it run in this VM? Else *reason says why not. */
bool source_available(const struct vm *vm, enum vt_source id, const char **reason);

/*
 * Asks QEMU for what its sources saw and lets them absorb it; `budget_us`: CPU time the refault scan
 * may take. 0 or a negative errno.
 */
int sources_harvest(struct vm *vm, guint32 budget_us, struct vt_err *err);

#endif
