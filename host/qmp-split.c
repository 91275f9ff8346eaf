// SPDX-License-Identifier: GPL-2.0-or-later
/* Cuts a stream of bytes into the texts of top-level JSON values: see qmp-split.h. */
#include "host/qmp-split.h"

#include <string.h>

void qmp_split_init(struct qmp_split *split, gsize limit)
{
    *split = (struct qmp_split) { .bytes = g_byte_array_new(), .limit = limit };
}

void qmp_split_clear(struct qmp_split *split)
{
    g_clear_pointer(&split->bytes, g_byte_array_unref);
}

void qmp_split_feed(struct qmp_split *split, const void *data, gsize length)
{
    g_byte_array_append(split->bytes, data, length);
}

void qmp_split_end(struct qmp_split *split)
{
    split->ended = true;
}

static bool is_space(guint8 byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* The next text starts at `at`. */
static void restart(struct qmp_split *split, gsize at)
{
    split->start = split->scan = at;
    split->depth = 0;
    split->in_string = split->escaped = false;
}

/* Drops what was consumed, so that the buffer stays as small as the piece in hand. */
static void compact(struct qmp_split *split)
{
    g_byte_array_remove_range(split->bytes, 0, split->start);
    split->scan -= split->start;
    split->start = 0;
}

static void skip_spaces(struct qmp_split *split)
{
    gsize at = split->start;

    while (at < split->bytes->len && is_space(split->bytes->data[at])) {
        at++;
    }
    restart(split, at);
}

/* Drops bytes up to a newline; false when it has not come yet. */
static bool skip_line(struct qmp_split *split)
{
    const guint8 *from = split->bytes->data + split->start;
    gsize left = split->bytes->len - split->start;
    const guint8 *newline = left ? memchr(from, '\n', left) : NULL;

    restart(split, newline ? (gsize)(newline - split->bytes->data) : split->bytes->len);
    split->skipping = !newline;
    return newline;
}

static void step_in_string(struct qmp_split *split, guint8 byte)
{
    if (split->escaped) {
        split->escaped = false;
    } else if (byte == '\\') {
        split->escaped = true;
    } else if (byte == '"') {
        split->in_string = false;
    }
}

/* Takes one byte of a value; true when a bracket closed the whole of it. */
static bool step(struct qmp_split *split, guint8 byte)
{
    if (split->in_string) {
        step_in_string(split, byte);
    } else if (byte == '"') {
        split->in_string = true;
    } else if (byte == '{' || byte == '[') {
        split->depth++;
    } else if ((byte == '}' || byte == ']') && split->depth > 0) {
        return --split->depth == 0;
    }
    return false;
}

/* Scans on; true when [start, scan) is a whole text. A stray scalar only ends with its line. */
static bool scan(struct qmp_split *split)
{
    while (split->scan < split->bytes->len && split->scan - split->start <= split->limit) {
        guint8 byte = split->bytes->data[split->scan];

        if (byte == '\n') {
            return true;
        }
        split->scan++;
        if (step(split, byte)) {
            return true;
        }
    }
    return split->ended && split->scan == split->bytes->len && split->scan > split->start;
}

static enum qmp_split_result take(struct qmp_split *split, const char **text, gsize *length)
{
    *text = (const char *)split->bytes->data + split->start;
    *length = split->scan - split->start;
    restart(split, split->scan);
    return QMP_SPLIT_TEXT;
}

enum qmp_split_result qmp_split_next(struct qmp_split *split, const char **text, gsize *length)
{
    bool whole;

    compact(split);
    if (split->skipping && !skip_line(split)) {
        return QMP_SPLIT_MORE;
    }
    if (split->scan == split->start) {
        skip_spaces(split);
    }
    whole = scan(split);
    if (split->scan - split->start > split->limit) {
        split->skipping = true;
        restart(split, split->scan);
        return QMP_SPLIT_TOO_LONG;
    }
    return whole ? take(split, text, length) : QMP_SPLIT_MORE;
}
