// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM's own dirty log, read past QEMU and without its big lock, and shared with QEMU.
 *
 * Any thread, any lock but none that an ioctl() of QEMU's could wait for while it is held.
 */
#ifndef VMTIER_KVMLOG_H
#define VMTIER_KVMLOG_H

#include "common/err.h"
#include "vmtier/wire.h"

#include <stdbool.h>
#include <stdint.h>

/* A stretch of QEMU's memory that is to be logged. */
struct kvmlog_area {
    uint8_t *host;
    uint64_t length;
    uint32_t tag;               /* the caller's: what goes back to kvmlog_fn */
};

/* A 4 KiB page, by its offset in the area, that the guest has written. */
typedef void (*kvmlog_fn)(uint32_t tag, uint64_t offset, void *opaque);

/* Hooks QEMU's ioctl(). Before the VM has memory. */
int kvmlog_init(struct vt_err *err);

/* Whether there is a VM of KVM's here whose log can be read. If not, `why` says what is missing. */
bool kvmlog_usable(char why[VT_NAME]);

/*
 * What QEMU itself clears from the log of logged memory, because it migrates, is reported here: in the
 * thread that clears it, under the lock of this file. Set it before the first kvmlog_step().
 */
void kvmlog_on_cleared(void (*fn)(uint32_t tag, uint64_t offset));

#define KVMLOG_CHUNK 8192           /* pages per step: 32 MiB */

enum kvmlog_did {
    KVMLOG_SOMETHING,           /* switched a log on, or looked at a chunk of one */
    KVMLOG_ARMED,               /* protected KVMLOG_CHUNK pages of a log that is new */
    KVMLOG_PASS,                /* ... and that was the last: all areas have been looked at */
    KVMLOG_NOTHING,             /* there is nothing to look at: no memory, or QEMU logs all of it */
};

/*
 * One step of a pass over all areas, of bounded length. Reports what was written in the chunk since
 * the last time, and protects it anew. Logs that nobody wants any more are switched off. An error
 * means that the log cannot be used here.
 */
int kvmlog_step(const struct kvmlog_area *areas, unsigned n, kvmlog_fn fn, void *opaque);

/* The same for one range of an area at once, however long it takes. For tests and x-vmtier-query. */
int kvmlog_take(const struct kvmlog_area *area, uint64_t offset, uint64_t length, kvmlog_fn fn,
                void *opaque);

/* Switches off all logs that kvmlog_step() has switched on. */
void kvmlog_stop(void);

struct kvmlog_stats {
    uint64_t slots, logged;     /* memslots there are; those whose log is on because of us */
    uint64_t shared;            /* of these, where QEMU logs as well and we only look on */
    uint64_t passes, reads, clears;
    uint64_t hold_max_ns;       /* longest hold of the lock for a step: what QEMU's calls may wait */
};
void kvmlog_get_stats(struct kvmlog_stats *out);

#endif
