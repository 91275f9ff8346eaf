// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The hooks' cost per request.
 *
 * This program's own import table is hooked like QEMU's, and each hook is swapped out and in again
 * between short phases, so that both see the same machine. Time is the thread's CPU time over
 * submission and completion of reads of 4 KiB, with nothing else in flight and no mover.
 */
#include "bench/lib/io.h"
#include "common/clock.h"
#include "vmm/fence-uring.h"
#include "vmm/fence.h"
#include "vmm/got.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_PAGES 256u
#define BATCH_MOST 16u
#define PAGE       4096u
#define PHASES     15u              /* of each kind */

const char *const io_call_names[] = { "pread64", "io_submit", "io_uring_submit_and_wait" };
static_assert(G_N_ELEMENTS(io_call_names) == IO_CALLS, "a call has no name");

/* Of libaio and liburing, whose headers nothing here needs. */
int io_setup(int n, void **ring);
int io_submit(void *ring, long n, struct iocb **iocbs);
int io_destroy(void *ring);
int io_getevents(void *ring, long min, long n, struct io_event *events, struct timespec *timeout);
int io_uring_queue_init(unsigned entries, struct io_uring *u, unsigned flags);
int io_uring_submit_and_wait(struct io_uring *u, unsigned n);

/* What else the fence wants to find among the program's imports, as in QEMU's. */
extern void *const io_call_imports[];
void *const io_call_imports[] = {
    (void *)pread64, (void *)pwrite64, (void *)preadv64, (void *)pwritev64, (void *)ioctl,
    (void *)fallocate64, (void *)sendmsg, (void *)io_destroy,
};

struct caller {
    const struct io_call_case *c;
    int fd;
    uint8_t *buffer;
    guint64 random;
    void *aio;
    union {
        struct io_uring u;
        char room[1024];            /* for a library with a longer structure */
    } uring;
    struct iocb iocb[BATCH_MOST];
    struct iovec iov[BATCH_MOST];
    void *real, *hook;
};

/* --- the calls ------------------------------------------------------------------------------ */

static off_t pick(struct caller *x)
{
    return (off_t)(bench_random(&x->random) % FILE_PAGES) * PAGE;
}

static bool by_pread(struct caller *x)
{
    return pread64(x->fd, x->buffer, PAGE, pick(x)) == PAGE;
}

static bool by_aio(struct caller *x)
{
    struct iocb *list[BATCH_MOST];
    struct io_event events[BATCH_MOST];
    long n = x->c->batch;

    for (long i = 0; i < n; i++) {
        list[i] = &x->iocb[i];
        x->iocb[i] = (struct iocb){ .aio_lio_opcode = IOCB_CMD_PREADV, .aio_nbytes = 1,
                                    .aio_fildes = (unsigned)x->fd, .aio_offset = pick(x),
                                    .aio_buf = (uintptr_t)&x->iov[i] };
    }
    return io_submit(x->aio, n, list) == n && io_getevents(x->aio, n, n, events, NULL) == n &&
           events[0].res == PAGE;
}

/* Takes what has completed; false if one has failed or is not there. */
static bool reap(struct io_uring *u, unsigned n)
{
    unsigned head = *u->cq.khead;
    bool ok = __atomic_load_n(u->cq.ktail, __ATOMIC_ACQUIRE) - head == n;

    for (unsigned i = 0; ok && i < n; i++)
        ok = u->cq.cqes[(head + i) & *u->cq.kring_mask].res == (int)PAGE;
    __atomic_store_n(u->cq.khead, head + n, __ATOMIC_RELEASE);
    return ok;
}

static bool by_uring(struct caller *x)
{
    struct io_uring *u = &x->uring.u;

    for (guint i = 0; i < x->c->batch; i++) {
        struct io_uring_sqe *sqe = &u->sq.sqes[u->sq.sqe_tail++ & *u->sq.kring_mask];

        memset(sqe, 0, sizeof(*sqe));
        sqe->opcode = IORING_OP_READV;
        sqe->fd = x->fd;
        sqe->off = (guint64)pick(x);
        sqe->addr = (uintptr_t)&x->iov[i];
        sqe->len = 1;
        sqe->user_data = i + 1;
    }
    return io_uring_submit_and_wait(u, x->c->batch) == (int)x->c->batch && reap(u, x->c->batch);
}

static bool (*const calls[IO_CALLS])(struct caller *x) = { by_pread, by_aio, by_uring };

/* --- one case ------------------------------------------------------------------------------- */

static int open_file(bool direct)
{
    static const uint8_t page[PAGE];
    const char *build = g_getenv("BUILD");
    g_autofree char *name = g_strdup_printf("%s/bench-io-XXXXXX", build ? build : "build");
    int fd = direct ? mkstemp(name) : memfd_create("bench-io", MFD_CLOEXEC);

    for (guint i = 0; fd >= 0 && i < FILE_PAGES; i++)
        if (write(fd, page, PAGE) != PAGE)
            return -1;
    if (direct && fd >= 0) {
        int again = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);

        fsync(fd);
        unlink(name);
        close(fd);
        fd = again;
    }
    return fd;
}

static bool set_up(struct caller *x, struct vt_err *err)
{
    const char *symbol = io_call_names[x->c->call];

    x->fd = open_file(x->c->direct);
    x->buffer = mmap(NULL, BATCH_MOST * PAGE, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (x->fd < 0 || x->buffer == MAP_FAILED || io_setup(BATCH_MOST, &x->aio) ||
        io_uring_queue_init(BATCH_MOST, &x->uring.u, 0)) {
        vt_fail(err, errno, "a file, memory or a ring: %s", strerror(errno));
        return false;
    }
    for (guint i = 0; i < BATCH_MOST; i++)
        x->iov[i] = (struct iovec){ x->buffer + i * PAGE, PAGE };
    x->real = dlsym(RTLD_DEFAULT, symbol);
    if (fence_init(err))
        return false;
    return got_hook(symbol, x->real, &x->hook) > 0 && x->hook != x->real;
}

/* CPU ns of one request, or 0 if one failed. */
static double phase(struct caller *x, bool hooked)
{
    guint n = x->c->direct ? 100 : 2000;
    void *old;
    guint64 start;

    got_hook(io_call_names[x->c->call], hooked ? x->hook : x->real, &old);
    start = cpu_ns();
    for (guint i = 0; i < n; i++)
        if (!calls[x->c->call](x))
            return 0;
    return (double)(cpu_ns() - start) / n / x->c->batch;
}

void io_call_run(const void *what, void *result)
{
    struct io_call_result *r = result;
    struct caller x = { .c = what, .random = 1 };
    double off[PHASES], on[PHASES], extra[PHASES];
    struct vt_err err = { 0 };

    if (!set_up(&x, &err)) {
        g_strlcpy(r->why, err.text, sizeof(r->why));
        return;
    }
    phase(&x, false);
    phase(&x, true);
    for (guint i = 0; i < PHASES; i++) {
        off[i] = phase(&x, false);
        on[i] = phase(&x, true);
        extra[i] = on[i] - off[i];
        if (off[i] <= 0 || on[i] <= 0) {
            g_strlcpy(r->why, "a read failed", sizeof(r->why));
            return;
        }
    }
    r->off_ns = bench_spread(off, PHASES);
    r->on_ns = bench_spread(on, PHASES);
    r->extra_ns = bench_spread(extra, PHASES);
    r->ok = true;
}
