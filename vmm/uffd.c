// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * userfaultfd write protection: see uffd.h.
 *
 * Nobody reads the descriptor. A writer that meets a protected page waits in the kernel until the
 * mover wakes the range, so no handler thread has to live, and the daemon's death changes nothing.
 * No event feature is asked for: with UFFD_FEATURE_EVENT_* QEMU's own madvise() would wait for a
 * reader.
 */
#include "vmm/uffd.h"
#include "common/fault.h"
#include "vmm/huge.h"
#include "common/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define FEATURES \
    (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | \
     UFFD_FEATURE_WP_UNPOPULATED)

#define TRIES 1000

static int context = -1;

bool uffd_owns(int fd)
{
    return fd >= 0 && fd == context;
}

int uffd_open(int device, struct vt_err *err)
{
    struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };
    int fd;

    if (context >= 0)
        return 0;
    fd = fault_at(FAULT_UFFD_OPEN) ? -1 : ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return vt_fail(err, errno, "USERFAULTFD_IOC_NEW on the daemon's /dev/userfaultfd: %s",
                       strerror(errno));
    if (ioctl(fd, UFFDIO_API, &api)) {
        int code = errno;

        close(fd);
        return vt_fail(err, code, "this kernel has no userfaultfd write protection for shared, "
                       "unpopulated memory (needs Linux 6.4): %s", strerror(code));
    }
    context = fd;
    huge_open(device);
    return 0;
}

/* EAGAIN means that the address space is changing right now; it passes. */
static int call(unsigned long request, void *arg)
{
    for (int tries = 0; tries < TRIES; tries++) {
        if (ioctl(context, request, arg) == 0)
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        sched_yield();
    }
    return -EAGAIN;
}

int uffd_register(uint8_t *start, uint64_t length)
{
    struct uffdio_register r = { .range = { (uintptr_t)start, length },
                                 .mode = UFFDIO_REGISTER_MODE_WP };

    return call(UFFDIO_REGISTER, &r);
}

int uffd_unregister(uint8_t *start, uint64_t length)
{
    struct uffdio_range r = { (uintptr_t)start, length };

    return call(UFFDIO_UNREGISTER, &r);
}

static int protect(uint8_t *start, uint64_t length, uint64_t mode)
{
    struct uffdio_writeprotect w = { .range = { (uintptr_t)start, length }, .mode = mode };

    return call(UFFDIO_WRITEPROTECT, &w);
}

int uffd_protect(uint8_t *start, uint64_t length)
{
    return protect(start, length, UFFDIO_WRITEPROTECT_MODE_WP);
}

int uffd_unprotect(uint8_t *start, uint64_t length)
{
    return protect(start, length, 0);
}

int uffd_wake(uint8_t *start, uint64_t length)
{
    struct uffdio_range r = { (uintptr_t)start, length };

    return call(UFFDIO_WAKE, &r);
}
