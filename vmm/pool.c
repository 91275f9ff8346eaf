// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Slots of the tiers' files: see pool.h.
 *
 * owner[] says whose each slot is. Spare slots are listed a second time, as ranges in the order of
 * their numbers: moves look for memory there, and neighbours are punched with one call. The list is
 * short, and a slot that does not fit into it is punched instead of being kept.
 *
 * A slot that could not be punched is no hole: its contents would show through where the next granule
 * has holes. It is STALE, and taken as a spare one is; punching it is tried again when others are. If
 * somebody may still be looking at its memory it is HELD instead, and nobody's until it is a hole.
 */
#include "vmm/pool.h"
#include "common/fault.h"
#include "vmm/ram.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RANGES 1024
#define AGAIN  4096                 /* slots looked at for stale ones at a time */
#define EMPTY  0u
#define SPARE  UINT32_MAX
#define STALE  (UINT32_MAX - 1)
#define HELD   (UINT32_MAX - 2)     /* else: the granule's number in its block, plus 1 */

struct range {
    uint32_t first, n;
};

struct pool {
    uint32_t *owner;
    uint8_t *mapped;                /* flags: see pool_is_mapped() */
    uint32_t slots;
    uint32_t hint;                  /* where the search for an empty slot begins */
    uint32_t stale, again;          /* how many, those held as well; where to look next */
    uint32_t n;
    struct range spare[RANGES];
};

#define SLOT_BYTES (sizeof(uint32_t) + sizeof(uint8_t))

static _Atomic uint64_t spare_bytes[VT_TIERS];

struct pool *pool_new(uint32_t slots, bool used)
{
    struct pool *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->slots = slots;
    p->owner = mmap(NULL, slots * SLOT_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->owner == MAP_FAILED) {
        free(p);
        return NULL;
    }
    p->mapped = (uint8_t *)(p->owner + slots);
    for (uint32_t s = 0; used && s < slots; s++)
        p->owner[s] = s + 1;
    return p;
}

void pool_free(struct pool *p, unsigned tier)
{
    if (!p)
        return;
    for (uint32_t i = 0; i < p->n; i++)
        atomic_fetch_sub(&spare_bytes[tier], p->spare[i].n * ram_granule());
    atomic_fetch_sub(&spare_bytes[tier], p->stale * ram_granule());
    munmap(p->owner, p->slots * SLOT_BYTES);
    free(p);
}

uint64_t pool_spare(unsigned tier)
{
    return atomic_load(&spare_bytes[tier]);
}

uint32_t pool_owner(const struct ram_block *b, unsigned tier, uint32_t slot)
{
    uint32_t owner = b->pool[tier]->owner[slot];

    return owner == EMPTY || owner >= HELD ? UINT32_MAX : owner - 1;
}

bool pool_is_mapped(const struct ram_block *b, unsigned tier, uint32_t first, uint32_t n)
{
    const uint8_t *mapped = b->pool[tier]->mapped;

    for (uint32_t i = 0; i < n; i++)
        if (!mapped[first + i])
            return false;
    return true;
}

void pool_note_mapped(const struct ram_block *b, unsigned tier, uint32_t first, uint32_t n, bool mapped)
{
    memset(b->pool[tier]->mapped + first, mapped, n);
}

void pool_forget_mapped(void)
{
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        for (unsigned tier = 0; b->used && tier < VT_TIERS; tier++)
            if (b->pool[tier])
                pool_note_mapped(b, tier, 0, b->pool[tier]->slots, false);
}

/* --- the list of spare ranges ----------------------------------------------------------------- */

/* The first range that ends behind `slot`. */
static uint32_t find_range(const struct pool *p, uint32_t slot)
{
    uint32_t low = 0, high = p->n;

    while (low < high) {
        uint32_t mid = (low + high) / 2;

        if (p->spare[mid].first + p->spare[mid].n <= slot)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void insert_range(struct pool *p, uint32_t at, struct range r)
{
    memmove(&p->spare[at + 1], &p->spare[at], (p->n - at) * sizeof(r));
    p->spare[at] = r;
    p->n++;
}

static void remove_range(struct pool *p, uint32_t at)
{
    p->n--;
    memmove(&p->spare[at], &p->spare[at + 1], (p->n - at) * sizeof(p->spare[0]));
}

/* false: the list is full. */
static bool add_spare(struct pool *p, struct range r)
{
    uint32_t at = find_range(p, r.first);
    bool before = at && p->spare[at - 1].first + p->spare[at - 1].n == r.first;
    bool after = at < p->n && r.first + r.n == p->spare[at].first;

    if (before) {
        p->spare[at - 1].n += r.n;
        if (after) {
            p->spare[at - 1].n += p->spare[at].n;
            remove_range(p, at);
        }
    } else if (after) {
        p->spare[at].first -= r.n;
        p->spare[at].n += r.n;
    } else if (p->n < RANGES) {
        insert_range(p, at, r);
    } else {
        return false;
    }
    return true;
}

/* Takes [first, first + n), which is inside range `at`, off the list. false: the list is full. */
static bool cut_spare(struct pool *p, uint32_t at, uint32_t first, uint32_t n)
{
    struct range *r = &p->spare[at];
    uint32_t head = first - r->first, tail = r->n - head - n;

    if (head && tail) {
        if (p->n == RANGES)
            return false;
        r->n = head;
        insert_range(p, at + 1, (struct range){ first + n, tail });
    } else if (head) {
        r->n = head;
    } else if (tail) {
        *r = (struct range){ first + n, tail };
    } else {
        remove_range(p, at);
    }
    return true;
}

/* --- taking --------------------------------------------------------------------------------------- */

static void mark(struct pool *p, uint32_t first, uint32_t n, uint32_t granule)
{
    for (uint32_t i = 0; i < n; i++)
        p->owner[first + i] = granule + i + 1;
}

/* How many slots from `first` on, n at most, are `what`. */
static uint32_t count(const struct pool *p, uint32_t first, uint32_t n, uint32_t what)
{
    uint32_t i = 0;

    while (i < n && first + i < p->slots && p->owner[first + i] == what)
        i++;
    return i;
}

static struct slots take_spare(struct ram_block *b, unsigned tier, uint32_t first, uint32_t n,
                               uint32_t granule)
{
    struct pool *p = b->pool[tier];

    if (!n || !cut_spare(p, find_range(p, first), first, n))
        return (struct slots){ 0 };
    mark(p, first, n, granule);
    atomic_fetch_sub(&spare_bytes[tier], n * ram_granule());
    return (struct slots){ first, n, true };
}

/* Stale slots count as spare: it is memory that nobody uses. */
static void count_stale(struct pool *p, unsigned tier, int64_t n)
{
    p->stale += (uint32_t)n;
    atomic_fetch_add(&spare_bytes[tier], (uint64_t)n * ram_granule());
}

/* Of slots that are all EMPTY, or all STALE. */
static struct slots take_unlisted(struct ram_block *b, unsigned tier, uint32_t first, uint32_t n,
                                  uint32_t granule)
{
    struct pool *p = b->pool[tier];
    bool stale = p->owner[first] == STALE;

    if (stale)
        count_stale(p, tier, -(int64_t)n);
    mark(p, first, n, granule);
    return (struct slots){ first, n, stale };
}

/* The shortest range that is long enough, else the longest. */
static struct slots take_any_spare(struct ram_block *b, unsigned tier, uint32_t n, uint32_t granule)
{
    const struct pool *p = b->pool[tier];
    const struct range *best = NULL;

    for (const struct range *r = p->spare; r < p->spare + p->n; r++)
        if (!best || (best->n < n ? r->n > best->n : r->n >= n && r->n < best->n))
            best = r;
    if (!best)
        return (struct slots){ 0 };
    return take_spare(b, tier, best->first, best->n < n ? best->n : n, granule);
}

/* A block's last granule may be shorter than the others: its slot is its own. */
static uint32_t common_slots(const struct ram_block *b)
{
    return b->count - (b->length % ram_granule() != 0);
}

static struct slots take_any(struct ram_block *b, unsigned tier, uint32_t what, uint32_t n,
                             uint32_t granule)
{
    struct pool *p = b->pool[tier];
    const uint32_t slots = common_slots(b);

    for (uint32_t i = 0; i < slots; i++) {
        uint32_t s = (p->hint + i) % slots, most = slots - s < n ? slots - s : n;
        uint32_t got = count(p, s, most, what);

        if (!got)
            continue;
        p->hint = (s + got) % slots;
        return take_unlisted(b, tier, s, got, granule);
    }
    return (struct slots){ 0 };
}

struct slots pool_take(struct ram_block *b, unsigned tier, uint32_t wish, uint32_t n, bool tidy)
{
    struct pool *p = b->pool[tier];
    uint32_t common = common_slots(b), most = wish >= common ? 1 : common - wish < n ? common - wish : n;
    uint32_t own_spare, own_empty, own_stale;
    struct slots s = { 0 };

    own_spare = count(p, wish, most, SPARE);
    own_empty = count(p, wish, most, EMPTY);
    own_stale = count(p, wish, most, STALE);
    if (fault_at(FAULT_POOL_TAKE))
        return s;
    if (own_spare)
        s = take_spare(b, tier, wish, own_spare, wish);
    if (own_stale)
        s = take_unlisted(b, tier, wish, own_stale, wish);
    if (!s.n && wish < common && !(tidy && own_empty))
        s = take_any_spare(b, tier, most, wish);
    if (!s.n && wish < common && p->stale)      /* memory that is there anyway, and counts */
        s = take_any(b, tier, STALE, most, wish);
    if (!s.n && own_empty)
        s = take_unlisted(b, tier, wish, own_empty, wish);
    if (!s.n && wish < common)
        s = take_any(b, tier, EMPTY, most, wish);
    return s;
}

bool pool_take_exact(struct ram_block *b, unsigned tier, uint32_t slot, bool *spare)
{
    struct pool *p = b->pool[tier];

    *spare = p->owner[slot] == SPARE;
    if (*spare)
        return take_spare(b, tier, slot, 1, slot).n == 1;
    if (p->owner[slot] != EMPTY && p->owner[slot] != STALE)
        return false;
    *spare = take_unlisted(b, tier, slot, 1, slot).spare;
    return true;
}

/* --- giving back ------------------------------------------------------------------------------------ */

/* The slots are nobody's, and no spare ones, afterwards; `failed` if they could not be punched. */
static bool punch(const struct ram_block *b, unsigned tier, struct range r, uint32_t failed)
{
    uint64_t offset = r.first * ram_granule(), length = r.n * ram_granule();
    struct pool *p = b->pool[tier];
    bool stale;

    if (offset + length > b->length)
        length = b->length - offset;
    pool_note_mapped(b, tier, r.first, r.n, false);
    stale = fault_at(FAULT_PUNCH) ||
            fallocate(b->file[tier], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(b->base[tier] + offset), (off_t)length);
    for (uint32_t i = 0; i < r.n; i++)
        p->owner[r.first + i] = stale ? failed : EMPTY;
    if (stale)
        count_stale(p, tier, r.n);
    return !stale;
}

static void punch_stale(struct ram_block *b, unsigned tier)
{
    struct pool *p = b->pool[tier];
    bool ok = true;

    for (uint32_t i = 0; ok && p->stale && i < AGAIN; i++) {
        uint32_t s = p->again++ % p->slots, is = p->owner[s];

        if (is != STALE && is != HELD)
            continue;
        count_stale(p, tier, -1);
        ok = punch(b, tier, (struct range){ s, 1 }, is);
    }
}

static void give(struct ram_block *b, unsigned tier, struct range r)
{
    struct pool *p = b->pool[tier];

    if (!add_spare(p, r)) {
        punch(b, tier, r, STALE);
        return;
    }
    for (uint32_t i = 0; i < r.n; i++)
        p->owner[r.first + i] = SPARE;
    atomic_fetch_add(&spare_bytes[tier], r.n * ram_granule());
}

void pool_give(struct ram_block *b, unsigned tier, uint32_t first, uint32_t n)
{
    uint32_t common = common_slots(b);

    if (first < common)
        give(b, tier, (struct range){ first, n < common - first ? n : common - first });
    if (first + n > common)
        punch(b, tier, (struct range){ common, 1 }, STALE);
}

void pool_drop(struct ram_block *b, unsigned tier, uint32_t first, uint32_t n)
{
    punch(b, tier, (struct range){ first, n }, HELD);
}

/* From the end of the list, where there is least to move up. */
static uint64_t trim_block(struct ram_block *b, unsigned tier, uint64_t bytes, uint64_t most)
{
    struct pool *p = b->pool[tier];
    uint64_t done = 0;

    while (p->n && done < most && pool_spare(tier) > bytes) {
        struct range *last = &p->spare[p->n - 1], r = *last;
        uint64_t over = pool_spare(tier) - bytes, slots;

        slots = ((over < most - done ? over : most - done) + ram_granule() - 1) / ram_granule();
        if (slots < r.n)
            r = (struct range){ r.first + r.n - (uint32_t)slots, (uint32_t)slots };
        punch(b, tier, r, STALE);
        last->n -= r.n;
        p->n -= last->n == 0;
        atomic_fetch_sub(&spare_bytes[tier], r.n * ram_granule());
        done += r.n * ram_granule();
    }
    return done;
}

uint64_t pool_trim(unsigned tier, uint64_t bytes)
{
    uint64_t done = 0;

    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->pool[tier])
            punch_stale(b, tier);
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS && done < POOL_TRIM_MOST; b++)
        if (b->used && b->pool[tier] && pool_spare(tier) > bytes)
            done += trim_block(b, tier, bytes, POOL_TRIM_MOST - done);
    return done;
}
