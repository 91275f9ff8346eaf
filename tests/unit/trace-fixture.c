// SPDX-License-Identifier: GPL-2.0-or-later
/* Recordings for tests: see trace-fixture.h. */
#include "trace-fixture.h"

#include <string.h>
#include <zlib.h>

struct trace_header fixture_header(void)
{
    return (struct trace_header){
        .magic = TRACE_MAGIC, .version = TRACE_VERSION, .size = sizeof(struct trace_header),
        .granule = FIXTURE_GRANULE, .quota = 4 * FIXTURE_GRANULE, .round_ms = 250, .places = 1,
        .vm = "toy", .qemu = "7.2.0",
        .source = { { "sample", TRACE_SAMPLES, 64 }, { "refault", TRACE_PROBES, 1 },
                    { "dirty", TRACE_WRITES, 1 } },
    };
}

struct trace_layout fixture_layout(guint32 granules)
{
    struct trace_layout l = { .granules = granules, .n_blocks = 1, .n_slots = 1 };

    l.block[0] = (struct trace_block){ 0, granules, (guint64)granules * FIXTURE_GRANULE, "ram" };
    l.slot[0] = (struct vt_slot){ .gpa = 0, .length = l.block[0].length };
    return l;
}

int fixture_put(gpointer opaque, const void *bytes, gsize length, struct vt_err *err)
{
    (void)err;
    g_byte_array_append(opaque, bytes, (guint)length);
    return 0;
}

void fixture_add_header(GByteArray *to, struct trace_header header)
{
    header.crc = 0;
    header.crc = (guint32)crc32(0, (const Bytef *)&header, sizeof(header));
    g_byte_array_append(to, (const guint8 *)&header, sizeof(header));
}

void fixture_add_chunk(GByteArray *to, guint32 number, enum trace_type type, const void *raw, guint32 n)
{
    struct trace_chunk c = { TRACE_CHUNK_MAGIC, (guint16)type, TRACE_STORED, number, n, n, 0 };

    c.crc = (guint32)crc32(crc32(0, (const Bytef *)&c, sizeof(c)), raw, n);
    g_byte_array_append(to, (const guint8 *)&c, sizeof(c));
    g_byte_array_append(to, raw, n);
}

void fixture_add_layout(GByteArray *payload, guint8 granules)
{
    const guint64 bytes = (guint64)granules * FIXTURE_GRANULE;
    const guint8 head[] = { TRACE_R_LAYOUT, granules, 1, 0, granules };
    const guint8 tail[] = { 3, 'r', 'a', 'm', 0 };

    g_byte_array_append(payload, head, sizeof(head));
    for (guint64 left = bytes; left; left >>= 7) {
        const guint8 byte = (guint8)((left & 127) | (left > 127 ? 128 : 0));

        g_byte_array_append(payload, &byte, 1);
    }
    g_byte_array_append(payload, tail, sizeof(tail));
}

int fixture_read(const GByteArray *file, guint n[], struct trace_item *end, struct vt_err *err)
{
    g_autoptr(Trace) t = trace_open_bytes(file->data, file->len, "toy.vmtrace", err);
    struct trace_item item = { 0 };
    int rc;

    if (!t)
        return -err->code;
    while ((rc = trace_next(t, &item, err)) > TRACE_END)
        if (n)
            n[item.what]++;
    if (end)
        *end = item;
    return rc;
}
