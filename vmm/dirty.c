// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "dirty".
 *
 * QEMU's dirty log is read through its VGA client (vmm/qemu.h), which needs the BQL, so a bottom half
 * in the main loop reads one CHUNK of RAM at a time and adds it up per granule; the link thread
 * reports the sums. One bottom half is under way at most.
 */
#include "vmm/dirty.h"
#include "common/clock.h"
#include "vmm/qemu.h"
#include "vmm/ram.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK (512ull << 20)    /* bytes per bottom half: about a millisecond */

static _Atomic uint32_t *pages;     /* written per granule, not yet reported */
static uint32_t *scanned;           /* ms; when a granule's chunk was read last. Main loop only */
static atomic_bool pending;
static _Atomic uint64_t spent_ns, seen_events;
static uint32_t next_block;         /* where the next bottom half goes on */
static uint64_t next_offset;
static bool logging[VT_BLOCKS];

static bool have_tables(void)
{
    void *p;

    if (pages)
        return true;
    p = mmap(NULL, VT_GRANULES_MAX * 2 * sizeof(uint32_t), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return false;
    scanned = (uint32_t *)p + VT_GRANULES_MAX;
    pages = p;
    return true;
}

/* What a bottom half needs of a block; copied, so that ram_lock() is not held while QEMU works. */
struct target {
    uint8_t *host;
    uint64_t length;
    uint32_t index, first;
    bool usable;
};

static struct target look_up(uint32_t index)
{
    static const uint8_t *logged[VT_BLOCKS];    /* which block `logging` speaks of */
    struct target t = { .index = index };

    ram_lock();
    struct ram_block *b = &ram_blocks()[index];
    t.host = b->host;
    t.length = b->length;
    t.first = b->first;
    t.usable = b->used && b->present;
    ram_unlock();
    if (!t.usable || logged[index] != t.host)
        logging[index] = false;
    logged[index] = t.host;
    return t;
}

/* Switches the log of a block on; the first reading has every page set and is thrown away. */
static bool start_log(const struct target *t)
{
    if (logging[t->index])
        return true;
    logging[t->index] = qemu_dirty_start(t->host, true) == 0;
    return false;
}

static void add_page(uint64_t offset, void *opaque)
{
    const struct target *t = opaque;

    atomic_fetch_add(&pages[t->first + offset / ram_granule()], 1);
    atomic_fetch_add(&seen_events, 1);
}

static void collect(void *unused)
{
    uint64_t start = cpu_ns(), length;
    struct target t = look_up(next_block);
    bool on;

    (void)unused;
    if (next_offset >= t.length)    /* another block took its place in the table */
        next_offset = 0;
    if (t.usable) {
        on = next_offset > 0 || start_log(&t);
        length = t.length - next_offset < CHUNK ? t.length - next_offset : CHUNK;
        if (!on)
            length = t.length;
        qemu_dirty_take(t.host, next_offset, length, on ? add_page : NULL, &t);
        next_offset += length;
    }
    if (!t.usable || next_offset >= t.length) {
        next_block = (next_block + 1) % VT_BLOCKS;
        next_offset = 0;
    }
    atomic_fetch_add(&spent_ns, cpu_ns() - start);
    atomic_store(&pending, false);
}

/* Skips table entries that are not in use, so that a bottom half is not spent on one. */
static void find_next_block(void)
{
    ram_lock();
    for (int i = 0; i < VT_BLOCKS && !ram_blocks()[next_block].used; i++)
        next_block = (next_block + 1) % VT_BLOCKS;
    ram_unlock();
}

static void report(const struct ram_block *b, uint32_t now, obs_fn emit, void *opaque)
{
    for (uint32_t g = b->first; g < b->first + b->count; g++) {
        struct vt_obs o = { .granule = g, .source = VT_SRC_DIRTY, .tier = ram_tier[g] };

        if (!atomic_load_explicit(&pages[g], memory_order_relaxed))
            continue;
        o.events = atomic_exchange(&pages[g], 0);
        o.exposure = now - scanned[g];
        scanned[g] = now;
        emit(&o, opaque);
    }
}

void dirty_harvest(obs_fn emit, void *opaque)
{
    uint32_t now = clock_ms();

    if (!have_tables())
        return;
    ram_lock();
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->present)
            report(b, now, emit, opaque);
    ram_unlock();
    if (!atomic_exchange(&pending, true)) {
        find_next_block();
        qemu_bh(collect, NULL);
    }
}

static void count_page(uint64_t offset, void *opaque)
{
    (void)offset;
    (*(int64_t *)opaque)++;
}

int64_t dirty_count(const char *block, uint64_t offset, uint64_t length)
{
    struct ram_block *b;
    struct target t;
    int64_t n = 0;
    int rc;

    ram_lock();
    b = ram_block_named(block);
    ram_unlock();
    if (!b)
        return -ENOENT;
    if (offset >= b->length || length > b->length - offset || (offset | length) % 4096)
        return -EINVAL;
    t = look_up((uint32_t)(b - ram_blocks()));
    if (!start_log(&t))
        qemu_dirty_take(t.host, 0, t.length, NULL, NULL);
    rc = qemu_dirty_take(t.host, offset, length, count_page, &n);
    return rc ? rc : n;
}

void dirty_get_cost(uint64_t *cpu, uint64_t *events)
{
    *cpu = atomic_load(&spent_ns);
    *events = atomic_load(&seen_events);
}
