// SPDX-License-Identifier: GPL-2.0-or-later
// link: -l:libaio.so.1
/*
 * Unit tests of the fence's view of pages that stay pinned: sends without a copy, vhost-net, RDMA.
 *
 * The program hooks its own import table, as the plugin does with QEMU's. For RDMA a library of our own
 * is hooked in first; its calls are imported from nowhere, so a weak reference stands in for QEMU's.
 */
#include "vmm/fence.h"
#include "vmm/got.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MIB (1u << 20)

/* What else the fence wants to find among the program's imports, as in QEMU's. */
void *const test_imports[] = {
    (void *)pread64, (void *)pwrite64, (void *)preadv64, (void *)pwritev64, (void *)ioctl,
    (void *)fallocate64,
};

static uint8_t *ram;

static bool is_free(uint64_t offset, uint64_t length)
{
    bool ok = fence_hold(ram + offset, length);

    if (ok)
        fence_release();
    g_assert_cmpint(fence_busy(ram + offset, length), ==, !ok);
    return ok;
}

/* --- RDMA ----------------------------------------------------------------------------------- */

struct ibv_mr {
    void *context, *pd, *addr;
    size_t length;
};

struct ibv_mr *ibv_reg_mr(void *pd, void *addr, size_t length, int access) __attribute__((weak));
struct ibv_mr *ibv_reg_mr_iova2(void *pd, void *addr, size_t length, uint64_t iova, unsigned access)
    __attribute__((weak));
int ibv_dereg_mr(struct ibv_mr *mr) __attribute__((weak));

static bool fake_fails;         /* the next call does, and the memory must be busy during it */

static struct ibv_mr *fake_reg(void *pd, void *addr, size_t length, int access)
{
    struct ibv_mr *mr = g_new0(struct ibv_mr, 1);

    g_assert_true(fence_busy(addr, length));
    *mr = (struct ibv_mr){ .pd = pd, .addr = addr, .length = length + (size_t)access };
    if (fake_fails)
        g_clear_pointer(&mr, g_free);
    return mr;
}

static struct ibv_mr *fake_reg2(void *pd, void *addr, size_t length, uint64_t iova, unsigned access)
{
    g_assert_cmpuint(iova, ==, 77);
    return fake_reg(pd, addr, length, (int)access);
}

static int fake_dereg(struct ibv_mr *mr)
{
    g_assert_true(fence_busy(mr->addr, mr->length));
    if (!fake_fails)
        g_free(mr);
    return fake_fails ? EBUSY : 0;
}

static void fake_install(void)
{
    void *nothing;

    g_assert_cmpint(got_hook("ibv_reg_mr", (void *)fake_reg, &nothing), ==, 1);
    g_assert_cmpint(got_hook("ibv_reg_mr_iova2", (void *)fake_reg2, &nothing), ==, 1);
    g_assert_cmpint(got_hook("ibv_dereg_mr", (void *)fake_dereg, &nothing), ==, 1);
}

static void test_rdma(void)
{
    struct ibv_mr *all, *part, *other;

    all = ibv_reg_mr(NULL, ram, 4 * MIB, 0);
    g_assert_false(is_free(3 * MIB, 4096));
    g_assert_true(is_free(4 * MIB, 4 * MIB));
    part = ibv_reg_mr_iova2(NULL, ram, MIB, 77, 0);
    other = ibv_reg_mr(NULL, ram + 6 * MIB, 4096, 0);
    g_assert_false(is_free(6 * MIB, MIB));
    g_assert_cmpint(ibv_dereg_mr(other), ==, 0);
    g_assert_true(is_free(6 * MIB, MIB));
    g_assert_cmpint(ibv_dereg_mr(all), ==, 0);
    g_assert_false(is_free(0, MIB));
    fake_fails = true;
    g_assert_cmpint(ibv_dereg_mr(part), ==, EBUSY);
    g_assert_false(is_free(0, MIB));
    g_assert_null(ibv_reg_mr(NULL, ram + 7 * MIB, 4096, 0));
    g_assert_null(ibv_reg_mr_iova2(NULL, ram + 7 * MIB, 4096, 77, 0));
    g_assert_true(is_free(7 * MIB, MIB));
    fake_fails = false;
    g_assert_cmpint(ibv_dereg_mr(part), ==, 0);
    g_assert_true(is_free(0, 8 * MIB));
}

/* More than the table cares to take apart: everything is busy until it ends. */
static void test_rdma_all(void)
{
    struct ibv_mr *all = ibv_reg_mr(NULL, ram, 1ull << 40, 0);

    g_assert_false(fence_hold(ram - MIB, 4096));
    g_assert_cmpint(ibv_dereg_mr(all), ==, 0);
    g_assert_true(is_free(0, 8 * MIB));
}

/* --- zero copy ------------------------------------------------------------------------------ */

static ssize_t by_send(int fd, int flags)
{
    return send(fd, ram, 1, flags);
}

static ssize_t by_sendto(int fd, int flags)
{
    return sendto(fd, ram, 1, flags, NULL, 0);
}

static ssize_t by_sendmsg(int fd, int flags)
{
    struct iovec iov = { ram, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    return sendmsg(fd, &m, flags);
}

static ssize_t by_sendmmsg(int fd, int flags)
{
    struct iovec iov = { ram, 1 };
    struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };

    return sendmmsg(fd, &m, 1, flags);
}

static const struct sender {
    const char *name;
    ssize_t (*send)(int fd, int flags);
} senders[] = {
    { "send", by_send }, { "sendto", by_sendto }, { "sendmsg", by_sendmsg },
    { "sendmmsg", by_sendmmsg },
};

/* In a program of its own, as the answer is for good. */
static void test_send(gconstpointer data)
{
    const struct sender *s = data;
    int fd[2];

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
        g_test_trap_assert_passed();
        return;
    }
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), ==, 0);
    g_assert_cmpint(s->send(fd[0], MSG_NOSIGNAL | MSG_DONTWAIT), ==, 1);
    g_assert_false(fence_zero_copy());
    g_assert_cmpint(s->send(fd[0], MSG_NOSIGNAL | MSG_ZEROCOPY), ==, 1);
    g_assert_true(fence_zero_copy());
}

/* There is no vhost-net here, or it copies, or it does not: only the last counts. */
static void test_vhost_net(void)
{
    g_autofree char *value = NULL;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
        g_test_trap_assert_passed();
        return;
    }
    g_file_get_contents("/sys/module/vhost_net/parameters/experimental_zcopytx", &value, NULL, NULL);
    g_assert_cmpint(ioctl(-1, VHOST_SET_OWNER, NULL), ==, -1);
    g_assert_false(fence_zero_copy());
    g_assert_cmpint(ioctl(-1, VHOST_NET_SET_BACKEND, NULL), ==, -1);
    g_assert_cmpint(errno, ==, EBADF);
    g_assert_cmpint(fence_zero_copy(), ==, !value || value[0] != '0');
}

int main(int argc, char **argv)
{
    struct vt_err err;

    g_test_init(&argc, &argv, NULL);
    ram = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fake_install();
    if (fence_init(&err))
        g_error("fence_init: %s", err.text);
    g_test_add_func("/fence-pin/rdma", test_rdma);
    g_test_add_func("/fence-pin/rdma-all", test_rdma_all);
    for (size_t i = 0; i < G_N_ELEMENTS(senders); i++) {
        g_autofree char *path = g_strdup_printf("/fence-pin/zero-copy/%s", senders[i].name);

        g_test_add_data_func(path, &senders[i], test_send);
    }
    g_test_add_func("/fence-pin/vhost-net", test_vhost_net);
    return g_test_run();
}
