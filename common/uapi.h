// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Kernel ABI newer than the headers of Debian 12 (Linux 6.1). Numbers from Linux
 * include/uapi/linux/fs.h (PAGEMAP_SCAN, 6.7), include/uapi/linux/userfaultfd.h (6.4) and
 * include/uapi/linux/kvm.h (6.8).
 */
#ifndef VMTIER_UAPI_H
#define VMTIER_UAPI_H

#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif

#ifndef PAGEMAP_SCAN
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_PFNZERO (1 << 5)
#define PAGE_IS_HUGE    (1 << 6)     /* mapped by an entry of 2 MiB or more */

struct page_region {
    __u64 start, end, categories;
};

struct pm_scan_arg {
    __u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
    __u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif

/* Its argument begins like that of KVM_SET_USER_MEMORY_REGION. */
#define VT_KVM_SET_USER_MEMORY_REGION2 0x40a0ae49u
#define VT_KVM_REGION2_SIZE            160u

/* Linux 6.5, include/uapi/linux/mman.h; the number is the same on all architectures. */
#define VT_SYS_CACHESTAT 451

#ifndef SYS_cachestat
struct cachestat_range {
    __u64 off, len;
};

struct cachestat {
    __u64 nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted;
};
#endif

#endif
