// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Batches of short runs: see batch.h.
 *
 * Registering. The new mappings of a batch are written down, and when it ends registered with one call
 * for all that are near each other; what lies between them is the block's as well, and registered
 * already. A granule that is moved twice is registered in between: its protection would fail.
 *
 * Dropping. The entries of the page table go for a few runs at once, with one call (Linux 6.13) and one
 * flush of the processors' TLBs (6.16), where write protection and mmap() would flush them in each
 * granule. Whoever uses such memory before it moves faults it in again, so it is only done so far
 * ahead as takes an eighth of a millisecond, and not for long runs: to those two flushes are nothing.
 */
#include "vmm/batch.h"
#include "common/fault.h"
#include "common/uapi.h"
#include "vmm/mover.h"
#include "vmm/pagemap.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define RUNS       32u              /* of a batch: half a millisecond of 64 KiB granules */
#define AHEAD      8u               /* runs whose entries are dropped together */
#define RUN_LENGTH (128u << 10)     /* a longer run is no part of a batch */
#define NEAR       16u              /* granules: to look at as many takes less than another call */

struct range {
    const struct ram_block *b;
    uint64_t start, end;            /* in the block */
};

static struct {
    bool open;
    unsigned n;
    struct range added[RUNS];
    unsigned n_ahead;
    struct {
        uint32_t granule;
        bool used;
    } ahead[AHEAD];                 /* whose entries are dropped, and whether there were any */
    int self;                       /* pidfd; 0: not asked for, -1: there is none, or no such call */
} batch;

/* --- opening ---------------------------------------------------------------------------------------- */

static bool fits(const struct ram_block *b, const struct vt_move_one *m)
{
    return m->granule >= b->first && m->granule - b->first < b->count && m->tier < VT_TIERS &&
           b->small[m->tier] && b->small[ram_tier[m->granule]];
}

/* The moves of the list that one run may take at most. */
static uint32_t neighbours(const struct vt_move_one *m, uint32_t n)
{
    uint32_t i = 1;

    while (i < n && m[i].granule == m[0].granule + i && m[i].tier == m[0].tier)
        i++;
    return i;
}

static struct iovec range_of(const struct ram_block *b, uint32_t granule, uint32_t n)
{
    uint64_t offset = ram_offset(b, granule), length = n * ram_granule();

    return (struct iovec){ b->host + offset,
                           length < b->length - offset ? length : b->length - offset };
}

static void drop_entries(const struct iovec *v, unsigned n)
{
    if (!batch.self)
        batch.self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (n < 2 || batch.self < 0)
        return;
    if (syscall(SYS_process_madvise, batch.self, v, (size_t)n, MADV_DONTNEED, 0u) < 0 &&
        (errno == EINVAL || errno == ENOSYS || errno == EPERM)) {
        close(batch.self);
        batch.self = -1;                    /* before Linux 6.13 */
    }
}

/* The moves that make the next short run, as far as can be told now; 0: it is not one. */
static uint32_t next_length(const struct ram_block *b, const struct vt_move_one *m, uint32_t n)
{
    uint32_t length = n && fits(b, m) ? neighbours(m, n) : 0;

    return length * ram_granule() <= RUN_LENGTH ? length : 0;
}

uint32_t batch_begin(const struct vt_move_one *moves, uint32_t n, uint64_t bytes)
{
    const struct ram_block *b = n ? ram_block_of(moves[0].granule) : NULL;
    uint32_t done = 0, length, runs = 0;

    if (!b || !b->present || !b->watched || b->page_size != 4096)
        return 0;
    while (runs < RUNS && (length = next_length(b, &moves[done], n - done)) != 0 &&
           (done + length) * ram_granule() <= bytes) {
        done += length;
        runs++;
    }
    batch.open = runs > 1;
    return batch.open ? done : 0;
}

uint32_t batch_ahead(const struct vt_move_one *moves, uint32_t n)
{
    const struct ram_block *b = ram_block_of(moves[0].granule);
    struct iovec v[AHEAD];
    uint32_t done = 0, length;

    batch.n_ahead = 0;
    for (; batch.n_ahead < AHEAD && (length = next_length(b, &moves[done], n - done)) != 0;
         done += length) {
        const struct vt_move_one *m = &moves[done];
        struct iovec *range = &v[batch.n_ahead];

        if (m->tier == ram_tier[m->granule])
            continue;
        *range = range_of(b, m->granule, length);
        batch.ahead[batch.n_ahead].granule = m->granule;
        batch.ahead[batch.n_ahead++].used = m->tier < ram_tier[m->granule] &&
                                            pagemap_is_used(range->iov_base, range->iov_len);
    }
    drop_entries(v, batch.n_ahead);
    return done;
}

bool batch_was_used(uint32_t granule, bool *used)
{
    for (unsigned i = 0; batch.open && i < batch.n_ahead; i++)
        if (batch.ahead[i].granule == granule) {
            *used = batch.ahead[i].used;
            return true;
        }
    return false;
}

bool batch_is_open(void)
{
    return batch.open;
}

/* --- what is mapped anew ------------------------------------------------------------------------------ */

static void register_range(const struct range *r)
{
    uint64_t length = r->end - r->start;
    int rc;

    if (batch.open && !fault_at(FAULT_ADVISE))
        ram_readvise(r->b, r->start, length);
    rc = fault_at(FAULT_REGISTER) ?: uffd_register(r->b->host + r->start, length);
    if (rc)
        mover_freeze(true, "block %s, offset %#llx, %llu bytes: UFFDIO_REGISTER after a move: %s",
                     r->b->name, (unsigned long long)r->start, (unsigned long long)length,
                     strerror(-rc));
}

/* In the order of their addresses; a list nearly always is. */
static void insert(struct range r)
{
    unsigned i = batch.n++;

    for (; i && (batch.added[i - 1].b > r.b ||
                 (batch.added[i - 1].b == r.b && batch.added[i - 1].start > r.start)); i--)
        batch.added[i] = batch.added[i - 1];
    batch.added[i] = r;
}

bool batch_register(void)
{
    unsigned n = batch.n;

    for (unsigned i = 0, next; i < n; i = next) {
        struct range r = batch.added[i];

        for (next = i + 1; next < n && batch.added[next].b == r.b &&
                           batch.added[next].start <= r.end + NEAR * ram_granule(); next++)
            r.end = batch.added[next].end > r.end ? batch.added[next].end : r.end;
        register_range(&r);
    }
    batch.n = 0;
    return n;
}

void batch_add(const struct ram_block *b, uint64_t offset, uint64_t length)
{
    insert((struct range){ b, offset, offset + length });
    if (!batch.open || batch.n == RUNS)
        batch_register();
}

void batch_end(void)
{
    batch_register();
    batch.open = false;
    batch.n_ahead = 0;
}
