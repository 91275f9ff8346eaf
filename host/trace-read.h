// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads recordings (trace.h). The file is somebody else's: everything is checked before it is used, and
 * memory is bounded by a chunk, whatever the file says.
 *
 *      struct trace *t = trace_open(path, &err);
 *      while ((rc = trace_next(t, &item, &err)) > TRACE_END)
 *          switch (item.what) ...
 *      trace_close(t);
 *
 * A round is an item TRACE_ROUND and the items TRACE_OBS up to the next one.
 */
#ifndef VMTIER_TRACE_READ_H
#define VMTIER_TRACE_READ_H

#include "common/err.h"
#include "host/trace.h"

#include <glib.h>
#include <stdbool.h>

struct trace;

enum trace_what { TRACE_END, TRACE_LAYOUT, TRACE_ROUND, TRACE_OBS, TRACE_GAP };

struct trace_block {
    guint32 first, count;       /* granules */
    guint64 length;             /* bytes */
    char name[VT_NAME];
};

struct trace_layout {
    guint32 granules;           /* all numbers are below */
    guint32 n_blocks, n_slots, pad;
    struct trace_block block[VT_BLOCKS];
    struct vt_slot slot[TRACE_SLOTS_MOST];      /* `block` is an index into `block` */
};

struct trace_obs {
    guint32 granule;            /* of a block of the layout */
    double events;              /* scaled: accesses, or pages */
    double exposure_s;
};

struct trace_item {
    enum trace_what what;
    union {
        const struct trace_layout *layout;
        struct {
            double dt;          /* seconds */
            guint32 sources;    /* mask of header's sources that ran */
        } round;
        struct {
            guint32 source;     /* which of the header's */
            enum trace_kind kind;
            guint8 tier;
            guint32 n;
            const struct trace_obs *obs;    /* until the next call */
        } obs;
        struct {
            guint64 rounds, observations;
            double seconds;
        } gap;
        struct {
            bool cut;           /* there is no footer: the writer was killed */
            struct trace_footer totals;     /* counted; of a cut one as far as it goes */
        } end;
    };
};

/* NULL: it cannot be read, or is no recording, with the reason. */
struct trace *trace_open(const char *path, struct vt_err *err);

/* The same of bytes that stay where they are; `name` is for errors. */
struct trace *trace_open_bytes(const void *bytes, gsize length, const char *name, struct vt_err *err);
void trace_close(struct trace *trace);
typedef struct trace Trace;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Trace, trace_close)

const struct trace_header *trace_header(const struct trace *trace);

/* The next item: its enum trace_what (TRACE_END again and again), or a negative errno: a bad file. */
int trace_next(struct trace *trace, struct trace_item *item, struct vt_err *err);

/* Mask of the header's sources of a kind; the index of one by its name, or -1. */
guint32 trace_sources(const struct trace *trace, enum trace_kind kind);
int trace_source_named(const struct trace *trace, const char *name);

#endif
