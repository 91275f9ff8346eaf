// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * DAMON's sysfs interface, as far as one user of it needs: a kernel thread (kdamond) per process that is
 * monitored, each in a slot of its own.
 *
 * The interface has no owners. Slots are made by writing how many there shall be, which throws away all that
 * were there, so this writes only where there are none, or where those are its own: what it made is
 * recorded in a file, by the pids of the threads and of what they look at, and what a daemon that
 * died has left is known by that. Anything else is somebody else's, and is not touched.
 */
#ifndef VMTIER_SOURCE_DAMON_SYSFS_H
#define VMTIER_SOURCE_DAMON_SYSFS_H

#include "common/err.h"
#include "vmtier/wire.h"

#include <glib.h>
#include <stdbool.h>

#define DAMON_SYSFS "/sys/kernel/mm/damon/admin"

struct damon_range {
    guint64 start, end;
};

struct damon_target {
    guint32 pid, n;
    struct damon_range range[VT_BLOCKS];    /* ascending */
    guint64 piece;              /* bytes, of a region to begin with; larger ones are not made */
    guint32 regions_most;
};

struct damon_attrs {
    guint32 sample_us, aggr_us;
};

struct damon {
    const char *root;           /* DAMON_SYSFS */
    char *record;               /* path of the file */
    guint32 slots;              /* that are ours and run */
};

/* A region, and in how many of an interval's checks it was found used. */
typedef void (*damon_fn)(guint64 start, guint64 end, guint32 accesses, gpointer opaque);

/* May we? Reads only how many slots there are, and if there is a record, whether they are of it. */
bool damon_is_free(const struct damon *d, char *reason /* [VT_TEXT] */);

/*
 * From now on these are monitored, and what was before is not any more; n = 0 gives all back. 0, or a
 * negative errno: none is.
 */
int damon_apply(struct damon *d, const struct damon_target *targets, guint32 n,
                const struct damon_attrs *attrs, struct vt_err *err);

/* Tells the regions of a slot. Blocks until the kernel's interval ends. 0, -EAGAIN: not now, or another errno. */
int damon_read(const struct damon *d, guint32 slot, damon_fn fn, gpointer opaque, struct vt_err *err);

/* The kernel thread of a slot; 0: none. */
guint32 damon_thread(const struct damon *d, guint32 slot);

#endif
