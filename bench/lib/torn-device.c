// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The devices: real DMA, as far as a file opened O_DIRECT has one.
 *
 * A request is a vector over the second halves of up to SPAN neighbouring pages. Each device has
 * every other span to itself. A read is of a part of the file with known contents, into memory that
 * was overwritten before; a write is of words that were never written before, and is read back into
 * memory that nobody moves. Each word says what it must be, so that nothing has to be remembered.
 *
 * The fence sees these as calls that end when the I/O does, the way fence-sync.c does.
 */
#include "bench/lib/torn-parts.h"
#include "bench/lib/stat.h"
#include "vmm/fence-table.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SPAN     16u            /* pages */
#define HALF     2048u
#define PART     (SPAN * HALF)  /* bytes of a request */
#define WORDS    (PART / 8)
#define PARTS    64u            /* of known contents, at the file's beginning */
#define OWN_AT(id) ((off_t)(PARTS + (id)) * PART)
#define POISON   0xa5

/* Word i of what was written as `what`. */
static guint64 word(guint64 what, guint i)
{
    return (what << 16 | i) * 0x9e3779b97f4a7c15u;
}

static void fill(guint64 *at, guint first, guint n, guint64 what)
{
    for (guint i = 0; i < n; i++)
        at[i] = word(what, first + i);
}

static bool holds(const guint64 *at, guint first, guint n, guint64 what)
{
    for (guint i = 0; i < n; i++)
        if (at[i] != word(what, first + i))
            return false;
    return true;
}

static void *aligned(void)
{
    void *at = mmap(NULL, PART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(at != MAP_FAILED);
    return at;
}

static bool write_parts(int fd)
{
    guint64 *buffer = aligned();
    bool ok = true;

    for (guint part = 0; ok && part < PARTS + TORN_DEVICES; part++) {
        fill(buffer, 0, WORDS, part);
        ok = pwrite(fd, buffer, PART, (off_t)part * PART) == PART;
    }
    ok = ok && pread(fd, (uint8_t *)buffer + HALF, HALF, HALF) == HALF;     /* halves are aligned? */
    munmap(buffer, PART);
    return ok;
}

int torn_disk(const char *directory, struct vt_err *err)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

    if (fd >= 0 && write_parts(fd))
        return fd;
    vt_fail(err, errno, "no O_DIRECT in multiples of 512 bytes in %s: %s", directory,
            strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* --- requests --------------------------------------------------------------------------------- */

struct request {
    struct iovec iov[SPAN];
    guint64 *at[SPAN];
};

/* The span around a page that is moved now, made one of the device's own. */
static void choose(struct torn_device *d, struct request *r, guint64 *random)
{
    guint span = torn_pick_page(d->t, random) / SPAN;

    span = span - span % TORN_DEVICES + d->id;
    for (guint i = 0; i < SPAN; i++) {
        r->at[i] = (guint64 *)(void *)(d->t->m.host + ((gsize)span * SPAN + i) * 4096 + HALF);
        r->iov[i] = (struct iovec){ r->at[i], HALF };
    }
}

static ssize_t transfer(const struct torn_device *d, const struct request *r, bool in, off_t offset)
{
    bool announced = d->t->c->harm != TORN_NO_FENCE;
    uint32_t entry = 0;
    ssize_t n;

    if (announced) {
        fence_enter();
        entry = fence_add(FENCE_CALL, 0);
        fence_add_vector(entry, r->iov, SPAN);
        fence_leave();
    }
    n = in ? preadv(d->t->c->disk, r->iov, SPAN, offset) :
             pwritev(d->t->c->disk, r->iov, SPAN, offset);
    if (announced) {
        fence_enter();
        fence_complete_call(entry);
        fence_leave();
    }
    return n;
}

/* Each returns false when the I/O itself fails. */
static bool read_in(struct torn_device *d, guint64 *random)
{
    guint part = bench_random(random) % PARTS;
    struct request r;
    bool good = true;

    choose(d, &r, random);
    for (guint i = 0; i < SPAN; i++)
        memset(r.at[i], POISON, HALF);
    if (transfer(d, &r, true, (off_t)part * PART) != PART)
        return false;
    for (guint i = 0; i < SPAN; i++)
        good &= holds(r.at[i], i * (HALF / 8), HALF / 8, part);
    d->reads++;
    d->bad_reads += !good;
    if (!good)
        atomic_fetch_add(&d->t->damage, 1);
    return true;
}

static bool write_out(struct torn_device *d, guint64 *buffer, guint64 *random)
{
    guint64 what = PARTS + TORN_DEVICES + d->writes * TORN_DEVICES + d->id;
    struct request r;
    bool good;

    choose(d, &r, random);
    for (guint i = 0; i < SPAN; i++)
        fill(r.at[i], i * (HALF / 8), HALF / 8, what);
    if (transfer(d, &r, false, OWN_AT(d->id)) != PART ||
        pread(d->t->c->disk, buffer, PART, OWN_AT(d->id)) != PART)
        return false;
    good = holds(buffer, 0, WORDS, what);
    d->writes++;
    d->bad_writes += !good;
    if (!good)
        atomic_fetch_add(&d->t->damage, 1);
    return true;
}

gpointer torn_do_io(gpointer device)
{
    struct torn_device *d = device;
    guint64 random = d->id + 101, *buffer = aligned();

    while (!atomic_load(&d->t->stop) && !d->failed) {
        bool ok = bench_random(&random) & 1 ? read_in(d, &random) :
                                              write_out(d, buffer, &random);

        if (!ok)
            d->failed = errno ? errno : EIO;
    }
    munmap(buffer, PART);
    return NULL;
}
