// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fence's engine for pages that stay pinned after the call that pinned them.
 *
 * Zero-copy sends. sendmsg(MSG_ZEROCOPY) (QEMU: migration with multifd and zero-copy-send) and
 * vhost-net with experimental_zcopytx=1 send the guest's pages themselves, at a time of the network
 * card's choosing. They only read: a page as it was when it was sent, or as it is now, both are right,
 * as long as it is this page's contents and no other's. So moves go on, but fence_zero_copy() tells
 * the mover not to give the memory it moved from another use. For good: when the last such packet has
 * left is known to the socket's user only, and to vhost's kernel thread.
 *
 * A sender says so before it pins, and the mover asks after it has mapped the other file; a sender
 * that it does not see pins what is mapped then. Both with sequential consistency.
 *
 * RDMA (migration over rdma:). A registered memory region is pinned until it is deregistered, and
 * the card reads and writes it without a call that could be seen: such memory is busy all that time.
 * A region is found again by its address; two of the same address hold until both are gone.
 */
#include "vmm/fence-table.h"
#include "vmm/fence.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define VHOST_NET_PARAMETER "/sys/module/vhost_net/parameters/experimental_zcopytx"

/* libibverbs' structure; it has begun so since its first release (ABI IBVERBS_1.1). */
struct ibv_mr {
    void *context, *pd;
    void *addr;
    size_t length;
};

static atomic_bool zero_copy;

static ssize_t (*real_send)(int fd, const void *buffer, size_t n, int flags);
static ssize_t (*real_sendto)(int fd, const void *buffer, size_t n, int flags,
                              const struct sockaddr *to, socklen_t to_length);
static ssize_t (*real_sendmsg)(int fd, const struct msghdr *message, int flags);
static int (*real_sendmmsg)(int fd, struct mmsghdr *messages, unsigned n, int flags);
static struct ibv_mr *(*real_ibv_reg_mr)(void *pd, void *addr, size_t length, int access);
static struct ibv_mr *(*real_ibv_reg_mr_iova2)(void *pd, void *addr, size_t length, uint64_t iova,
                                               unsigned access);
static int (*real_ibv_dereg_mr)(struct ibv_mr *mr);

/* --- zero-copy sends ------------------------------------------------------------------------ */

bool fence_zero_copy(void)
{
    return atomic_load(&zero_copy);
}

static void note_send(int flags)
{
    if (flags & MSG_ZEROCOPY)
        atomic_store(&zero_copy, true);
}

static ssize_t hook_send(int fd, const void *buffer, size_t n, int flags)
{
    note_send(flags);
    return real_send(fd, buffer, n, flags);
}

static ssize_t hook_sendto(int fd, const void *buffer, size_t n, int flags,
                           const struct sockaddr *to, socklen_t to_length)
{
    note_send(flags);
    return real_sendto(fd, buffer, n, flags, to, to_length);
}

static ssize_t hook_sendmsg(int fd, const struct msghdr *message, int flags)
{
    note_send(flags);
    return real_sendmsg(fd, message, flags);
}

static int hook_sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
    note_send(flags);
    return real_sendmmsg(fd, messages, n, flags);
}

/* A parameter of the module's that only loading sets. What cannot be read may be on. */
static bool vhost_net_copies(void)
{
    char value = 0;
    int fd = open(VHOST_NET_PARAMETER, O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (read(fd, &value, 1) != 1)
            value = 0;
        close(fd);
    }
    return value == '0';
}

static void note_vhost_net(void)
{
    int saved = errno;

    if (!vhost_net_copies())
        atomic_store(&zero_copy, true);
    errno = saved;
}

void fence_note_ioctl(unsigned request)
{
    if (request == VHOST_NET_SET_BACKEND && !fence_zero_copy())
        note_vhost_net();
}

/* --- RDMA ----------------------------------------------------------------------------------- */

static void region_begins(void *addr, size_t length)
{
    fence_enter();
    fence_add_buffer(fence_add(FENCE_PIN, (uintptr_t)addr), (uintptr_t)addr, length);
    fence_leave();
}

static void region_ends(void *addr)
{
    fence_enter();
    fence_complete(FENCE_PIN, (uintptr_t)addr);
    fence_leave();
}

static struct ibv_mr *hook_ibv_reg_mr(void *pd, void *addr, size_t length, int access)
{
    struct ibv_mr *mr;

    region_begins(addr, length);
    mr = real_ibv_reg_mr(pd, addr, length, access);
    if (!mr)
        region_ends(addr);
    return mr;
}

static struct ibv_mr *hook_ibv_reg_mr_iova2(void *pd, void *addr, size_t length, uint64_t iova,
                                            unsigned access)
{
    struct ibv_mr *mr;

    region_begins(addr, length);
    mr = real_ibv_reg_mr_iova2(pd, addr, length, iova, access);
    if (!mr)
        region_ends(addr);
    return mr;
}

static int hook_ibv_dereg_mr(struct ibv_mr *mr)
{
    void *addr = mr->addr;
    int rc = real_ibv_dereg_mr(mr);

    if (!rc)
        region_ends(addr);
    return rc;
}

static const struct fence_hook hooks[] = {
    FENCE_HOOK(send, NULL),
    FENCE_HOOK(sendto, NULL),
    FENCE_HOOK(sendmsg, "qio_channel_socket_new"),
    FENCE_HOOK(sendmmsg, NULL),
    FENCE_HOOK(ibv_reg_mr, "rdma_start_outgoing_migration"),
    FENCE_HOOK(ibv_reg_mr_iova2, NULL),
    FENCE_HOOK(ibv_dereg_mr, "rdma_start_outgoing_migration"),
};

const struct fence_engine fence_pin = {
    "pinned memory", hooks, sizeof(hooks) / sizeof(hooks[0]), NULL, NULL,
};
