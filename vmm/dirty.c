// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "dirty": which pages the guest writes. It says nothing about reads, so nothing is placed by
 * it; it tells which granules are being written, for the moment of a move.
 *
 * There are two routes to the same knowledge:
 *
 *   "qemu"   QEMU's own dirty bitmap, as its VGA client (vmm/qemu.h). It is there under every
 *            accelerator, with KVM's bitmap and with its ring, and knows what QEMU's devices write as
 *            well. Live migration has a bitmap of its own, fed by the same sync, and neither takes
 *            anything from the other. But it needs the big lock, and under KVM each reading brings in
 *            the log of the whole block, however small the chunk is that is asked for: about 2 ms per
 *            GiB. A bottom half in the main loop reads one chunk at a time.
 *   "kvm"    KVM's log itself, shared with QEMU at the border of ioctl() (vmm/kvmlog.c). The link
 *            thread reads it, in short steps, without the big lock. While QEMU migrates it is only
 *            listened to. Not for a dirty ring, nor for TCG.
 *
 * "kvm" is taken where it can be and RAM is larger than SMALL, else "qemu".
 *
 * What is reported. Each page that a vCPU has written between two looks is reported once; a page that
 * was not written is not. Besides, "qemu" reports pages that a device of QEMU's has written (disk
 * reads, received packets), or that QEMU marks by itself when it loads a state; "kvm" does not. What
 * is written before a new log has been gone through once is not reported: it begins with every bit
 * set. Under TCG, a page that is stored to at the very moment of a reading may be missed by QEMU
 * itself. While a migration runs, "kvm" reports a page when QEMU clears it: once, but later.
 *
 * Cost. A page that was reported is protected again, and the guest's next write to it is a fault. So
 * PAGES_PER_S of them are all that is taken on the average, and the next chunk waits until the last
 * one has been paid for. On top of that KVM maps logged memory by 4 KiB pages. "qemu" also sees to it
 * that it has the big lock for 1/BQL_SHARE of the time at most, and for BQL_NS at a time, if the size
 * of the chunk makes a difference.
 */
#include "vmm/dirty.h"
#include "common/clock.h"
#include "vmm/kvmlog.h"
#include "vmm/qemu.h"
#include "vmm/ram.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SMALL        (256ull << 20)     /* bytes of RAM */
#define PAGES_PER_S  2500               /* that a guest may fault on because of us: 5 ms a second */
#define FAULT_NS     2000               /* what one of them takes, about */
#define ARM_SHARE    8                  /* of pages that are protected at first, one is written */
#define STEP_NS      1000000u           /* of a harvest, for the route "kvm" */
#define BQL_NS       300000u
#define BQL_SHARE    200
#define CHUNK_LEAST  (16ull << 20)
#define CHUNK_MOST   (1ull << 30)

enum route { NONE, QEMU, KVM };
static const char *const route_names[] = { "none", "qemu", "kvm" };

static _Atomic uint32_t *pages;     /* written per granule, not yet reported */
static uint32_t *reported;          /* ms; when a granule was reported last. Link thread only */
static _Atomic int route;
static _Atomic int64_t tokens;      /* pages that may be taken; negative: a debt */
static char why_not[VT_NAME];       /* the route "kvm" is not taken */
static bool broken;                 /* ... for good */

static struct {
    _Atomic uint64_t cpu_ns, events, passes, bql_max_ns, bql_start_ns;
} stats;

static void make_tables(void)
{
    void *p = mmap(NULL, VT_GRANULES_MAX * 2 * sizeof(uint32_t), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return;
    reported = (uint32_t *)p + VT_GRANULES_MAX;
    pages = p;
}

/* The main loop and the link thread want them. */
static bool have_tables(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&lock);
    if (!pages)
        make_tables();
    pthread_mutex_unlock(&lock);
    return pages != NULL;
}

static void add_page(uint32_t first, uint64_t offset)
{
    atomic_fetch_add(&pages[first + offset / ram_granule()], 1);
    atomic_fetch_add(&stats.events, 1);
}

static void note_longest(_Atomic uint64_t *longest, uint64_t ns)
{
    if (ns > atomic_load(longest))
        atomic_store(longest, ns);
}

/* --- the route "qemu" ----------------------------------------------------------------------------- */

/* What a bottom half needs of a block; copied, so that ram_lock() is not held while QEMU works. */
struct target {
    uint8_t *host;
    uint64_t length;
    uint32_t index, first;
    bool usable;
};

/* Main loop only. */
static struct {
    const uint8_t *host;            /* of which block this speaks */
    bool on;
    uint64_t armed;                 /* bytes from its start on whose bits say something */
} logs[VT_BLOCKS];
static uint32_t next_block;         /* where the next bottom half goes on */
static uint64_t next_offset, chunk = CHUNK_LEAST;
static bool any_read;

static atomic_bool pending;
static _Atomic uint64_t due_ns;     /* not before */

static struct target look_up(uint32_t index)
{
    struct target t = { .index = index };

    ram_lock();
    struct ram_block *b = &ram_blocks()[index];
    t.host = b->host;
    t.length = b->length;
    t.first = b->first;
    t.usable = b->used && b->present;
    ram_unlock();
    if (!t.usable || logs[index].host != t.host) {
        logs[index].on = false;
        logs[index].armed = 0;
    }
    logs[index].host = t.host;
    return t;
}

static void start_log(const struct target *t)
{
    uint64_t start = clock_ns(CLOCK_MONOTONIC);

    logs[t->index].on = qemu_dirty_start(t->host, true) == 0;
    logs[t->index].armed = 0;
    note_longest(&stats.bql_start_ns, clock_ns(CLOCK_MONOTONIC) - start);
}

static void add_and_pay(uint64_t offset, void *opaque)
{
    const struct target *t = opaque;

    add_page(t->first, offset);
    atomic_fetch_sub(&tokens, 1);
}

/* What a new log has set everywhere is thrown away, on the first way through. */
static void read_chunk(struct target *t)
{
    bool arming = logs[t->index].armed < t->length;
    uint64_t at = arming ? logs[t->index].armed : next_offset;
    uint64_t length = t->length - at < chunk ? t->length - at : chunk;

    qemu_dirty_take(t->host, at, length, arming ? NULL : add_and_pay, t);
    if (arming) {
        logs[t->index].armed += length;
        atomic_fetch_sub(&tokens, (int64_t)(length / 4096 / ARM_SHARE));
    } else {
        next_offset = at + length;
        any_read = true;
    }
}

/* The end of the table is the end of a pass, if anything was read in it. */
static void next_entry(void)
{
    next_offset = 0;
    next_block = (next_block + 1) % VT_BLOCKS;
    if (next_block)
        return;
    atomic_fetch_add(&stats.passes, any_read);
    any_read = false;
}

/* Chunks get shorter if that helps; where it does not, there is a longer wait. */
static void keep_short(uint64_t ns)
{
    note_longest(&stats.bql_max_ns, ns);
    if (ns > BQL_NS && chunk > CHUNK_LEAST)
        chunk /= 2;
    else if (ns < BQL_NS / 3 && chunk < CHUNK_MOST)
        chunk *= 2;
    atomic_store(&due_ns, clock_ns(CLOCK_MONOTONIC) + ns * BQL_SHARE);
}

static void collect_chunk(void)
{
    uint64_t cpu = cpu_ns(), start = clock_ns(CLOCK_MONOTONIC);
    struct target t = look_up(next_block);

    if (next_offset >= t.length)    /* another block took its place in the table */
        next_offset = 0;
    if (t.usable && !logs[t.index].on) {
        start_log(&t);
        if (!logs[t.index].on)
            next_offset = t.length;
    } else if (t.usable) {
        read_chunk(&t);
        keep_short(clock_ns(CLOCK_MONOTONIC) - start);
    }
    if (!t.usable || next_offset >= t.length)
        next_entry();
    atomic_fetch_add(&stats.cpu_ns, cpu_ns() - cpu);
}

/* Bottom halves may run in another order than they were asked for: logs may have been stopped. */
static void collect(void *unused)
{
    (void)unused;
    if (atomic_load(&route) == QEMU)
        collect_chunk();
    atomic_store(&pending, false);
}

static void stop_logs(void *unused)
{
    (void)unused;
    for (uint32_t i = 0; i < VT_BLOCKS; i++) {
        struct target t = look_up(i);

        if (t.usable && logs[i].on)
            qemu_dirty_start(t.host, false);
        logs[i].on = false;
        logs[i].armed = 0;
    }
}

static void harvest_qemu(void)
{
    if (clock_ns(CLOCK_MONOTONIC) < atomic_load(&due_ns) || atomic_exchange(&pending, true))
        return;
    ram_lock();                     /* a bottom half is not spent on an entry that is not in use */
    for (int i = 0; i < VT_BLOCKS && !ram_blocks()[next_block].used; i++)
        next_entry();
    ram_unlock();
    qemu_bh(collect, NULL);
}

/* --- the route "kvm" ------------------------------------------------------------------------------ */

static void add_taken(uint32_t first, uint64_t offset, void *unused)
{
    (void)unused;
    add_page(first, offset);
    atomic_fetch_sub(&tokens, 1);
}

/* Under ram_lock(). */
static unsigned list_areas(struct kvmlog_area areas[VT_BLOCKS], uint64_t *bytes)
{
    unsigned n = 0;

    *bytes = 0;
    for (const struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->present) {
            areas[n++] = (struct kvmlog_area){ b->host, b->length, b->first };
            *bytes += b->length;
        }
    return n;
}

static void harvest_kvm(const struct kvmlog_area *areas, unsigned n)
{
    uint64_t start = clock_ns(CLOCK_MONOTONIC), cpu = cpu_ns();
    int rc;

    do {
        rc = kvmlog_step(areas, n, add_taken, NULL);
        if (rc == KVMLOG_ARMED)
            atomic_fetch_sub(&tokens, KVMLOG_CHUNK / ARM_SHARE);
    } while ((rc == KVMLOG_SOMETHING || rc == KVMLOG_ARMED) && atomic_load(&tokens) > 0 &&
             clock_ns(CLOCK_MONOTONIC) - start < STEP_NS);
    atomic_fetch_add(&stats.cpu_ns, cpu_ns() - cpu);
    if (rc == KVMLOG_PASS)
        atomic_fetch_add(&stats.passes, 1);
    if (rc >= 0)
        return;
    snprintf(why_not, sizeof(why_not), "KVM's log: %.40s", strerror(-rc));
    broken = true;
}

/* --- which route ---------------------------------------------------------------------------------- */

/* The switch is for the tests, which want to see both with a small guest. */
static int choose(uint64_t bytes)
{
    const char *forced = getenv("VMTIER_TEST_DIRTY");

    if (broken || !kvmlog_usable(why_not))
        return QEMU;
    if (forced ? !strcmp(forced, "qemu") : bytes <= SMALL) {
        snprintf(why_not, sizeof(why_not), "%s", forced ? "VMTIER_TEST_DIRTY" : "RAM is small");
        return QEMU;
    }
    return KVM;
}

static void leave(int from)
{
    if (from == KVM)
        kvmlog_stop();
    else if (from == QEMU)
        qemu_bh(stop_logs, NULL);
}

/* Both may be on for a moment: to the one, the other is QEMU's logging. */
static int take_route(uint64_t bytes)
{
    int want = choose(bytes), was = atomic_exchange(&route, want);

    if (was != want) {
        kvmlog_on_cleared(add_page);
        leave(was);
    }
    return want;
}

/* --- for the link --------------------------------------------------------------------------------- */

static void report(const struct ram_block *b, uint32_t now, obs_fn emit, void *opaque)
{
    for (uint32_t g = b->first; g < b->first + b->count; g++) {
        struct vt_obs o = { .granule = g, .source = VT_SRC_DIRTY, .tier = ram_tier[g] };

        if (!atomic_load_explicit(&pages[g], memory_order_relaxed))
            continue;
        o.events = atomic_exchange(&pages[g], 0);
        o.exposure = now - reported[g];
        reported[g] = now;
        emit(&o, opaque);
    }
}

static void refill(uint32_t now)
{
    static uint32_t last;
    int64_t more = (int64_t)(now - last) * PAGES_PER_S / 1000, most = PAGES_PER_S / 4;
    int64_t have = atomic_load(&tokens);

    last = now;
    if (more > PAGES_PER_S)         /* it was off for long: whatever was owed has been paid */
        atomic_store(&tokens, most);
    else
        atomic_fetch_add(&tokens, have + more > most ? most - have : more);
}

void dirty_harvest(obs_fn emit, void *opaque)
{
    static struct kvmlog_area areas[VT_BLOCKS];
    uint32_t now = clock_ms();
    uint64_t bytes;
    unsigned n;
    int by;

    if (!have_tables())
        return;
    ram_lock();
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->present)
            report(b, now, emit, opaque);
    n = list_areas(areas, &bytes);
    ram_unlock();
    refill(now);
    by = take_route(bytes);
    if (atomic_load(&tokens) <= 0)
        return;
    if (by == KVM)
        harvest_kvm(areas, n);
    else
        harvest_qemu();
}

void dirty_stop(void)
{
    leave(atomic_exchange(&route, NONE));
}

void dirty_get_cost(uint64_t *cpu, uint64_t *events, uint64_t *vcpu)
{
    *cpu = atomic_load(&stats.cpu_ns);
    *events = atomic_load(&stats.events);
    *vcpu = *events * FAULT_NS;
}

void dirty_get_stats(struct dirty_stats *out)
{
    int by = atomic_load(&route);

    *out = (struct dirty_stats){
        .route = route_names[by],
        .passes = atomic_load(&stats.passes),
        .bql_max_ns = atomic_load(&stats.bql_max_ns),
        .bql_start_ns = atomic_load(&stats.bql_start_ns),
        .pages = atomic_load(&stats.events),
    };
    if (by == QEMU)
        snprintf(out->why, sizeof(out->why), "%s", why_not);
}

/* --- for the monitor ------------------------------------------------------------------------------ */

struct count {
    uint64_t offset, length;
    uint8_t *bits;
    int64_t n;
};

/* A page may be in several memslots: the one of system management mode, say. */
static void count_page(uint64_t offset, void *opaque)
{
    struct count *c = opaque;
    uint64_t page = (offset - c->offset) / 4096;

    if (c->bits[page / 8] & (1u << page % 8))
        return;
    c->bits[page / 8] |= (uint8_t)(1u << page % 8);
    c->n++;
}

static void count_taken(uint32_t tag, uint64_t offset, void *opaque)
{
    (void)tag;
    count_page(offset, opaque);
}

static int count_by_qemu(const struct target *t, struct count *c)
{
    if (!logs[t->index].on)
        start_log(t);
    if (logs[t->index].armed < t->length)
        qemu_dirty_take(t->host, 0, t->length, NULL, NULL);
    logs[t->index].armed = t->length;
    return qemu_dirty_take(t->host, c->offset, c->length, count_page, c);
}

static int count_pages(const struct target *t, struct count *c)
{
    const struct kvmlog_area area = { t->host, t->length, t->first };
    int by = atomic_load(&route);

    if (by == NONE)
        by = take_route(t->length);
    return by == KVM ? kvmlog_take(&area, c->offset, c->length, count_taken, c) :
                       count_by_qemu(t, c);
}

int64_t dirty_count(const char *block, uint64_t offset, uint64_t length, uint8_t *bits)
{
    struct count c = { .offset = offset, .length = length, .bits = bits };
    struct ram_block *b;
    struct target t;
    int rc;

    ram_lock();
    b = ram_block_named(block);
    ram_unlock();
    if (!b)
        return -ENOENT;
    if (offset >= b->length || length > b->length - offset || (offset | length) % 4096)
        return -EINVAL;
    if (!have_tables())
        return -ENOMEM;
    t = look_up((uint32_t)(b - ram_blocks()));
    if (!bits)
        c.bits = calloc(1, length / 4096 / 8 + 1);
    if (!c.bits)
        return -ENOMEM;
    rc = count_pages(&t, &c);
    if (!bits)
        free(c.bits);
    return rc ? rc : c.n;
}
