// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of what the plugin finds out about the VM's memory: kinds of files, alignment, what the page
 * table has (against what smaps says of the same mapping), and the advice that follows from it.
 *
 * timeout: 60
 */
#include "host/tier.h"
#include "vmm/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#define MIB     (1ull << 20)
#define GRANULE (2 * MIB)
#define SIZE    (96 * MIB)      /* more than one chunk of a look, and than the advice wants to see */

/* What the block is to be like. */
struct kind {
    int fd;
    bool aligned;
};

struct toy {
    int fd;
    guint8 *area, *host;
    struct ram_block *b;
    guint32 id;
};

static struct toy make(const struct kind *kind)
{
    struct toy t = { .fd = kind->fd };
    struct vt_err err;

    g_assert_cmpint(ftruncate(t.fd, SIZE), ==, 0);
    t.area = mmap(NULL, SIZE + 4 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    t.host = (guint8 *)(((guintptr)t.area + 2 * MIB - 1) & ~(2 * MIB - 1)) + (kind->aligned ? 0 : 4096);
    g_assert_true(mmap(t.host, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, t.fd, 0) == t.host);
    madvise(t.host, SIZE, MADV_HUGEPAGE);       /* as QEMU does */
    ram_lock();
    t.b = ram_add("/objects/ram0", t.host, SIZE, 4096, t.fd, &err);
    ram_unlock();
    if (!t.b)
        g_error("%s", err.text);
    t.id = (guint32)(t.b - ram_blocks());
    return t;
}

static struct vt_backing get(const struct toy *t)
{
    struct vt_backing s;

    g_assert_true(backing_get(t->id, t->b->first, &s));
    return s;
}

static void drop(struct toy *t)
{
    ram_lock();
    ram_drop(t->b);
    ram_unlock();
    backing_refresh();
    munmap(t->area, SIZE + 4 * MIB);
    close(t->fd);
}

/* The look through all blocks that is due, or the next one. */
static void look(const struct toy *t)
{
    guint32 passes = get(t).passes;

    for (int i = 0; i < 2000 && get(t).passes == passes; i++)
        if (!backing_look())
            g_usleep(10000);
    g_assert_cmpuint(get(t).passes, ==, passes + 1);
}

static struct kind memfd(bool aligned)
{
    return (struct kind){ memfd_create("toy", MFD_CLOEXEC), aligned };
}

/* --- a memfd --------------------------------------------------------------------------------------- */

static void test_memfd(void)
{
    struct kind kind = memfd(false);
    struct toy t = make(&kind);
    struct vt_backing s;

    g_assert_false(backing_get(t.id, t.b->first, &s));      /* not looked at */
    backing_refresh();
    s = get(&t);
    g_assert_cmpuint(s.block, ==, t.id);
    g_assert_cmpuint(s.align, ==, 12);
    g_assert_cmpuint(s.passes, ==, 0);
    g_assert_cmpuint(s.tier[0].kind, ==, VT_KIND_MEMFD);
    g_assert_cmpuint(s.tier[0].page_size, ==, 4096);
    g_assert_cmpuint(s.tier[1].kind, ==, VT_KIND_NONE);
    g_assert_nonnull(strstr(s.hint, "a memfd, which QEMU does not put on a 2 MiB border"));
    g_assert_nonnull(strstr(s.hint, "-object memory-backend-memfd,id=ram0,share=on,size=96M,hugetlb=on,"
                            "hugetlbsize=2M"));
    g_assert_nonnull(strstr(s.hint, "-object memory-backend-file,id=ram0,share=on,size=96M,align=2M,"));
    g_assert_false(backing_get(t.id, t.b->first + 1, &s));  /* another block at its place */
    drop(&t);
    g_assert_false(backing_get(t.id, 0, &s));
}

/* Bytes go to the tier the granule is in, whatever a chunk, a region or a granule's border is. */
static void test_tiers(void)
{
    struct kind kind = memfd(true);
    struct toy t = make(&kind);
    struct vt_backing s;
    guint64 in_cxl = 0, all = 0;

    backing_refresh();
    for (guint64 at = 0; at < SIZE; at += 4096)
        if (at / 4096 % 3 || at > SIZE / 2) {       /* short regions, and one over many granules */
            guint32 g = t.b->first + (guint32)(at / GRANULE);

            t.host[at] = 1;
            ram_tier[g] = g % 5 == 0;
            in_cxl += ram_tier[g] ? 4096 : 0;
            all += 4096;
        }
    look(&t);
    s = get(&t);
    g_assert_cmpuint(s.tier[1].mapped, ==, in_cxl);
    g_assert_cmpuint(s.tier[0].mapped + in_cxl, ==, all);
    if (s.tier[0].thp <= VT_THP_NEVER)
        g_assert_cmpuint(s.tier[0].huge + s.tier[1].huge, ==, 0);
    memset(ram_tier + t.b->first, 0, t.b->count);
    drop(&t);
}

/* --- 2 MiB pages ------------------------------------------------------------------------------------ */

/* ShmemPmdMapped of the mapping at an address. */
static guint64 smaps_huge(const guint8 *at)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    unsigned long from, to, kib = 0;
    bool inside = false;
    char line[512];

    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from == (unsigned long)(guintptr)at;
        else if (inside)
            sscanf(line, "ShmemPmdMapped: %lu kB", &kib);
    fclose(f);
    return kib * 1024;
}

/* A file of 2 MiB pages; -1 after the test was skipped. */
static int huge_file(void)
{
    g_autoptr(GError) error = NULL;
    struct tier_mount *mount = tier_mount_new("/nowhere", &error);
    int fd = mount ? tier_file_in_mount(mount, "toy", &error) : -1;

    tier_mount_free(mount);
    if (fd < 0)
        g_test_skip(error->message);
    return fd;
}

static void test_huge(void)
{
    struct kind kind = { huge_file(), true };
    struct vt_backing s;
    struct toy t;

    if (kind.fd < 0)
        return;
    t = make(&kind);
    backing_refresh();
    g_assert_cmpuint(get(&t).align, >=, 21);
    g_assert_cmpint(madvise(t.host, SIZE, MADV_POPULATE_WRITE), ==, 0);
    madvise(t.host + 8 * MIB, 2 * MIB, MADV_DONTNEED);
    look(&t);
    s = get(&t);
    g_assert_cmpuint(s.tier[0].mapped, ==, SIZE - 2 * MIB);
    g_assert_cmpuint(s.tier[0].huge, ==, SIZE - 2 * MIB);
    g_assert_cmpuint(s.tier[0].huge, ==, smaps_huge(t.host));
    g_assert_cmpstr(s.hint, ==, "");
    drop(&t);
}

/* No 2 MiB entry where a mapping ends within: as much of it as can be is by 4 KiB. */
static void test_apart(void)
{
    struct kind kind = { huge_file(), true };
    struct toy t;

    if (kind.fd < 0)
        return;
    t = make(&kind);
    backing_refresh();
    for (guint64 at = 0; at < SIZE; at += 2 * MIB) {
        mprotect(t.host + at, 4096, PROT_READ);
        madvise(t.host + at + 4096, 2 * MIB - 4096, MADV_POPULATE_WRITE);
    }
    look(&t);
    g_assert_cmpuint(get(&t).tier[0].mapped, >=, SIZE - SIZE / 512);
    g_assert_cmpuint(get(&t).tier[0].huge, ==, 0);
    g_assert_nonnull(strstr(get(&t).hint, "could have 2 MiB pages, and 0 % of what is mapped does"));
    drop(&t);
}

/* The same pages, shown 4 KiB at a time. */
static void test_unaligned(void)
{
    struct kind kind = { huge_file(), false };
    struct vt_backing s;
    struct toy t;

    if (kind.fd < 0)
        return;
    t = make(&kind);
    backing_refresh();
    g_assert_cmpint(madvise(t.host, SIZE, MADV_POPULATE_WRITE), ==, 0);
    look(&t);
    s = get(&t);
    g_assert_cmpuint(s.tier[0].mapped, ==, SIZE);
    g_assert_cmpuint(s.tier[0].huge, ==, 0);
    g_assert_cmpstr(s.hint, ==, "RAM block ram0 is not on a 2 MiB border, so the guest's memory is mapped by "
                    "4 KiB pages: add align=2M to -object memory-backend-file,id=ram0");
    drop(&t);
}

static int file_on_plain_tmpfs(void)
{
    char path[] = "/dev/shm/vmtier-toy-XXXXXX";
    int fd = mkstemp(path);

    unlink(path);
    return fd;
}

static void test_tmpfs_without(void)
{
    struct kind kind = { file_on_plain_tmpfs(), false };
    struct toy t = make(&kind);
    struct vt_backing s;

    backing_refresh();
    s = get(&t);
    g_assert_cmpuint(s.tier[0].kind, ==, VT_KIND_TMPFS);
    if (s.tier[0].thp == VT_THP_NEVER)
        g_assert_cmpstr(s.hint, ==, "RAM block ram0 is on a tmpfs that gives 4 KiB pages only: mount it with "
                        "huge=advise, and add align=2M to its -object");
    drop(&t);
}

/* --- the budget -------------------------------------------------------------------------------------- */

/* A look does not begin before its time. */
static void test_budget(void)
{
    struct kind kind = memfd(true);
    struct toy t = make(&kind);
    gint64 start = g_get_monotonic_time();

    backing_refresh();
    g_assert_false(backing_look());
    g_assert_cmpuint(get(&t).passes, ==, 0);
    memset(t.host, 1, SIZE);
    look(&t);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, (BACKING_FIRST_MS - 1) * 1000);
    for (int i = 0; i < 100; i++)
        g_assert_false(backing_look());
    g_assert_cmpuint(get(&t).passes, ==, 1);
    drop(&t);
}

/* A block that is gone while it is looked at: its numbers are lost, and nothing else. */
static void test_vanished(void)
{
    struct kind kind = memfd(true);
    struct toy t = make(&kind);

    backing_refresh();
    munmap(t.host, SIZE);
    look(&t);
    g_assert_cmpuint(get(&t).tier[0].mapped, ==, 0);
    drop(&t);
}

/* --- files that cannot be tiered --------------------------------------------------------------------- */

static void test_unfit(void)
{
    char text[VT_TEXT], path[] = "./vmtier-disk-XXXXXX";
    int memory = memfd_create("toy", MFD_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int disk = mkstemp(path), shm = file_on_plain_tmpfs();

    unlink(path);
    g_assert_null(backing_unfit(memory, text));
    g_assert_null(backing_unfit(shm, text));
    g_assert_null(backing_unfit(-1, text));
    g_assert_cmpstr(backing_unfit(null, text), ==, "is on a character device, which userfaultfd cannot "
                    "write-protect (only tmpfs, memfd and hugetlbfs)");
    if (backing_unfit(disk, text))
        g_assert_nonnull(strstr(text, ", which userfaultfd cannot write-protect"));
    close(memory);
    close(null);
    close(disk);
    close(shm);
}

/* --- flags --------------------------------------------------------------------------------------------- */

static void test_flags(void)
{
    guint8 *a = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    guint8 *b = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct backing_flags ask[] = { { .at = b + 4096 }, { .at = (guint8 *)4096 }, { .at = a } };

    madvise(a, MIB, MADV_DONTDUMP);
    madvise(b, MIB, MADV_DONTFORK);
    g_assert_cmpint(backing_read_flags(ask, 3), ==, 0);
    g_assert_nonnull(strstr(ask[0].text, " wr "));
    g_assert_nonnull(strstr(ask[0].text, " dc"));
    g_assert_cmpstr(ask[1].text, ==, "");
    g_assert_null(strstr(ask[2].text, " wr "));
    g_assert_nonnull(strstr(ask[2].text, " dd"));
    munmap(a, MIB);
    munmap(b, MIB);
}

int main(int argc, char **argv)
{
    struct vt_err err;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(ram_init(&err), ==, 0);
    ram_set_granule(GRANULE);
    g_test_add_func("/backing/memfd", test_memfd);
    g_test_add_func("/backing/tiers", test_tiers);
    g_test_add_func("/backing/huge", test_huge);
    g_test_add_func("/backing/apart", test_apart);
    g_test_add_func("/backing/unaligned", test_unaligned);
    g_test_add_func("/backing/tmpfs-without", test_tmpfs_without);
    g_test_add_func("/backing/budget", test_budget);
    g_test_add_func("/backing/vanished", test_vanished);
    g_test_add_func("/backing/unfit", test_unfit);
    g_test_add_func("/backing/flags", test_flags);
    return g_test_run();
}
