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
 *   5  UFFDIO_WAKE                     writers go on, into the new file
 *   6  madvise()                       a new mapping has none of QEMU's flags; without them the
 *                                      neighbours' mappings do not merge
 *   7  map in                          what had been mapped of memory that becomes faster: else the
 *                                      guest would pay for the faults
 *   8  UFFDIO_REGISTER                 the registration went with the old mapping; like 6, for a
 *                                      batch of runs at once (batch.c)
 *   9  the old slot becomes spare      its memory is the next move's destination, or punched later,
 *                                      many at a time
 *
 * A failure up to 4 undoes the protection: the granule is where it was. If 4 fails in the middle of a
 * run, what was mapped has moved and the rest has not. After 4 it is in the new place, whatever
 * happens; if 8 fails the next move could not protect it, so tiering freezes. Death of the process at
 * any step loses nothing that outlives it; death of the daemon is not noticed here at all.
 *
 * Between 2 and 5 nothing here may allocate with malloc, write to a log or take a lock that a
 * thread could hold while it waits for a protected page.
 */
#include "vmm/run.h"
#include "common/clock.h"
#include "common/fault.h"
#include "vmm/batch.h"
#include "vmm/fence.h"
#include "vmm/pagemap.h"
#include "vmm/pool.h"
#include "vmm/refault.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FAULT_AROUND (64u << 10)    /* what a read fault maps if it can, the kernel's default */

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

void run_step(enum mover_step s, uint64_t *since)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC);

    run_add_step(s, now - *since);
    *since = now;
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
    void *p = mmap(b->host + at, length, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_FIXED | b->map_flags, b->file[tier],
                   (off_t)(b->base[tier] + offset));

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

/* Then nothing can be added, and what discards memory needs ram_lock(). */
static bool is_whole(const struct run *r)
{
    for (uint32_t p = 0; p < r->n_pieces; p++)
        if (!r->piece[p].whole)
            return false;
    return true;
}

/*
 * A load takes half as long as MADV_POPULATE_READ or UFFDIO_CONTINUE of as much: while userfaultfd does
 * not know the mapping a read fault maps sixteen small pages at once, writable. They are there, as
 * they were just written.
 */
static void touch(const uint8_t *start, uint64_t length)
{
    for (uint64_t at = 0; at < length; at += FAULT_AROUND)
        (void)*(const volatile uint8_t *)(start + at);
}

static void map_in(const struct run *r, uint64_t length)
{
    const uint8_t *host = r->b->host + r->offset;

    if (fault_at(FAULT_MAP_IN))
        return;
    for (uint32_t i = 0; i < r->n_data && r->data_at[i].at < length; i++)
        touch(host + r->data_at[i].at, r->data[i].length);
}

/* Writes down where the first `length` bytes of the run are now. */
static void note_places(struct run *r, uint64_t length)
{
    for (uint32_t p = 0; p < r->n_pieces && r->piece[p].at < length; p++) {
        const struct piece *q = &r->piece[p];

        for (uint64_t done = 0; done < q->length; done += ram_granule(), r->arrived++) {
            ram_tier[r->first + r->arrived] = (uint8_t)r->to;
            ram_slot[r->first + r->arrived] = run_slot(q->to + done);
        }
    }
}

/* Who reads or writes the run need not wait any more: its memory is mapped where it is to stay. */
static void open_fence(struct run *r)
{
    if (!r->fenced)
        return;
    fence_release();
    r->fenced = false;
    r->hold_ns = clock_ns(CLOCK_MONOTONIC) - r->hold_ns;
}

/* Steps 5 to 8 for the first `length` bytes, which are in their new place. */
static void settle(struct run *r, uint64_t length, uint64_t *since)
{
    uint8_t *host = r->b->host + r->offset;

    note_places(r, length);
    run_step(STEP_MAP, since);
    if (fault_at(FAULT_WAKE) || uffd_wake(host, length))
        uffd_wake(host, length);
    if (length == r->length)
        open_fence(r);
    run_step(STEP_WAKE, since);
    if (!batch_is_open() && !fault_at(FAULT_ADVISE))
        ram_readvise(r->b, r->offset, length);
    if (r->used)                /* else it is cold, or not mapped now: that can wait */
        map_in(r, length);
    run_step(STEP_MAP_IN, since);
    batch_add(r->b, r->offset, length);
    run_step(STEP_REGISTER, since);
}

static int protect(const struct run *r)
{
    int rc = fault_at(FAULT_PROTECT);

    if (!rc)
        rc = uffd_protect(r->b->host + r->offset, r->length);
    if (rc == -ENOENT && batch_register())      /* moved a second time in its batch */
        rc = uffd_protect(r->b->host + r->offset, r->length);
    if (rc == -ENOENT)
        mover_freeze(true, "block %s, offset %#llx: not registered with userfaultfd any more; "
                     "another user of userfaultfd in this QEMU?", r->b->name,
                     (unsigned long long)r->offset);
    return rc;
}

static int write_part(const struct run *r, const struct copy_part *d)
{
    const uint64_t to = run_file_offset(r, d);

    if (fault_at(FAULT_WRITE))
        return -errno;
    for (uint64_t done = 0; done < d->length;) {
        ssize_t n = pwrite(r->b->file[r->to], d->from + done, d->length - done, (off_t)(to + done));

        if (!n)
            return -ENOSPC;
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}

static int copy(struct run *r)
{
    int rc = fault_at(FAULT_COPY);

    for (uint32_t i = 0, end; !rc && i < r->n_data; i = end) {
        for (end = i; end < r->n_data && !r->piece[r->data_at[end].piece].write; end++)
            r->pages += r->data[end].length / SMALL_PAGE;
        if (end > i) {
            r->helpers_ns += copy_parts(&r->data[i], end - i, !r->through_caches);
        } else {
            r->pages += r->data[end].length / SMALL_PAGE;
            rc = write_part(r, &r->data[end++]);
        }
    }
    return rc;
}

/* Steps 2 and 3: leaves the run protected and copied, or as it was. */
static int protect_and_copy(struct run *r, uint64_t *since)
{
    int rc = protect(r);

    run_step(STEP_PROTECT, since);
    if (!rc && !is_whole(r))
        rc = run_make_ready(r, since);      /* again: what was written while step 1 ran */
    if (!rc)
        rc = copy(r);
    run_step(STEP_COPY, since);
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

static void give_slot(const struct run *r, unsigned tier, uint64_t offset, uint32_t n)
{
    uint32_t first = run_slot(offset);

    if (fence_zero_copy())      /* asked after the old memory was mapped over, see fence-pin.c */
        pool_drop(r->b, tier, first, n);
    else
        pool_give(r->b, tier, first, n);
}

/* What was copied from view to view is mapped in both. */
static void note_mapped(const struct run *r)
{
    for (uint32_t p = 0; p < r->n_pieces; p++) {
        const struct piece *q = &r->piece[p];
        bool mapped = q->whole && !q->write;

        pool_note_mapped(r->b, r->from, run_slot(q->from), run_slots(q->length), mapped);
        pool_note_mapped(r->b, r->to, run_slot(q->to), run_slots(q->length), mapped);
    }
}

/* Nobody uses the old slots of what arrived, nor the new ones of what did not. */
static void give_slots(const struct run *r)
{
    uint64_t moved = 0;

    for (uint32_t i = 0; i < r->arrived; i++)
        moved += ram_length(r->b, r->first + i);
    for (uint32_t p = 0; p < r->n_pieces; p++) {
        const struct piece *q = &r->piece[p];

        if (q->at < moved)
            give_slot(r, r->from, q->from, run_slots(q->length));
        else
            give_slot(r, r->to, q->to, run_slots(q->length));
    }
}

static bool close_fence(struct run *r)
{
    r->fenced = !fault_at(FAULT_FENCE_HOLD) && fence_hold(r->b->host + r->offset, r->length);
    r->hold_ns = clock_ns(CLOCK_MONOTONIC);
    return r->fenced;
}

static enum vt_status carry_out(struct run *r, uint64_t *since)
{
    enum vt_status st;
    int rc;

    if (fence_busy(r->b->host + r->offset, r->length))
        return VT_ST_BUSY;              /* before memory is made ready for nothing */
    rc = run_make_ready(r, since);
    if (rc)
        return status_of(rc);
    if (!r->bare && r->to <= r->from && !batch_was_used(r->first, &r->used))
        r->used = pagemap_is_used(r->b->host + r->offset, r->length);
    if (!close_fence(r))
        return VT_ST_BUSY;
    st = window(r, since);
    open_fence(r);
    return st;
}

enum vt_status run_carry_out(struct run *r)
{
    uint64_t since = clock_ns(CLOCK_MONOTONIC);
    enum vt_status st = carry_out(r, &since);

    if (st == VT_ST_OK)
        note_mapped(r);
    give_slots(r);
    if (r->arrived)
        refault_forget(r->first, r->arrived);
    fault_at(FAULT_MOVED);
    return st;
}
