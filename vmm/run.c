// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The protocol that moves a run and loses no byte.
 *
 * Theory of operation. A granule's contents live in the file, and at the offset, that is mapped at
 * its address. To move it, its pages are copied to a slot of the other tier's file and that is mapped
 * over the address. The order of the steps is what keeps every byte; each other order that was tried
 * loses updates:
 *
 *   1  populate both views             so that the window below does not wait for memory, and so
 *                                      that a full tier is an error here and no SIGBUS there
 *   2  UFFDIO_WRITEPROTECT             writers wait from now on; readers go on
 *   3  copy
 *   4  mmap(MAP_FIXED) the other file  the address now shows the copy
 *   5  madvise()                       a new mapping has none of QEMU's flags; without them the
 *                                      neighbours' mappings do not merge
 *   6  UFFDIO_REGISTER                 the registration went with the old mapping
 *   7  UFFDIO_WAKE                     writers go on, into the new file
 *   8  map in                          for what is likely to be used: huge pages before 7, as that
 *                                      takes microseconds; small ones after it, beside the guest
 *   9  the old slot becomes spare      its memory is the next move's destination, or punched later,
 *                                      many at a time
 *
 * A failure up to 4 undoes the protection: the granule is where it was. If 4 fails in the middle of a
 * run, what was mapped has moved and the rest has not. After 4 it is in the new place, whatever
 * happens; if 6 fails the next move could not protect it, so tiering freezes. Death of the process at
 * any step loses nothing that outlives it; death of the daemon is not noticed here at all.
 *
 * Between 2 and 7 nothing here may allocate with malloc, write to a log or take a lock that a
 * thread could hold while it waits for a protected page.
 *
 * Small pages. To make a 4 KiB page by touching it costs three times as much as by write(2), which
 * neither takes a fault nor clears the page. So a short run into files of small pages that has to
 * make its memory does that in step 3, by writing; a long one would hold up writers for too long.
 *
 * Holes. Parts of the source that were never written are not copied: they are holes in the
 * destination as well. A spare slot has stale contents all over, so it only takes granules without
 * holes; for others it is punched first.
 */
#include "vmm/run.h"
#include "common/clock.h"
#include "common/fault.h"
#include "vmm/fence.h"
#include "vmm/pagemap.h"
#include "vmm/pool.h"
#include "vmm/refault.h"
#include "vmm/uapi.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SMALL_PAGE 4096u
#define SHORT_RUN  (128u << 10)
#define WRITE_MOST (1u << 20)           /* bytes of a run whose memory is made while it is held */

static _Atomic uint64_t step_ns[MOVER_STEPS];

void run_get_steps(uint64_t ns[MOVER_STEPS])
{
    for (int i = 0; i < MOVER_STEPS; i++)
        ns[i] = atomic_load(&step_ns[i]);
}

void run_add_step(enum mover_step s, uint64_t ns)
{
    atomic_fetch_add_explicit(&step_ns[s], ns, memory_order_relaxed);
}

/* Adds the time since *since to a step's, and starts the next one. */
static void step(enum mover_step s, uint64_t *since)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC);

    run_add_step(s, now - *since);
    *since = now;
}

/* --- pieces ------------------------------------------------------------------------------------- */

static uint64_t bytes_of(const struct run *r, uint32_t granule)
{
    return ram_length(r->b, granule);
}

/* Adds granule g, which is to go to `slot`, to the last piece or as a new one. */
static bool add_granule(struct run *r, uint32_t g, uint32_t slot, bool spare)
{
    uint64_t from = ram_slot[g] * ram_granule(), to = slot * ram_granule();
    struct piece *last = r->n_pieces ? &r->piece[r->n_pieces - 1] : NULL;

    if (last && last->from + last->length == from && last->to + last->length == to &&
        last->spare == spare) {
        last->length += bytes_of(r, g);
    } else if (r->n_pieces == RUN_PIECES) {
        return false;
    } else {
        r->piece[r->n_pieces++] = (struct piece){ .at = r->length, .length = bytes_of(r, g),
                                                  .from = from, .to = to, .spare = spare };
    }
    r->length += bytes_of(r, g);
    return true;
}

bool run_prepare(struct run *r, bool tidy)
{
    uint32_t wanted = r->n;

    r->offset = ram_offset(r->b, r->first);
    r->length = 0;
    for (r->n = 0; r->n < wanted;) {
        struct slots s = pool_take(r->b, r->to, r->first + r->n - r->b->first, wanted - r->n, tidy);

        for (uint32_t i = 0; i < s.n; i++, r->n++)
            if (!add_granule(r, r->first + r->n, s.first + i, s.spare)) {
                pool_give(r->b, r->to, s.first + i, s.n - i);
                return true;
            }
        if (!s.n)
            break;
    }
    return r->n > 0;
}

bool run_prepare_exact(struct run *r)
{
    uint32_t wanted = r->n;
    bool spare;

    r->offset = ram_offset(r->b, r->first);
    r->length = 0;
    for (r->n = 0; r->n < wanted; r->n++) {
        uint32_t g = r->first + r->n, slot = g - r->b->first;

        if (!pool_take_exact(r->b, r->to, slot, &spare))
            break;
        if (!add_granule(r, g, slot, spare)) {
            pool_give(r->b, r->to, slot, 1);
            break;
        }
    }
    return r->n > 0;
}

/* --- data and holes ------------------------------------------------------------------------------- */

enum amount { NOTHING, SOMETHING, EVERYTHING };

/*
 * Is there data in all of a range, in nothing of it? Cheap, where looking for the next hole has to walk
 * the file up to one. Pages in swap count as data. hugetlbfs does not tell.
 */
static enum amount count_data(const struct ram_block *b, unsigned tier, uint64_t offset,
                              uint64_t length)
{
    struct cachestat_range range = { b->base[tier] + offset, length };
    struct cachestat c;

    if (b->page_size > SMALL_PAGE)
        return EVERYTHING;
    if (syscall(VT_SYS_CACHESTAT, b->file[tier], &range, &c, 0))
        return SOMETHING;
    if (c.nr_cache + c.nr_evicted == 0)
        return NOTHING;
    return c.nr_cache == length / SMALL_PAGE ? EVERYTHING : SOMETHING;
}

bool run_is_empty(const struct ram_block *b, unsigned tier, uint64_t offset, uint64_t length)
{
    return count_data(b, tier, offset, length) == NOTHING;
}

/* [start, end) of piece p's source, as offsets in the area, holds data. */
static void add_data(struct run *r, uint32_t p, uint64_t start, uint64_t end)
{
    const struct piece *q = &r->piece[p];
    uint32_t i = r->n_data++;

    r->data[i] = (struct copy_part){ .from = r->b->view[r->from] + start, .length = end - start,
                                     .to = r->b->view[r->to] + q->to + (start - q->from) };
    r->data_at[i].at = q->at + (start - q->from);
    r->data_at[i].piece = p;
}

/* Walks the file. Each piece after this one may need an entry of the list: those are left free. */
static void find_extents(struct run *r, uint32_t p)
{
    const struct piece *q = &r->piece[p];
    const off_t base = (off_t)r->b->base[r->from];
    const uint32_t room = RUN_EXTENTS - (r->n_pieces - p - 1);
    off_t at = base + (off_t)q->from, end = at + (off_t)q->length;
    int fd = r->b->file[r->from];

    while (at < end) {
        off_t start = lseek(fd, at, SEEK_DATA), stop;

        if (start < 0 && errno == ENXIO)
            return;                                     /* nothing but holes to the end */
        if (start < 0 || (stop = lseek(fd, start, SEEK_HOLE)) < 0) {
            start = at;                                 /* no such call on this file: all of it */
            stop = end;
        }
        if (start >= end)
            return;
        if (r->n_data + 1 >= room)
            stop = end;                                 /* no more entries: all the rest */
        at = stop < end ? stop : end;
        add_data(r, p, (uint64_t)(start - base), (uint64_t)(at - base));
    }
}

/* Finds the parts of the run's source that hold data. Rounds outwards to whole pages of the file. */
static int find_data(struct run *r)
{
    int rc = fault_at(FAULT_FIND_DATA);

    r->n_data = 0;
    for (uint32_t p = 0; !rc && p < r->n_pieces; p++) {
        struct piece *q = &r->piece[p];
        enum amount amount = EVERYTHING;

        q->mapped = pagemap_is_full(r->b->view[r->from] + q->from, q->length);
        if (!q->mapped)
            amount = count_data(r->b, r->from, q->from, q->length);
        q->whole = amount == EVERYTHING;
        if (amount == EVERYTHING)
            add_data(r, p, q->from, q->from + q->length);
        else if (amount == SOMETHING)
            find_extents(r, p);
    }
    return rc;
}

/* --- making memory -------------------------------------------------------------------------------- */

static int advise(uint8_t *start, uint64_t length, int advice)
{
    while (madvise(start, length, advice))
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    return 0;
}

/* Where data has holes, stale contents would show through. */
static int clear_stale(struct run *r)
{
    for (uint32_t p = 0; p < r->n_pieces; p++) {
        struct piece *q = &r->piece[p];

        if (!q->spare || q->whole)
            continue;
        if (fallocate(r->b->file[r->to], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(r->b->base[r->to] + q->to), (off_t)q->length))
            return -errno;
        q->spare = false;
    }
    return 0;
}

/* Is the destination's memory to be made by writing to its file? */
static bool to_be_written(const struct run *r, const struct piece *q)
{
    if (r->length > WRITE_MOST || r->b->page_size != SMALL_PAGE || !r->b->small[r->to])
        return false;
    return !q->spare || count_data(r->b, r->to, q->to, q->length) != EVERYTHING;
}

/* Not each spare slot has all its memory: pages may have been discarded before it became one. */
static int populate_piece(struct run *r, uint32_t p, uint32_t first, uint32_t end)
{
    struct piece *q = &r->piece[p];
    const uint8_t *host = r->b->host + r->offset + q->at;
    bool there = pagemap_is_full(r->b->view[r->to] + q->to, q->length);
    int rc = 0;

    q->write = !there && to_be_written(r, q);
    if (q->write && !q->mapped && q->whole && pagemap_is_full(host, q->length)) {
        r->data[first].from = host;         /* mapped here, so it need not be there */
        q->mapped = true;
    }
    for (uint32_t i = first; !rc && i < end; i++) {
        struct copy_part *d = &r->data[i];

        rc = fault_at(FAULT_POPULATE_SOURCE);
        if (!rc && !q->mapped)
            rc = advise((uint8_t *)(uintptr_t)d->from, d->length, MADV_POPULATE_READ);
        if (!rc && !there)
            rc = fault_at(FAULT_POPULATE_DEST);
        if (!rc && !there && !q->write)
            rc = advise(d->to, d->length, MADV_POPULATE_WRITE);
        d->cached = !there;
    }
    return rc;
}

/*
 * Makes memory for the run's data in the destination, and maps the source: whatever cannot be had is
 * an error here, where copying would take a SIGBUS. Also fine on memory that is there.
 */
static int populate(struct run *r)
{
    int rc = 0;

    for (uint32_t i = 0, end; !rc && i < r->n_data; i = end) {
        for (end = i + 1; end < r->n_data && r->data_at[end].piece == r->data_at[i].piece; end++)
            ;
        rc = populate_piece(r, r->data_at[i].piece, i, end);
    }
    return rc;
}

/* Everything that has to be there before the copy. */
static int make_ready(struct run *r, uint64_t *since)
{
    int rc = find_data(r);

    step(STEP_FIND, since);
    if (!rc)
        rc = clear_stale(r);
    if (!rc)
        rc = populate(r);
    step(STEP_POPULATE, since);
    return rc;
}

/* --- the window ------------------------------------------------------------------------------------- */

static enum vt_status status_of(int code)
{
    switch (code) {
    case -ENOMEM: case -ENOSPC: case -EFAULT: case -EHWPOISON:
        return VT_ST_NOMEM;
    case -EAGAIN:
        return VT_ST_AGAIN;
    default:
        return VT_ST_ERROR;
    }
}

static int map_range(const struct ram_block *b, unsigned tier, uint64_t at, uint64_t length,
                     uint64_t offset)
{
    void *p = mmap(b->host + at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                   b->file[tier], (off_t)(b->base[tier] + offset));

    return p == MAP_FAILED ? -errno : 0;
}

/*
 * A mapping that failed late may have taken the old one away already, so that is put back. If even
 * that fails the guest has lost the range, and nothing here can help it.
 */
static void map_back(const struct run *r, uint32_t first, uint32_t end, int why)
{
    uint64_t at = r->offset + r->piece[first].at;
    uint64_t length = r->piece[end - 1].at + r->piece[end - 1].length - r->piece[first].at;
    int rc = 0;

    for (uint32_t p = first; !rc && p < end; p++) {
        const struct piece *q = &r->piece[p];

        rc = fault_at(FAULT_MAP_BACK);
        if (!rc)
            rc = map_range(r->b, r->from, r->offset + q->at, q->length, q->from);
    }
    ram_readvise(r->b, at, length);
    if (uffd_register(r->b->host + at, length) || rc)
        mover_freeze(true, "block %s, offset %#llx, %llu bytes: mapping the other file failed (%s), "
                     "and the old one is not as it was", r->b->name, (unsigned long long)at,
                     (unsigned long long)length, strerror(-why));
}

/* Leaves the run from piece p on as it was before it was protected; a new mapping is not. */
static void release(const struct run *r, uint32_t p)
{
    uint64_t at = r->piece[p].at;
    int rc = fault_at(FAULT_UNPROTECT);

    if (!rc)
        rc = uffd_unprotect(r->b->host + r->offset + at, r->length - at);
    if (rc) {
        map_back(r, p, r->n_pieces, rc);
        uffd_wake(r->b->host + r->offset + at, r->length - at);
    }
}

/*
 * Step 4. Pieces that are neighbours in the destination are mapped with one call. Returns how many
 * pieces are in the new place.
 */
static uint32_t map_over(const struct run *r, int *rc)
{
    uint32_t p = 0, end;

    for (; p < r->n_pieces; p = end) {
        const struct piece *q = &r->piece[p];
        uint64_t length = q->length;

        for (end = p + 1; end < r->n_pieces && r->piece[end].to == q->to + length; end++)
            length += r->piece[end].length;
        *rc = fault_at(FAULT_MAP_OVER);
        if (!*rc)
            *rc = map_range(r->b, r->to, r->offset + q->at, length, q->to);
        if (*rc) {
            map_back(r, p, end, *rc);
            return p;
        }
    }
    return r->n_pieces;
}

/* Will the guest want its mapping again? Cold memory, and what it has not mapped now, can wait. */
static bool wants_map_in(const struct run *r)
{
    return r->used && (r->to <= r->from || r->b->page_size > SMALL_PAGE);
}

/* Then nothing can be added, and what discards memory needs ram_lock(). */
static bool is_whole(const struct run *r)
{
    for (uint32_t p = 0; p < r->n_pieces; p++)
        if (!r->piece[p].whole)
            return false;
    return true;
}

/* The first `length` bytes, which are in their new place already, with nothing registered. */
static void map_anew(const struct run *r, uint64_t length)
{
    for (uint32_t p = 0; p < r->n_pieces && r->piece[p].at < length; p++) {
        const struct piece *q = &r->piece[p];

        if (map_range(r->b, r->to, r->offset + q->at, q->length, q->to))
            mover_freeze(true, "block %s, offset %#llx: userfaultfd would not let go of it",
                         r->b->name, (unsigned long long)(r->offset + q->at));
    }
    ram_readvise(r->b, r->offset, length);
}

/*
 * While userfaultfd does not know the mapping, a read fault maps sixteen small pages at once, writable;
 * a long run is mapped faster still by UFFDIO_CONTINUE.
 */
static void map_in(const struct run *r, uint64_t length)
{
    uint8_t *host = r->b->host + r->offset;

    if (fault_at(FAULT_MAP_IN))
        return;
    if (r->b->small[r->to] && r->length > SHORT_RUN && is_whole(r)) {
        if (uffd_map_in(host, length))
            map_anew(r, length);
        return;
    }
    for (uint32_t i = 0; i < r->n_data && r->data_at[i].at < length; i++)
        madvise(host + r->data_at[i].at, r->data[i].length, MADV_POPULATE_READ);
}

/* Writes down where the first `length` bytes of the run are now. */
static void note_places(struct run *r, uint64_t length)
{
    for (uint32_t p = 0; p < r->n_pieces && r->piece[p].at < length; p++) {
        const struct piece *q = &r->piece[p];

        for (uint64_t done = 0; done < q->length; done += ram_granule(), r->arrived++) {
            ram_tier[r->first + r->arrived] = (uint8_t)r->to;
            ram_slot[r->first + r->arrived] = (uint32_t)((q->to + done) / ram_granule());
        }
    }
}

/* Steps 5 to 8 for the first `length` bytes, which are in their new place. */
static void settle(struct run *r, uint64_t length, uint64_t *since)
{
    uint8_t *host = r->b->host + r->offset;
    int rc;

    note_places(r, length);
    if (!fault_at(FAULT_ADVISE))
        ram_readvise(r->b, r->offset, length);
    step(STEP_MAP, since);
    rc = fault_at(FAULT_REGISTER);
    if (wants_map_in(r))
        map_in(r, length);
    step(STEP_MAP_IN, since);
    if (!rc)
        rc = uffd_register(host, length);
    step(STEP_REGISTER, since);
    if (fault_at(FAULT_WAKE) || uffd_wake(host, length))
        uffd_wake(host, length);
    step(STEP_WAKE, since);
    if (rc)
        mover_freeze(true, "block %s, offset %#llx, %llu bytes: UFFDIO_REGISTER after a move: %s",
                     r->b->name, (unsigned long long)r->offset, (unsigned long long)length,
                     strerror(-rc));
}

static int protect(const struct run *r)
{
    int rc = fault_at(FAULT_PROTECT);

    if (!rc && r->used && r->b->small[r->from] && r->length > SHORT_RUN && !r->piece[0].write)
        madvise(r->b->host + r->offset, r->length, MADV_DONTNEED);
    if (!rc)
        rc = uffd_protect(r->b->host + r->offset, r->length);
    if (rc == -ENOENT)
        mover_freeze(true, "block %s, offset %#llx: not registered with userfaultfd any more; "
                     "another user of userfaultfd in this QEMU?", r->b->name,
                     (unsigned long long)r->offset);
    return rc;
}

static int write_part(const struct run *r, const struct copy_part *d)
{
    const uint64_t to = r->b->base[r->to] + (uint64_t)(d->to - r->b->view[r->to]);

    for (uint64_t done = 0; done < d->length;) {
        ssize_t n = pwrite(r->b->file[r->to], d->from + done, d->length - done, (off_t)(to + done));

        if (n <= 0 && errno != EINTR)
            return n < 0 ? -errno : -ENOSPC;
        done += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}

static int copy(struct run *r)
{
    struct copy_part part[RUN_EXTENTS];
    struct mover_tuning t;
    unsigned n = 0;
    int rc = fault_at(FAULT_COPY);

    for (uint32_t i = 0; !rc && i < r->n_data; i++) {
        if (r->piece[r->data_at[i].piece].write)
            rc = write_part(r, &r->data[i]);
        else
            part[n++] = r->data[i];
        r->pages += r->data[i].length / SMALL_PAGE;
    }
    mover_get_tuning(&t);
    if (!rc)
        r->helpers_ns += copy_parts(part, n, !t.through_caches);
    return rc;
}

/* Steps 2 and 3: leaves the run protected and copied, or as it was. */
static int protect_and_copy(struct run *r, uint64_t *since)
{
    int rc = protect(r);

    step(STEP_PROTECT, since);
    if (!rc && !is_whole(r))
        rc = make_ready(r, since);      /* again: what was written while step 1 ran */
    if (!rc)
        rc = copy(r);
    step(STEP_COPY, since);
    if (rc)
        release(r, 0);
    return rc;
}

/* From protection to wake-up; a run of memory that nobody has used only changes its mapping. */
static enum vt_status window(struct run *r, uint64_t *since)
{
    bool bare = r->bare && !r->n_data;
    int rc = bare ? 0 : protect_and_copy(r, since);
    uint32_t moved;

    if (rc)
        return status_of(rc);
    moved = map_over(r, &rc);
    if (moved)
        settle(r, moved < r->n_pieces ? r->piece[moved].at : r->length, since);
    if (moved < r->n_pieces && !bare)
        release(r, moved);
    return rc ? status_of(rc) : VT_ST_OK;
}

/* --- the run ----------------------------------------------------------------------------------------- */

/* Nobody uses the old slots of what arrived, nor the new ones of what did not. */
static void give_slots(const struct run *r)
{
    uint64_t moved = 0;

    for (uint32_t i = 0; i < r->arrived; i++)
        moved += bytes_of(r, r->first + i);
    for (uint32_t p = 0; p < r->n_pieces; p++) {
        const struct piece *q = &r->piece[p];
        unsigned tier = q->at < moved ? r->from : r->to;
        uint64_t offset = q->at < moved ? q->from : q->to;

        pool_give(r->b, tier, (uint32_t)(offset / ram_granule()),
                  (uint32_t)((q->length + ram_granule() - 1) / ram_granule()));
    }
}

static bool fence_is_open(const struct run *r)
{
    return !fault_at(FAULT_FENCE_HOLD) && fence_hold(r->b->host + r->offset, r->length);
}

static enum vt_status carry_out(struct run *r, uint64_t *since)
{
    enum vt_status st;
    int rc;

    if (!fence_is_open(r))
        return VT_ST_BUSY;              /* before memory is made ready for nothing */
    fence_release();
    rc = make_ready(r, since);
    if (rc)
        return status_of(rc);
    r->used = !r->bare && pagemap_is_used(r->b->host + r->offset, r->length);
    if (!fence_is_open(r))
        return VT_ST_BUSY;
    r->hold_ns = clock_ns(CLOCK_MONOTONIC);
    st = window(r, since);
    fence_release();
    r->hold_ns = clock_ns(CLOCK_MONOTONIC) - r->hold_ns;
    return st;
}

enum vt_status run_carry_out(struct run *r)
{
    uint64_t since = clock_ns(CLOCK_MONOTONIC);
    enum vt_status st = carry_out(r, &since);

    give_slots(r);
    if (r->arrived)
        refault_forget(r->first, r->arrived);
    fault_at(FAULT_MOVED);
    return st;
}
