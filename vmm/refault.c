// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "refault", run as survival probes.
 *
 * Each granule has one probe: a block of 64 KiB that was unmapped with MADV_DONTNEED (the data stays
 * in the file) and is polled until half of its pages have been touched again. Then, or rather when
 * its back-off is over, the next block of the granule is armed. A touched page is one event; an
 * armed page contributes its time to the exposure, a touched one half of the interval it was touched
 * in. Events over exposure estimate the rate at which a page is visited.
 *
 * A cold granule's probe stays armed and costs a poll; a hot granule's is re-armed less often the
 * longer its rate agrees with itself. There is no interval to tune and the work of a call is bounded
 * by its budget: the cursor goes on where the last call stopped.
 *
 * This works only inside a VMA that is registered with userfaultfd: elsewhere the kernel maps
 * sixteen pages around a read fault and one touch looks like many.
 */
#include "vmm/refault.h"
#include "common/clock.h"
#include "vmm/pagemap.h"
#include "vmm/ram.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PROBE_BYTES   (64u << 10)
#define BACKOFF_MIN   200u          /* ms */
#define BACKOFF_MAX   3000u
#define REPORT_MS     1000u         /* a silent probe reports its exposure so often */
#define CHUNK         64u           /* granules per hold of ram_lock() */

struct probe {
    uint8_t armed;                  /* 0: never armed */
    uint8_t touched;                /* pages seen since it was armed */
    uint16_t block;                 /* which PROBE_BYTES of the granule */
    uint16_t backoff, last_rate;    /* ms; events per 1000 page-seconds, saturating */
    uint32_t polled, armed_at;      /* ms */
    uint32_t events, exposure;      /* not yet reported; pages, page-ms */
    uint32_t reported;              /* ms */
};

static struct probe *probes;        /* [VT_GRANULES_MAX], reserved address space */
static uint32_t cursor;
static uint64_t spent_ns, seen_events;

int refault_init(struct vt_err *err)
{
    void *p;

    if (probes)
        return 0;
    if (pagemap_init(err))
        return -ENODEV;
    p = mmap(NULL, VT_GRANULES_MAX * sizeof(struct probe), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return vt_fail(err, errno, "reserving the probe table: %s", strerror(errno));
    probes = p;
    return 0;
}

/* --- one probe -------------------------------------------------------------------------------- */

struct spot {
    uint8_t *start;
    uint64_t length;
    uint32_t page, pages, blocks;
};

/* Where the probe's block is. Blocks are whole pages, and never longer than the granule. */
static struct spot spot_of(const struct ram_block *b, uint32_t granule, const struct probe *p)
{
    uint64_t whole = ram_length(b, granule);
    uint64_t unit = b->page_size > PROBE_BYTES ? b->page_size : PROBE_BYTES;
    struct spot s = { .page = b->page_size };
    uint64_t at;

    if (unit > whole)
        unit = whole;
    s.blocks = (uint32_t)(whole / unit);
    at = (p->block % s.blocks) * unit;
    s.start = b->host + ram_offset(b, granule) + at;
    s.length = unit;
    s.pages = (uint32_t)(unit / s.page);
    return s;
}

/* The next block: a stride that is odd visits all of a power of two. */
static void arm(struct probe *p, const struct ram_block *b, uint32_t granule, uint32_t now)
{
    struct spot s;

    p->block = (uint16_t)(p->block + 13);
    s = spot_of(b, granule, p);
    if (madvise(s.start, s.length, MADV_DONTNEED))
        return;
    p->armed = 1;
    p->touched = 0;
    p->armed_at = p->polled = now;
}

static void set_backoff(struct probe *p, uint32_t rate)
{
    uint32_t was = p->last_rate;

    if (was && rate <= 2 * was && was <= 2 * rate)
        p->backoff = (uint16_t)(p->backoff * 2 < BACKOFF_MAX ? p->backoff * 2 : BACKOFF_MAX);
    else
        p->backoff = BACKOFF_MIN;
    p->last_rate = (uint16_t)(rate < UINT16_MAX ? rate : UINT16_MAX);
}

static void poll_probe(struct probe *p, const struct ram_block *b, uint32_t granule, uint32_t now)
{
    struct spot s = spot_of(b, granule, p);
    uint32_t left = s.pages - p->touched, fresh, age = now - p->armed_at;
    int n = pagemap_count(s.start, s.length, s.page);

    if (n < p->touched)
        return;                     /* an error, or QEMU unmapped some itself */
    fresh = (uint32_t)n - p->touched;
    p->events += fresh;
    p->exposure += (2 * left - fresh) * (now - p->polled) / 2;
    p->polled = now;
    p->touched = (uint8_t)n;
    seen_events += fresh;
    if (2 * p->touched < s.pages || !p->touched)
        return;
    if (p->armed == 1) {            /* just spent: when to arm again? */
        set_backoff(p, (uint32_t)(p->touched * 1000000ull / ((uint64_t)s.pages * age + 1)));
        p->armed = 2;
        p->armed_at = now;
    }
    if (now - p->armed_at >= p->backoff)
        arm(p, b, granule, now);
}

static void report(struct probe *p, uint32_t granule, uint32_t now, obs_fn emit, void *opaque)
{
    struct vt_obs o = { .granule = granule, .source = VT_SRC_REFAULT, .tier = ram_tier[granule],
                        .events = p->events, .exposure = p->exposure };

    if (!p->exposure || (!p->events && now - p->reported < REPORT_MS))
        return;
    emit(&o, opaque);
    p->events = p->exposure = 0;
    p->reported = now;
}

void refault_forget(uint32_t first, uint32_t n)
{
    for (uint32_t g = first; probes && g < first + n; g++)
        probes[g].armed = 0;
}

/* --- the walk --------------------------------------------------------------------------------- */

/* Visits up to CHUNK granules of block b from the cursor on. Under ram_lock(). */
static void visit(const struct ram_block *b, uint32_t now, obs_fn emit, void *opaque)
{
    uint32_t end = b->first + b->count;

    for (uint32_t i = 0; i < CHUNK && cursor < end; i++, cursor++) {
        struct probe *p = &probes[cursor];

        if (!p->armed)
            arm(p, b, cursor, now);
        else
            poll_probe(p, b, cursor, now);
        report(p, cursor, now, emit, opaque);
    }
}

/* The block the cursor is in, or the next one behind it; NULL at the end. */
static struct ram_block *block_at_cursor(void)
{
    struct ram_block *next = NULL;

    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->present && b->watched && b->first + b->count > cursor &&
            (!next || b->first < next->first))
            next = b;
    if (next && cursor < next->first)
        cursor = next->first;
    return next;
}

void refault_harvest(uint32_t budget_us, obs_fn emit, void *opaque)
{
    uint64_t start = cpu_ns(), used = 0;
    bool more = probes != NULL;

    while (more && used < budget_us * 1000ull) {
        struct ram_block *b;

        ram_lock();
        b = block_at_cursor();
        if (b)
            visit(b, clock_ms(), emit, opaque);
        ram_unlock();
        ram_give_way();
        more = b != NULL;
        used = cpu_ns() - start;
    }
    if (!more)
        cursor = 0;
    spent_ns += used;
}

void refault_get_cost(uint64_t *cpu, uint64_t *events)
{
    *cpu = spent_ns;
    *events = seen_events;
}
