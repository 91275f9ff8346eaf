// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the recordings' reader. The first byte says what the rest is:
 *   0   a file as it is
 *   1   a file whose checksums are put right first, else the engine would not get past them
 *   2   the records of one chunk, behind a good header
 *
 * Beyond not crashing: whatever is taken lies within what the layout said, the totals are those of the
 * items, a refusal has the file's name and an offset, and memory stays bounded.
 */
#include "host/trace-read.h"

#include <string.h>
#include <zlib.h>

#define LENGTH_MOST 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static guint8 file[LENGTH_MOST + sizeof(struct trace_header) + sizeof(struct trace_chunk)];

/* --- making files ----------------------------------------------------------------------------------- */

static gsize good_header(void)
{
    struct trace_header *h = (struct trace_header *)file;

    *h = (struct trace_header){
        .magic = TRACE_MAGIC, .version = TRACE_VERSION, .size = sizeof(*h), .granule = 65536,
        .source = { { "sample", TRACE_SAMPLES, 64 }, { "refault", TRACE_PROBES, 1 } },
    };
    return sizeof(*h);
}

static void mend_header(gsize size)
{
    struct trace_header *h = (struct trace_header *)file;

    if (size < sizeof(*h))
        return;
    memcpy(h->magic, TRACE_MAGIC, sizeof(h->magic));
    h->version = TRACE_VERSION;
    h->size = sizeof(*h);
    h->crc = 0;
    h->crc = (guint32)crc32(0, file, sizeof(*h));
}

static void mend_chunks(gsize size)
{
    gsize at = sizeof(struct trace_header);
    struct trace_chunk c;

    for (guint32 i = 0; at + sizeof(c) <= size; i++) {
        memcpy(&c, file + at, sizeof(c));
        c.magic = TRACE_CHUNK_MAGIC;
        c.number = i;
        c.crc = 0;
        if (c.length > size - at - sizeof(c))
            break;
        c.crc = (guint32)crc32(crc32(0, (const Bytef *)&c, sizeof(c)), file + at + sizeof(c), c.length);
        memcpy(file + at, &c, sizeof(c));
        at += sizeof(c) + c.length;
    }
}

static gsize make_file(guint8 how, const uint8_t *data, gsize size)
{
    struct trace_chunk c = { TRACE_CHUNK_MAGIC, TRACE_RECORDS, TRACE_STORED, 0, (guint32)size,
                             (guint32)size, 0 };
    gsize at = 0;

    if (how % 3 == 2) {
        at = good_header();
        memcpy(file + at, &c, sizeof(c));
        at += sizeof(c);
    }
    memcpy(file + at, data, size);
    if (how % 3) {
        mend_header(at + size);
        mend_chunks(at + size);
    }
    return at + size;
}

/* --- what must hold ---------------------------------------------------------------------------------- */

static bool in_layout(const struct trace_layout *l, guint32 granule)
{
    for (guint32 b = 0; b < l->n_blocks; b++)
        if (granule >= l->block[b].first && granule - l->block[b].first < l->block[b].count)
            return granule < l->granules;
    return false;
}

static void check_obs(const struct trace *t, const struct trace_layout *l, const struct trace_item *item)
{
    g_assert_true(item->obs.n && item->obs.n <= TRACE_OBS_MOST);
    g_assert_true(trace_header(t)->source[item->obs.source].name[0]);
    for (guint32 i = 0; i < item->obs.n; i++) {
        const struct trace_obs *o = &item->obs.obs[i];

        g_assert_true(in_layout(l, o->granule));
        g_assert_true(o->events >= 0 && o->events < 1e25 && o->exposure_s >= 0 && o->exposure_s < 1e12);
    }
}

static void read_all(struct trace *t)
{
    static struct trace_layout layout;
    struct vt_err err = { 0 };
    struct trace_item item;
    guint64 rounds = 0, observations = 0;
    int rc;

    layout.n_blocks = 0;
    while ((rc = trace_next(t, &item, &err)) > TRACE_END) {
        rounds += item.what == TRACE_ROUND;
        if (item.what == TRACE_LAYOUT)
            layout = *item.layout;
        if (item.what == TRACE_OBS) {
            check_obs(t, &layout, &item);
            observations += item.obs.n;
        }
    }
    if (rc) {
        g_assert_true(err.code && strstr(err.text, "fuzz: "));
    } else {
        g_assert_cmpuint(item.end.totals.rounds, ==, rounds);
        g_assert_cmpuint(item.end.totals.observations, ==, observations);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vt_err err = { 0 };
    struct trace *t;
    gsize length;

    if (!size || size > LENGTH_MOST)
        return 0;
    length = make_file(data[0], data + 1, size - 1);
    t = trace_open_bytes(file, length, "fuzz", &err);
    if (t)
        read_all(t);
    else
        g_assert_true(err.code && strstr(err.text, "fuzz: offset "));
    trace_close(t);
    return 0;
}
