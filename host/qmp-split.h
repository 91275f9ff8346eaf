// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cuts a stream of bytes into the texts of top-level JSON values.
 *
 * A value that starts with { or [ ends at its matching bracket, newline or not, so that clients which
 * send no newline are served too. Everything ends at a newline at the latest: a request is one line,
 * and after garbage the next line starts afresh. What comes out is not checked (qmp-json.h does that);
 * the only promise is that text is never empty, holds no newline and is no longer than the limit.
 *
 * Invariant: start <= scan <= bytes->len; [start, scan) is the piece of a value seen so far.
 */
#ifndef VMTIER_QMP_SPLIT_H
#define VMTIER_QMP_SPLIT_H

#include <glib.h>
#include <stdbool.h>

struct qmp_split {
    GByteArray *bytes;
    gsize limit;                /* longest text handed out */
    gsize start, scan;
    unsigned depth;             /* open brackets; not which kind */
    bool in_string, escaped;
    bool skipping;              /* a text was too long: drop bytes until a newline */
    bool ended;                 /* no more bytes will come */
};

enum qmp_split_result {
    QMP_SPLIT_MORE,             /* nothing complete: feed more */
    QMP_SPLIT_TEXT,             /* *text and *length are set, valid until the next call */
    QMP_SPLIT_TOO_LONG,         /* said once for each text above the limit, which is dropped */
};

void qmp_split_init(struct qmp_split *split, gsize limit);
void qmp_split_clear(struct qmp_split *split);
void qmp_split_feed(struct qmp_split *split, const void *data, gsize length);

/* The stream has ended: what is left counts as a line. */
void qmp_split_end(struct qmp_split *split);

enum qmp_split_result qmp_split_next(struct qmp_split *split, const char **text, gsize *length);

#endif
