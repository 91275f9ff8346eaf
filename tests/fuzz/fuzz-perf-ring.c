// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the ring of a perf event: any attributes, any bytes in the ring, any place of head and
 * tail. With the top bit of the first byte set, the records' sizes are put right, so that the engine gets
 * to what is in them at once.
 *
 * Beyond not crashing: the tail ends where the head was, or as many records were taken as were to be; each
 * record is counted once; and a raw part can be read.
 */
#include "host/perf/ring.h"

#include <stdint.h>
#include <string.h>

#define HEAD 16u                /* bytes of the input that are settings */
#define SIZE 1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile guint64 sink;

static void take(const struct perf_sample *s, gpointer opaque)
{
    guint64 sum = s->ip + s->addr + s->phys_addr + s->weight + s->id + s->cpu + perf_in_guest(s);

    for (guint32 i = 0; i < s->raw_size; i++)
        sum += s->raw[i];
    sink += sum;
    ++*(guint64 *)opaque;
}

/* Makes records of what is there: a size that fits, 8 bytes at least. */
static void mend(guint8 *bytes, guint64 n)
{
    for (guint64 at = 0; at + 8 <= n;) {
        struct perf_event_header h;

        memcpy(&h, bytes + at, sizeof(h));
        h.size = (guint16)(8 + (h.size & 0x7f) * 8);
        h.size = (guint16)MIN(h.size, (n - at) & ~7ull);
        if (h.type & 1)
            h.type = PERF_RECORD_SAMPLE;
        memcpy(bytes + at, &h, sizeof(h));
        at += h.size;
    }
}

static guint64 accounted(const struct perf_counts *c)
{
    return c->samples + c->other + perf_counts_bad(c);
}

static struct perf_layout layout_from(const uint8_t *data)
{
    struct perf_layout l = { .read_format = data[6] & 0x3f, .id_all = data[6] >> 7, .branch_type = 0 };
    guint32 type;

    memcpy(&type, data + 2, sizeof(type));
    l.sample_type = type & ((1u << 26) - 1);
    l.branch_type = (guint64)data[7] << 14;
    l.regs_user = data[8];
    l.regs_intr = data[9];
    return l;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct perf_event_mmap_page page;
    static guint8 ring_bytes[SIZE], input[SIZE], whole[1 << 16] = { 0 };
    struct ring ring = { &page, ring_bytes, SIZE, whole };
    struct perf_counts counts = { 0 };
    struct perf_layout layout;
    guint64 taken = 0, start, n, most, got;

    if (size < HEAD)
        return 0;
    layout = layout_from(data);
    n = MIN(size - HEAD, SIZE);
    memcpy(input, data + HEAD, n);
    if (data[0] & 0x80)
        mend(input, n);
    memcpy(&start, data + 1, sizeof(start));        /* any, also where it wraps */
    start = start << 3 | (data[0] & 7);
    for (guint64 i = 0; i < n; i++)
        ring_bytes[(start + i) % SIZE] = input[i];
    page.data_tail = start;
    page.data_head = start + (data[0] & 0x40 ? (guint64)data[10] << 8 : n);
    most = data[11] ? data[11] : G_MAXUINT64;
    got = ring_read(&ring, &layout, most, take, &taken, &counts);
    g_assert_cmpuint(taken, ==, counts.samples);
    g_assert_true(page.data_tail == page.data_head || got == most);
    g_assert_cmpuint(got, <=, accounted(&counts));
    g_assert_cmpuint(accounted(&counts), <=, 2 * got + 2);
    return 0;
}
