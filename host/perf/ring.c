// SPDX-License-Identifier: GPL-2.0-or-later
/* Reader of a perf event's ring: see ring.h. */
#include "host/perf/ring.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static gsize page_bytes(void)
{
    return (gsize)sysconf(_SC_PAGESIZE);
}

bool ring_map(struct ring *ring, int fd, guint pages)
{
    const gsize bytes = pages * page_bytes();
    void *page = mmap(NULL, page_bytes() + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (page == MAP_FAILED)
        return false;
    ring->page = page;
    ring->data = (guint8 *)page + page_bytes();
    ring->size = bytes;
    return true;
}

void ring_unmap(struct ring *ring)
{
    if (ring->page)
        munmap(ring->page, page_bytes() + ring->size);
    ring->page = NULL;
}

/* `n` bytes that begin `at` bytes after the ring's first; in one piece, in the ring or in `whole`. */
static const guint8 *piece(const struct ring *ring, guint64 at, guint64 n)
{
    guint64 from = at & (ring->size - 1), first = ring->size - from;

    if (n <= first)
        return ring->data + from;
    memcpy(ring->whole, ring->data + from, first);
    memcpy(ring->whole + first, ring->data, n - first);
    return ring->whole;
}

static enum perf_bad take_record(const struct perf_layout *layout, const guint8 *record, guint16 size,
                                 guint32 type, ring_take take, gpointer opaque,
                                 struct perf_counts *counts)
{
    struct perf_sample sample;
    enum perf_bad bad;

    if (type != PERF_RECORD_SAMPLE) {
        perf_count_other(counts, record, size);
        return PERF_GOOD;
    }
    bad = perf_decode(layout, record, size, &sample);
    if (!bad) {
        counts->samples++;
        take(&sample, opaque);
    }
    return bad;
}

guint64 ring_read(struct ring *ring, const struct perf_layout *layout, guint64 most, ring_take take,
                  gpointer opaque, struct perf_counts *counts)
{
    /* Pairs with the kernel's barrier between a record and the head. */
    guint64 head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);
    guint64 tail = ring->page->data_tail, n = 0;

    if (head - tail > ring->size) {
        counts->bad[PERF_BAD_OVERRUN]++;
        tail = head;
    }
    for (; tail != head && n < most; n++) {
        struct perf_event_header header;
        guint64 there = head - tail;
        enum perf_bad bad = PERF_BAD_SIZE;

        header.size = 0;
        if (there >= sizeof(header))
            memcpy(&header, piece(ring, tail, sizeof(header)), sizeof(header));
        if (header.size < sizeof(header) || header.size > there) {
            counts->bad[bad]++;
            tail = head;
            break;
        }
        bad = take_record(layout, piece(ring, tail, header.size), header.size, header.type, take, opaque,
                          counts);
        counts->bad[bad] += bad != PERF_GOOD;
        tail += header.size;
    }
    /* All reads of the ring are done before the kernel may write there again. */
    __atomic_store_n(&ring->page->data_tail, tail, __ATOMIC_RELEASE);
    return n;
}
