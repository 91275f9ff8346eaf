// SPDX-License-Identifier: GPL-2.0-or-later
/* See two-tiers.h. */
#include "two-tiers.h"
#include "vmm/mover.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BORDER (2u << 20)

static uint8_t *map_aligned(int fd, size_t size, int flags)
{
    uint8_t *area = mmap(NULL, size + BORDER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *at = (uint8_t *)(((uintptr_t)area + BORDER - 1) & ~(uintptr_t)(BORDER - 1));
    uint8_t *got = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | flags, fd, 0);

    g_assert_true(got == at);
    return got;
}

void two_tiers_set_up(struct two_tiers *f, size_t size, uint32_t page, int flags)
{
    struct vt_err err = { 0 };

    f->size = size;
    for (int t = 0; t < 2; t++) {
        f->file[t] = memfd_create(t ? "test-cxl" : "test-dram",
                                  MFD_CLOEXEC | (page > 4096 ? MFD_HUGETLB : 0u));
        g_assert_cmpint(f->file[t], >=, 0);
        g_assert_cmpint(ftruncate(f->file[t], (off_t)size), ==, 0);
    }
    f->host = map_aligned(f->file[0], size, flags);
    g_assert_cmpint(madvise(f->host, size, MADV_DONTDUMP), ==, 0);
    ram_lock();
    f->b = ram_add("test", f->host, size, page, f->file[0], &err);
    g_assert_nonnull(f->b);
    g_assert_cmpint(ram_set_file(f->b, 1, f->file[1], 0, &err), ==, 0);
    ram_unlock();
}

void two_tiers_watch(struct two_tiers *f)
{
    struct vt_err err = { 0 };

    ram_lock();
    g_assert_cmpint(mover_watch(f->b, &err), ==, 0);
    ram_unlock();
}

void two_tiers_tear_down(struct two_tiers *f)
{
    ram_lock();
    ram_drop(f->b);     /* closes file[1] */
    ram_unlock();
    munmap(f->host, f->size);
    close(f->file[0]);
}

guint64 file_allocated(int fd)
{
    struct stat st;

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    return (guint64)st.st_blocks * 512;
}
