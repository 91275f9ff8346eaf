// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The remap mover.
 *
 * Theory of operation. A granule's contents live in the file that is mapped at its address. To move
 * it, its pages are copied to the same offset of the other tier's file and that file is mapped over
 * the address. The order of the steps is what keeps every byte; each other order that was tried
 * loses updates:
 *
 *   1  populate the destination       so that the window below does not wait for memory, and so
 *                                     that a full tier is an error here and no SIGBUS there
 *   2  UFFDIO_WRITEPROTECT            writers wait from now on; readers go on
 *   3  copy
 *   4  mmap(MAP_FIXED) the other file the address now shows the copy
 *   5  madvise()                      a new mapping has none of QEMU's flags; without them the
 *                                     neighbours' mappings do not merge
 *   6  UFFDIO_REGISTER                the registration went with the old mapping
 *   7  populate the mapping           for what becomes hot; else the guest pays for the faults
 *   8  UFFDIO_WAKE                    writers go on, into the new file
 *   9  punch the old file
 *
 * A failure up to 4 undoes the protection: the granule is where it was. After 4 it is in the new
 * tier, whatever happens; if 6 fails the next move could not protect it, so tiering freezes.
 * Death of the process at any step loses nothing that outlives it; death of the daemon is not
 * noticed here at all.
 *
 * Between 2 and 8 nothing here may allocate with malloc, write to a log or take a lock that a
 * thread could hold while it waits for a protected page.
 *
 * Holes. Parts of the file that were never written are not copied: the destination is a hole there
 * as well (the invariant: outside the tier a granule is in, its files have holes).
 */
#include "vmm/mover.h"
#include "common/clock.h"
#include "vmm/fence.h"
#include "vmm/refault.h"
#include "vmm/uapi.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RUN_BYTES  (8ull << 20)     /* longest run: what a writer may have to wait for */
#define EXTENTS    64               /* pieces of data in one run; more count as one */

struct extent {
    uint64_t start, end;            /* in the block */
};

struct run {
    struct ram_block *b;
    uint64_t offset, length;        /* in the block */
    unsigned from, to;
    bool bare;                      /* nobody uses the memory yet: no protection needed */
    unsigned n;
    struct extent data[EXTENTS];
    uint64_t pages;
};

static struct {
    pthread_mutex_t lock;           /* reason; taken by itself */
    char reason[VT_TEXT];
    atomic_bool frozen;
    bool final;
} freeze = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct {
    _Atomic uint64_t moved[VT_ST_END], pages, runs, cpu_ns;
} stats;

/* --- freezing ------------------------------------------------------------------------------- */

void mover_freeze(bool final, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&freeze.lock);
    if (!atomic_load(&freeze.frozen) || (final && !freeze.final)) {
        va_start(args, format);
        vsnprintf(freeze.reason, sizeof(freeze.reason), format, args);
        va_end(args);
        freeze.final = final;
        atomic_store(&freeze.frozen, true);
    }
    pthread_mutex_unlock(&freeze.lock);
}

bool mover_thaw(void)
{
    bool ok;

    pthread_mutex_lock(&freeze.lock);
    ok = !freeze.final;
    if (ok)
        atomic_store(&freeze.frozen, false);
    pthread_mutex_unlock(&freeze.lock);
    return ok;
}

bool mover_frozen(char reason[VT_TEXT])
{
    bool frozen;

    pthread_mutex_lock(&freeze.lock);
    frozen = atomic_load(&freeze.frozen);
    memcpy(reason, freeze.reason, VT_TEXT);
    pthread_mutex_unlock(&freeze.lock);
    return frozen;
}

/* --- the map count ---------------------------------------------------------------------------- */

static long read_limit(void)
{
    long limit = 65530;
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");

    if (f) {
        if (fscanf(f, "%ld", &limit) != 1)
            limit = 65530;
        fclose(f);
    }
    return limit;
}

static long count_maps(void)
{
    char buffer[65536];
    long n = 0;
    ssize_t got;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    while ((got = read(fd, buffer, sizeof(buffer))) > 0)
        for (ssize_t i = 0; i < got; i++)
            n += buffer[i] == '\n';
    close(fd);
    return n;
}

/*
 * Is there room for this many more mappings? At the limit even mapping the old file back fails, so
 * moves stop at three quarters. Counting costs microseconds per mapping; it is done once in a
 * second and what was added since is assumed the worst.
 */
static bool maps_left(uint32_t runs)
{
    static long limit, count;
    static uint32_t counted;
    uint32_t age = clock_ms() - counted;
    long most;

    if (!limit)
        limit = read_limit() / 4 * 3;
    most = count + 2 * (long)runs;
    if (age > 1000 || (most > limit && age > 100)) {
        count = count_maps();
        counted = clock_ms();
        most = count + 2 * (long)runs;
    }
    if (most > limit)
        return false;
    count = most;
    return true;
}

/* --- one run ---------------------------------------------------------------------------------- */

/*
 * The run's source as a whole: is there data in all of it, in nothing of it? Counts pages in swap as
 * data. Cheap, where looking for the next hole has to walk the file up to one.
 */
enum amount { NOTHING, SOMETHING, EVERYTHING };

static enum amount count_data(const struct run *r)
{
    struct cachestat_range range = { r->offset, r->length };
    struct cachestat c;

    if (r->b->page_size > 4096)
        return EVERYTHING;
    if (syscall(VT_SYS_CACHESTAT, r->b->file[r->from], &range, &c, 0))
        return SOMETHING;
    if (c.nr_cache + c.nr_evicted == 0)
        return NOTHING;
    return c.nr_cache == r->length / 4096 ? EVERYTHING : SOMETHING;
}

/* Finds the parts of the run's source that hold data. Rounds outwards to whole pages of the file. */
static void find_data(struct run *r)
{
    int fd = r->b->file[r->from];
    uint64_t at = r->offset, end = r->offset + r->length;
    enum amount amount = count_data(r);

    r->data[0] = (struct extent){ at, end };
    r->n = amount == EVERYTHING;
    while (amount == SOMETHING && at < end) {
        off_t start = lseek(fd, (off_t)at, SEEK_DATA), stop;

        if (start < 0 && errno == ENXIO)
            return;                                     /* nothing but holes to the end */
        if (start < 0 || (stop = lseek(fd, start, SEEK_HOLE)) < 0) {
            r->data[0] = (struct extent){ r->offset, end };
            r->n = 1;                                   /* no such call on this file: all of it */
            return;
        }
        if ((uint64_t)start >= end)
            return;
        if (r->n == EXTENTS)
            r->data[EXTENTS - 1].end = (uint64_t)stop < end ? (uint64_t)stop : end;
        else
            r->data[r->n++] = (struct extent){
                (uint64_t)start, (uint64_t)stop < end ? (uint64_t)stop : end };
        at = (uint64_t)stop;
    }
}

static int advise(uint8_t *start, uint64_t length, int advice)
{
    while (madvise(start, length, advice))
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    return 0;
}

/*
 * Makes memory for the run's data in the destination, and maps the source: whatever cannot be had is
 * an error here, where copy() would take a SIGBUS. Also fine on memory that is there.
 */
static int populate(const struct run *r)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < r->n; i++) {
        const struct extent *e = &r->data[i];

        rc = advise(r->b->view[r->from] + e->start, e->end - e->start, MADV_POPULATE_READ);
        if (!rc)
            rc = advise(r->b->view[r->to] + e->start, e->end - e->start, MADV_POPULATE_WRITE);
    }
    return rc;
}

/*
 * From view to view: protecting splits a huge mapping at the guest's address into entries that are
 * not present, and reading there would fault page by page.
 */
static void copy(struct run *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        const struct extent *e = &r->data[i];

        memcpy(r->b->view[r->to] + e->start, r->b->view[r->from] + e->start, e->end - e->start);
        r->pages += (e->end - e->start) / 4096;
    }
}

static void punch(const struct run *r, unsigned tier)
{
    fallocate(r->b->file[tier], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->offset,
              (off_t)r->length);
}

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

static int map_file(const struct run *r, unsigned tier)
{
    void *p = mmap(r->b->host + r->offset, r->length, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_FIXED, r->b->file[tier], (off_t)r->offset);

    return p == MAP_FAILED ? -errno : 0;
}

/*
 * Step 4. A mapping that fails late may have taken the old one away already, so that is put back. If
 * even that fails the guest has lost the range, and nothing here can help it.
 */
static int map_over(const struct run *r)
{
    uint8_t *host = r->b->host + r->offset;
    int rc = map_file(r, r->to);

    if (!rc)
        return 0;
    if (!map_file(r, r->from))
        ram_readvise(r->b, r->offset, r->length);
    if (uffd_register(host, r->length))
        mover_freeze(true, "block %s, offset %#llx, %llu bytes: mapping the other file failed (%s), "
                     "and the old one is not as it was", r->b->name,
                     (unsigned long long)r->offset, (unsigned long long)r->length, strerror(-rc));
    uffd_wake(host, r->length);
    return rc;
}

/* Steps 5 to 8, after which the run is in its new tier. */
static void settle(const struct run *r)
{
    uint8_t *host = r->b->host + r->offset;
    int rc;

    memset(ram_tier + r->b->first + r->offset / ram_granule(), (int)r->to,
           (r->length + ram_granule() - 1) / ram_granule());
    ram_readvise(r->b, r->offset, r->length);
    rc = uffd_register(host, r->length);
    if (!rc && r->to < r->from)
        for (unsigned i = 0; i < r->n; i++)
            madvise(r->b->host + r->data[i].start, r->data[i].end - r->data[i].start,
                    MADV_POPULATE_WRITE);
    uffd_wake(host, r->length);
    if (rc)
        mover_freeze(true, "block %s, offset %#llx, %llu bytes: UFFDIO_REGISTER after a move: %s",
                     r->b->name, (unsigned long long)r->offset, (unsigned long long)r->length,
                     strerror(-rc));
}

/* Steps 2 and 3: leaves the run protected and copied, or as it was. */
static enum vt_status protect_and_copy(struct run *r)
{
    uint8_t *host = r->b->host + r->offset;
    int rc = uffd_protect(host, r->length);

    if (rc == -ENOENT)
        mover_freeze(true, "block %s, offset %#llx: not registered with userfaultfd any more; "
                     "another user of userfaultfd in this QEMU?", r->b->name,
                     (unsigned long long)r->offset);
    if (!rc) {
        find_data(r);           /* again: what was written while step 1 ran */
        rc = populate(r);
    }
    if (!rc) {
        copy(r);
        return VT_ST_OK;
    }
    if (uffd_unprotect(host, r->length) && uffd_wake(host, r->length))
        mover_freeze(true, "block %s, offset %#llx: protection could not be taken back",
                     r->b->name, (unsigned long long)r->offset);
    return status_of(rc);
}

static enum vt_status window(struct run *r)
{
    enum vt_status st = protect_and_copy(r);
    int rc;

    if (st != VT_ST_OK)
        return st;
    rc = map_over(r);
    if (rc)
        return status_of(rc);
    settle(r);
    return VT_ST_OK;
}

/* A run of memory that nobody has used: only the mapping changes. */
static enum vt_status remap_bare(struct run *r)
{
    int rc = map_over(r);

    if (rc)
        return status_of(rc);
    settle(r);
    return VT_ST_OK;
}

/* Under ram_lock(). */
static enum vt_status move_run(struct run *r)
{
    enum vt_status st = VT_ST_BUSY;
    int rc;

    if (!fence_hold(r->b->host + r->offset, r->length))
        return VT_ST_BUSY;      /* before memory is made ready for nothing */
    fence_release();
    find_data(r);
    rc = populate(r);
    if (rc) {
        st = status_of(rc);
    } else if (fence_hold(r->b->host + r->offset, r->length)) {
        st = r->bare && !r->n ? remap_bare(r) : window(r);
        fence_release();
    }
    punch(r, st == VT_ST_OK ? r->from : r->to);
    if (st == VT_ST_OK)
        refault_forget(r->b->first + (uint32_t)(r->offset / ram_granule()),
                       (uint32_t)((r->length + ram_granule() - 1) / ram_granule()));
    return st;
}

/* --- lists of moves ----------------------------------------------------------------------------- */

static enum vt_status admissible(const struct vt_move_one *m, const struct ram_block *b)
{
    /* Memory that left the guest may be unmapped already: never map over it. */
    if (!b || !b->present || m->tier >= VT_TIERS || b->file[m->tier] < 0 || !b->watched)
        return VT_ST_INVALID;
    return VT_ST_OK;
}

static bool continues(const struct vt_move_one *first, const struct vt_move_one *next, uint32_t n,
                      const struct ram_block *b)
{
    return next->granule == first->granule + n && next->tier == first->tier &&
           next->granule < b->first + b->count &&
           ram_tier[next->granule] == ram_tier[first->granule];
}

/* A long run is for memory that is empty: what has to be copied is copied in short ones. */
static uint32_t shorten(struct run *r, uint32_t n)
{
    uint32_t most = (uint32_t)(RUN_BYTES / ram_granule());

    most = most ? most : 1;
    find_data(r);
    if (!r->n || n <= most)
        return n;
    r->length = most * ram_granule();
    return most;
}

/* Carries out the first run of the list; returns how many moves it covered. Under ram_lock(). */
static uint32_t carry_run(struct vt_move_one *m, uint32_t left, bool fresh, struct mover_cost *cost)
{
    struct ram_block *b = ram_block_of(m->granule);
    enum vt_status st = admissible(m, b);
    struct run r = { .b = b, .to = m->tier };
    uint32_t n = 1;

    if (st == VT_ST_OK) {
        bool bare = fresh && b->fresh;
        uint64_t most = bare ? b->length : RUN_BYTES;

        r.offset = ram_offset(b, m->granule);
        r.length = ram_length(b, m->granule);
        r.from = ram_tier[m->granule];
        r.bare = bare;
        while (n < left && r.length + ram_granule() <= most && continues(m, &m[n], n, b))
            r.length += ram_length(b, m[n++].granule);
        if (bare && n > 1 && r.from != r.to)
            n = shorten(&r, n);
        if (r.from != r.to)
            st = maps_left(1) ? move_run(&r) : VT_ST_LIMIT;
    }
    for (uint32_t i = 0; i < n; i++) {
        m[i].status = (uint8_t)st;
        m[i].tier = b ? ram_tier[m[i].granule] : 0;
    }
    cost->pages += r.pages;
    stats.moved[st] += n;
    stats.runs++;
    return n;
}

static void refuse_one(struct vt_move_one *m)
{
    m->status = VT_ST_FROZEN;
    m->tier = m->granule < VT_GRANULES_MAX ? ram_tier[m->granule] : 0;
    stats.moved[VT_ST_FROZEN]++;
}

static void carry_list(struct vt_move_one *moves, uint32_t n, bool fresh, bool forced,
                       struct mover_cost *cost)
{
    uint64_t start = cpu_ns();

    for (uint32_t i = 0; i < n;) {
        if (!forced && atomic_load(&freeze.frozen)) {
            refuse_one(&moves[i++]);
            continue;
        }
        ram_lock();
        /* Once more: who froze it under the lock relies on nothing moving afterwards. */
        if (forced || !atomic_load(&freeze.frozen))
            i += carry_run(&moves[i], n - i, fresh, cost);
        ram_unlock();
        ram_give_way();
    }
    cost->cpu_ns = cpu_ns() - start;
    stats.pages += cost->pages;
    stats.cpu_ns += cost->cpu_ns;
}

void mover_carry_out(struct vt_move_one *moves, uint32_t n, bool fresh, struct mover_cost *cost)
{
    *cost = (struct mover_cost){ 0 };
    carry_list(moves, n, fresh, false, cost);
}

uint32_t mover_retreat(void)
{
    struct mover_cost cost = { 0 };
    uint32_t first[VT_BLOCKS], count[VT_BLOCKS], n = 0, left = 0;

    ram_lock();
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->present) {
            first[n] = b->first;
            count[n++] = b->count;
        }
    ram_unlock();
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t g = first[i]; g < first[i] + count[i]; g++) {
            struct vt_move_one m = { .granule = g, .tier = 0 };

            if (ram_tier[g])
                carry_list(&m, 1, false, true, &cost);
            left += ram_tier[g] != 0;
        }
    return left;
}

int mover_watch(struct ram_block *b, struct vt_err *err)
{
    int rc;

    if (b->watched)
        return 0;
    rc = uffd_register(b->host, b->length);
    if (rc == -EBUSY)
        return vt_fail(err, EBUSY, "block %s is already under userfaultfd (postcopy or background "
                       "snapshot): tiering waits until that ends", b->name);
    if (rc)
        return vt_fail(err, -rc, "block %s: UFFDIO_REGISTER: %s", b->name, strerror(-rc));
    b->watched = true;
    return 0;
}

void mover_get_stats(struct mover_stats *out)
{
    for (int i = 0; i < VT_ST_END; i++)
        out->moved[i] = stats.moved[i];
    out->pages = stats.pages;
    out->runs = stats.runs;
    out->cpu_ns = stats.cpu_ns;
}
