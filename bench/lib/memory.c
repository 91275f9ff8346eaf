// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory to move: what the plugin would find in QEMU, made here.
 *
 * What was asked for is not what one gets: tmpfs may ignore the advice, and hugetlb may be out of
 * pages. So the result is read back from smaps, and less huge pages than bytes is an error.
 */
#include "bench/lib/memory.h"
#include "vmm/mover.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#define HUGE_PAGE (2ull << 20)

const char *const bench_backing_names[BENCH_BACKINGS] = {
    "memfd 4 KiB", "tmpfs huge=advise", "hugetlb 2 MiB",
};

/* A tmpfs of our own, which nobody else sees, over this child's /tmp. */
static int private_tmpfs(struct vt_err *err)
{
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", "/tmp", "tmpfs", 0, "huge=advise,size=4g"))
        return vt_fail(err, errno, "a private tmpfs with huge=advise: %s (needs root)",
                       strerror(errno));
    return 0;
}

static int open_file(enum bench_backing backing)
{
    char path[] = "/tmp/bench.XXXXXX";
    int fd;

    if (backing != BENCH_THP)
        return memfd_create("bench", MFD_CLOEXEC | (backing == BENCH_HUGETLB ? MFD_HUGETLB : 0));
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static int make_file(enum bench_backing backing, guint64 size)
{
    int fd = open_file(backing);

    if (fd >= 0 && ftruncate(fd, (off_t)size)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Huge pages can only be mapped where address and offset agree modulo their size. */
static uint8_t *map_aligned(int fd, guint64 size, guint times)
{
    uint8_t *area = mmap(NULL, size * times + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *at = (uint8_t *)(((uintptr_t)area + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));

    if (area == MAP_FAILED)
        return NULL;
    for (guint i = 0; i < times; i++)
        if (mmap(at + i * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED)
            return NULL;
    return at;
}

/* Not every backing knows huge pages; all must have memory. */
static int populate(uint8_t *at, guint64 size)
{
    madvise(at, size, MADV_HUGEPAGE);
    return madvise(at, size, MADV_POPULATE_WRITE);
}

static guint64 huge_field(const char *line)
{
    static const char *const fields[] = { "ShmemPmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:" };

    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++)
        if (g_str_has_prefix(line, fields[i]))
            return g_ascii_strtoull(line + strlen(fields[i]), NULL, 10) * 1024;
    return 0;
}

guint64 bench_huge_mapped(const uint8_t *at, guint64 size)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    unsigned long from, to;
    bool inside = false;
    guint64 bytes = 0;
    char line[512];

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from < (unsigned long)at + size && to > (unsigned long)at;
        else if (inside)
            bytes += huge_field(line);
    if (f)
        fclose(f);
    return bytes;
}

static int add_block(struct bench_memory *m, const int file[2], struct vt_err *err)
{
    int rc = -1;

    ram_lock();
    m->b = ram_add("bench", m->host, m->size, m->backing == BENCH_HUGETLB ? HUGE_PAGE : 4096,
                   file[0], err);
    if (m->b)
        rc = ram_set_file(m->b, 1, file[1], 0, err);
    if (!rc)
        rc = mover_watch(m->b, err);
    ram_unlock();
    for (int t = 0; !rc && t < 2; t++)
        if (m->backing == BENCH_THP)
            madvise(m->b->view[t], m->size, MADV_HUGEPAGE);
    return rc;
}

static int open_uffd(struct vt_err *err)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    if (device < 0)
        return vt_fail(err, errno, "/dev/userfaultfd: %s", strerror(errno));
    return uffd_open(device, err) || ram_init(err) ? -1 : 0;
}

int bench_memory_open_wide(struct bench_memory *m, enum bench_backing backing, guint64 granule,
                           guint64 file_size, guint times, struct vt_err *err)
{
    const guint64 size = file_size * times;
    int file[2];

    *m = (struct bench_memory){ .backing = backing, .size = size };
    if (open_uffd(err) || (backing == BENCH_THP && private_tmpfs(err)))
        return -1;
    for (int t = 0; t < 2; t++)
        file[t] = make_file(backing, size);
    m->host = file[0] >= 0 && file[1] >= 0 ? map_aligned(file[0], file_size, times) : NULL;
    if (!m->host || populate(m->host, size))
        return vt_fail(err, errno, "%" G_GUINT64_FORMAT " MiB of %s: %s", size >> 20,
                       bench_backing_names[backing], strerror(errno));
    ram_set_granule(granule);
    if (add_block(m, file, err))
        return -1;
    m->huge_bytes = bench_huge_mapped(m->host, size);
    if (backing != BENCH_4K && m->huge_bytes < size)
        return vt_fail(err, ENOMEM, "only %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                       " MiB are mapped by huge pages", m->huge_bytes >> 20, size >> 20);
    return 0;
}

int bench_memory_open(struct bench_memory *m, enum bench_backing backing, guint64 granule,
                      guint64 size, struct vt_err *err)
{
    return bench_memory_open_wide(m, backing, granule, size, 1, err);
}

uint8_t *bench_memory_more(const struct bench_memory *m, guint64 size)
{
    int fd = make_file(m->backing, size);
    uint8_t *at = fd >= 0 ? map_aligned(fd, size, 1) : NULL;

    if (fd >= 0)
        close(fd);
    if (at && populate(at, size))
        return NULL;
    return at;
}

void bench_memory_touch(const struct bench_memory *m)
{
    madvise(m->host, m->size, MADV_POPULATE_WRITE);
}
