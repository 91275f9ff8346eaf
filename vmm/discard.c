// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Discards: memory that the guest gives back (balloon, free page reporting, virtio-mem), or that QEMU
 * wants empty (postcopy, reset after a memory error).
 *
 * QEMU has one function for all of them, ram_block_discard_range(): a hole is punched into the RAM
 * file at the range's offset in its block, then the range's page table entries are dropped with
 * MADV_DONTNEED (not for huge pages). But a granule that was moved is not at its offset any more, and
 * what is there may be another one's contents. So fallocate() is caught before it happens, and is
 * carried out where each granule is. MADV_DONTNEED goes by address and needs no help.
 *
 * Why no byte is lost and no memory kept, whatever the mover does meanwhile:
 *
 * 1. Place and contents of a granule change only within a run of the mover, which holds ram_lock()
 *    from before it looks for data in the source until the other file is mapped and the tables say
 *    so. A piece here is looked up and punched within one hold of the lock. So it comes before the
 *    run or after it, never in between.
 * 2. Before it, the source has a hole where the piece was. The mover sees no data there, copies
 *    nothing, and leaves a hole in the destination.
 * 3. After it, the lookup gives the new place, which is what is punched.
 * 4. Between the holds of a discard of several pieces, granules may move. Those that were punched
 *    move as holes (2), the others are punched where they are then (3).
 * 5. MADV_DONTNEED follows without the lock, maybe amid a run. It takes no contents away from a file,
 *    and leaves the write protection of what it drops in place (the kernel keeps a marker), so a
 *    writer that waits goes on waiting, and no other one gets through.
 * 6. The address shows the punched page only after the guest touched it again; that is a new page,
 *    full of zeros, as without vmtier.
 * 7. DMA in flight into a punched page has it pinned: the page leaves the file and is freed when the
 *    DMA is done. Nobody else gets it before. The fence is not asked, as QEMU does not wait either.
 *
 * A descriptor's number may be another file's by now if the block was deleted and we were not told
 * yet: inode and device tell whether a call is about guest RAM.
 */
#include "vmm/discard.h"
#include "vmm/pool.h"
#include "vmm/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#define RUN_MOST (256ull << 20)     /* bytes per hold of ram_lock() */

/* What does not shift the file's contents is the same at another place. */
#define KNOWN_MODES \
    (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_UNSHARE_RANGE)

struct request {
    int fd;
    struct stat st;
    uint64_t at, end;               /* in the file as QEMU knows it */
};

struct piece {
    int fd;
    uint64_t offset, length;
};

static struct {
    _Atomic uint64_t calls, bytes, elsewhere;
} stats;

/* --- where it is ------------------------------------------------------------------------------ */

static bool backs(const struct ram_block *b, int fd, const struct stat *st)
{
    return b->used && b->file[0] == fd && b->inode == st->st_ino && b->device == st->st_dev;
}

/*
 * What begins at `at`, up to the end of its granule. Where the file is nobody's RAM, up to the next
 * block, and it is where it is.
 */
static struct piece piece_at(const struct request *r, uint64_t at)
{
    struct piece p = { r->fd, at, r->end - at };

    for (const struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++) {
        uint64_t in_block = at - b->base[0], in_granule, left;
        uint32_t g;

        if (!backs(b, r->fd, &r->st))
            continue;
        if (at < b->base[0] && b->base[0] - at < p.length)
            p.length = b->base[0] - at;
        if (at < b->base[0] || in_block >= b->length)
            continue;
        g = b->first + (uint32_t)(in_block / ram_granule());
        in_granule = in_block % ram_granule();
        left = ram_length(b, g) - in_granule;
        ram_place(b, g, &p.fd, &p.offset);
        pool_note_mapped(b, ram_tier[g], ram_slot[g], 1, false);
        p.offset += in_granule;
        p.length = left < r->end - at ? left : r->end - at;
        return p;
    }
    return p;
}

/* The first piece and what follows it, in the request as well as where it is. */
static struct piece next_run(const struct request *r)
{
    struct piece run = piece_at(r, r->at);

    while (r->at + run.length < r->end && run.length < RUN_MOST) {
        struct piece next = piece_at(r, r->at + run.length);

        if (next.fd != run.fd || next.offset != run.offset + run.length)
            break;
        run.length += next.length;
    }
    return run;
}

/* --- carrying it out -------------------------------------------------------------------------- */

/* Begins and ends under ram_lock(), and lets go of it in between. */
static int carry_out(struct request *r, int mode)
{
    for (;;) {
        struct piece run = next_run(r);
        int rc = fallocate(run.fd, mode, (off_t)run.offset, (off_t)run.length);

        if (!rc && (run.fd != r->fd || run.offset != r->at))
            stats.elsewhere += run.length;
        r->at += run.length;
        if (rc || r->at >= r->end)
            return rc;
        ram_unlock();
        ram_give_way();
        ram_lock();
    }
}

/*
 * Without the lock, so that other files need not wait for a move. A block is added with the BQL, which
 * whoever discards its memory holds, or has taken since.
 */
static bool may_be_ram(int fd)
{
    for (const struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (__atomic_load_n(&b->used, __ATOMIC_RELAXED) &&
            __atomic_load_n(&b->file[0], __ATOMIC_RELAXED) == fd)
            return true;
    return false;
}

/* Is the range, or a part of it, guest RAM? Under ram_lock(). */
static bool is_ram(const struct request *r)
{
    for (const struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (backs(b, r->fd, &r->st) && r->at < b->base[0] + b->length && b->base[0] < r->end)
            return true;
    return false;
}

static int discard_locked(struct request *r, int mode)
{
    if (!is_ram(r))
        return 1;
    if (mode & ~KNOWN_MODES) {
        errno = EOPNOTSUPP;         /* as memfd, tmpfs and hugetlbfs say */
        return -1;
    }
    stats.calls++;
    stats.bytes += r->end - r->at;
    return carry_out(r, mode);
}

int discard_in_file(int fd, int mode, uint64_t offset, uint64_t length)
{
    struct request r = { .fd = fd, .at = offset, .end = offset + length };
    int rc;

    if (offset > INT64_MAX || length > INT64_MAX || r.end > INT64_MAX || !length)
        return 1;                   /* the kernel knows what is wrong with it */
    if (!may_be_ram(fd) || fstat(fd, &r.st))
        return 1;
    ram_lock();
    rc = discard_locked(&r, mode);
    ram_unlock();
    return rc;
}

/*
 * Until 9.2, QEMU gets rid of a page with a memory error, when the machine is reset, by mapping the
 * RAM file over it, at the page's offset in the block: that may be another granule's memory. What is
 * meant is an empty page there, which is what 10.0 does: a discard. It takes the page out of the
 * file and of all mappings.
 */
int discard_mapped(const void *address, size_t length, int fd, uint64_t offset)
{
    bool over = false;
    struct stat st;

    if (!may_be_ram(fd) || fstat(fd, &st))
        return 1;
    ram_lock();
    for (const struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++) {
        uint64_t at = (uint64_t)((const uint8_t *)address - b->host);

        over |= backs(b, fd, &st) && at < b->length && length <= b->length - at &&
                offset == b->base[0] + at;
    }
    ram_unlock();
    return over ? discard_in_file(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) : 1;
}

void discard_get_stats(struct discard_stats *out)
{
    out->calls = stats.calls;
    out->bytes = stats.bytes;
    out->elsewhere = stats.elsewhere;
}
