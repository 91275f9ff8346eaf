// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the reader of perf.data. With the first byte odd, the header's sections are put right: one event,
 * the rest data.
 *
 * Beyond not crashing: what is rejected has a reason, and names and raw parts can be read.
 */
#include "host/perf/data.h"
#include "host/perf/ibs.h"

#include <stdint.h>
#include <string.h>

#define HEADER 104u
#define ATTR   (sizeof(struct perf_event_attr) + 16u)
#define MOST   65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile guint64 sink;

static bool take(const struct perf_data_event *event, const struct perf_sample *s, gpointer opaque)
{
    struct ibs_op op;

    sink += strlen(event->name) + s->addr;
    for (guint32 i = 0; i < s->raw_size; i++)
        sink += s->raw[i];
    if (event->is_ibs && !ibs_decode(s->raw, s->raw_size, false, &op))
        sink += strlen(ibs_from_name(op.from));
    ++*(guint64 *)opaque;
    return true;
}

static void put(guint8 *bytes, size_t at, guint64 value)
{
    memcpy(bytes + at, &value, sizeof(value));
}

static void mend(guint8 *bytes, size_t size)
{
    size_t features = bytes[HEADER + ATTR] % 64u;

    put(bytes, 0, 0x32454c4946524550);         /* "PERFILE2" */
    put(bytes, 8, HEADER);
    put(bytes, 16, ATTR);
    put(bytes, 24, HEADER);
    put(bytes, 32, ATTR);
    put(bytes, 40, HEADER + ATTR);
    put(bytes, 48, size - HEADER - ATTR - MIN(features, size - HEADER - ATTR - 1));
    put(bytes, HEADER + ATTR - 16, HEADER);
    put(bytes, HEADER + ATTR - 8, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static guint8 bytes[MOST];
    g_autoptr(GError) error = NULL;
    g_autoptr(PerfData) d = NULL;
    struct perf_counts counts = { 0 };
    guint64 taken = 0;

    if (size < 1 || size - 1 > MOST)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 1 && size - 1 > HEADER + ATTR + 8)
        mend(bytes, size - 1);
    d = perf_data_open_bytes(bytes, size - 1, &error);
    if (!d) {
        g_assert_true(error && error->message[0]);
        return 0;
    }
    for (guint i = 0; i < perf_data_events(d); i++)
        sink += strlen(perf_data_event(d, i)->name);
    sink += perf_data_cpuid(d) ? strlen(perf_data_cpuid(d)) : 0;
    g_assert_true(perf_data_each(d, take, &taken, &counts, &error) == !error);
    g_assert_cmpuint(taken, ==, counts.samples);
    return 0;
}
