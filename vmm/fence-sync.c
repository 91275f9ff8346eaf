// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fence's engine for calls that return when the I/O is done (aio=threads and whatever else
 * QEMU does in its thread pool), and the hooks by which QEMU discards guest RAM: these are asked about
 * (discard.c) before they happen.
 *
 * A buffer is busy from before the call until it returns. Hooked is positioned I/O, which is what
 * the block layer does, and SG_IO, by which a SCSI pass-through device (scsi-block) does DMA
 * straight into guest memory.
 *
 * Not hooked, because they cannot be DMA into guest memory: read, write, readv and writev, which
 * QEMU uses for streams (migration, monitors, sockets, pipes), where O_DIRECT cannot work for want
 * of aligned offsets; recvmsg and sendmsg, which copy. All of these copy through the page tables and
 * wait for a write-protected page like a vCPU does. What pins pages for longer than its call (sends
 * without a copy, RDMA) is in fence-pin.c.
 *
 * Buffered positioned I/O is safe as well, but whether a file is opened O_DIRECT may change at any
 * time, and asking costs more than the entry in the table.
 */
#include "vmm/fence-table.h"
#include "vmm/fence.h"

#include <fcntl.h>
#include <scsi/sg.h>
#include <stdatomic.h>
#include <sys/mman.h>

static ssize_t (*real_pread64)(int fd, void *buffer, size_t n, off64_t offset);
static ssize_t (*real_pwrite64)(int fd, const void *buffer, size_t n, off64_t offset);
static ssize_t (*real_preadv64)(int fd, const struct iovec *iov, int n, off64_t offset);
static ssize_t (*real_pwritev64)(int fd, const struct iovec *iov, int n, off64_t offset);
static ssize_t (*real_preadv64v2)(int fd, const struct iovec *iov, int n, off64_t offset,
                                  int flags);
static ssize_t (*real_pwritev64v2)(int fd, const struct iovec *iov, int n, off64_t offset,
                                   int flags);
static int (*real_ioctl)(int fd, unsigned long request, void *argument);
static int (*real_fallocate64)(int fd, int mode, off64_t offset, off64_t length);
static void *(*real_mmap64)(void *address, size_t length, int access, int flags, int fd,
                            off64_t offset);

static int (*_Atomic on_punch)(int fd, int mode, uint64_t offset, uint64_t length);
static int (*_Atomic on_map)(const void *address, size_t length, int fd, uint64_t offset);

/* Neither of these changes errno. */
static uint32_t begin_vector(const struct iovec *iov, uint64_t n)
{
    uint32_t request;

    fence_enter();
    request = fence_add(FENCE_CALL, 0);
    fence_add_vector(request, iov, n);
    fence_leave();
    return request;
}

static void end(uint32_t request)
{
    fence_enter();
    fence_complete_call(request);
    fence_leave();
}

static uint32_t begin(const void *buffer, uint64_t length)
{
    const struct iovec iov = { (void *)(uintptr_t)buffer, length };

    return begin_vector(&iov, 1);
}

static ssize_t hook_pread64(int fd, void *buffer, size_t n, off64_t offset)
{
    uint32_t request = begin(buffer, n);
    ssize_t rc = real_pread64(fd, buffer, n, offset);

    end(request);
    return rc;
}

static ssize_t hook_pwrite64(int fd, const void *buffer, size_t n, off64_t offset)
{
    uint32_t request = begin(buffer, n);
    ssize_t rc = real_pwrite64(fd, buffer, n, offset);

    end(request);
    return rc;
}

static ssize_t hook_preadv64(int fd, const struct iovec *iov, int n, off64_t offset)
{
    uint32_t request = begin_vector(iov, n > 0 ? (uint64_t)n : 0);
    ssize_t rc = real_preadv64(fd, iov, n, offset);

    end(request);
    return rc;
}

static ssize_t hook_pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
    uint32_t request = begin_vector(iov, n > 0 ? (uint64_t)n : 0);
    ssize_t rc = real_pwritev64(fd, iov, n, offset);

    end(request);
    return rc;
}

static ssize_t hook_preadv64v2(int fd, const struct iovec *iov, int n, off64_t offset, int flags)
{
    uint32_t request = begin_vector(iov, n > 0 ? (uint64_t)n : 0);
    ssize_t rc = real_preadv64v2(fd, iov, n, offset, flags);

    end(request);
    return rc;
}

static ssize_t hook_pwritev64v2(int fd, const struct iovec *iov, int n, off64_t offset, int flags)
{
    uint32_t request = begin_vector(iov, n > 0 ? (uint64_t)n : 0);
    ssize_t rc = real_pwritev64v2(fd, iov, n, offset, flags);

    end(request);
    return rc;
}

static int scsi_ioctl(int fd, unsigned long request, struct sg_io_hdr *h)
{
    uint32_t r = h->iovec_count ? begin_vector(h->dxferp, h->iovec_count) :
                                  begin(h->dxferp, h->dxfer_len);
    int rc = real_ioctl(fd, request, h);

    end(r);
    return rc;
}

/*
 * Every ioctl of QEMU comes through here, KVM_RUN included: compare and go. The request is 32 bits
 * wide; some callers extend its sign.
 */
static int hook_ioctl(int fd, unsigned long request, void *argument)
{
    if ((uint32_t)request == SG_IO && argument)
        return scsi_ioctl(fd, request, argument);
    fence_note_ioctl((uint32_t)request);
    return real_ioctl(fd, request, argument);
}

static int hook_fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    int (*fn)(int, int, uint64_t, uint64_t) = atomic_load(&on_punch);
    int rc = fn ? fn(fd, mode, (uint64_t)offset, (uint64_t)length) : 1;

    return rc > 0 ? real_fallocate64(fd, mode, offset, length) : rc;
}

static void *hook_mmap64(void *address, size_t length, int access, int flags, int fd,
                         off64_t offset)
{
    int (*fn)(const void *, size_t, int, uint64_t) = atomic_load(&on_map);
    int rc = fn && fd >= 0 && flags & MAP_FIXED ? fn(address, length, fd, (uint64_t)offset) : 1;

    if (rc > 0)
        return real_mmap64(address, length, access, flags, fd, offset);
    return rc ? MAP_FAILED : address;
}

void fence_on_punch(int (*fn)(int fd, int mode, uint64_t offset, uint64_t length))
{
    atomic_store(&on_punch, fn);
}

void fence_on_map(int (*fn)(const void *address, size_t length, int fd, uint64_t offset))
{
    atomic_store(&on_map, fn);
}

static const struct fence_hook hooks[] = {
    FENCE_HOOK(pread64, ""),
    FENCE_HOOK(pwrite64, ""),
    FENCE_HOOK(preadv64, ""),
    FENCE_HOOK(pwritev64, ""),
    FENCE_HOOK(preadv64v2, NULL),
    FENCE_HOOK(pwritev64v2, NULL),
    FENCE_HOOK(ioctl, ""),
    FENCE_HOOK(fallocate64, ""),
    FENCE_HOOK(mmap64, NULL),
};

const struct fence_engine fence_sync = {
    "synchronous I/O", hooks, sizeof(hooks) / sizeof(hooks[0]), NULL, NULL,
};
