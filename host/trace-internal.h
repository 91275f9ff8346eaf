// SPDX-License-Identifier: GPL-2.0-or-later
/* What trace-read.c (files, chunks) and trace-parse.c (records) share. */
#ifndef VMTIER_TRACE_INTERNAL_H
#define VMTIER_TRACE_INTERNAL_H

#include "host/trace-read.h"

#include <stdio.h>
#include <zlib.h>

struct trace_buffer {
    guint8 *data;
    gsize length, room;
};

struct trace {
    char *name;
    FILE *file;                         /* or, without one, */
    const guint8 *bytes;
    gsize length;
    guint64 at;                         /* bytes read so far */

    struct trace_header header;
    struct trace_buffer stored, payload;
    z_stream inflate;
    bool inflating;                     /* `inflate` has been set up */
    guint32 chunks;
    guint64 chunk_at;                   /* where the last one began */
    bool ended, cut, broken;

    struct trace_buffer left;           /* of the payload; `room` means nothing */
    const guint8 *record_at;            /* in the payload: what is parsed, for errors */
    bool in_round;                      /* there has been one */
    struct trace_layout layout;
    struct trace_obs *obs;              /* [TRACE_OBS_MOST], once there is one */
    struct trace_footer totals;         /* counted */
};

/* Takes the record off the front of t->left. NULL, or what is wrong with it. */
const char *trace_parse(struct trace *trace, struct trace_item *item);

#endif
