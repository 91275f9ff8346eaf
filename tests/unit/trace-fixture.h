// SPDX-License-Identifier: GPL-2.0-or-later
/* Recordings for tests: made byte by byte, so that they can be wrong in one thing. */
#ifndef VMTIER_TESTS_TRACE_FIXTURE_H
#define VMTIER_TESTS_TRACE_FIXTURE_H

#include "host/trace-read.h"
#include "host/trace-write.h"

#define FIXTURE_GRANULE (2u << 20)

/* A good header: source 0 "sample" (x 64), 1 "refault", 2 "dirty". */
struct trace_header fixture_header(void);
struct trace_layout fixture_layout(guint32 granules);

/* For trace_writer_new(): appends to the GByteArray `opaque`. */
int fixture_put(gpointer opaque, const void *bytes, gsize length, struct vt_err *err);

/* The header as it stands in a file, its checksum put right; a chunk around a payload, likewise. */
void fixture_add_header(GByteArray *to, struct trace_header header);
void fixture_add_chunk(GByteArray *to, guint32 number, enum trace_type type, const void *raw, guint32 n);

/* A layout record of one block "ram" with so many granules (below 128). */
void fixture_add_layout(GByteArray *payload, guint8 granules);

/* Reads it all. 0, or the error; counts items of each kind in n[TRACE_GAP + 1] if that is not NULL. */
int fixture_read(const GByteArray *file, guint n[], struct trace_item *end, struct vt_err *err);

#endif
