// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writes recordings (trace.h): what happens, in the order in which it does; bytes come out by `put`.
 *
 * After an error (put's) nothing more is written and every function returns that error again.
 */
#ifndef VMTIER_TRACE_WRITE_H
#define VMTIER_TRACE_WRITE_H

#include "common/err.h"
#include "host/trace-read.h"

/* Takes all of the bytes: 0, or a negative errno with *err. */
typedef int (*trace_put)(gpointer opaque, const void *bytes, gsize length, struct vt_err *err);

struct trace_writer;

/* What a header says but for magic, version, size and crc. Nothing is written before the layout. */
struct trace_writer *trace_writer_new(const struct trace_header *header, trace_put put, gpointer opaque);
void trace_writer_free(struct trace_writer *writer);
typedef struct trace_writer TraceWriter;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TraceWriter, trace_writer_free)

/* 0, or a negative errno with *err (which may be NULL). */
int trace_write_layout(struct trace_writer *writer, const struct trace_layout *layout, struct vt_err *err);
int trace_write_round(struct trace_writer *writer, guint64 us, guint32 sources, struct vt_err *err);
int trace_write_gap(struct trace_writer *writer, guint64 rounds, guint64 observations, guint64 us,
                    struct vt_err *err);

/* Observations of the round written last. `events` are unscaled; sorts the array. */
int trace_write_obs(struct trace_writer *writer, guint8 source, guint8 tier, struct trace_obs *obs,
                    gsize n, struct vt_err *err);

/* What there is so far goes out as a chunk. */
int trace_write_flush(struct trace_writer *writer, struct vt_err *err);

/* The footer. */
int trace_write_end(struct trace_writer *writer, enum trace_reason reason, struct vt_err *err);

/* So far: totals, and bytes that went out. */
const struct trace_footer *trace_writer_totals(const struct trace_writer *writer);
guint64 trace_writer_bytes(const struct trace_writer *writer);

#endif
