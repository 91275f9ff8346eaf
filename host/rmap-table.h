// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table behind the reverse map (rmap.h): from page frame numbers to granules.
 *
 * A hash of frames, each 2 MiB of host memory of which any page is known. A frame has a sorted list of
 * disjoint runs of pages, which is one run, kept in place, where a huge page or a piece of one lies.
 * A run has a stamp; a granule is forgotten by giving it another stamp, so its runs need not be
 * found. They are dropped when their frame is written to, and all when they have become many.
 *
 * Memory: 24 bytes for each frame, in a table that is at least 3/8 full; where a frame has more than
 * one run, 8 bytes for each, in lists at least half full; 8 for each granule. So 0.13 bytes a page at most
 * where memory is in huge pages, and 16.13 at most where no two pages are neighbours.
 */
#ifndef VMTIER_RMAP_TABLE_H
#define VMTIER_RMAP_TABLE_H

#include <glib.h>
#include <stdbool.h>

struct rmap_table;

struct rmap_table *rmap_table_new(void);
void rmap_table_free(struct rmap_table *table);

/* Granules from 0 to below n may be put; never shrinks. */
void rmap_table_resize(struct rmap_table *table, guint32 n);

/* The pages [pfn, pfn + n) are this granule's now, whosever they were. */
void rmap_table_put(struct rmap_table *table, guint64 pfn, guint64 n, guint32 granule);

/* Drops all pages of a granule. */
void rmap_table_forget(struct rmap_table *table, guint32 granule);

bool rmap_table_find(const struct rmap_table *table, guint64 pfn, guint32 *granule);

/* Are all of these pages the granule's? */
bool rmap_table_holds(const struct rmap_table *table, guint64 pfn, guint64 n, guint32 granule);

/* Pages of one granule; of all; memory of the table. */
guint32 rmap_table_pages(const struct rmap_table *table, guint32 granule);
guint64 rmap_table_all_pages(const struct rmap_table *table);
guint64 rmap_table_bytes(const struct rmap_table *table);

#endif
