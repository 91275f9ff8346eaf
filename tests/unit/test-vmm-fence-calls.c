// SPDX-License-Identifier: GPL-2.0-or-later
// link: -rdynamic -l:libaio.so.1
/*
 * Unit tests of import hooks, of the fence around calls that return when the I/O is done, of real
 * O_DIRECT I/O, of the hook for holes and of the list of block drivers.
 *
 * A kernel of our own is hooked in before the fence: on FAKE_FD its calls block until the test lets
 * them return.
 */
#include "vmm/fence.h"
#include "vmm/got.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/aio_abi.h>
#include <scsi/sg.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define FAKE_FD (-7)
#define MIB     (1u << 20)

int io_setup(int n, void **ring);
int io_submit(void *ring, long n, struct iocb **iocbs);
int io_destroy(void *ring);
int io_getevents(void *ring, long min, long n, struct io_event *events, struct timespec *timeout);

static uint8_t *ram;

/* --- the fake kernel ------------------------------------------------------------------------ */

static struct {
    ssize_t (*pread)(int fd, void *buffer, size_t n, off_t offset);
    ssize_t (*pwrite)(int fd, const void *buffer, size_t n, off_t offset);
    ssize_t (*preadv)(int fd, const struct iovec *iov, int n, off_t offset);
    ssize_t (*pwritev)(int fd, const struct iovec *iov, int n, off_t offset);
    ssize_t (*pwritev2)(int fd, const struct iovec *iov, int n, off_t offset, int flags);
    int (*ioctl)(int fd, unsigned long request, void *argument);
    int (*fallocate)(int fd, int mode, off_t offset, off_t length);
} real;

static sem_t fake_entered, fake_go;

static ssize_t fake_wait(void)
{
    sem_post(&fake_entered);
    sem_wait(&fake_go);
    errno = EXDEV;
    return -1;
}

static ssize_t fake_pread(int fd, void *buffer, size_t n, off_t offset)
{
    return fd == FAKE_FD ? fake_wait() : real.pread(fd, buffer, n, offset);
}

static ssize_t fake_pwrite(int fd, const void *buffer, size_t n, off_t offset)
{
    return fd == FAKE_FD ? fake_wait() : real.pwrite(fd, buffer, n, offset);
}

static ssize_t fake_preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
    return fd == FAKE_FD ? fake_wait() : real.preadv(fd, iov, n, offset);
}

static ssize_t fake_pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
    return fd == FAKE_FD ? fake_wait() : real.pwritev(fd, iov, n, offset);
}

static ssize_t fake_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return fd == FAKE_FD ? fake_wait() : real.pwritev2(fd, iov, n, offset, flags);
}

static int fake_ioctl(int fd, unsigned long request, void *argument)
{
    return fd == FAKE_FD ? (int)fake_wait() : real.ioctl(fd, request, argument);
}

static int fake_fallocate(int fd, int mode, off_t offset, off_t length)
{
    return real.fallocate(fd, mode, offset, length);
}

static const struct {
    const char *symbol;
    void *replacement, **original;
} fakes[] = {
    { "pread64", (void *)fake_pread, (void **)&real.pread },
    { "pwrite64", (void *)fake_pwrite, (void **)&real.pwrite },
    { "preadv64", (void *)fake_preadv, (void **)&real.preadv },
    { "pwritev64", (void *)fake_pwritev, (void **)&real.pwritev },
    { "pwritev64v2", (void *)fake_pwritev2, (void **)&real.pwritev2 },
    { "ioctl", (void *)fake_ioctl, (void **)&real.ioctl },
    { "fallocate64", (void *)fake_fallocate, (void **)&real.fallocate },
};

static void fake_install(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fakes); i++) {
        g_assert_cmpint(got_count(fakes[i].symbol), ==, 1);
        g_assert_cmpint(got_hook(fakes[i].symbol, fakes[i].replacement, fakes[i].original), ==, 1);
        g_assert_nonnull(*fakes[i].original);
    }
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

static uint64_t in_flight(void)
{
    struct fence_stats s;

    fence_get_stats(&s);
    return s.in_flight;
}

/* --- got ------------------------------------------------------------------------------------ */

static void test_got(void)
{
    void *original = NULL;

    g_assert_cmpint(got_hook("vmtier_no_such_call", fake_wait, &original), ==, 0);
    g_assert_null(original);
    g_assert_cmpint(got_count("pread64"), ==, 1);
    g_assert_cmpint(got_count("pread6"), ==, 0);
    g_assert_false(got_defines("pread64"));             /* the C library does */
    g_assert_false(got_defines("vmtier_no_such_call"));
    g_assert_true(got_defines("test_got_exported"));
}

/* --- calls ---------------------------------------------------------------------------------- */

static struct iovec two[] = { { NULL, 4096 }, { NULL, 4096 } };

static ssize_t call_pread(void)
{
    return pread64(FAKE_FD, ram, 4096, 0);
}

static ssize_t call_pwrite(void)
{
    return pwrite64(FAKE_FD, ram, 4096, 0);
}

static ssize_t call_preadv(void)
{
    return preadv64(FAKE_FD, two, 2, 0);
}

static ssize_t call_pwritev(void)
{
    return pwritev64(FAKE_FD, two, 2, 0);
}

static ssize_t call_pwritev2(void)
{
    return pwritev64v2(FAKE_FD, two, 2, 0, 0);
}

static ssize_t call_sg_io(void)
{
    struct sg_io_hdr h = { .interface_id = 'S', .dxferp = ram, .dxfer_len = 4096 };

    return ioctl(FAKE_FD, SG_IO, &h);
}

static ssize_t call_sg_io_vector(void)
{
    struct sg_io_hdr h = { .interface_id = 'S', .dxferp = two, .dxfer_len = 8192,
                           .iovec_count = 2 };

    return ioctl(FAKE_FD, SG_IO, &h);
}

static const struct call {
    const char *name;
    ssize_t (*fn)(void);
    bool second;                /* it touches the second buffer, too */
} calls[] = {
    { "pread64", call_pread, false },
    { "pwrite64", call_pwrite, false },
    { "preadv64", call_preadv, true },
    { "pwritev64", call_pwritev, true },
    { "pwritev64v2", call_pwritev2, true },
    { "SG_IO", call_sg_io, false },
    { "SG_IO-vector", call_sg_io_vector, true },
};

static gpointer run_call(gpointer data)
{
    const struct call *call = data;
    ssize_t rc = call->fn();

    g_assert_cmpint(errno, ==, EXDEV);
    return GINT_TO_POINTER((int)rc);
}

static void test_call(gconstpointer data)
{
    const struct call *call = data;
    GThread *thread = g_thread_new("call", run_call, (gpointer)call);
    int rc;

    sem_wait(&fake_entered);
    g_assert_false(is_free(0, 4096));
    g_assert_cmpint(is_free(MIB, 4096), ==, !call->second);
    g_assert_true(is_free(4096, MIB - 4096));
    g_assert_cmpuint(in_flight(), ==, 1);
    sem_post(&fake_go);
    rc = GPOINTER_TO_INT(g_thread_join(thread));
    g_assert_cmpint(rc, ==, -1);
    g_assert_true(is_free(0, 2 * MIB));
    g_assert_cmpuint(in_flight(), ==, 0);
}

/* A call into memory that is held does not begin before the release. */
static void test_call_waits(void)
{
    GThread *thread;

    g_assert_true(fence_hold(ram, 4096));
    thread = g_thread_new("call", run_call, (gpointer)&calls[0]);
    g_usleep(20000);
    g_assert_cmpint(sem_trywait(&fake_entered), ==, -1);
    fence_release();
    sem_wait(&fake_entered);
    g_assert_false(is_free(0, 4096));
    sem_post(&fake_go);
    g_thread_join(thread);
    g_assert_true(is_free(0, 4096));
}

/* What the kernel refuses leaves nothing behind. */
static void test_nonsense(void)
{
    static struct iovec iov[1025];
    volatile int minus_one = -1;        /* the compiler would refuse a constant */

    for (size_t i = 0; i < G_N_ELEMENTS(iov); i++) {
        iov[i] = (struct iovec){ ram, 1 };
    }
    g_assert_cmpint(preadv64(-1, iov, G_N_ELEMENTS(iov), 0), ==, -1);
    g_assert_true(is_free(0, 2 * MIB));
    g_assert_cmpint(preadv64(-1, iov, minus_one, 0), ==, -1);
    g_assert_cmpint(pread64(-1, ram, (size_t)minus_one, 0), ==, -1);
    g_assert_true(is_free(0, 2 * MIB));
}

/* --- real I/O ------------------------------------------------------------------------------- */

/* A file of 1 MiB opened O_DIRECT beside the program, page i full of i + 1; -1: no O_DIRECT here. */
static int open_direct(void)
{
    g_autofree char *path = g_strdup_printf("%s.XXXXXX", g_get_prgname());
    g_autofree uint8_t *page = g_malloc(4096);
    int fd = mkstemp(path), direct;

    g_assert_cmpint(fd, >=, 0);
    for (int i = 0; i < 256; i++) {
        memset(page, i + 1, 4096);
        g_assert_cmpint(write(fd, page, 4096), ==, 4096);
    }
    fsync(fd);
    direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    unlink(path);
    close(fd);
    return direct;
}

static void test_direct(void)
{
    struct iocb iocb[4], *list[] = { &iocb[0], &iocb[1], &iocb[2], &iocb[3] };
    struct io_event events[4];
    void *ring = NULL;
    int fd = open_direct();

    if (fd < 0 || io_setup(4, &ring)) {
        g_test_skip("no O_DIRECT or no AIO here");
        return;
    }
    for (unsigned round = 0; round < 64; round++) {
        memset(ram, 0, MIB);
        for (unsigned i = 0; i < 4; i++) {
            iocb[i] = (struct iocb){ .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (unsigned)fd,
                                     .aio_buf = (uintptr_t)ram + i * 4096, .aio_nbytes = 4096,
                                     .aio_offset = (round * 4 + i) * 4096 };
        }
        g_assert_cmpint(io_submit(ring, 4, list), ==, 4);
        while (!is_free(0, MIB)) {              /* our own look at the ring, before it is reaped */
            g_thread_yield();
        }
        for (unsigned i = 0; i < 4; i++) {
            g_assert_cmpint(ram[i * 4096], ==, (uint8_t)(round * 4 + i + 1));
        }
        g_assert_cmpint(io_getevents(ring, 4, 4, events, NULL), ==, 4);
    }
    g_assert_cmpint(io_destroy(ring), ==, 0);
    g_assert_cmpuint(in_flight(), ==, 0);
    g_assert_cmpint(pread64(fd, ram, 4096, 4096), ==, 4096);
    g_assert_cmpint(ram[0], ==, 2);
    close(fd);
}

/* --- holes ---------------------------------------------------------------------------------- */

static struct {
    unsigned n;
    int fd, mode, answer;
    uint64_t offset, length;
    const void *address;
    uint8_t there;              /* what the file had at the offset by then */
} asked;

static int on_punch(int fd, int mode, uint64_t offset, uint64_t length)
{
    asked.n++;
    asked.fd = fd;
    asked.mode = mode;
    asked.offset = offset;
    asked.length = length;
    g_assert_cmpint(pread64(fd, &asked.there, 1, 8192), ==, 1);
    g_assert_true(is_free(0, MIB));             /* nothing of the fence is locked */
    errno = ENOSPC;
    return asked.answer;
}

static void test_punch(void)
{
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int fd = memfd_create("test-fence", MFD_CLOEXEC);
    uint8_t there;

    g_assert_cmpint(fallocate64(fd, 0, 0, MIB), ==, 0);
    g_assert_cmpint(pwrite64(fd, "x", 1, 8192), ==, 1);
    fence_on_punch(on_punch);
    asked.answer = 0;
    g_assert_cmpint(fallocate64(fd, punch, 8192, 4096), ==, 0);
    g_assert_cmpuint(asked.n, ==, 1);
    g_assert_cmpint(asked.fd, ==, fd);
    g_assert_cmpint(asked.mode, ==, punch);
    g_assert_cmpuint(asked.offset, ==, 8192);
    g_assert_cmpuint(asked.length, ==, 4096);
    g_assert_cmpint(asked.there, ==, 'x');      /* before the call, and in its place */
    g_assert_cmpint(pread64(fd, &there, 1, 8192), ==, 1);
    g_assert_cmpint(there, ==, 'x');
    asked.answer = -1;
    g_assert_cmpint(fallocate64(fd, punch, 8192, 4096), ==, -1);
    g_assert_cmpint(errno, ==, ENOSPC);
    asked.answer = 1;
    g_assert_cmpint(fallocate64(fd, punch, 8192, 4096), ==, 0);
    g_assert_cmpint(pread64(fd, &there, 1, 8192), ==, 1);
    g_assert_cmpint(there, ==, 0);
    fence_on_punch(NULL);
    g_assert_cmpint(fallocate64(-1, punch, 0, 4096), ==, -1);
    g_assert_cmpint(errno, ==, EBADF);
    g_assert_cmpuint(asked.n, ==, 3);
    close(fd);
}

static int on_map(const void *address, size_t length, int fd, uint64_t offset)
{
    asked.n++;
    asked.address = address;
    asked.fd = fd;
    asked.offset = offset;
    asked.length = length;
    errno = EIO;
    return asked.answer;
}

/* Does mmap64() return this address? */
static bool maps(uint8_t *at, int flags, int fd, off_t offset)
{
    void *got = mmap64(at, 4096, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, offset);

    return got == at;
}

static void test_map(void)
{
    int fd = memfd_create("test-fence", MFD_CLOEXEC), none = -fcntl(fd, F_GETFD);
    uint8_t *page = mmap64(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    g_assert_cmpint(fallocate64(fd, 0, 0, 8192), ==, 0);
    page[0] = 1;
    fence_on_map(on_map);
    asked.n = 0;
    asked.answer = 0;
    munmap(mmap64(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0), 4096);
    g_assert_true(maps(page + 4096, MAP_PRIVATE | MAP_ANONYMOUS, none, 0));
    g_assert_cmpuint(asked.n, ==, 0);           /* neither is a file over what is there */
    g_assert_true(maps(page, MAP_SHARED, fd, 4096));
    g_assert_cmpuint(asked.n, ==, 1);
    g_assert_true(asked.address == page && asked.fd == fd && asked.length == 4096 &&
                  asked.offset == 4096);
    g_assert_cmpuint(page[0], ==, 1);           /* nothing was mapped */
    asked.answer = -1;
    g_assert_false(maps(page, MAP_SHARED, fd, 4096));
    g_assert_cmpint(errno, ==, EIO);
    asked.answer = 1;
    g_assert_true(maps(page, MAP_SHARED, fd, 4096));
    g_assert_cmpuint(page[0], ==, 0);
    fence_on_map(NULL);
    munmap(page, 8192);
    close(fd);
}

/* --- block drivers -------------------------------------------------------------------------- */

static void test_drivers(void)
{
    static const char *const covered[] = { "file", "host_device", "host_cdrom", "qcow2", "raw",
        "luks", "nbd", "throttle", "null-co", "https", "ssh", "copy-on-read", "mirror_top" };
    static const char *const refused[] = { "rbd", "iscsi", "iser", "gluster", "nvme", "io_uring",
        "nvme-io_uring", "virtio-blk-vfio-pci", "virtio-blk-vhost-user", "virtio-blk-vhost-vdpa",
        "no-such-driver", "", "fil", "files" };

    for (size_t i = 0; i < G_N_ELEMENTS(covered); i++) {
        g_assert_cmpstr(fence_refuses(covered[i]), ==, NULL);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_assert_nonnull(fence_refuses(refused[i]));
    }
    g_assert_nonnull(strstr(fence_refuses("nvme"), "VFIO"));
    g_assert_nonnull(strstr(fence_refuses("no-such-driver"), "does not know"));
}

void test_got_exported(void);
__attribute__((visibility("default"))) void test_got_exported(void)
{
}

int main(int argc, char **argv)
{
    struct vt_err err;

    g_test_init(&argc, &argv, NULL);
    g_set_prgname(argv[0]);
    ram = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    two[0].iov_base = ram;
    two[1].iov_base = ram + MIB;
    sem_init(&fake_entered, 0, 0);
    sem_init(&fake_go, 0, 0);
    fake_install();
    if (fence_init(&err)) {
        g_error("fence_init: %s", err.text);
    }
    g_test_add_func("/fence/got", test_got);
    for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
        g_autofree char *path = g_strdup_printf("/fence/call/%s", calls[i].name);

        g_test_add_data_func(path, &calls[i], test_call);
    }
    g_test_add_func("/fence/call-waits", test_call_waits);
    g_test_add_func("/fence/nonsense", test_nonsense);
    g_test_add_func("/fence/direct", test_direct);
    g_test_add_func("/fence/punch", test_punch);
    g_test_add_func("/fence/map", test_map);
    g_test_add_func("/fence/drivers", test_drivers);
    return g_test_run();
}
