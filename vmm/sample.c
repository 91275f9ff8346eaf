// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "sample".
 *
 * TCG calls note_access() for each access of each vCPU. All but one in N return after a countdown;
 * that one finds its granule, looks up which tier the granule is in at that moment, and counts. The
 * next countdown is N with a jitter of an eighth, so that a loop's period cannot hide from it.
 *
 * Countdowns are per vCPU and touched by its thread alone; the counts are atomic and shared.
 *
 * The calls are what costs, not the samples: about as much at 1 in 64 as at 1 in 1024. While sampling
 * is off there are none in the guest's code (qemu_access_switch()).
 */
#include "vmm/sample.h"
#include "common/clock.h"
#include "vmm/plugin.h"
#include "vmm/qemu.h"
#include "vmm/ram.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define CPUS 1024           /* vCPUs with a countdown of their own; others share */

struct countdown {
    int32_t left;
    uint32_t random;
    char pad[56];           /* a cache line each */
};

static struct countdown countdowns[CPUS];
static _Atomic uint32_t (*hits)[VT_GRANULES_MAX];     /* [VT_TIERS], reserved address space */
static atomic_uint period;
static enum qemu_space space;
static _Atomic uint64_t seen;
static uint64_t spent_ns;

static void take_sample(uint32_t info, uint64_t vaddr)
{
    uint64_t address;
    uint32_t granule;
    bool found;

    if (!ram_granule() || !qemu_access_address(info, vaddr, &address))
        return;
    found = space == QEMU_SPACE_GPA ? ram_find_gpa(address, &granule)
                                    : ram_find_addr(address, &granule);
    if (!found || granule >= VT_GRANULES_MAX)
        return;
    atomic_fetch_add_explicit(&hits[ram_tier[granule] % VT_TIERS][granule], 1,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&seen, 1, memory_order_relaxed);
}

static void rewind_countdown(struct countdown *c)
{
    uint32_t n = atomic_load_explicit(&period, memory_order_relaxed);

    c->random = c->random * 1664525u + 1013904223u;
    c->left = (int32_t)(n ? n - n / 16 + (n >= 8 ? (c->random >> 16) % (n / 8) : 0) : 1u << 20);
}

static void note_access(unsigned cpu, uint32_t info, uint64_t vaddr, void *opaque)
{
    struct countdown *c = &countdowns[cpu % CPUS];

    (void)opaque;
    if (--c->left > 0)
        return;
    rewind_countdown(c);
    if (atomic_load_explicit(&period, memory_order_relaxed))
        take_sample(info, vaddr);
}

bool sample_init(struct vt_err *err)
{
    void *p = mmap(NULL, sizeof(*hits) * VT_TIERS, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) {
        vt_fail(err, errno, "reserving the sample table: %s", strerror(errno));
        return false;
    }
    hits = p;
    for (uint32_t i = 0; i < CPUS; i++)
        countdowns[i] = (struct countdown){ .left = 1, .random = i * 2654435761u };
    space = qemu_access_space();
    return qemu_access_start(plugin_id, note_access, err);
}

void sample_set_period(uint32_t n)
{
    atomic_store(&period, n);
    qemu_access_switch(n > 0);
}

static void report(const struct ram_block *b, obs_fn emit, void *opaque)
{
    for (unsigned t = 0; t < VT_TIERS; t++)
        for (uint32_t g = b->first; g < b->first + b->count && b->file[t] >= 0; g++) {
            struct vt_obs o = { .granule = g, .source = VT_SRC_SAMPLE, .tier = (uint8_t)t };

            if (!atomic_load_explicit(&hits[t][g], memory_order_relaxed))
                continue;
            o.events = atomic_exchange_explicit(&hits[t][g], 0, memory_order_relaxed);
            emit(&o, opaque);
        }
}

void sample_harvest(obs_fn emit, void *opaque)
{
    uint64_t start = cpu_ns();

    if (!hits)
        return;
    ram_lock();
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->present)
            report(b, emit, opaque);
    ram_unlock();
    spent_ns += cpu_ns() - start;
}

void sample_get_cost(uint64_t *cpu, uint64_t *events)
{
    *cpu = spent_ns;
    *events = atomic_load(&seen);
}
