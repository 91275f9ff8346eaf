// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a run needs before its window: slots to go to, where its data is, and memory for it.
 *
 * Pieces. A run is one range of the guest's memory, but its granules may lie anywhere in both files.
 * A piece is a stretch of it that is in a row in both, so that it is looked at, copied and mapped as
 * one.
 *
 * Small pages. To make a 4 KiB page by touching it costs three times as much as by write(2), which
 * neither takes a fault nor clears the page. So what goes into a file of small pages where there is none is
 * written, in the window. A long run would hold up writers for too long with that: its pages are allocated before,
 * by fallocate(2), which does not clear them either. It costs a second pass over them, so a short one does without.
 *
 * Holes. Parts of the source that were never written are not copied: they are holes in the
 * destination as well. A spare slot has stale contents all over, so it only takes granules without
 * holes; for others it is punched first.
 */
#include "common/fault.h"
#include "vmm/huge.h"
#include "vmm/pagemap.h"
#include "vmm/pool.h"
#include "vmm/run.h"
#include "common/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define WRITE_MOST (1u << 20)           /* bytes of a run whose pages are allocated while it is held */

/* --- pieces ------------------------------------------------------------------------------------- */

/* Adds granule g, which is to go to `slot`, to the last piece or as a new one. */
static bool add_granule(struct run *r, uint32_t g, uint32_t slot, bool spare)
{
    uint64_t from = ram_slot[g] * ram_granule(), to = slot * ram_granule();
    struct piece *last = r->n_pieces ? &r->piece[r->n_pieces - 1] : NULL;

    if (last && last->from + last->length == from && last->to + last->length == to &&
        last->spare == spare) {
        last->length += ram_length(r->b, g);
    } else if (r->n_pieces == RUN_PIECES) {
        return false;
    } else {
        r->piece[r->n_pieces++] = (struct piece){ .at = r->length, .length = ram_length(r->b, g),
                                                  .from = from, .to = to, .spare = spare };
    }
    r->length += ram_length(r->b, g);
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

static enum amount count_huge(const struct ram_block *b, unsigned tier, uint64_t offset,
                              uint64_t length)
{
    uint64_t there = 0;

    for (uint64_t at = offset; at < offset + length; at += b->page_size)
        there += huge_is_there(b, tier, at) ? b->page_size : 0;
    return !there ? NOTHING : there >= length ? EVERYTHING : SOMETHING;
}

/*
 * Is there data in all of a range, in nothing of it? Cheap, where looking for the next hole has to walk
 * the file up to one. Pages in swap count as data.
 */
static enum amount count_data(const struct ram_block *b, unsigned tier, uint64_t offset,
                              uint64_t length)
{
    struct cachestat_range range = { b->base[tier] + offset, length };
    struct cachestat c;

    if (b->page_size > SMALL_PAGE)
        return count_huge(b, tier, offset, length);
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

static void find_huge(struct run *r, uint32_t p)
{
    const struct piece *q = &r->piece[p];
    const uint64_t page = r->b->page_size, end = q->from + q->length;
    const uint32_t room = RUN_EXTENTS - (r->n_pieces - p - 1);

    for (uint64_t at = q->from, stop; at < end; at = stop) {
        stop = at + page;
        if (!huge_is_there(r->b, r->from, at))
            continue;
        while (stop < end && huge_is_there(r->b, r->from, stop))
            stop += page;
        if (r->n_data + 1 >= room)
            stop = end;                                 /* no more entries: all the rest */
        add_data(r, p, at, stop < end ? stop : end);
    }
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

/* Is a piece, in one of the two areas, all there and mapped in the view? */
static bool is_mapped(const struct run *r, unsigned tier, uint64_t offset, uint64_t length)
{
    return pool_is_mapped(r->b, tier, run_slot(offset), run_slots(length)) ||
           pagemap_is_full(r->b->view[tier] + offset, length);
}

/* Finds the parts of the run's source that hold data. Rounds outwards to whole pages of the file. */
static int find_data(struct run *r)
{
    int rc = fault_at(FAULT_FIND_DATA);

    r->n_data = 0;
    for (uint32_t p = 0; !rc && p < r->n_pieces; p++) {
        struct piece *q = &r->piece[p];
        enum amount amount = EVERYTHING;

        q->mapped = is_mapped(r, r->from, q->from, q->length);
        if (!q->mapped)
            amount = count_data(r->b, r->from, q->from, q->length);
        q->whole = amount == EVERYTHING;
        if (amount == EVERYTHING)
            add_data(r, p, q->from, q->from + q->length);
        else if (amount == SOMETHING && r->b->page_size > SMALL_PAGE)
            find_huge(r, p);
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
        if (fault_at(FAULT_CLEAR) ||
            fallocate(r->b->file[r->to], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(r->b->base[r->to] + q->to), (off_t)q->length))
            return -errno;
        pool_note_mapped(r->b, r->to, run_slot(q->to), run_slots(q->length), false);
        q->spare = false;
    }
    return 0;
}

/* Is the destination to be filled by writing to its file? */
static bool to_be_written(const struct run *r, const struct piece *q)
{
    if (r->b->page_size != SMALL_PAGE || !r->b->small[r->to])
        return false;
    return !q->spare || count_data(r->b, r->to, q->to, q->length) != EVERYTHING;
}

/* Pages in a file of small ones, without contents: until they are written, who maps or reads them sees zeros. */
static int allocate(const struct run *r, const struct copy_part *d)
{
    const uint64_t to = run_file_offset(r, d);

    while (fallocate(r->b->file[r->to], FALLOC_FL_KEEP_SIZE, (off_t)to, (off_t)d->length))
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* Not each spare slot has all its memory: pages may have been discarded before it became one. */
static int populate_piece(struct run *r, uint32_t p, uint32_t first, uint32_t end)
{
    struct piece *q = &r->piece[p];
    const uint8_t *host = r->b->host + r->offset + q->at;
    bool there = is_mapped(r, r->to, q->to, q->length);
    int rc = 0;

    /* At the second look what was allocated at the first seems to be there, but has no contents. */
    q->write = !there && (q->write || to_be_written(r, q));
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
        if (!rc && q->write && r->length > WRITE_MOST)
            rc = allocate(r, d);
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

int run_make_ready(struct run *r, uint64_t *since)
{
    int rc = find_data(r);

    run_step(STEP_FIND, since);
    if (!rc)
        rc = clear_stale(r);
    if (!rc)
        rc = populate(r);
    run_step(STEP_POPULATE, since);
    return rc;
}
