// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reader of the ring that the kernel writes a perf event's records to.
 *
 * The kernel moves `data_head` on after a record is complete, we move `data_tail` on when we have done with
 * it; both only ever grow, and what they are modulo the size is the place. A record may go on at the
 * ring's beginning, and is then put together in `whole`.
 *
 * Nothing in the ring is believed before it fits. After a record whose size cannot be, there is no way to
 * find the next one: all up to the head is dropped, and counted.
 */
#ifndef VMTIER_PERF_RING_H
#define VMTIER_PERF_RING_H

#include "host/perf/record.h"

struct ring {
    struct perf_event_mmap_page *page;
    const guint8 *data;
    guint64 size;               /* a power of two */
    guint8 *whole;              /* room for the longest record; the caller's */
};

#define RING_RECORD_MOST (G_MAXUINT16 + 1u)

/* The ring of an event, `pages` large, a power of two. False: errno tells. */
bool ring_map(struct ring *ring, int fd, guint pages);
void ring_unmap(struct ring *ring);     /* one that is not mapped is left as it is */

typedef void (*ring_take)(const struct perf_sample *sample, gpointer opaque);

/*
 * Takes what is there, `most` records at most; what `take` is given is gone when it returns. Returns how
 * many records there were.
 */
guint64 ring_read(struct ring *ring, const struct perf_layout *layout, guint64 most, ring_take take,
                  gpointer opaque, struct perf_counts *counts);

#endif
