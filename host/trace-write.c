// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writes recordings: see trace-write.h and trace.h.
 *
 * Records gather in `raw`; it goes out as a chunk when it is long enough, or when it spans FLUSH_US, so
 * that a killed writer loses seconds.
 */
#include "host/trace-write.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define CHUNK_FULL  (64u << 10)     /* bytes of records from which a chunk goes out */
#define FLUSH_US    5000000u
#define OBS_PART    2048            /* in a record: what it takes at most fits a chunk beside others */

struct trace_writer {
    trace_put put;
    gpointer opaque;
    struct trace_header header;
    GByteArray *raw;
    guint8 *packed;
    guint32 chunks;
    bool begun;                     /* the header is out */
    guint64 bytes, chunk_us;
    struct trace_footer totals;
    struct vt_err failure;          /* code 0: none */
};

static_assert(OBS_PART <= TRACE_OBS_MOST && OBS_PART * 27u + CHUNK_FULL < TRACE_CHUNK_MOST,
              "the longest record fits into a chunk that was not full");

struct trace_writer *trace_writer_new(const struct trace_header *header, trace_put put, gpointer opaque)
{
    struct trace_writer *w = g_new0(struct trace_writer, 1);

    w->put = put;
    w->opaque = opaque;
    w->header = *header;
    memcpy(w->header.magic, TRACE_MAGIC, sizeof(w->header.magic));
    w->header.version = TRACE_VERSION;
    w->header.size = sizeof(w->header);
    w->header.crc = 0;
    w->header.crc = (guint32)crc32(0, (const Bytef *)&w->header, sizeof(w->header));
    w->raw = g_byte_array_new();
    w->packed = g_malloc(compressBound(TRACE_CHUNK_MOST));
    return w;
}

void trace_writer_free(struct trace_writer *w)
{
    if (!w)
        return;
    g_byte_array_unref(w->raw);
    g_free(w->packed);
    g_free(w);
}

/* --- chunks ----------------------------------------------------------------------------------------- */

static int result(const struct trace_writer *w, struct vt_err *err)
{
    return w->failure.code ? vt_fail(err, w->failure.code, "%s", w->failure.text) : 0;
}

static int put(struct trace_writer *w, const void *bytes, gsize n, struct vt_err *err)
{
    if (!w->failure.code && w->put(w->opaque, bytes, n, &w->failure) && !w->failure.code)
        w->failure.code = EIO;
    if (!w->failure.code)
        w->bytes += n;
    return result(w, err);
}

static int put_chunk(struct trace_writer *w, enum trace_type type, const void *raw, gsize n,
                     struct vt_err *err)
{
    uLongf packed = compressBound(TRACE_CHUNK_MOST);
    struct trace_chunk c = {
        .magic = TRACE_CHUNK_MAGIC, .type = (guint16)type, .number = w->chunks++, .raw = (guint32)n,
    };
    const bool packs = compress2(w->packed, &packed, raw, n, Z_DEFAULT_COMPRESSION) == Z_OK &&
                       packed < n;
    const void *stored = packs ? w->packed : raw;
    int rc;

    c.method = packs ? TRACE_DEFLATED : TRACE_STORED;
    c.length = packs ? (guint32)packed : (guint32)n;
    c.crc = (guint32)crc32(crc32(0, (const Bytef *)&c, sizeof(c)), stored, c.length);
    rc = put(w, &c, sizeof(c), err);
    return rc ? rc : put(w, stored, c.length, err);
}

int trace_write_flush(struct trace_writer *w, struct vt_err *err)
{
    int rc = 0;

    if (!w->begun)
        rc = put(w, &w->header, sizeof(w->header), err);
    w->begun = true;
    if (!rc && w->raw->len)
        rc = put_chunk(w, TRACE_RECORDS, w->raw->data, w->raw->len, err);
    g_byte_array_set_size(w->raw, 0);
    w->chunk_us = 0;
    return rc ? rc : result(w, err);
}

static int flush_if_full(struct trace_writer *w, struct vt_err *err)
{
    if (w->raw->len >= CHUNK_FULL || w->chunk_us >= FLUSH_US || !w->begun)
        return trace_write_flush(w, err);
    return result(w, err);
}

int trace_write_end(struct trace_writer *w, enum trace_reason reason, struct vt_err *err)
{
    int rc = trace_write_flush(w, err);

    w->totals.reason = reason;
    return rc ? rc : put_chunk(w, TRACE_FOOTER, &w->totals, sizeof(w->totals), err);
}

/* --- records ---------------------------------------------------------------------------------------- */

static void add_byte(struct trace_writer *w, guint8 byte)
{
    g_byte_array_append(w->raw, &byte, 1);
}

static void add_varint(struct trace_writer *w, guint64 value)
{
    guint8 bytes[10];
    guint n = 0;

    do {
        bytes[n] = (guint8)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (bytes[n++] & 0x80);
    g_byte_array_append(w->raw, bytes, n);
}

/* Whole numbers are kept as they are (one that was a thousandth of itself on the way may be off by a
 * last bit), others to the nearest 1024th, or to the nearest whole one where they are large. */
static void add_number(struct trace_writer *w, double value)
{
    const double most = (double)(TRACE_NUMBER_MOST >> 1), fine = (double)(TRACE_NUMBER_MOST >> 12);
    double v = value > 0 ? MIN(value, most) : 0;

    if (fabs(v - round(v)) <= 1e-12 * v || v >= fine)
        add_varint(w, (guint64)llround(v) << 1);
    else
        add_varint(w, (guint64)llround(v * 1024) << 1 | 1);
}

int trace_write_layout(struct trace_writer *w, const struct trace_layout *l, struct vt_err *err)
{
    add_byte(w, TRACE_R_LAYOUT);
    add_varint(w, l->granules);
    add_varint(w, l->n_blocks);
    for (const struct trace_block *b = l->block; b < l->block + l->n_blocks; b++) {
        add_varint(w, b->first);
        add_varint(w, b->count);
        add_varint(w, b->length);
        add_varint(w, strlen(b->name));
        g_byte_array_append(w->raw, (const guint8 *)b->name, (guint)strlen(b->name));
    }
    add_varint(w, l->n_slots);
    for (const struct vt_slot *s = l->slot; s < l->slot + l->n_slots; s++) {
        add_varint(w, s->gpa);
        add_varint(w, s->length);
        add_varint(w, s->offset);
        add_varint(w, s->block);
    }
    return flush_if_full(w, err);
}

int trace_write_round(struct trace_writer *w, guint64 us, guint32 sources, struct vt_err *err)
{
    add_byte(w, TRACE_R_ROUND);
    add_varint(w, us);
    add_varint(w, sources);
    w->totals.rounds++;
    w->totals.duration_us += us;
    w->chunk_us += us;
    return flush_if_full(w, err);
}

int trace_write_gap(struct trace_writer *w, guint64 rounds, guint64 observations, guint64 us,
                    struct vt_err *err)
{
    add_byte(w, TRACE_R_GAP);
    add_varint(w, rounds);
    add_varint(w, observations);
    add_varint(w, us);
    w->totals.lost_rounds += rounds;
    w->totals.lost_observations += observations;
    w->totals.duration_us += us;
    return flush_if_full(w, err);
}

static int by_granule(const void *a, const void *b)
{
    const struct trace_obs *x = a, *y = b;

    return (x->granule > y->granule) - (x->granule < y->granule);
}

/* Exposures are doubles that were computed alike or not; those that differ by nothing are the same. */
static enum trace_exposure coding_of(const struct trace_obs *obs, gsize n)
{
    for (gsize i = 1; i < n; i++)
        if (fabs(obs[i].exposure_s - obs[0].exposure_s) > 0)
            return TRACE_EXPOSURE_EACH;
    return obs[0].exposure_s > 0 ? TRACE_EXPOSURE_SAME : TRACE_EXPOSURE_NONE;
}

static int write_part(struct trace_writer *w, guint8 source, guint8 tier, const struct trace_obs *obs,
                      gsize n, struct vt_err *err)
{
    const enum trace_exposure coding = coding_of(obs, n);
    guint32 last = 0;

    add_byte(w, TRACE_R_OBS);
    add_byte(w, source);
    add_byte(w, tier);
    add_byte(w, (guint8)coding);
    add_varint(w, n);
    if (coding == TRACE_EXPOSURE_SAME)
        add_number(w, obs[0].exposure_s * 1000);
    for (gsize i = 0; i < n; i++) {
        add_varint(w, obs[i].granule - last);
        add_number(w, obs[i].events);
        if (coding == TRACE_EXPOSURE_EACH)
            add_number(w, obs[i].exposure_s * 1000);
        last = obs[i].granule;
    }
    w->totals.observations += n;
    return flush_if_full(w, err);
}

int trace_write_obs(struct trace_writer *w, guint8 source, guint8 tier, struct trace_obs *obs, gsize n,
                    struct vt_err *err)
{
    int rc = 0;

    qsort(obs, n, sizeof(obs[0]), by_granule);
    for (gsize at = 0; at < n && !rc; at += OBS_PART)
        rc = write_part(w, source, tier, obs + at, MIN(n - at, OBS_PART), err);
    return rc;
}

const struct trace_footer *trace_writer_totals(const struct trace_writer *w)
{
    return &w->totals;
}

guint64 trace_writer_bytes(const struct trace_writer *w)
{
    return w->bytes;
}
