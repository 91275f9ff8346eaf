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
#define READ  (64u << 10)           /* longest range of which every page is read */
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

/* --- counting ------------------------------------------------------------------------------------- */

/* Shares a stretch of mapped memory out among the ranges it reaches into; the first may end before. */
static struct pagemap_range *share_out(struct pagemap_range *r, const struct pagemap_range *end,
                                       const struct page_region *found)
{
    for (;; r++) {
        uint64_t from, to;

        while (r < end && (uintptr_t)r->start + r->length <= found->start)
            r++;
        if (r == end || (uintptr_t)r->start >= found->end)
            return r;
        from = found->start > (uintptr_t)r->start ? found->start : (uintptr_t)r->start;
        to = (uintptr_t)r->start + r->length;
        r->bytes += (to < found->end ? to : found->end) - from;
        r->huge |= (found->categories & PAGE_IS_HUGE) != 0;
        if (to >= found->end)
            return r;
    }
}

static int scan_look(struct pagemap_range *range, unsigned n)
{
    const uint8_t *at = range[0].start, *to = range[n - 1].start + range[n - 1].length;
    struct pagemap_range *r = range;

    while (at < to) {
        struct page_region found[PARTS];
        int k = pagemap_find(at, (uint64_t)(to - at), found, PARTS, &at);

        if (k < 0)
            return k;
        for (int i = 0; i < k; i++)
            r = share_out(r, range + n, &found[i]);
    }
    return 0;
}

/* Of a huge page, its first entry tells. */
static int read_look(struct pagemap_range *r)
{
    uint64_t entry[READ / SMALL];
    uint64_t n = r->length > READ ? 1 : r->length / SMALL;
    ssize_t want = (ssize_t)(n * sizeof(entry[0]));

    if (pread(pagemap, entry, (size_t)want, (off_t)((uintptr_t)r->start / SMALL * sizeof(entry[0]))) !=
        want)
        return -EIO;
    for (uint64_t i = 0; i < n; i++)
        r->bytes += (entry[i] >> 63) * (r->length / n);
    return 0;
}

int pagemap_look(struct pagemap_range *range, unsigned n)
{
    int rc;

    for (unsigned i = 0; i < n; i++) {
        range[i].bytes = 0;
        range[i].huge = false;
    }
    rc = n ? scan_look(range, n) : 0;
    if (rc != -ENOTTY && rc != -EINVAL)
        return rc;
    rc = 0;
    for (unsigned i = 0; !rc && i < n; i++)
        rc = read_look(&range[i]);
    return rc;
}

bool pagemap_tells_huge(void)
{
    return atomic_load(&have_scan);
}

void pagemap_forget_scan(void)
{
    atomic_store(&have_scan, false);
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
