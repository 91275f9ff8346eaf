// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VM's tiered RAM: see ram.h.
 *
 * The maps for lock-free lookups (access address to granule) are seqlocks: ram_changed() makes the
 * sequence odd, rewrites the arrays, makes it even. A reader that sees an odd or changed sequence
 * gives up; it loses one sample.
 */
#include "vmm/ram.h"
#include "common/fault.h"
#include "common/filekind.h"
#include "common/thread.h"
#include "vmm/backing.h"
#include "vmm/pagemap.h"
#include "vmm/huge.h"
#include "vmm/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BURY_LATER (128ull << 20)   /* length of a block whose memory is given up by a thread */

uint8_t *ram_tier;
uint32_t *ram_slot;
struct ram_slots ram_slots;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ram_block blocks[VT_BLOCKS];
static uint64_t granule_bytes;
static unsigned granule_shift;
static uint32_t next_granule;
static bool guest_runs;
static atomic_uint generation;

/* One row of a lock-free map: [start, start + length) begins at `offset` of granule `first`'s block. */
struct span {
    _Atomic uint64_t start, length, offset;
    _Atomic uint32_t first;
};

struct map {
    atomic_uint sequence;
    atomic_uint n;
    struct span span[RAM_SLOTS];
};
static struct map by_gpa, by_addr;

static atomic_uint waiting;         /* threads in ram_lock() */

void ram_lock(void)
{
    atomic_fetch_add(&waiting, 1);
    pthread_mutex_lock(&lock);
    atomic_fetch_sub(&waiting, 1);
}

/* The mutex is not fair: whoever unlocks and locks again at once wins against a thread that wakes. */
void ram_give_way(void)
{
    for (int i = 0; i < 10 && atomic_load(&waiting); i++)
        usleep(20);
}

void ram_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

int ram_init(struct vt_err *err)
{
    const size_t tiers = VT_GRANULES_MAX, slots = VT_GRANULES_MAX * sizeof(*ram_slot);
    uint8_t *p;

    if (ram_tier)
        return 0;
    p = mmap(NULL, tiers + slots, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return vt_fail(err, errno, "reserving the placement table: %s", strerror(errno));
    pagemap_init(NULL);             /* without it moves do more work than they must */
    ram_slot = (uint32_t *)(void *)p;
    ram_tier = p + slots;
    return 0;
}

uint64_t ram_granule(void)
{
    return granule_bytes;
}

void ram_set_granule(uint64_t bytes)
{
    granule_bytes = bytes;
    granule_shift = (unsigned)__builtin_ctzll(bytes);
}

uint32_t ram_generation(void)
{
    return atomic_load(&generation);
}

/* --- blocks ------------------------------------------------------------------------------- */

struct ram_block *ram_blocks(void)
{
    return blocks;
}

struct ram_block *ram_block_named(const char *name)
{
    for (struct ram_block *b = blocks; b < blocks + VT_BLOCKS; b++)
        if (b->used && !strcmp(b->name, name))
            return b;
    return NULL;
}

struct ram_block *ram_block_of(uint32_t granule)
{
    for (struct ram_block *b = blocks; b < blocks + VT_BLOCKS; b++)
        if (b->used && granule >= b->first && granule - b->first < b->count)
            return b;
    return NULL;
}

/* A flag of /proc/self/smaps' VmFlags and the advice that sets it. */
static const struct {
    char flag[3];
    int advice;
} advice_table[] = {
    { "dd", MADV_DONTDUMP },   { "dc", MADV_DONTFORK },  { "hg", MADV_HUGEPAGE },
    { "nh", MADV_NOHUGEPAGE }, { "mg", MADV_MERGEABLE }, { "wf", MADV_WIPEONFORK },
    { "sr", MADV_SEQUENTIAL }, { "rr", MADV_RANDOM },
};

static unsigned parse_flags(const char *line)
{
    unsigned mask = 0;

    for (size_t i = 0; i < sizeof(advice_table) / sizeof(advice_table[0]); i++)
        if (strstr(line, advice_table[i].flag))
            mask |= 1u << i;
    return mask;
}

static void note_flags(struct ram_block *b, const char *text)
{
    b->advice = parse_flags(text);
    b->map_flags = strstr(text, " nr") ? MAP_NORESERVE : 0;     /* reserve=off */
    b->flags_known = true;
}

int ram_need_flags(struct ram_block *b)
{
    struct backing_flags flags = { .at = b->host };
    int rc = b->flags_known ? 0 : backing_read_flags(&flags, 1);

    if (!rc && !b->flags_known)
        note_flags(b, flags.text);
    return rc;
}

void ram_find_flags(void)
{
    struct backing_flags ask[VT_BLOCKS];
    struct ram_block *of[VT_BLOCKS];
    uint32_t first[VT_BLOCKS];
    unsigned n = 0;

    ram_lock();
    for (struct ram_block *b = blocks; b < blocks + VT_BLOCKS; b++)
        if (b->used && !b->flags_known) {
            ask[n].at = b->host;
            of[n] = b;
            first[n++] = b->first;
        }
    ram_unlock();
    if (!n || backing_read_flags(ask, n))
        return;
    ram_lock();
    for (unsigned i = 0; i < n; i++)
        if (of[i]->used && of[i]->first == first[i])
            note_flags(of[i], ask[i].text);
    ram_unlock();
}

void ram_readvise(const struct ram_block *b, uint64_t offset, uint64_t length)
{
    for (size_t i = 0; i < sizeof(advice_table) / sizeof(advice_table[0]); i++)
        if (b->advice & (1u << i))
            madvise(b->host + offset, length, advice_table[i].advice);
}

/*
 * Views of huge pages must begin on one; others are put on a 2 MiB border so that THP can be used. A
 * view reserves no huge pages: the mover asks for them, and takes an error, before it touches any.
 */
static uint8_t *map_view(const struct ram_block *b, int fd, uint64_t base)
{
    const uint64_t align = b->page_size > (2u << 20) ? b->page_size : 2u << 20;
    uint8_t *area = mmap(NULL, b->length + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *view = (uint8_t *)(((uintptr_t)area + align - 1) & ~(align - 1));

    if (area == MAP_FAILED)
        return NULL;
    if (mmap(view, b->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd,
             (off_t)base) == MAP_FAILED) {
        munmap(area, b->length + align);
        return NULL;
    }
    if (view > area)
        munmap(area, (size_t)(view - area));
    munmap(view + b->length, (size_t)(area + align - view));
    madvise(view, b->length, MADV_DONTDUMP);
    madvise(view, b->length, MADV_DONTFORK);
    madvise(view, b->length, MADV_HUGEPAGE);    /* memory is made through the view */
    return view;
}

int ram_set_file(struct ram_block *b, unsigned tier, int fd, uint64_t base, struct vt_err *err)
{
    struct filekind kind;
    struct stat st;
    struct pool *pool;
    uint8_t *view;

    if (filekind_look(fd, &kind) || (kind.page_size != b->page_size && kind.page_size > 4096))
        return vt_fail(err, EINVAL, "block %s: the file of tier %u has pages of %u bytes, the block of %u",
                       b->name, tier, kind.page_size, b->page_size);
    if (fstat(fd, &st) || base % b->page_size ||
        (S_ISREG(st.st_mode) && ((uint64_t)st.st_size < base ||
                                 (uint64_t)st.st_size - base < b->length)))
        return vt_fail(err, EINVAL, "block %s: the file of tier %u has no %llu bytes at offset %llu",
                       b->name, tier, (unsigned long long)b->length, (unsigned long long)base);
    pool = pool_new(b->count, tier == 0);
    if (!pool)
        return vt_fail(err, ENOMEM, "block %s: out of memory", b->name);
    errno = -fault_at(FAULT_VIEW);
    view = errno ? NULL : map_view(b, fd, base);
    if (!view) {
        pool_free(pool, tier);
        return vt_fail(err, errno, "block %s: mapping the file of tier %u: %s", b->name, tier,
                       strerror(errno));
    }
    b->file[tier] = fd;
    b->base[tier] = base;
    b->view[tier] = view;
    b->pool[tier] = pool;
    b->small[tier] = filekind_is_small(fd);
    return 0;
}

static struct ram_block *free_entry(void)
{
    for (struct ram_block *b = blocks; b < blocks + VT_BLOCKS; b++)
        if (!b->used)
            return b;
    return NULL;
}

struct ram_block *ram_add(const char *name, uint8_t *host, uint64_t length, uint32_t page_size,
                          int fd, struct vt_err *err)
{
    uint64_t count = (length + granule_bytes - 1) >> granule_shift;
    struct ram_block *b = free_entry();
    struct stat st;

    if (!b || count > VT_GRANULES_MAX - next_granule) {
        vt_fail(err, ENOSPC, "block %s: more than %d blocks or %u granules in one VM", name,
                VT_BLOCKS, VT_GRANULES_MAX);
        return NULL;
    }
    *b = (struct ram_block){ .host = host, .length = length, .page_size = page_size,
                             .first = next_granule, .count = (uint32_t)count };
    snprintf(b->name, sizeof(b->name), "%s", name);
    for (int t = 0; t < VT_TIERS; t++)
        b->file[t] = -1;
    if (ram_set_file(b, 0, fd, 0, err))
        return NULL;
    if (!fstat(fd, &st)) {
        b->inode = st.st_ino;
        b->device = st.st_dev;
    }
    b->used = b->present = true;
    b->fresh = !guest_runs;
    next_granule += b->count;
    memset(ram_tier + b->first, 0, b->count);
    for (uint32_t i = 0; i < b->count; i++)
        ram_slot[b->first + i] = i;
    return b;
}

void ram_guest_runs(void)
{
    ram_lock();
    guest_runs = true;
    for (struct ram_block *b = blocks; b < blocks + VT_BLOCKS; b++)
        b->fresh = false;
    ram_unlock();
}

/* What a block leaves behind. */
struct remains {
    uint64_t length;
    uint8_t *view[VT_TIERS];    /* NULL: none */
    int file[VT_TIERS];         /* -1: none */
};

static struct remains remains_of(const struct ram_block *b)
{
    struct remains r = { .length = b->length };

    for (int t = 0; t < VT_TIERS; t++) {
        r.view[t] = b->view[t];
        r.file[t] = t > 0 ? b->file[t] : -1;
    }
    return r;
}

static void bury(const struct remains *r)
{
    for (int t = 0; t < VT_TIERS; t++) {
        if (r->view[t])
            munmap(r->view[t], r->length);
        if (r->file[t] >= 0)
            close(r->file[t]);
    }
}

static void *run_burial(void *opaque)
{
    bury(opaque);
    free(opaque);
    return NULL;
}

/* false: there is no thread to be had. */
static bool bury_later(const struct remains *r)
{
    struct remains *copy = malloc(sizeof(*copy));

    if (!copy)
        return false;
    *copy = *r;
    if (!thread_start("vmtier-bury", run_burial, copy))
        return true;
    free(copy);
    return false;
}

/* To unmap and free small pages takes a third of a second for each GiB: not in the main loop. */
void ram_drop(struct ram_block *b)
{
    const struct remains r = remains_of(b);

    huge_forget(b);
    if (r.length < BURY_LATER || !bury_later(&r))
        bury(&r);
    for (unsigned t = 0; t < VT_TIERS; t++)
        pool_free(b->pool[t], t);
    memset(b, 0, sizeof(*b));
}

/* --- lookups without a lock ----------------------------------------------------------------- */

static void map_put(struct map *m, uint64_t start, uint64_t length, uint64_t offset, uint32_t first)
{
    unsigned n = atomic_load(&m->n);

    if (n == RAM_SLOTS)
        return;
    m->span[n].start = start;
    m->span[n].length = length;
    m->span[n].offset = offset;
    m->span[n].first = first;
    atomic_store(&m->n, n + 1);
}

static bool map_find(struct map *m, uint64_t address, uint32_t *granule)
{
    unsigned before = atomic_load_explicit(&m->sequence, memory_order_acquire);
    unsigned n = atomic_load_explicit(&m->n, memory_order_relaxed);

    for (unsigned i = 0; i < n && i < RAM_SLOTS; i++) {
        uint64_t at = address - atomic_load_explicit(&m->span[i].start, memory_order_relaxed);

        if (at >= atomic_load_explicit(&m->span[i].length, memory_order_relaxed))
            continue;
        at += atomic_load_explicit(&m->span[i].offset, memory_order_relaxed);
        *granule = atomic_load_explicit(&m->span[i].first, memory_order_relaxed) +
                   (uint32_t)(at >> granule_shift);
        atomic_thread_fence(memory_order_acquire);
        return !(before & 1) &&
               before == atomic_load_explicit(&m->sequence, memory_order_relaxed);
    }
    return false;
}

void ram_changed(void)
{
    atomic_fetch_add(&by_gpa.sequence, 1);
    atomic_fetch_add(&by_addr.sequence, 1);
    atomic_store(&by_gpa.n, 0);
    atomic_store(&by_addr.n, 0);
    for (unsigned i = 0; i < ram_slots.n; i++) {
        const struct ram_slot *s = &ram_slots.slot[i];

        map_put(&by_gpa, s->gpa, s->length, s->offset, blocks[s->block].first);
    }
    for (struct ram_block *b = blocks; b < blocks + VT_BLOCKS; b++)
        if (b->used && b->present)
            map_put(&by_addr, b->ram_addr, b->length, 0, b->first);
    atomic_fetch_add(&by_gpa.sequence, 1);
    atomic_fetch_add(&by_addr.sequence, 1);
    atomic_fetch_add(&generation, 1);
}

bool ram_find_gpa(uint64_t gpa, uint32_t *granule)
{
    return map_find(&by_gpa, gpa, granule);
}

bool ram_find_addr(uint64_t ram_addr, uint32_t *granule)
{
    return map_find(&by_addr, ram_addr, granule);
}
