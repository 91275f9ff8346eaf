// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sources: where observations come from. A source hands what it saw to heat and counts it; it knows
 * nothing of placement. A new source is a new file, and a row in source.c.
 *
 * Some run in QEMU and answer HARVEST over the link (qemu.c); they can or cannot run, as HELLO says. The
 * others run in the daemon, each with its own state in vm->source_state[id]. They are started when the VM's
 * configuration names them and they are available, and asked in each round. One that fails is stopped, by
 * itself, with the reason shown, and tried again later; neither the VM nor its other sources notice.
 *
 * Everything here runs on the VM's worker, except where it says otherwise.
 */
#ifndef VMTIER_SOURCE_H
#define VMTIER_SOURCE_H

#include "host/source/id.h"
#include "host/vm.h"

struct source {
    const char *name, *summary; /* the name is in id.c as well */
    const char *unit;           /* what one event is */
    const char *enable;         /* what would make it available where it is not */
    enum source_id id;
    enum heat_kind kind;        /* the evidence it gives */

    /* Bytes that one event cannot be told apart in; NULL: a page of 4 KiB. */
    guint64 (*resolution)(const struct vm *vm);

    /* --- in the daemon --- */

    /* Can it run for this VM? Else `reason` [VT_TEXT] says why not. Asked every few seconds. */
    bool (*available)(const struct vm *vm, char *reason);
    /* NULL: nothing to start. 0, or a negative errno. */
    int (*start)(struct vm *vm, struct vt_err *err);
    /* Frees what start() made. Also called when the VM goes away. May run in the main thread then. */
    void (*stop)(struct vm *vm);
    /*
     * Takes what there is, within budget_us of CPU time, and hands it to source_observe(). Its own time is
     * counted by whoever calls it; what others spend for it, it counts itself. 0, or a negative errno.
     */
    int (*harvest)(struct vm *vm, guint32 budget_us, struct vt_err *err);
    /* Blocks, slots, or where granules are have changed; NULL: does not matter. */
    void (*layout_changed)(struct vm *vm);

    /* --- in QEMU --- */

    /* One checked observation; NULL: goes to source_observe() as it is. */
    void (*absorb)(struct vm *vm, const struct vt_obs *obs);

    /* Does placement follow it, in this VM, now? NULL: it does while it runs. */
    bool (*drives)(const struct vm *vm);
};

/* By id; NULL where there is none. */
extern const struct source *const sources[SRC_END];

extern const struct source source_refault, source_dirty, source_sample, source_ibs,
    source_idle, source_damon, source_report, source_agent;

/* Counted since the VM was attached: what was seen, our CPU time, and an estimate of what the guest lost. */
void source_count(struct vm *vm, enum source_id id, guint64 events, guint64 cpu_ns, guint64 vcpu_ns);
/* Something was seen that says nothing of this VM's tiered RAM, or no longer. */
void source_miss(struct vm *vm, enum source_id id, guint64 n);

/*
 * An observation on its way to heat; one of a granule that is not there is dropped. `events` in the unit of
 * the source's kind of evidence (heat.h): for samples and hints, in accesses.
 */
void source_observe(struct vm *vm, enum source_id id, guint32 granule, double events,
                    double exposure_s);

/* A new VM: what HELLO said of QEMU's sources. Main thread. */
void sources_init(struct vm *vm);

/* Starts and stops sources so that those run that should. 0, or a negative errno: the link is lost. */
int sources_switch(struct vm *vm, struct vt_err *err);

/* Lets all that run report. `dt`: seconds since the last time. 0, or a negative errno: the link is lost. */
int sources_harvest(struct vm *vm, double dt, struct vt_err *err);

/* Stops those in the daemon; the VM goes away. */
void sources_close(struct vm *vm);

/* Is a source of samples among those that placement follows? */
bool sources_sampling(const struct vm *vm);
/* The kinds of evidence that are being gathered: a mask of 1 << enum heat_kind. */
guint32 sources_watching(const struct vm *vm);

/* --- qemu.c --- */

/* Tells QEMU which of its sources are to run. */
int source_qemu_switch(struct vm *vm, guint32 run, struct vt_err *err);
/* Asks QEMU what its sources saw, and lets them absorb it. */
int source_qemu_harvest(struct vm *vm, struct vt_err *err);

#endif
