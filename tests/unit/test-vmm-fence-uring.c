// SPDX-License-Identifier: GPL-2.0-or-later
// link: -l:liburing.so.2
/*
 * Unit tests of the fence around io_uring, with the real library and kernel.
 *
 * A read of an empty pipe is in flight until somebody writes; so each buffer ("slot") has a pipe of
 * its own, and the test says when a request completes.
 */
#include "vmm/fence-uring.h"
#include "vmm/fence.h"

#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SLOTS 64u
#define SIZE  4096u
#define MIB   (1u << 20)

int io_uring_queue_init(unsigned entries, struct io_uring *u, unsigned flags);
void io_uring_queue_exit(struct io_uring *u);
int io_uring_submit(struct io_uring *u);
int io_uring_submit_and_wait(struct io_uring *u, unsigned n);

/* What else the fence wants to find among the program's imports, as in QEMU's. */
void *const test_imports[] = {
    (void *)pread64, (void *)pwrite64, (void *)preadv64, (void *)pwritev64, (void *)ioctl,
    (void *)fallocate64,
};

static struct io_uring *uring;
static uint8_t *ram;
static int slot_fd[SLOTS][2];

/* --- a ring, as liburing's header does it ----------------------------------------------------- */

static void ring_open(unsigned entries)
{
    uring = g_new0(struct io_uring, 1);
    g_assert_cmpint(io_uring_queue_init(entries, uring, 0), ==, 0);
}

static void ring_close(void)
{
    io_uring_queue_exit(uring);
    g_clear_pointer(&uring, g_free);
}

static struct io_uring_sqe *get_sqe(unsigned opcode, uint64_t key)
{
    struct io_uring_sqe *sqe = &uring->sq.sqes[uring->sq.sqe_tail++ & *uring->sq.kring_mask];

    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = (uint8_t)opcode;
    sqe->user_data = key;
    return sqe;
}

static void put_read(unsigned slot)
{
    struct io_uring_sqe *sqe = get_sqe(IORING_OP_READ, slot + 1);

    sqe->fd = slot_fd[slot][0];
    sqe->addr = (uintptr_t)ram + slot * SIZE;
    sqe->len = SIZE;
}

static bool reap(uint64_t *key)
{
    unsigned head = *uring->cq.khead;

    if (head == __atomic_load_n(uring->cq.ktail, __ATOMIC_ACQUIRE)) {
        return false;
    }
    *key = uring->cq.cqes[head & *uring->cq.kring_mask].user_data;
    __atomic_store_n(uring->cq.khead, head + 1, __ATOMIC_RELEASE);
    return true;
}

static bool is_free(uint64_t offset, uint64_t length)
{
    bool ok = fence_hold(ram + offset, length);

    if (ok) {
        fence_release();
    }
    return ok;
}

/*
 * The kernel completes what is ready when this thread enters it; the fence's hook is not called. Waits
 * for `want` completions, seconds if the machine is busy, and a moment longer for one too many.
 */
static unsigned reap_all(unsigned want)
{
    uint64_t key;
    unsigned n = 0;

    for (unsigned i = 0, left = 20; i < 50000 && left; i++, left -= n >= want) {
        while (reap(&key)) {
            n++;
        }
        g_usleep(100);
    }
    return n;
}

/* The kernel's completion, not QEMU's reaping, frees a range: waits for the former. */
static bool becomes_free(uint64_t offset, uint64_t length)
{
    for (unsigned i = 0; i < 50000 && !is_free(offset, length); i++) {
        g_usleep(100);
    }
    return is_free(offset, length);
}

static void feed(unsigned slot, int byte)
{
    uint8_t data[SIZE];

    memset(data, byte, SIZE);
    g_assert_cmpint(write(slot_fd[slot][1], data, SIZE), ==, SIZE);
}

static bool slot_is_free(unsigned slot)
{
    return is_free(slot * SIZE, SIZE);
}

static struct fence_stats stats(void)
{
    struct fence_stats s;

    fence_get_stats(&s);
    return s;
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_in_flight(void)
{
    uint64_t before = stats().in_flight;

    ring_open(8);
    put_read(3);
    g_assert_true(slot_is_free(3));             /* QEMU has only written it down */
    g_assert_cmpint(io_uring_submit(uring), ==, 1);
    g_assert_false(slot_is_free(3));
    g_assert_false(is_free(0, 2 * MIB));
    g_assert_true(slot_is_free(2));
    g_assert_true(slot_is_free(4));
    feed(3, 'x');
    g_assert_true(becomes_free(3 * SIZE, SIZE)); /* before QEMU reaps it */
    g_assert_cmpint(ram[3 * SIZE], ==, 'x');
    g_assert_cmpuint(reap_all(1), ==, 1);
    g_assert_cmpuint(stats().in_flight, ==, before);
    ring_close();
}

static void test_vector(void)
{
    struct iovec iov[] = { { ram, 1 }, { ram + MIB, 1 } };
    struct io_uring_sqe *sqe;

    ring_open(8);
    sqe = get_sqe(IORING_OP_READV, 1);
    sqe->fd = slot_fd[0][0];
    sqe->addr = (uintptr_t)iov;
    sqe->len = 2;
    get_sqe(IORING_OP_FSYNC, 2)->fd = slot_fd[0][0];
    g_assert_cmpint(io_uring_submit(uring), ==, 2);
    g_assert_false(slot_is_free(0));
    g_assert_false(is_free(MIB, SIZE));
    g_assert_true(is_free(SIZE, MIB - SIZE));
    g_assert_cmpuint(stats().in_flight, ==, 1);
    g_assert_cmpint(write(slot_fd[0][1], "ab", 2), ==, 2);
    g_assert_true(becomes_free(0, 2 * MIB));
    g_assert_cmpuint(reap_all(2), ==, 2);
    ring_close();
}

/* What QEMU's event loop does: polls, and waits in the call. */
static void test_wait(void)
{
    uint64_t before = stats().submissions, key = 0;
    struct io_uring_sqe *sqe;

    ring_open(8);
    sqe = get_sqe(IORING_OP_POLL_ADD, 77);
    sqe->fd = slot_fd[0][1];
    sqe->poll32_events = 4;                     /* POLLOUT: at once */
    g_assert_cmpint(io_uring_submit_and_wait(uring, 1), ==, 1);
    reap(&key);
    g_assert_cmpuint(key, ==, 77);
    g_assert_cmpuint(stats().submissions, ==, before);
    feed(5, 'y');
    put_read(5);
    g_assert_cmpint(io_uring_submit_and_wait(uring, 1), ==, 1);
    g_assert_cmpuint(stats().submissions, ==, before + 1);
    g_assert_true(slot_is_free(5));
    ring_close();
}

/* A request of a kind the fence does not know keeps everything busy until its completion. */
static void test_unknown_request(void)
{
    ring_open(8);
    put_read(1);
    uring->sq.sqes[0].flags = IOSQE_IO_LINK;    /* the next one waits for the read */
    get_sqe(IORING_OP_FADVISE, 9)->fd = slot_fd[0][0];
    g_assert_cmpint(io_uring_submit(uring), ==, 2);
    g_assert_false(is_free(MIB, SIZE));
    g_assert_cmpuint(stats().unseen, ==, 1);
    feed(1, 'u');
    g_assert_cmpuint(reap_all(2), ==, 2);
    g_assert_true(is_free(0, 2 * MIB));
    g_assert_cmpuint(stats().unseen, ==, 0);
    ring_close();
}

/* More completions than the ring has room for, all reaped before the fence looks. */
static void test_lapped(void)
{
    const unsigned more = 8;                    /* than the 8 CQEs of a ring with 4 SQEs */

    ring_open(4);
    for (unsigned i = 0; i < 8 + more; i++) {
        put_read(i);
        g_assert_cmpint(io_uring_submit(uring), ==, 1);
    }
    g_assert_cmpuint(stats().in_flight, ==, 8 + more);
    for (unsigned i = 0; i < 8 + more - 1; i++) {
        feed(i, 'l');
        g_assert_cmpuint(reap_all(1), ==, 1);
    }
    g_assert_false(slot_is_free(8 + more - 1));
    g_assert_cmpuint(stats().in_flight, >, 1);  /* some have escaped: they count as busy */
    g_assert_false(slot_is_free(0));
    put_read(0);                                /* their keys are used again */
    g_assert_cmpint(io_uring_submit(uring), ==, 1);
    feed(0, 'm');
    g_assert_cmpuint(reap_all(1), ==, 1);
    g_assert_true(slot_is_free(0));
    g_assert_false(slot_is_free(8 + more - 1));
    feed(8 + more - 1, 'l');                    /* or the ring is idle */
    g_assert_cmpuint(reap_all(1), ==, 1);
    g_assert_true(is_free(0, 2 * MIB));
    g_assert_cmpuint(stats().in_flight, ==, 0);
    ring_close();
}

/* More buffers than the fence has room for: everything is busy until that request completes. */
static void test_overflow(void)
{
    static struct iovec iov[40][1024];
    uint64_t before = stats().overflows;

    ring_open(64);
    for (unsigned r = 0; r < 40; r++) {
        struct io_uring_sqe *sqe = get_sqe(IORING_OP_READV, 100 + r);

        for (unsigned i = 0; i < 1024; i++) {
            iov[r][i] = (struct iovec){ ram + (r % 2 * 1024 + i) * 512, 1 };
        }
        sqe->fd = slot_fd[r][0];
        sqe->addr = (uintptr_t)iov[r];
        sqe->len = 1024;
    }
    g_assert_cmpint(io_uring_submit(uring), ==, 40);
    g_assert_cmpuint(stats().overflows, >, before);
    g_assert_cmpuint(stats().unseen, >, 0);
    g_assert_false(is_free(MIB, SIZE));
    for (unsigned r = 39; r > 0; r--) {
        feed(r, 'o');
        reap_all(1);
    }
    g_assert_true(is_free(MIB, SIZE));
    g_assert_false(slot_is_free(0));
    g_assert_cmpuint(stats().unseen, ==, 0);
    feed(0, 'o');
    reap_all(1);
    g_assert_true(is_free(0, 2 * MIB));
    ring_close();
    for (unsigned r = 0; r < 40; r++) {         /* the reads took 1 KiB of 4 */
        g_autofree char *rest = g_malloc(SIZE);

        g_assert_cmpint(read(slot_fd[r][0], rest, SIZE), ==, SIZE - 1024);
    }
}

/* Nobody tells when what is in flight at the exit ends, so it stays busy; others do not. */
static void test_exit(void)
{
    if (g_test_subprocess()) {
        ring_open(8);
        put_read(1);
        put_read(2);
        g_assert_cmpint(io_uring_submit(uring), ==, 2);
        feed(2, 'e');
        g_assert_true(becomes_free(2 * SIZE, SIZE));
        ring_close();
        g_assert_false(slot_is_free(1));
        g_assert_true(slot_is_free(2));
        test_in_flight();
        g_assert_false(slot_is_free(1));
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
    g_test_trap_assert_passed();
}

/* --- race ----------------------------------------------------------------------------------- */

static gint race_stop;

/* Reads at random, and completes at random. Slot by slot: a byte that changes each time. */
static gpointer race(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    bool busy[SLOTS] = { false };
    unsigned n = 0, left = 0;
    uint64_t key;

    (void)data;
    ring_open(128);
    while (!g_atomic_int_get(&race_stop)) {
        unsigned slot = (unsigned)g_rand_int_range(rand, 0, SLOTS);

        if (!busy[slot]) {
            put_read(slot);
            g_assert_cmpint(io_uring_submit(uring), ==, 1);
            busy[slot] = true;
        } else {
            feed(slot, (int)n++);
            io_uring_submit_and_wait(uring, 1);
        }
        while (reap(&key)) {
            busy[key - 1] = false;
        }
    }
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (busy[slot]) {
            feed(slot, 0);
            left++;
        }
    }
    reap_all(left);
    return GUINT_TO_POINTER(n);
}

/* Memory that is held must not change: the read would have written to a page already copied. */
static void check_held(unsigned slot, unsigned n)
{
    static uint8_t copy[4 * SIZE];
    gint64 end = g_get_monotonic_time() + 50;

    memcpy(copy, ram + slot * SIZE, n * SIZE);
    while (g_get_monotonic_time() < end) {
    }
    g_assert_cmpint(memcmp(copy, ram + slot * SIZE, n * SIZE), ==, 0);
}

static void test_race(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(4);
    gint64 end = g_get_monotonic_time() + G_USEC_PER_SEC / 2;
    GThread *thread = g_thread_new("race", race, NULL);
    unsigned held = 0, refused = 0;

    while (g_get_monotonic_time() < end || !held || !refused) {
        unsigned n = (unsigned)g_rand_int_range(rand, 1, 4);
        unsigned slot = (unsigned)g_rand_int_range(rand, 0, (gint32)(SLOTS - n));

        if (fence_hold(ram + slot * SIZE, n * SIZE)) {
            held++;
            check_held(slot, n);
            fence_release();
        } else {
            refused++;
            g_usleep(10);
        }
    }
    g_atomic_int_set(&race_stop, 1);
    g_test_message("%u reads, %u holds, %u refused", GPOINTER_TO_UINT(g_thread_join(thread)), held,
                   refused);
    g_assert_true(is_free(0, 2 * MIB));
    ring_close();
}

static const struct {
    const char *path;
    GTestFunc fn;
} tests[] = {
    { "/fence/uring/in-flight", test_in_flight },
    { "/fence/uring/vector", test_vector },
    { "/fence/uring/wait", test_wait },
    { "/fence/uring/unknown-request", test_unknown_request },
    { "/fence/uring/lapped", test_lapped },
    { "/fence/uring/overflow", test_overflow },
    { "/fence/uring/exit", test_exit },
    { "/fence/uring/race", test_race },
};

static void test_absent(void)
{
    g_test_skip("no io_uring on this host");
}

int main(int argc, char **argv)
{
    struct io_uring probe = { .ring_fd = -1 };
    bool absent = io_uring_queue_init(4, &probe, 0) != 0;
    struct vt_err err;

    g_test_init(&argc, &argv, NULL);
    if (!absent) {
        io_uring_queue_exit(&probe);
    }
    ram = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        g_assert_cmpint(pipe2(slot_fd[i], O_CLOEXEC), ==, 0);
    }
    if (fence_init(&err)) {
        g_error("fence_init: %s", err.text);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add_func(tests[i].path, absent ? test_absent : tests[i].fn);
    }
    return g_test_run();
}
