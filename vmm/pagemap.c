// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * /proc/self/pagemap: see pagemap.h. PAGEMAP_SCAN (Linux 6.7) where the kernel has it; it walks the
 * page table ten times faster than reading an entry per page, and can stop early.
 */
#include "vmm/pagemap.h"
#include "common/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define SMALL 4096u
#define PARTS 32                    /* stretches looked at in a range; more of them are a good part */

static int pagemap = -1;
static atomic_bool have_scan;

int pagemap_init(struct vt_err *err)
{
    if (pagemap >= 0)
        return 0;
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return vt_fail(err, errno, "/proc/self/pagemap: %s", strerror(errno));
    atomic_store(&have_scan, true); /* until the kernel says ENOTTY */
    return 0;
}

static int scan(struct pm_scan_arg *arg, const uint8_t *start, uint64_t length)
{
    int n;

    if (!atomic_load(&have_scan))
        return -ENOTTY;
    arg->size = sizeof(*arg);
    arg->start = (uintptr_t)start;
    arg->end = (uintptr_t)start + length;
    arg->category_mask = PAGE_IS_PRESENT;
    arg->return_mask |= PAGE_IS_PRESENT;
    n = ioctl(pagemap, PAGEMAP_SCAN, arg);
    n = n < 0 ? -errno : n;
    if (n == -ENOTTY || n == -EINVAL)
        atomic_store(&have_scan, false);
    return n;
}

/* --- counting ------------------------------------------------------------------------------------- */

static int scan_count(const uint8_t *start, uint64_t length, uint32_t page)
{
    struct page_region region[PAGEMAP_BYTES / SMALL] = { { 0 } };
    struct pm_scan_arg arg = {
        .vec = (uintptr_t)region, .vec_len = sizeof(region) / sizeof(region[0]),
    };
    int n = scan(&arg, start, length);
    uint64_t bytes = 0;

    for (int i = 0; i < n; i++)
        bytes += region[i].end - region[i].start;
    return n < 0 ? n : (int)(bytes / page);
}

static int read_count(const uint8_t *start, uint64_t length, uint32_t page)
{
    uint64_t entry[PAGEMAP_BYTES / SMALL];
    size_t want = length / SMALL * sizeof(entry[0]);
    int n = 0;

    if (length > PAGEMAP_BYTES)
        want = sizeof(entry[0]);    /* one huge page: its first entry tells */
    if (pread(pagemap, entry, want, (off_t)((uintptr_t)start / SMALL * sizeof(entry[0]))) !=
        (ssize_t)want)
        return -EIO;
    for (size_t i = 0; i < want / sizeof(entry[0]); i++)
        n += (int)(entry[i] >> 63);
    return n * (int)SMALL / (int)(page < PAGEMAP_BYTES ? page : SMALL);
}

int pagemap_count(const uint8_t *start, uint64_t length, uint32_t page)
{
    int n = scan_count(start, length, page);

    return n == -ENOTTY || n == -EINVAL ? read_count(start, length, page) : n;
}

int pagemap_find(const uint8_t *start, uint64_t length, struct page_region *region, unsigned room,
                 const uint8_t **end)
{
    struct pm_scan_arg arg = {
        .vec = (uintptr_t)region, .vec_len = room, .return_mask = PAGE_IS_HUGE,
    };
    int n = scan(&arg, start, length);

    if (n >= 0)
        *end = (const uint8_t *)(uintptr_t)arg.walk_end;
    return n;
}

/* --- yes or no -------------------------------------------------------------------------------------- */

bool pagemap_is_full(const uint8_t *start, uint64_t length)
{
    struct page_region hole;
    struct pm_scan_arg arg = {
        .vec = (uintptr_t)&hole, .vec_len = 1, .max_pages = 1,
        .category_inverted = PAGE_IS_PRESENT,
    };

    return scan(&arg, start, length) == 0;
}

bool pagemap_is_used(const uint8_t *start, uint64_t length)
{
    struct page_region region[PARTS] = { { 0 } };
    uint64_t wanted = (length / SMALL + 7) / 8, bytes = 0;
    struct pm_scan_arg arg = {
        .vec = (uintptr_t)region, .vec_len = PARTS, .max_pages = wanted,
    };
    int n = scan(&arg, start, length);

    for (int i = 0; i < n; i++)
        bytes += region[i].end - region[i].start;
    return n < 0 || n == PARTS || bytes >= wanted * SMALL;
}
