// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Holes in hugetlbfs files.
 *
 * hugetlbfs has neither SEEK_HOLE nor cachestat(), and to read a hole through a mapping makes a page.
 * So each area gets one more mapping, which nobody reads or writes, registered for missing pages with
 * a userfaultfd that answers each fault with SIGBUS: there, MADV_POPULATE_READ maps a page that exists
 * and fails with EFAULT where there is none, in a microsecond. It is a second userfaultfd, as this is
 * a property of the whole descriptor.
 */
#include "vmm/huge.h"
#include "common/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int context = -1;

static struct probe {
    uint32_t first;                 /* the block's: tells a new one in an old entry of the table */
    uint8_t *at;
    uint64_t length;
} probes[VT_BLOCKS][VT_TIERS];

void huge_open(int device)
{
    struct uffdio_api api = {
        .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_HUGETLBFS,
    };
    int fd;

    if (context >= 0)
        return;
    fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
        close(fd);
        fd = -1;
    }
    context = fd;
}

static void drop(struct probe *p)
{
    if (p->at)
        munmap(p->at, p->length);
    *p = (struct probe){ 0 };
}

/* The kernel puts a mapping of huge pages on a border of one. */
static bool make(struct probe *p, const struct ram_block *b, unsigned tier)
{
    uint64_t length = (b->length + b->page_size - 1) & ~(uint64_t)(b->page_size - 1);
    struct uffdio_register r = { .mode = UFFDIO_REGISTER_MODE_MISSING };
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, b->file[tier],
                    (off_t)b->base[tier]);

    if (at == MAP_FAILED)
        return false;
    *p = (struct probe){ b->first, at, length };
    r.range.start = (uintptr_t)at;
    r.range.len = length;
    madvise(at, length, MADV_DONTDUMP);
    madvise(at, length, MADV_DONTFORK);
    if (ioctl(context, UFFDIO_REGISTER, &r) == 0)
        return true;
    drop(p);
    return false;
}

bool huge_is_there(const struct ram_block *b, unsigned tier, uint64_t offset)
{
    struct probe *p = &probes[b - ram_blocks()][tier];

    if (context < 0)
        return true;
    if (p->at && p->first != b->first)
        drop(p);
    if (!p->at && !make(p, b, tier))
        return true;
    while (madvise(p->at + offset, b->page_size, MADV_POPULATE_READ))
        if (errno != EAGAIN && errno != EINTR)
            return errno != EFAULT;
    return true;
}

void huge_forget(const struct ram_block *b)
{
    for (unsigned t = 0; t < VT_TIERS; t++)
        drop(&probes[b - ram_blocks()][t]);
}
