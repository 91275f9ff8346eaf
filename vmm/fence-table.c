// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table of requests in flight, and who may go ahead: a submission or the mover.
 *
 * How it works. A request has pieces: its buffers, cut at multiples of 2 MiB (chunks), neighbours
 * joined. Pieces hang in a hash table by chunk, so that the question "is anything in flight into
 * this range" looks at the pieces of its chunks only; requests of a completion ring hang in another
 * by owner and key. Everything is of fixed size: these are hooks in QEMU's hottest paths, and what
 * was never used of the tables costs no memory.
 *
 * Invariants.
 * - A request is in the table before the kernel knows of it, and until the kernel has finished.
 * - A range is held only when nothing in the table met it, and what is added while it is held waits
 *   (fence_leave) before it goes to the kernel. What is added is in the table while it waits, so
 *   the next range held cannot meet it, and nobody waits twice.
 * - The lock is never held across a call that may block on guest memory or on a device. So it may
 *   be taken in any thread at any time, and a thread that blocks on a write-protected page inside
 *   the real call (buffered I/O does) blocks nobody here.
 * - Where something is not known (no room, unknown request) everything counts as busy: `unseen`.
 */
#include "vmm/fence-table.h"
#include "common/clock.h"
#include "vmm/fence-time.h"
#include "vmm/fence.h"

#include <pthread.h>
#include <sys/resource.h>

#define LOOK_EACH   8u              /* holds; to look whether one was disturbed takes two calls */
#define REQUESTS    16384u
#define PIECES      32768u
#define CHUNK_SHIFT 21
#define CHUNKS      4096u
#define KEYS        4096u
#define VECTOR_MAX  1024u           /* the kernel's limit (UIO_MAXIOV) */
#define LENGTH_MAX  (1ull << 32)    /* above the kernel's limit for one request */

struct piece {
    uint64_t start, end;
    uint32_t chunk_next, chunk_prev;    /* others of the same bucket; 0 ends a list everywhere */
    uint32_t next;                      /* others of the request; free pieces: the next free one */
};

struct request {
    uint64_t key;
    uint32_t next;                      /* others of the bucket; free requests: the next free one */
    uint32_t pieces;
    uint32_t joined;                    /* completions until it ends */
    uint16_t owner;                     /* FENCE_OWNERS: a free one */
    bool buffers, everything;
};

/* All under `lock`. */
static struct {
    pthread_mutex_t lock;
    struct request requests[REQUESTS + 1];
    struct piece pieces[PIECES + 1];            /* what is written to [0] means nothing */
    uint32_t by_key[KEYS], by_chunk[CHUNKS];
    uint32_t requests_used, pieces_used;        /* beyond these never used */
    uint32_t requests_free, pieces_free;        /* lists of free ones below that */
    struct {
        uint32_t requests, lost;
    } owner[FENCE_OWNERS];
    struct fence_stats stats;
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

/*
 * The range held. `holder` is locked as long as it is, so that there is one; the rest under
 * table.lock. `met`: something added since fence_enter() meets the range.
 */
static struct {
    pthread_mutex_t holder;
    pthread_cond_t over;
    uint64_t start, end, turn;
    uint64_t since;                 /* its holder's: when it was held, ... */
    long preempted;                 /* ... and how often its holder had been then, -1: not looked */
    bool on, met;
} hold = { .holder = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER };

static struct fence_times holds, undisturbed, waits;

/* --- pieces --------------------------------------------------------------------------------- */

static uint32_t *chunk_list(uint64_t address)
{
    return &table.by_chunk[(address >> CHUNK_SHIFT) % CHUNKS];
}

static uint32_t new_piece(void)
{
    uint32_t i = table.pieces_free;

    if (!i)
        return table.pieces_used < PIECES ? ++table.pieces_used : 0;
    table.pieces_free = table.pieces[i].next;
    return i;
}

static void link_piece(struct request *r, uint32_t i, uint64_t start, uint64_t end)
{
    uint32_t *list = chunk_list(start);

    table.pieces[i] = (struct piece){ start, end, *list, 0, r->pieces };
    table.pieces[*list].chunk_prev = i;
    *list = i;
    r->pieces = i;
}

static void free_piece(uint32_t i)
{
    struct piece *p = &table.pieces[i];

    *(p->chunk_prev ? &table.pieces[p->chunk_prev].chunk_next : chunk_list(p->start)) =
        p->chunk_next;
    table.pieces[p->chunk_next].chunk_prev = p->chunk_prev;
    p->next = table.pieces_free;
    table.pieces_free = i;
}

static bool bucket_meets(uint32_t bucket, uint64_t start, uint64_t end)
{
    for (uint32_t i = table.by_chunk[bucket]; i; i = table.pieces[i].chunk_next)
        if (table.pieces[i].start < end && start < table.pieces[i].end)
            return true;
    return false;
}

static bool in_flight_into(uint64_t start, uint64_t end)
{
    uint64_t chunk = start >> CHUNK_SHIFT;
    uint64_t n = start < end ? ((end - 1) >> CHUNK_SHIFT) - chunk + 1 : 0;

    if (table.stats.unseen)
        return true;
    for (uint64_t i = 0; i < n && i < CHUNKS; i++)
        if (bucket_meets((uint32_t)((chunk + i) % CHUNKS), start, end))
            return true;
    return false;
}

/* --- requests ------------------------------------------------------------------------------- */

static uint32_t *key_list(unsigned owner, uint64_t key)
{
    return &table.by_key[((key + owner) * 0x9e3779b97f4a7c15ull >> 40) % KEYS];
}

static uint32_t find(unsigned owner, uint64_t key)
{
    uint32_t i = *key_list(owner, key);

    while (i && (table.requests[i].key != key || table.requests[i].owner != owner))
        i = table.requests[i].next;
    return i;
}

static uint32_t new_request(void)
{
    uint32_t i = table.requests_free;

    if (!i)
        return table.requests_used < REQUESTS ? ++table.requests_used : 0;
    table.requests_free = table.requests[i].next;
    return i;
}

/* Requests of rings can be found by key; those of calls and orphans cannot, and need not. */
static void unlink_key(const struct request *r)
{
    uint32_t *link = key_list(r->owner, r->key), i = (uint32_t)(r - table.requests);

    if (r->owner < FENCE_RING)
        return;
    while (*link != i)
        link = &table.requests[*link].next;
    *link = r->next;
}

static void free_request(uint32_t i)
{
    struct request *r = &table.requests[i];
    uint32_t p = r->pieces;

    unlink_key(r);
    while (p) {
        uint32_t next = table.pieces[p].next;

        free_piece(p);
        p = next;
    }
    table.stats.unseen -= r->everything;
    table.stats.in_flight -= r->buffers;
    table.owner[r->owner].requests--;
    *r = (struct request){ .next = table.requests_free, .owner = FENCE_OWNERS };
    table.requests_free = i;
}

uint32_t fence_add(unsigned owner, uint64_t key)
{
    uint32_t *list = key_list(owner, key), i = owner < FENCE_RING ? 0 : find(owner, key);

    if (i) {
        table.requests[i].joined++;
        return i;
    }
    i = new_request();
    if (!i) {
        table.owner[owner].lost++;
        table.stats.unseen++;
        table.stats.overflows++;
        hold.met |= hold.on;
        return 0;
    }
    table.requests[i] = (struct request){ .key = key, .joined = 1, .owner = (uint16_t)owner };
    if (owner >= FENCE_RING) {
        table.requests[i].next = *list;
        *list = i;
    }
    table.owner[owner].requests++;
    return i;
}

static void count_buffers(struct request *r)
{
    table.stats.in_flight += !r->buffers;
    table.stats.submissions += !r->buffers;
    r->buffers = true;
}

void fence_add_everything(uint32_t request)
{
    struct request *r = &table.requests[request];

    if (!request)
        return;
    count_buffers(r);
    table.stats.unseen += !r->everything;
    r->everything = true;
    hold.met |= hold.on;
}

/* A part of a buffer that lies in one chunk. */
static bool add_piece(struct request *r, uint64_t start, uint64_t end)
{
    struct piece *last = &table.pieces[r->pieces];
    uint32_t i;

    if (r->pieces && last->end == start && last->start >> CHUNK_SHIFT == start >> CHUNK_SHIFT) {
        last->end = end;
        return true;
    }
    i = new_piece();
    if (i)
        link_piece(r, i, start, end);
    return i;
}

void fence_add_buffer(uint32_t request, uint64_t start, uint64_t length)
{
    struct request *r = &table.requests[request];
    uint64_t end = start + length;

    if (!request || !length || r->everything)
        return;
    if (length > LENGTH_MAX || end < start) {
        fence_add_everything(request);
        return;
    }
    count_buffers(r);
    hold.met |= hold.on && start < hold.end && hold.start < end;
    while (start < end) {
        uint64_t cut = ((start >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT;

        if (!add_piece(r, start, cut < end ? cut : end)) {
            table.stats.overflows++;
            fence_add_everything(request);
            return;
        }
        start = cut;
    }
}

void fence_add_vector(uint32_t request, const struct iovec *iov, uint64_t n)
{
    if (n > VECTOR_MAX)
        fence_add_everything(request);
    for (uint64_t i = 0; i < n && n <= VECTOR_MAX; i++)
        fence_add_buffer(request, (uintptr_t)iov[i].iov_base, iov[i].iov_len);
}

static void one_lost_ended(unsigned owner)
{
    if (table.owner[owner].lost) {
        table.owner[owner].lost--;
        table.stats.unseen--;
    }
}

void fence_complete(unsigned owner, uint64_t key)
{
    uint32_t i = find(owner, key);

    if (!i)
        one_lost_ended(owner);
    else if (!--table.requests[i].joined)
        free_request(i);
}

void fence_complete_call(uint32_t request)
{
    if (request)
        free_request(request);
    else
        one_lost_ended(FENCE_CALL);
}

void fence_forget_key(unsigned owner, uint64_t key)
{
    uint32_t i = find(owner, key);

    if (i)
        free_request(i);
}

void fence_forget_owner(unsigned owner)
{
    for (uint32_t i = 1; i <= table.requests_used && table.owner[owner].requests; i++)
        if (table.requests[i].owner == owner)
            free_request(i);
    while (table.owner[owner].lost)
        one_lost_ended(owner);
}

void fence_orphan_owner(unsigned owner)
{
    for (uint32_t i = 1; i <= table.requests_used && table.owner[owner].requests; i++) {
        struct request *r = &table.requests[i];

        if (r->owner != owner)
            continue;
        unlink_key(r);
        r->owner = FENCE_NOBODY;
        table.owner[owner].requests--;
        table.owner[FENCE_NOBODY].requests++;
    }
    table.owner[FENCE_NOBODY].lost += table.owner[owner].lost;
    table.owner[owner].lost = 0;
}

bool fence_owner_busy(unsigned owner)
{
    return table.owner[owner].requests || table.owner[owner].lost;
}

/* --- who may go ahead ----------------------------------------------------------------------- */

void fence_enter(void)
{
    pthread_mutex_lock(&table.lock);
    hold.met = false;
}

static void wait_for_release(void)
{
    uint64_t turn = hold.turn, start = clock_ns(CLOCK_MONOTONIC);

    table.stats.waited++;
    while (hold.on && hold.turn == turn)
        pthread_cond_wait(&hold.over, &table.lock);
    fence_times_note(&waits, clock_ns(CLOCK_MONOTONIC) - start);
}

void fence_leave(void)
{
    if (hold.met)
        wait_for_release();
    pthread_mutex_unlock(&table.lock);
}

/* Under table.lock. */
static bool meets_dma(uint64_t start, uint64_t end)
{
    bool busy;

    fence_aio.scan();
    fence_uring.scan();
    busy = in_flight_into(start, end);
    table.stats.refused += busy;
    return busy;
}

bool fence_busy(const uint8_t *host, uint64_t length)
{
    bool busy;

    pthread_mutex_lock(&table.lock);
    busy = meets_dma((uintptr_t)host, (uintptr_t)host + length);
    pthread_mutex_unlock(&table.lock);
    return busy;
}

/* By others that want the processor; waiting for a lock of the kernel's is part of a hold. */
static long count_preemptions(void)
{
    struct rusage u;

    return getrusage(RUSAGE_THREAD, &u) ? -1 : u.ru_nivcsw;
}

bool fence_hold(const uint8_t *host, uint64_t length)
{
    uint64_t start = (uintptr_t)host, end = start + length;
    bool busy;

    pthread_mutex_lock(&hold.holder);
    pthread_mutex_lock(&table.lock);
    busy = meets_dma(start, end);
    hold.on = !busy;
    hold.since = clock_ns(CLOCK_MONOTONIC);
    hold.start = start;
    hold.end = end;
    hold.turn++;
    pthread_mutex_unlock(&table.lock);
    if (busy)
        pthread_mutex_unlock(&hold.holder);
    else
        hold.preempted = hold.turn % LOOK_EACH ? -1 : count_preemptions();
    return !busy;
}

void fence_release(void)
{
    uint64_t ns;

    pthread_mutex_lock(&table.lock);
    hold.on = false;
    pthread_cond_broadcast(&hold.over);
    pthread_mutex_unlock(&table.lock);
    ns = clock_ns(CLOCK_MONOTONIC) - hold.since;
    fence_times_note(&holds, ns);
    if (hold.preempted >= 0 && count_preemptions() == hold.preempted)
        fence_times_note(&undisturbed, ns);
    pthread_mutex_unlock(&hold.holder);
}

void fence_get_stats(struct fence_stats *stats)
{
    pthread_mutex_lock(&table.lock);
    *stats = table.stats;
    pthread_mutex_unlock(&table.lock);
    stats->holds = fence_times_count(&holds);
    stats->hold_p50_ns = fence_times_quantile(&holds, .5);
    stats->hold_p99_ns = fence_times_quantile(&holds, .99);
    stats->hold_max_ns = holds.longest;
    stats->undisturbed = fence_times_count(&undisturbed);
    stats->undisturbed_p50_ns = fence_times_quantile(&undisturbed, .5);
    stats->undisturbed_p99_ns = fence_times_quantile(&undisturbed, .99);
    stats->undisturbed_max_ns = undisturbed.longest;
    stats->wait_p99_ns = fence_times_quantile(&waits, .99);
    stats->wait_max_ns = waits.longest;
}

uint64_t fence_hold_ns(double share)
{
    return fence_times_quantile(&holds, share);
}
