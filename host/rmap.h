// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From a host-physical address to the granule whose memory lies there, for one QEMU process: what
 * hardware that samples accesses (IBS, a CXL hotness unit) tells is physical.
 *
 * Only /proc/PID/pagemap knows, and only the other way round, so it is read piece by piece within a
 * budget and turned round. Nobody says when the kernel gives a granule other pages, so:
 *
 *   - rmap_moved() forgets what was known of a granule that was moved, and reads it first;
 *   - all is read again when the kernel's counters say that pages have migrated somewhere (compaction,
 *     NUMA balancing, collapse to huge pages, swap), when addresses were not found, and every minute.
 *
 * A page that pagemap does not show is not gone for certain: the refault source zaps page tables all the
 * time. It is forgotten when two looks in a row did not see it, or when another granule has it.
 *
 * Memory: rmap-table.h.
 */
#ifndef VMTIER_RMAP_H
#define VMTIER_RMAP_H

#include "common/err.h"

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

struct rmap;

struct rmap_stats {
    guint64 pages, bytes;       /* 4 KiB pages known; memory of the map */
    guint64 found, missed;      /* by rmap_find() */
    guint64 read, sweeps;       /* granules read; times that all were */
    guint64 cpu_ns;
};

/* NULL with *err if this process' pagemap cannot be read, or hides where pages are. */
struct rmap *rmap_new(pid_t pid, guint64 granule, struct vt_err *err);
void rmap_free(struct rmap *map);

/* Granules [first, first + count) are at `hva` of the process, `length` bytes of pages of `page_size`
 * at least. */
struct rmap_area {
    guint64 hva, length;
    guint32 first, count, page_size;
};

/* All there is. What is known of areas that stay as they are is kept. */
void rmap_set_areas(struct rmap *map, const struct rmap_area *areas, guint n);

/* Seconds from a look at everything to the next: at least, though there is a reason; at most, though there is none. */
void rmap_set_pauses(struct rmap *map, double least_s, double most_s);

/* This granule has other pages now. */
void rmap_moved(struct rmap *map, guint32 granule);

/*
 * Reads what is due, for about `budget_us` of CPU time. 0 or a negative errno: the process has ended,
 * or does not let us look any more.
 */
int rmap_refresh(struct rmap *map, guint32 budget_us, struct vt_err *err);

/* Is there anything left that rmap_refresh() would read now? */
bool rmap_is_due(const struct rmap *map);

bool rmap_find(struct rmap *map, guint64 hpa, guint32 *granule);

void rmap_stats(const struct rmap *map, struct rmap_stats *stats);

#endif
