// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fence's engine for Linux AIO (aio=native).
 *
 * How it works. io_submit() names the buffers. Completions are read where QEMU reads them: the
 * kernel puts an event into a ring that is mapped at the context's own address, and moves the
 * ring's tail after the DMA. We keep an index of our own (`seen`) and follow the tail.
 *
 * No event is missed: the kernel admits fewer requests than the ring has slots, each one's slot is
 * used once, and we look before each submission; so what was not looked at cannot be overwritten.
 * That supposes that one thread at a time uses a context, as it is in QEMU.
 *
 * io_destroy() unmaps the ring, on any thread and while the mover looks; so a context is taken out
 * of sight before the real call. Its requests stay in the table until that returns: it waits for
 * them.
 */
#include "vmm/fence-table.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/aio_abi.h>

#define CONTEXTS  (FENCE_URING - FENCE_AIO)
#define AIO_MAGIC 0xa10a10a1u       /* fs/aio.c, as are the structure and the flag below */

struct aio_ring {
    unsigned id, nr, head, tail;
    unsigned magic, compat, incompat, header_length;
    struct io_event events[];
};

static_assert(offsetof(struct aio_ring, tail) == 12, "kernel ABI");
static_assert(offsetof(struct aio_ring, magic) == 16, "kernel ABI");
static_assert(offsetof(struct aio_ring, events) == 32, "kernel ABI");
static_assert(sizeof(struct io_event) == 32, "kernel ABI");
static_assert(offsetof(struct io_event, obj) == 8, "kernel ABI");
static_assert(offsetof(struct iocb, aio_lio_opcode) == 16, "libaio's struct iocb");
static_assert(offsetof(struct iocb, aio_buf) == 24, "libaio's struct iocb");
static_assert(offsetof(struct iocb, aio_nbytes) == 32, "libaio's struct iocb");

struct context {
    const struct aio_ring *ring;    /* NULL: not in use; the address is the context's name */
    unsigned seen, nr;
    bool dying;                     /* io_destroy() is under way: its address is not its name */
};

static struct context contexts[CONTEXTS];
static unsigned contexts_used;      /* beyond it none was ever in use */

static int (*real_io_submit)(const struct aio_ring *ring, long n, struct iocb **iocbs);
static int (*real_io_destroy)(const struct aio_ring *ring);

static unsigned owner_of(const struct context *c)
{
    return FENCE_AIO + (unsigned)(c - contexts);
}

static struct context *find_context(const struct aio_ring *ring)
{
    for (struct context *c = contexts; c < contexts + contexts_used; c++)
        if (c->ring == ring && !c->dying)
            return c;
    return NULL;
}

static bool ring_is_known(const struct aio_ring *ring)
{
    return ring->magic == AIO_MAGIC && !ring->incompat && ring->nr &&
           ring->header_length == sizeof(*ring) && ring->tail < ring->nr;
}

/* NULL: completions of this context cannot be seen. */
static struct context *get_context(const struct aio_ring *ring)
{
    struct context *c = find_context(ring);

    if (c || !ring_is_known(ring))
        return c;
    c = find_context(NULL);
    if (!c && contexts_used < CONTEXTS)
        c = &contexts[contexts_used++];
    if (c)
        *c = (struct context){ ring, __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE), ring->nr,
                               false };
    return c;
}

static void scan_context(struct context *c)
{
    unsigned tail = __atomic_load_n(&c->ring->tail, __ATOMIC_ACQUIRE);

    while (c->seen != tail && tail < c->nr) {
        fence_complete(owner_of(c), c->ring->events[c->seen].obj);
        c->seen = (c->seen + 1) % c->nr;
    }
}

static void scan(void)
{
    for (struct context *c = contexts; c < contexts + contexts_used; c++)
        if (c->ring && !c->dying && fence_owner_busy(owner_of(c)))
            scan_context(c);
}

static void add(unsigned owner, const struct iocb *iocb)
{
    uint32_t request = fence_add(owner, (uintptr_t)iocb);

    switch (iocb->aio_lio_opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PWRITE:
        fence_add_buffer(request, iocb->aio_buf, iocb->aio_nbytes);
        break;
    case IOCB_CMD_PREADV:
    case IOCB_CMD_PWRITEV:
        fence_add_vector(request, (const struct iovec *)(uintptr_t)iocb->aio_buf,
                         iocb->aio_nbytes);
        break;
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC:
    case IOCB_CMD_POLL:
    case IOCB_CMD_NOOP:
        break;
    default:
        fence_add_everything(request);
    }
}

/* Nobody will say when what is submitted here ends: everything is busy from now on. */
static void add_unseen(void)
{
    fence_add_everything(fence_add(FENCE_NOBODY, 0));
}

static void before_submit(const struct aio_ring *ring, long n, struct iocb **iocbs)
{
    struct context *c;

    fence_enter();
    c = get_context(ring);
    if (c)
        scan_context(c);
    else
        add_unseen();
    for (long i = 0; c && i < n; i++)
        add(owner_of(c), iocbs[i]);
    fence_leave();
}

/* What the kernel did not take, QEMU keeps and submits again. */
static void after_refusal(const struct aio_ring *ring, long n, struct iocb **iocbs)
{
    struct context *c;

    fence_enter();
    c = find_context(ring);
    for (long i = 0; c && i < n; i++)
        fence_complete(owner_of(c), (uintptr_t)iocbs[i]);
    fence_leave();
}

static int hook_io_submit(const struct aio_ring *ring, long n, struct iocb **iocbs)
{
    long taken;
    int rc;

    if (n <= 0 || !ring)
        return real_io_submit(ring, n, iocbs);
    before_submit(ring, n, iocbs);
    rc = real_io_submit(ring, n, iocbs);
    taken = rc > 0 ? rc : 0;
    if (taken < n)
        after_refusal(ring, n - taken, iocbs + taken);
    return rc;
}

static int hook_io_destroy(const struct aio_ring *ring)
{
    struct context *c;
    int rc;

    fence_enter();
    c = ring ? find_context(ring) : NULL;
    if (c) {
        scan_context(c);
        c->dying = true;
    }
    fence_leave();
    rc = real_io_destroy(ring);
    fence_enter();
    if (c) {
        c->dying = false;
        if (!rc) {
            fence_forget_owner(owner_of(c));
            c->ring = NULL;
        }
    }
    fence_leave();
    return rc;
}

/* Makes a context and looks at its ring. A host without AIO has nothing to check. */
static int check(struct vt_err *err)
{
    int (*setup)(int, const struct aio_ring **) = NULL;
    int (*destroy)(const struct aio_ring *) = NULL;
    const struct aio_ring *ring = NULL;
    unsigned magic;
    bool ok;

    *(void **)&setup = dlsym(RTLD_DEFAULT, "io_setup");
    *(void **)&destroy = dlsym(RTLD_DEFAULT, "io_destroy");
    if (!setup || !destroy || setup(1, &ring))
        return 0;
    magic = ring->magic;
    ok = ring_is_known(ring) && !ring->tail;
    destroy(ring);
    return ok ? 0 : vt_fail(err, ENOTSUP, "this kernel's AIO ring is not laid out as expected "
                            "(magic %#x): DMA in flight could not be seen", magic);
}

static const struct fence_hook hooks[] = {
    FENCE_HOOK(io_submit, "laio_co_submit"),
    FENCE_HOOK(io_destroy, "laio_co_submit"),
};

const struct fence_engine fence_aio = {
    "Linux AIO", hooks, sizeof(hooks) / sizeof(hooks[0]), check, scan,
};
