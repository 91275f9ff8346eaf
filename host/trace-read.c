// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads recordings: see trace-read.h and trace.h.
 *
 * One chunk is in memory at a time, as stored and unpacked; both buffers grow to what the largest chunk
 * so far needed, at most TRACE_CHUNK_MOST. What the records in it hold is trace-parse.c's business.
 */
#include "host/trace-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- bytes ---------------------------------------------------------------------------------------- */

/* As many as there are, up to n. */
static gsize get(struct trace *t, void *to, gsize n)
{
    if (t->file) {
        n = fread(to, 1, n, t->file);
    } else {
        n = MIN(n, t->length - t->at);
        if (n)
            memcpy(to, t->bytes + t->at, n);
    }
    t->at += n;
    return n;
}

static bool failed(const struct trace *t)
{
    return t->file && ferror(t->file);
}

static int bad(struct trace *t, guint64 at, struct vt_err *err, const char *what)
{
    return vt_fail(err, EBADMSG, "%s: offset %" G_GUINT64_FORMAT ": %s", t->name, at, what);
}

/* --- header ----------------------------------------------------------------------------------------- */

static bool has_end(const char *text, gsize size)
{
    return memchr(text, '\0', size);
}

static bool sources_are_good(const struct trace_header *h)
{
    for (int i = 0; i < TRACE_SOURCES; i++) {
        const struct trace_source *s = &h->source[i];

        if (!has_end(s->name, sizeof(s->name)) || s->kind >= TRACE_KIND_END ||
            (s->name[0] && !s->scale))
            return false;
    }
    return true;
}

static const char *fault_in_header(const struct trace_header *h)
{
    struct trace_header copy = *h;

    copy.crc = 0;
    if (crc32(0, (const Bytef *)&copy, sizeof(copy)) != h->crc)
        return "the header's checksum is wrong";
    if (h->granule < VT_GRANULE_MIN || h->granule > VT_GRANULE_MAX || h->granule & (h->granule - 1))
        return "the header has a granule that is none";
    if (!has_end(h->vm, sizeof(h->vm)) || !has_end(h->qemu, sizeof(h->qemu)))
        return "the header has a name without an end";
    return sources_are_good(h) ? NULL : "the header has a source that is none";
}

static int read_header(struct trace *t, struct vt_err *err)
{
    const gsize got = get(t, &t->header, sizeof(t->header));
    const char *fault;

    if (failed(t))
        return vt_fail(err, errno, "%s: read: %s", t->name, g_strerror(errno));
    if (got < sizeof(t->header.magic) || memcmp(t->header.magic, TRACE_MAGIC, 8))
        return bad(t, 0, err, "this is no recording of vmtier's");
    if (got >= 12 && t->header.version != TRACE_VERSION)
        return vt_fail(err, EPROTONOSUPPORT, "%s: offset 8: a recording of version %u; this vmtier "
                       "reads version %u", t->name, t->header.version, TRACE_VERSION);
    if (got < sizeof(t->header))
        return bad(t, got, err, "the header is cut short");
    if (t->header.size != sizeof(t->header))
        return bad(t, 10, err, "the header has another size");
    fault = fault_in_header(&t->header);
    return fault ? bad(t, 0, err, fault) : 0;
}

/* --- chunks ----------------------------------------------------------------------------------------- */

static const char *fault_in_chunk(const struct trace *t, const struct trace_chunk *c)
{
    if (c->magic != TRACE_CHUNK_MAGIC)
        return "there is no chunk";
    if (c->type != TRACE_RECORDS && c->type != TRACE_FOOTER)
        return "a chunk of an unknown type";
    if (c->method >= TRACE_METHOD_END)
        return "a chunk stored in an unknown way";
    if (c->number != t->chunks)
        return "a chunk is missing, or is there twice";
    if (!c->length || c->length > TRACE_CHUNK_MOST || !c->raw || c->raw > TRACE_CHUNK_MOST)
        return "a chunk is empty or too long";
    if (c->method == TRACE_STORED && c->length != c->raw)
        return "a chunk has two lengths";
    return c->type == TRACE_FOOTER && c->raw != sizeof(struct trace_footer) ? "the footer has another size"
                                                                          : NULL;
}

static void make_room(struct trace_buffer *b, gsize n)
{
    if (b->room < n) {
        g_free(b->data);
        b->data = g_malloc(n);
        b->room = n;
    }
    b->length = n;
}

static bool unpack(struct trace *t)
{
    z_stream *z = &t->inflate;

    if (!t->inflating && inflateInit(z) != Z_OK)
        g_error("inflateInit: %s", z->msg ? z->msg : "no memory");
    if (t->inflating)
        inflateReset(z);
    t->inflating = true;
    z->next_in = t->stored.data;
    z->avail_in = (uInt)t->stored.length;
    z->next_out = t->payload.data;
    z->avail_out = (uInt)t->payload.length;
    return inflate(z, Z_FINISH) == Z_STREAM_END && !z->avail_in && !z->avail_out;
}

static guint32 crc_of(const struct trace_chunk *c, const guint8 *data)
{
    struct trace_chunk copy = *c;

    copy.crc = 0;
    return (guint32)crc32(crc32(0, (const Bytef *)&copy, sizeof(copy)), data, c->length);
}

/* 1: there is one, in t->payload; 0: the file ends before it does. */
static int read_chunk(struct trace *t, struct trace_chunk *c, struct vt_err *err)
{
    const guint64 at = t->at;
    const char *fault;
    gsize got = get(t, c, sizeof(*c));

    t->chunk_at = at;
    if (failed(t))
        return vt_fail(err, errno, "%s: read: %s", t->name, g_strerror(errno));
    if (got < sizeof(*c))
        return 0;
    fault = fault_in_chunk(t, c);
    if (fault)
        return bad(t, at, err, fault);
    make_room(&t->stored, c->length);
    got = get(t, t->stored.data, c->length);
    if (failed(t))
        return vt_fail(err, errno, "%s: read: %s", t->name, g_strerror(errno));
    if (got < c->length)
        return 0;
    if (crc_of(c, t->stored.data) != c->crc)
        return bad(t, at, err, "the checksum of a chunk is wrong");
    make_room(&t->payload, c->raw);
    if (c->method == TRACE_STORED)
        memcpy(t->payload.data, t->stored.data, c->raw);
    else if (!unpack(t))
        return bad(t, at, err, "a chunk cannot be unpacked");
    t->chunks++;
    return 1;
}

static int check_footer(struct trace *t, struct vt_err *err)
{
    struct trace_footer *has = &t->totals, says;
    char more;

    memcpy(&says, t->payload.data, sizeof(says));
    has->reason = says.reason;
    has->pad = says.pad;
    if (says.reason >= TRACE_REASON_END)
        return bad(t, t->chunk_at, err, "the footer has an unknown reason");
    if (memcmp(&says, has, sizeof(says)))
        return bad(t, t->chunk_at, err, "the footer's totals are not what the file holds");
    if (get(t, &more, 1))
        return bad(t, t->at - 1, err, "there is more behind the end");
    return 0;
}

/* Puts the next records into the payload, or finds the end. */
static int next_chunk(struct trace *t, struct vt_err *err)
{
    struct trace_chunk c;
    int rc = read_chunk(t, &c, err);

    if (rc < 0)
        return rc;
    if (!rc) {
        t->ended = t->cut = true;
    } else if (c.type == TRACE_FOOTER) {
        t->ended = true;
        return check_footer(t, err);
    } else {
        t->left = t->payload;
        t->record_at = t->left.data;
    }
    return 0;
}

/* --- the reader ------------------------------------------------------------------------------------- */

int trace_next(struct trace *t, struct trace_item *item, struct vt_err *err)
{
    const char *fault = NULL;
    int rc;

    while (!t->left.length && !t->ended && !t->broken) {
        rc = next_chunk(t, err);
        if (rc) {
            t->broken = true;
            return rc;
        }
    }
    if (t->broken)
        return vt_fail(err, EBADMSG, "%s: it is broken", t->name);
    if (!t->left.length) {
        item->what = TRACE_END;
        item->end.cut = t->cut;
        item->end.totals = t->totals;
        return TRACE_END;
    }
    t->record_at = t->left.data;
    fault = trace_parse(t, item);
    if (!fault)
        return (int)item->what;
    t->broken = true;
    return vt_fail(err, EBADMSG, "%s: offset %" G_GUINT64_FORMAT ": in the chunk there, at %td: %s",
                   t->name, t->chunk_at, t->record_at - t->payload.data, fault);
}

static struct trace *start(struct trace *t, struct vt_err *err)
{
    if (read_header(t, err)) {
        trace_close(t);
        return NULL;
    }
    return t;
}

struct trace *trace_open(const char *path, struct vt_err *err)
{
    struct trace *t = g_new0(struct trace, 1);

    t->name = g_strdup(path);
    t->file = fopen(path, "rbe");
    if (t->file)
        return start(t, err);
    vt_fail(err, errno, "%s: %s", path, g_strerror(errno));
    trace_close(t);
    return NULL;
}

struct trace *trace_open_bytes(const void *bytes, gsize length, const char *name, struct vt_err *err)
{
    struct trace *t = g_new0(struct trace, 1);

    t->name = g_strdup(name);
    t->bytes = bytes;
    t->length = length;
    return start(t, err);
}

void trace_close(struct trace *t)
{
    if (!t)
        return;
    if (t->file)
        fclose(t->file);
    if (t->inflating)
        inflateEnd(&t->inflate);
    g_free(t->stored.data);
    g_free(t->payload.data);
    g_free(t->obs);
    g_free(t->name);
    g_free(t);
}

const struct trace_header *trace_header(const struct trace *t)
{
    return &t->header;
}

guint32 trace_sources(const struct trace *t, enum trace_kind kind)
{
    guint32 mask = 0;

    for (guint32 i = 0; i < TRACE_SOURCES; i++)
        if (t->header.source[i].name[0] && t->header.source[i].kind == kind)
            mask |= 1u << i;
    return mask;
}

int trace_source_named(const struct trace *t, const char *name)
{
    for (int i = 0; i < TRACE_SOURCES; i++)
        if (!strcmp(t->header.source[i].name, name) && name[0])
            return i;
    return -1;
}
