// SPDX-License-Identifier: GPL-2.0-or-later
// link: -l:libaio.so.1
/*
 * Unit tests of the fence: its table, who goes ahead, how long it takes, and Linux AIO.
 *
 * The program hooks its own import table, as the plugin does with QEMU's. Real I/O on a file ends
 * too fast to be looked at, so a kernel of our own is hooked in first: the fence takes it for the
 * real one. It serves one context, `fake`; the test says when a request completes.
 */
#include "vmm/fence-time.h"
#include "vmm/fence.h"
#include "vmm/got.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>


#define SLOTS    32768u         /* of the fake ring; more than the fence has requests */
#define REQUESTS 16384u         /* of the fence */
#define MIB      (1u << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define SLOW 1
#else
#define SLOW 0
#endif

struct ring {
    unsigned id, nr, head, tail;
    unsigned magic, compat, incompat, header_length;
    struct io_event events[SLOTS];
};

int io_submit(struct ring *ring, long n, struct iocb **iocbs);
int io_destroy(struct ring *ring);

/* What else the fence wants to find among the program's imports, as in QEMU's. */
void *const test_imports[] = {
    (void *)pread64, (void *)pwrite64, (void *)preadv64, (void *)pwritev64, (void *)ioctl,
    (void *)fallocate64,
};

static struct ring *fake;
static uint8_t *ram;            /* 16 MiB of address space, aligned to 2 MiB */
static struct iocb iocbs[SLOTS];

/* --- the fake kernel ------------------------------------------------------------------------ */

static int (*real_submit)(struct ring *ring, long n, struct iocb **iocbs);
static int (*real_destroy)(struct ring *ring);

static long fake_accepts;               /* the next io_submit() takes this many, or returns < 0 */
static gint fake_taken;                 /* iocbs it has taken so far */
static gint fake_busy[SLOTS];           /* the kernel's view: iocb i is between submit and event */
static void (*fake_in_destroy)(void);

static void fake_reset(unsigned nr)
{
    memset(fake, 0, offsetof(struct ring, events));
    fake->nr = nr;
    fake->magic = 0xa10a10a1;
    fake->header_length = offsetof(struct ring, events);
    fake_accepts = SLOTS;
}

static int fake_submit(struct ring *ring, long n, struct iocb **list)
{
    if (ring != fake) {
        return real_submit(ring, n, list);
    }
    n = MIN(n, fake_accepts);
    for (long i = 0; i < n; i++) {
        g_atomic_int_set(&fake_busy[list[i] - iocbs], 1);
        g_atomic_int_inc(&fake_taken);
    }
    return (int)n;
}

static void fake_complete(unsigned i)
{
    fake->events[fake->tail].obj = (uintptr_t)&iocbs[i];
    g_atomic_int_set(&fake_busy[i], 0);
    __atomic_store_n(&fake->tail, (fake->tail + 1) % fake->nr, __ATOMIC_RELEASE);
}

static int fake_destroy(struct ring *ring)
{
    if (ring == fake) {
        fake_in_destroy();
    }
    return ring == fake ? 0 : real_destroy(ring);
}

/* --- helpers -------------------------------------------------------------------------------- */

static bool is_free(uint64_t offset, uint64_t length)
{
    bool ok = fence_hold(ram + offset, length);

    if (ok) {
        fence_release();
    }
    return ok;
}

static struct fence_stats stats(void)
{
    struct fence_stats s;

    fence_get_stats(&s);
    return s;
}

static void fill(unsigned i, unsigned opcode, uint64_t offset, uint64_t length)
{
    iocbs[i] = (struct iocb){ .aio_lio_opcode = (uint16_t)opcode,
                              .aio_buf = (uintptr_t)ram + offset, .aio_nbytes = length };
}

static void do_nothing(void)
{
}

static void fake_new(unsigned nr)
{
    fake_in_destroy = do_nothing;
    io_destroy(fake);
    fake_reset(nr);
}

static int submit(unsigned first, unsigned n)
{
    static struct iocb *list[SLOTS];    /* never changes, so any thread may set it up */

    for (unsigned i = first; i < first + n; i++) {
        list[i] = &iocbs[i];
    }
    return io_submit(fake, n, list + first);
}

/* --- AIO ------------------------------------------------------------------------------------ */

static void test_aio_in_flight(void)
{
    static const unsigned opcodes[] = { IOCB_CMD_PREAD, IOCB_CMD_PWRITE };

    for (unsigned i = 0; i < G_N_ELEMENTS(opcodes); i++) {
        fill(0, opcodes[i], 2 * MIB - 4096, 65536);      /* across a chunk's border */
        g_assert_cmpint(submit(0, 1), ==, 1);
        g_assert_false(is_free(2 * MIB - 4096, 65536));
        g_assert_false(is_free(0, 2 * MIB));
        g_assert_false(is_free(2 * MIB, 2 * MIB));
        g_assert_false(is_free(0, 16 * MIB));
        g_assert_false(is_free(2 * MIB - 4096 + 65535, 1));
        g_assert_true(is_free(0, 2 * MIB - 4096));
        g_assert_true(is_free(2 * MIB - 4096 + 65536, MIB));
        g_assert_cmpuint(stats().in_flight, ==, 1);
        fake_complete(0);
        g_assert_true(is_free(0, 16 * MIB));
        g_assert_cmpuint(stats().in_flight, ==, 0);
    }
}

static void test_aio_vector(void)
{
    struct iovec iov[] = { { ram, 4096 }, { ram + 4096, 4096 }, { ram + MIB, 4096 }, { ram, 0 } };

    fill(0, IOCB_CMD_PREADV, 0, G_N_ELEMENTS(iov));
    iocbs[0].aio_buf = (uintptr_t)iov;
    fill(1, IOCB_CMD_FDSYNC, 0, 0);
    g_assert_cmpint(submit(0, 2), ==, 2);
    memset(iov, 0, sizeof(iov));                /* QEMU may free it now */
    g_assert_false(is_free(4096, 4096));
    g_assert_false(is_free(MIB, 4096));
    g_assert_true(is_free(8192, MIB - 8192));
    g_assert_true(is_free(MIB + 4096, MIB));
    g_assert_cmpuint(stats().in_flight, ==, 1);
    fake_complete(1);
    g_assert_false(is_free(0, 4096));
    fake_complete(0);
    g_assert_true(is_free(0, 16 * MIB));
}

/* What the kernel does not take is not in flight. */
static void test_aio_refused(void)
{
    static const int accepts[] = { -EAGAIN, 0, 1, 2 };

    for (unsigned c = 0; c < G_N_ELEMENTS(accepts); c++) {
        for (unsigned i = 0; i < 3; i++) {
            fill(i, IOCB_CMD_PREAD, i * MIB, 4096);
        }
        fake_accepts = accepts[c];
        g_assert_cmpint(submit(0, 3), ==, accepts[c]);
        for (int i = 0; i < 3; i++) {
            g_assert_cmpint(is_free((unsigned)i * MIB, 4096), ==, i >= accepts[c]);
        }
        for (int i = 0; i < accepts[c]; i++) {
            fake_complete((unsigned)i);
        }
        g_assert_true(is_free(0, 16 * MIB));
    }
    fake_accepts = SLOTS;
}

/* Many rounds on a small ring, completed backwards, and nobody asks in between. */
static void test_aio_wrap(void)
{
    fake_new(8);
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < 7; i++) {
            fill(i, IOCB_CMD_PREAD, i * MIB, 4096);
        }
        g_assert_cmpint(submit(0, 7), ==, 7);
        for (unsigned i = 7; i-- > 0;) {
            fake_complete(i);
            if (round % 10 == 9) {
                g_assert_true(is_free(i * MIB, 4096));
                g_assert_cmpint(is_free(0, 16 * MIB), ==, !i);
            }
        }
    }
    g_assert_true(is_free(0, 16 * MIB));
    fake_new(SLOTS);
}

static void look_in_destroy(void)
{
    g_assert_false(is_free(0, 4096));
    munmap(fake, sizeof(*fake));                /* as the kernel does first */
    g_assert_false(is_free(0, 4096));
    g_assert_true(is_free(4096, 4096));
}

static void test_aio_destroy(void)
{
    fill(0, IOCB_CMD_PREAD, 0, 4096);
    g_assert_cmpint(submit(0, 1), ==, 1);
    fake_in_destroy = look_in_destroy;
    g_assert_cmpint(io_destroy(fake), ==, 0);
    g_assert_true(is_free(0, 16 * MIB));
    g_assert_true(mmap(fake, sizeof(*fake), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == fake);
    fake_reset(SLOTS);
    test_aio_in_flight();                       /* another context at the same address */
}

/* More requests than the fence has room for: everything is busy until those have completed. */
static void test_aio_overflow(void)
{
    const unsigned more = 100;
    uint64_t before = stats().overflows;

    for (unsigned i = 0; i < REQUESTS + more; i++) {
        fill(i, IOCB_CMD_PREAD, (i % 2048) * 4096, 4096);
    }
    g_assert_cmpint(submit(0, REQUESTS), ==, REQUESTS);
    g_assert_true(is_free(12 * MIB, 4096));
    g_assert_cmpint(submit(REQUESTS, more), ==, more);
    g_assert_false(is_free(12 * MIB, 4096));
    g_assert_cmpuint(stats().unseen, ==, more);
    g_assert_cmpuint(stats().overflows - before, ==, more);
    for (unsigned i = 0; i < more; i++) {
        g_assert_false(is_free(12 * MIB, 4096));
        fake_complete(REQUESTS + i);
    }
    g_assert_true(is_free(12 * MIB, 4096));
    g_assert_false(is_free(0, 4096));
    for (unsigned i = 0; i < REQUESTS; i++) {
        fake_complete(i);
    }
    g_assert_true(is_free(0, 16 * MIB));
    g_assert_cmpuint(stats().in_flight, ==, 0);
}

static void test_aio_unknown_ring(void)
{
    if (g_test_subprocess()) {
        fake->magic = 1;
        fill(0, IOCB_CMD_PREAD, 0, 4096);
        g_assert_cmpint(submit(0, 1), ==, 1);
        g_assert_false(is_free(8 * MIB, 4096));
        fake->magic = 0xa10a10a1;
        g_assert_false(is_free(8 * MIB, 4096));
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
    g_test_trap_assert_passed();
}

static void test_lookup_is_fast(void)
{
    gint64 best = G_MAXINT64;

    for (unsigned i = 0; i < 4096; i++) {
        fill(i, IOCB_CMD_PREAD, 2 * MIB + (i % 512) * 4096, 2048);
    }
    submit(0, 4096);
    for (unsigned i = 0; i < 1000; i++) {
        gint64 start = g_get_monotonic_time();

        /* All 4096 hang in the lists looked at, and none meets. */
        g_assert_true(is_free(MIB, MIB) && is_free(2 * MIB + 512 * 4096 - 2048, MIB));
        best = MIN(best, g_get_monotonic_time() - start);
    }
    g_test_message("2 lookups, one of them along 4096 buffers: %d us", (int)best);
    for (unsigned i = 0; i < 4096; i++) {
        fake_complete(i);
    }
    g_assert_true(is_free(0, 16 * MIB));
    g_assert_cmpint(best, <, SLOW ? 2000 : 20);
}

/* --- who goes ahead ------------------------------------------------------------------------- */

static gpointer submit_first(gpointer data)
{
    return GINT_TO_POINTER(submit(GPOINTER_TO_UINT(data), 1));
}

static void test_held(void)
{
    int taken = g_atomic_int_get(&fake_taken);
    uint64_t waited = stats().waited;
    GThread *thread;

    fill(0, IOCB_CMD_PREAD, MIB, 4096);
    fill(1, IOCB_CMD_PREAD, 2 * MIB, 4096);
    g_assert_true(fence_hold(ram + MIB, MIB));
    g_assert_cmpint(submit(1, 1), ==, 1);               /* beside it: does not wait */
    thread = g_thread_new("submit", submit_first, GUINT_TO_POINTER(0));
    while (stats().waited == waited) {
        g_usleep(100);
    }
    g_usleep(20000);
    g_assert_cmpint(g_atomic_int_get(&fake_taken), ==, taken + 1);
    fence_release();
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 1);
    g_assert_cmpuint(stats().wait_max_ns, >=, 20000000);
    g_assert_cmpint(g_atomic_int_get(&fake_taken), ==, taken + 2);
    fake_complete(0);
    fake_complete(1);
    g_assert_true(is_free(0, 16 * MIB));
}

#define HAMMER_SLOTS 16u
static gint hammer_stop;

static gpointer hammer(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    unsigned n = 0;

    (void)data;
    while (!g_atomic_int_get(&hammer_stop)) {
        unsigned i = (unsigned)g_rand_int_range(rand, 0, HAMMER_SLOTS);

        if (fake_busy[i]) {
            fake_complete(i);
        } else {
            submit(i, 1);
        }
        n++;
    }
    for (unsigned i = 0; i < HAMMER_SLOTS; i++) {
        fake_complete(i);               /* of those not in flight: ignored */
    }
    return GUINT_TO_POINTER(n);
}

static void check_held(unsigned first, unsigned n)
{
    for (unsigned look = 0; look < 20; look++) {
        for (unsigned i = first; i < first + n; i++) {
            g_assert_cmpint(g_atomic_int_get(&fake_busy[i]), ==, 0);
        }
    }
}

static void test_hammer(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(2);
    gint64 end = g_get_monotonic_time() + G_USEC_PER_SEC / 2;
    unsigned held = 0, refused = 0;
    GThread *thread;

    for (unsigned i = 0; i < HAMMER_SLOTS; i++) {
        fill(i, IOCB_CMD_PREAD, i * 65536, 65536);
    }
    thread = g_thread_new("hammer", hammer, NULL);
    while (g_get_monotonic_time() < end) {
        unsigned n = (unsigned)g_rand_int_range(rand, 1, 4);
        unsigned first = (unsigned)g_rand_int_range(rand, 0, (gint32)(HAMMER_SLOTS - n));

        if (fence_hold(ram + first * 65536, n * 65536)) {
            held++;
            check_held(first, n);
            fence_release();
        } else {
            refused++;
        }
    }
    g_atomic_int_set(&hammer_stop, 1);
    g_test_message("%u submissions and completions, %u holds, %u refused",
                   GPOINTER_TO_UINT(g_thread_join(thread)), held, refused);
    g_assert_true(is_free(0, 16 * MIB));
    g_assert_cmpuint(held, >, 0);
    g_assert_cmpuint(refused, >, 0);
}

/* --- times ---------------------------------------------------------------------------------- */

static void test_times(void)
{
    struct fence_times t = { 0 };

    g_assert_cmpuint(fence_times_quantile(&t, .5), ==, 0);
    fence_times_note(&t, 0);
    g_assert_cmpuint(fence_times_quantile(&t, 1), ==, 0);
    for (uint64_t i = 1; i < 100; i++)
        fence_times_note(&t, i * 1000);
    g_assert_cmpuint(fence_times_count(&t), ==, 100);
    g_assert_cmpuint(fence_times_quantile(&t, .5), >, 45000);
    g_assert_cmpuint(fence_times_quantile(&t, .5), <, 55000);
    g_assert_cmpuint(fence_times_quantile(&t, .99), >, 90000);
    g_assert_cmpuint(fence_times_quantile(&t, 1), ==, 99000);
    fence_times_note(&t, UINT64_MAX);
    g_assert_cmpuint(fence_times_quantile(&t, .5), <, 55000);
    g_assert_cmpuint(t.longest, ==, UINT64_MAX);
}

static void test_hold_times(void)
{
    struct fence_stats before, after;

    for (guint i = 0; i < 100; i++) {       /* so many are not all slow ones */
        g_assert_true(fence_hold(ram, 4096));
        fence_release();
    }
    fence_get_stats(&before);
    g_assert_true(fence_hold(ram, 4096));
    g_usleep(20000);
    fence_release();
    fence_get_stats(&after);
    g_assert_cmpuint(after.holds - before.holds, ==, 1);
    g_assert_cmpuint(after.hold_max_ns, >=, 20000000);
    g_assert_cmpuint(fence_hold_ns(1), ==, after.hold_max_ns);
    g_assert_cmpuint(fence_hold_ns(0), <, 20000000);
}

/* One hold in eight is looked at, and counts if its thread was not preempted: waiting is no excuse. */
static void test_hold_undisturbed(void)
{
    struct fence_stats before, after;

    fence_get_stats(&before);
    do {
        g_assert_true(fence_hold(ram, 4096));
        g_usleep(2000);
        fence_release();
        fence_get_stats(&after);
    } while (after.undisturbed == before.undisturbed);
    g_assert_cmpuint(after.undisturbed_max_ns, >=, 2000000);
    g_assert_cmpuint(after.undisturbed_max_ns, <=, after.hold_max_ns);
}

int main(int argc, char **argv)
{
    struct vt_err err;
    uint8_t *room = mmap(NULL, 18 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_test_init(&argc, &argv, NULL);
    ram = (uint8_t *)(((uintptr_t)room + 2 * MIB - 1) & ~(uintptr_t)(2 * MIB - 1));
    fake = mmap(NULL, sizeof(*fake), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fake_reset(SLOTS);
    g_assert_cmpint(got_hook("io_submit", fake_submit, (void **)&real_submit), ==, 1);
    g_assert_cmpint(got_hook("io_destroy", fake_destroy, (void **)&real_destroy), ==, 1);
    if (fence_init(&err)) {
        g_error("fence_init: %s", err.text);
    }
    g_test_add_func("/fence/aio/in-flight", test_aio_in_flight);
    g_test_add_func("/fence/aio/vector", test_aio_vector);
    g_test_add_func("/fence/aio/refused", test_aio_refused);
    g_test_add_func("/fence/aio/destroy", test_aio_destroy);
    g_test_add_func("/fence/aio/overflow", test_aio_overflow);
    g_test_add_func("/fence/aio/unknown-ring", test_aio_unknown_ring);
    g_test_add_func("/fence/lookup-is-fast", test_lookup_is_fast);
    g_test_add_func("/fence/held", test_held);
    g_test_add_func("/fence/hammer", test_hammer);
    g_test_add_func("/fence/times", test_times);
    g_test_add_func("/fence/hold-times", test_hold_times);
    g_test_add_func("/fence/hold-undisturbed", test_hold_undisturbed);
    g_test_add_func("/fence/aio/wrap", test_aio_wrap);
    return g_test_run();
}
