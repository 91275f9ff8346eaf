// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * DAMON's regions as its kernel thread tells them at the end of each interval, by the tracepoint
 * damon:damon_aggregated (Linux 5.15): every interval, without waiting for its end, and in one ring. sysfs has a file
 * per number, and is slow enough for intervals to be missed.
 */
#ifndef VMTIER_SOURCE_DAMON_TRACE_H
#define VMTIER_SOURCE_DAMON_TRACE_H

#include "host/source/damon-sysfs.h"

struct damon_trace;

/* Listens to a kernel thread that monitors one process, in `regions` regions at most. NULL with *err. */
struct damon_trace *damon_trace_new(guint32 thread, guint32 regions, struct vt_err *err);
void damon_trace_free(struct damon_trace *trace);

/* Tells the regions of the intervals that have ended since the last time. */
void damon_trace_read(struct damon_trace *trace, damon_fn fn, gpointer opaque);

/* --- for tests ---------------------------------------------------------------------------------------- */

struct damon_fields {
    struct damon_field {
        guint32 offset, size;   /* bytes */
    } start, end, accesses;
};

/* From the text of a tracepoint's file `format`; false: it does not have them all. */
bool damon_fields_parse(const char *format, struct damon_fields *fields);
/* Tells the region in a sample's raw part, if there is one. */
void damon_fields_take(const struct damon_fields *fields, const guint8 *raw, gsize size, damon_fn fn, gpointer opaque);

#endif
