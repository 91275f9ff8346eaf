// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fence's engine for io_uring (aio=io_uring, and QEMU's own file descriptor polling).
 *
 * How it works. QEMU writes requests (SQEs) into memory it shares with the kernel and calls
 * io_uring_submit() for those between sqe_head and sqe_tail of liburing's structure. Completions
 * (CQEs) come in a second ring: the kernel moves its tail after the DMA, or after a worker thread
 * of its own, which pins the buffer at a time nobody knows, has finished. Either way a request is
 * busy from before the submission until its CQE. QEMU's polling submits requests without buffers
 * only; those calls pass without taking the table's lock.
 *
 * Seeing each CQE. QEMU consumes CQEs itself, and then the kernel may overwrite them. We follow the
 * tail with an index of our own, before each submission and each time the mover asks. The ring has
 * room for twice what the submission ring holds, so a CQE escapes only if more requests than that
 * are in flight and QEMU reaps a whole ring of them between two submissions. Then `lapped` is set,
 * and a request whose CQE escaped stays busy until QEMU uses its key again or the ring is idle:
 * both rings count from zero, each request makes one CQE, so equal tails mean nothing is in flight.
 *
 * After io_uring_queue_exit() the kernel cancels what is in flight, some time later, and there is
 * no ring any more to tell when: such requests stay in the table for good. QEMU drains first.
 *
 * check() tries our idea of liburing's structure (fence-uring.h) on a ring of its own.
 */
#include "vmm/fence-table.h"
#include "vmm/fence-uring.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#define RINGS             (FENCE_PIN - FENCE_URING)
#define TIMEOUT_MULTISHOT (1u << 6)     /* Linux 6.4 */

/* What a request does with buffers. MANY: and it makes more than one CQE. Unknown: anything. */
enum kind { ANYTHING, NO_BUFFER, NO_BUFFER_MANY, BUFFER, VECTOR };

static const unsigned char kinds[256] = {
    [IORING_OP_NOP] = NO_BUFFER,
    [IORING_OP_READV] = VECTOR,
    [IORING_OP_WRITEV] = VECTOR,
    [IORING_OP_FSYNC] = NO_BUFFER,
    [IORING_OP_READ_FIXED] = BUFFER,
    [IORING_OP_WRITE_FIXED] = BUFFER,
    [IORING_OP_POLL_ADD] = NO_BUFFER,
    [IORING_OP_POLL_REMOVE] = NO_BUFFER,
    [IORING_OP_TIMEOUT] = NO_BUFFER,
    [IORING_OP_TIMEOUT_REMOVE] = NO_BUFFER,
    [IORING_OP_ASYNC_CANCEL] = NO_BUFFER,
    [IORING_OP_LINK_TIMEOUT] = NO_BUFFER,
    [IORING_OP_FALLOCATE] = NO_BUFFER,
    [IORING_OP_CLOSE] = NO_BUFFER,
    [IORING_OP_READ] = BUFFER,
    [IORING_OP_WRITE] = BUFFER,
};

struct ring {
    const struct io_uring *uring;       /* NULL: not in use; never dereferenced by scan() */
    const unsigned *sq_tail, *cq_tail;
    const struct io_uring_cqe *cqes;
    unsigned entries;                   /* of the completion ring: a power of two */
    unsigned seen;
    unsigned submitted;                 /* sqe_tail when we last added something */
    bool lapped;
    bool counts;                        /* each request makes exactly one CQE */
};

static struct ring rings[RINGS];
static unsigned rings_used;

static int (*real_io_uring_submit)(struct io_uring *u);
static int (*real_io_uring_submit_and_wait)(struct io_uring *u, unsigned n);
static int (*real_io_uring_submit_and_get_events)(struct io_uring *u);
static int (*real_io_uring_submit_and_wait_timeout)(struct io_uring *u, void *cqe, unsigned n,
                                                    void *timeout, void *signals);
static void (*real_io_uring_queue_exit)(struct io_uring *u);

static unsigned load(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static unsigned owner_of(const struct ring *r)
{
    return FENCE_URING + (unsigned)(r - rings);
}

/* --- rings ---------------------------------------------------------------------------------- */

/* Is p, with room for `size`, in the memory shared with the kernel? */
static bool inside(const void *p, size_t size, const void *start, size_t length)
{
    uintptr_t offset = (uintptr_t)p - (uintptr_t)start;

    return p && start && (uintptr_t)p >= (uintptr_t)start && offset + size <= length;
}

static bool queue_is_sane(const unsigned *tail, const unsigned *mask, const void *start,
                          size_t size)
{
    return inside(tail, sizeof(*tail), start, size) && inside(mask, sizeof(*mask), start, size) &&
           *mask < 65536 && !(*mask & (*mask + 1));
}

/* Does the structure look like one we know, with SQEs and CQEs of the usual size? */
static bool is_sane(const struct io_uring *u)
{
    const struct io_uring_sq *sq = &u->sq;
    const struct io_uring_cq *cq = &u->cq;
    /* CQSIZE and CLAMP change sizes we read; of what follows, we know no more than the names. */
    const unsigned known = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_ATTACH_WQ |
        1u << 7 /* SUBMIT_ALL */ | 1u << 8 /* COOP_TASKRUN */ | 1u << 9 /* TASKRUN_FLAG */ |
        1u << 12 /* SINGLE_ISSUER */ | 1u << 13 /* DEFER_TASKRUN */;

    return !(u->flags & ~known) && sq->sqes &&
           queue_is_sane(sq->ktail, sq->kring_mask, sq->ring_ptr, sq->ring_sz) &&
           queue_is_sane(cq->ktail, cq->kring_mask, cq->ring_ptr, cq->ring_sz) &&
           inside(cq->cqes, (*cq->kring_mask + 1) * sizeof(*cq->cqes), cq->ring_ptr, cq->ring_sz) &&
           sq->sqe_tail - sq->sqe_head <= *sq->kring_mask + 1;
}

static struct ring *find_ring(const struct io_uring *u)
{
    for (struct ring *r = rings; r < rings + rings_used; r++)
        if (r->uring == u)
            return r;
    return NULL;
}

static struct ring *get_ring(const struct io_uring *u)
{
    struct ring *r = find_ring(u);

    if (r)
        return r;
    r = find_ring(NULL);
    if (!r && rings_used < RINGS)
        r = &rings[rings_used++];
    if (r)
        *r = (struct ring){ u, u->sq.ktail, u->cq.ktail, u->cq.cqes, *u->cq.kring_mask + 1,
                            load(u->cq.ktail), u->sq.sqe_head, false, true };
    return r;
}

/* --- completions ---------------------------------------------------------------------------- */

static void see(struct ring *r, const struct io_uring_cqe *cqe)
{
    if (cqe->flags & IORING_CQE_F_MORE)
        r->counts = false;
    else
        fence_complete(owner_of(r), cqe->user_data);
}

/*
 * The last test is for CQEs overwritten while we read. That is no danger: a CQE in the place of the
 * one expected is of a request that is complete, too; but the expected one has escaped.
 */
static void scan_ring(struct ring *r)
{
    unsigned tail = load(r->cq_tail), first = r->seen;

    if (tail - r->seen > r->entries) {
        r->lapped = true;
        r->seen = tail - r->entries;
    }
    for (; r->seen != tail; r->seen++)
        see(r, &r->cqes[r->seen & (r->entries - 1)]);
    if (load(r->cq_tail) - first >= r->entries)
        r->lapped = true;
}

/* Drops what escaped, if nothing is in flight. Reads the completions' tail first: it follows. */
static void scan_idle(struct ring *r)
{
    unsigned done = load(r->cq_tail), submitted = load(r->sq_tail);

    if (!r->counts || done != submitted || (int)(submitted - r->submitted) < 0)
        return;
    fence_forget_owner(owner_of(r));
    r->lapped = false;
}

static void scan(void)
{
    for (struct ring *r = rings; r < rings + rings_used; r++) {
        if (!r->uring || !fence_owner_busy(owner_of(r)))
            continue;
        scan_ring(r);
        scan_idle(r);
    }
}

/* --- submissions ---------------------------------------------------------------------------- */

static enum kind kind_of(const struct io_uring_sqe *sqe)
{
    if (sqe->flags & IOSQE_BUFFER_SELECT)
        return ANYTHING;
    if ((sqe->opcode == IORING_OP_POLL_ADD || sqe->opcode == IORING_OP_POLL_REMOVE) && sqe->len)
        return NO_BUFFER_MANY;
    if (sqe->opcode == IORING_OP_TIMEOUT && sqe->timeout_flags & TIMEOUT_MULTISHOT)
        return NO_BUFFER_MANY;
    return (enum kind)kinds[sqe->opcode];
}

static const struct io_uring_sqe *sqe_at(const struct io_uring *u, unsigned i)
{
    return &u->sq.sqes[i & *u->sq.kring_mask];
}

static bool concerns_us(const struct io_uring *u)
{
    for (unsigned i = u->sq.sqe_head; i != u->sq.sqe_tail; i++)
        if (kind_of(sqe_at(u, i)) != NO_BUFFER)
            return true;
    return false;
}

static void add(struct ring *r, const struct io_uring_sqe *sqe)
{
    enum kind kind = kind_of(sqe);
    uint32_t request;

    r->counts &= kind != ANYTHING && kind != NO_BUFFER_MANY;
    if (kind == NO_BUFFER || kind == NO_BUFFER_MANY)
        return;
    if (r->lapped)
        fence_forget_key(owner_of(r), sqe->user_data);
    request = fence_add(owner_of(r), sqe->user_data);
    if (kind == BUFFER)
        fence_add_buffer(request, sqe->addr, sqe->len);
    else if (kind == VECTOR)
        fence_add_vector(request, (const struct iovec *)(uintptr_t)sqe->addr, sqe->len);
    else
        fence_add_everything(request);
}

/*
 * What the real call leaves in the submission ring (it may take less than all) goes to the kernel
 * with a later call, without being seen here again; so it stays in the table.
 */
static void before_submit(const struct io_uring *u)
{
    bool sane = is_sane(u);
    struct ring *r;

    if (sane && !concerns_us(u))
        return;
    fence_enter();
    r = sane ? get_ring(u) : NULL;
    if (r) {
        scan_ring(r);
        scan_idle(r);
        r->submitted = u->sq.sqe_tail;
        for (unsigned i = u->sq.sqe_head; i != u->sq.sqe_tail; i++)
            add(r, sqe_at(u, i));
    } else {
        fence_add_everything(fence_add(FENCE_NOBODY, 0));
    }
    fence_leave();
}

static int hook_io_uring_submit(struct io_uring *u)
{
    before_submit(u);
    return real_io_uring_submit(u);
}

static int hook_io_uring_submit_and_wait(struct io_uring *u, unsigned n)
{
    before_submit(u);
    return real_io_uring_submit_and_wait(u, n);
}

static int hook_io_uring_submit_and_get_events(struct io_uring *u)
{
    before_submit(u);
    return real_io_uring_submit_and_get_events(u);
}

static int hook_io_uring_submit_and_wait_timeout(struct io_uring *u, void *cqe, unsigned n,
                                                 void *timeout, void *signals)
{
    before_submit(u);
    return real_io_uring_submit_and_wait_timeout(u, cqe, n, timeout, signals);
}

static void hook_io_uring_queue_exit(struct io_uring *u)
{
    struct ring *r;

    fence_enter();
    r = find_ring(u);
    if (r) {
        scan_ring(r);
        scan_idle(r);
        fence_orphan_owner(owner_of(r));
        r->uring = NULL;
    }
    fence_leave();
    real_io_uring_queue_exit(u);
}

/* --- the ABI -------------------------------------------------------------------------------- */

/* The library's own functions: check() runs before anything is hooked. */
static struct {
    int (*init)(unsigned entries, struct io_uring *u, unsigned flags);
    int (*submit)(struct io_uring *u);
    void (*exit)(struct io_uring *u);
} library;

/* Sends a request that does nothing through the ring, by our idea of its layout. */
static bool try_ring(struct io_uring *u)
{
    const uint64_t key = 0x766d74696572ull;
    struct io_uring_sqe *sqe;

    if (!is_sane(u) || u->sq.sqe_tail != u->sq.sqe_head || load(u->cq.ktail))
        return false;
    sqe = &u->sq.sqes[u->sq.sqe_tail++ & *u->sq.kring_mask];
    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = key;
    return library.submit(u) == 1 && u->sq.sqe_head == u->sq.sqe_tail &&
           load(u->sq.ktail) == 1 && load(u->cq.ktail) == 1 && u->cq.cqes[0].user_data == key;
}

/* A host where io_uring cannot be used has nothing to check. */
static int check(struct vt_err *err)
{
    union {
        struct io_uring u;
        char room[1024];        /* for a library with a longer structure */
    } ring;
    bool ok;

    memset(&ring, 0, sizeof(ring));
    *(void **)&library.init = dlsym(RTLD_DEFAULT, "io_uring_queue_init");
    *(void **)&library.submit = dlsym(RTLD_DEFAULT, "io_uring_submit");
    *(void **)&library.exit = dlsym(RTLD_DEFAULT, "io_uring_queue_exit");
    if (!library.init || !library.submit || !library.exit || library.init(8, &ring.u, 0))
        return 0;
    ok = try_ring(&ring.u);
    library.exit(&ring.u);
    return ok ? 0 : vt_fail(err, ENOTSUP, "this liburing's rings are not laid out as expected: "
                            "DMA in flight could not be seen");
}

static const struct fence_hook hooks[] = {
    FENCE_HOOK(io_uring_submit, "luring_co_submit"),
    FENCE_HOOK(io_uring_queue_exit, "luring_co_submit"),
    FENCE_HOOK(io_uring_submit_and_wait, NULL),
    FENCE_HOOK(io_uring_submit_and_wait_timeout, NULL),
    FENCE_HOOK(io_uring_submit_and_get_events, NULL),
};

const struct fence_engine fence_uring = {
    "io_uring", hooks, sizeof(hooks) / sizeof(hooks[0]), check, scan,
};
