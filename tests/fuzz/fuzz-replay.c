// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of replays: what a recording may say without being refused, heat and placement have to stand.
 * The first byte is the DRAM in granules and which evidence is followed; the rest are records of a chunk,
 * behind a good header.
 *
 * Beyond not crashing: no more than all is served, the oracle is at least as good, and what is said is finite.
 */
#include "host/trace-replay.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#define LENGTH_MOST     4096
#define GRANULES_MOST   4096u   /* more would be taken as readily, and slowly */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static guint8 file[sizeof(struct trace_header) + sizeof(struct trace_chunk) + LENGTH_MOST];

static gsize make_file(const uint8_t *data, gsize size)
{
    struct trace_header h = {
        .magic = TRACE_MAGIC, .version = TRACE_VERSION, .size = sizeof(h), .granule = 65536,
        .source = { { "sample", TRACE_SAMPLES, 64 }, { "refault", TRACE_PROBES, 1 },
                    { "dirty", TRACE_WRITES, 1 }, { "report", TRACE_HINTS, 1 } },
    };
    struct trace_chunk c = { TRACE_CHUNK_MAGIC, TRACE_RECORDS, TRACE_STORED, 0, (guint32)size,
                             (guint32)size, 0 };

    h.crc = (guint32)crc32(0, (const Bytef *)&h, sizeof(h));
    c.crc = (guint32)crc32(crc32(0, (const Bytef *)&c, sizeof(c)), data, (uInt)size);
    memcpy(file, &h, sizeof(h));
    memcpy(file + sizeof(h), &c, sizeof(c));
    memcpy(file + sizeof(h) + sizeof(c), data, size);
    return sizeof(h) + sizeof(c) + size;
}

/* Is it a good recording, and small? Few inputs are. */
static bool is_worth_it(gsize length)
{
    g_autoptr(Trace) t = trace_open_bytes(file, length, "fuzz", NULL);
    struct trace_item item;
    int rc;

    while ((rc = trace_next(t, &item, NULL)) > TRACE_END)
        if (item.what == TRACE_LAYOUT && item.layout->granules > GRANULES_MOST)
            return false;
    return rc == TRACE_END;
}

static void check(const struct replay_result *r)
{
    const double slack = 1 + 1e-9;

    g_assert_true(isfinite(r->accesses) && isfinite(r->seconds));
    g_assert_true(r->hits <= r->accesses * slack && r->oracle <= r->accesses * slack);
    g_assert_true(r->long_run <= r->accesses * slack && r->long_run <= r->oracle * slack);
    g_assert_true(r->back <= r->moves);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    struct replay_options o = { .policy = &policy_cbx, .rate = 1 << 26 };
    struct replay_result result;
    gsize length;

    if (size < 2 || size - 1 > LENGTH_MOST)
        return 0;
    length = make_file(data + 1, size - 1);
    if (!is_worth_it(length))
        return 0;
    if (fd < 0)
        g_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd = memfd_create("fuzz", MFD_CLOEXEC));
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    g_assert_cmpint(pwrite(fd, file, length, 0), ==, (gssize)length);
    o.use = data[0] % REPLAY_USE_END;
    o.dram = (1u + data[0] / REPLAY_USE_END) * 65536u;
    if (!replay_run(path, &o, &result, NULL))
        check(&result);
    replay_clear(&result);
    return 0;
}
