// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the files that are made for a tier: like the block's file in dram, with 2 MiB pages that
 * are really there, where path= says, and what is refused and why. What may be in the way of 2 MiB pages
 * on this host is a reason to skip only after the kernel itself has said so.
 *
 * timeout: 60
 */
#include "common/filekind.h"
#include "host/tier-area.h"
#include "host/tier.h"
#include "common/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MIB  (1ull << 20)
#define SIZE (32 * MIB)

/* Two tiers as from a configuration with this second one. */
static struct tiers *make_tiers(const char *text, GError **error)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("vmtier-tier-XXXXXX", &path, NULL);
    g_autoptr(Config) c = NULL;

    close(fd);
    g_file_set_contents(path, text, -1, NULL);
    c = config_load(path, NULL);
    g_assert_nonnull(c);
    g_unlink(path);
    return tiers_new(c, error);
}

static struct tiers *tiers_of(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct tiers *tiers = make_tiers(text, &error);

    g_assert_no_error(error);
    return tiers;
}

static struct tier_got make(const struct tiers *tiers, struct tier_want want)
{
    g_autoptr(GError) error = NULL;
    struct tier_got got;

    want.vm = "vm";
    want.block = "/objects/ram0";
    want.length = SIZE;
    want.page_size = want.page_size ? want.page_size : 4096;
    want.granule = want.granule ? want.granule : 2 * MIB;
    tier_make_file(tiers, 1, &want, &got, &error);
    g_assert_no_error(error);
    return got;
}

static struct filekind kind_of(int fd)
{
    struct filekind k;

    g_assert_cmpint(filekind_look(fd, &k), ==, 0);
    filekind_find_thp(&k);
    return k;
}

/* --- like dram's ---------------------------------------------------------------------------------- */

static void test_memfd(void)
{
    struct tiers *tiers = tiers_of("");
    struct tier_got got = make(tiers, (struct tier_want){ 0 });
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", got.fd);
    g_autofree char *name = g_file_read_link(link, NULL);

    g_assert_cmpuint(kind_of(got.fd).kind, ==, VT_KIND_MEMFD);
    g_assert_cmpstr(name, ==, "/memfd:vmtier-cxl:vm:/objects/ram0 (deleted)");
    g_assert_cmpuint(got.base, ==, 0);
    g_assert_cmpstr(got.note, ==, "");
    g_assert_cmpint(ftruncate(got.fd, 0), ==, -1);      /* sealed */
    g_assert_cmpint(ftruncate(got.fd, SIZE), ==, 0);
    close(got.fd);
    tiers_free(tiers);
}

static void expect_no_file(const char *text, guint32 page_size, const char *says)
{
    struct tier_want want = { .vm = "vm", .block = "ram0", .length = SIZE, .page_size = page_size,
                              .granule = page_size };
    struct tiers *tiers = tiers_of(text);
    g_autoptr(GError) error = NULL;
    struct tier_got got;

    g_assert_false(tier_make_file(tiers, 1, &want, &got, &error));
    g_assert_cmpint(got.fd, ==, -1);
    if (!g_pattern_match_simple(says, error->message))
        g_error("'%s' does not look like '%s'", error->message, says);
    tiers_free(tiers);
}

/* Pages of a size that there is none of are refused by name. */
static void test_hugetlb(gconstpointer data)
{
    const guint32 page = (guint32)GPOINTER_TO_SIZE(data);
    g_autofree char *pool = g_strdup_printf("/sys/kernel/mm/hugepages/hugepages-%ukB", page >> 10);
    struct tiers *tiers;
    struct tier_got got;

    if (!g_file_test(pool, G_FILE_TEST_IS_DIR)) {
        expect_no_file("", page, "tier cxl: block ram0: this host has no huge pages of *iB: *");
        return;
    }
    tiers = tiers_of("");
    got = make(tiers, (struct tier_want){ .page_size = page, .granule = page });
    g_assert_cmpuint(kind_of(got.fd).kind, ==, VT_KIND_HUGETLB);
    g_assert_cmpuint(kind_of(got.fd).page_size, ==, page);
    close(got.fd);
    tiers_free(tiers);
}

/* On a 2 MiB border, advised as QEMU and the plugin do it, with memory in all of it. */
static char *map_all(int fd, guint64 length)
{
    char *area = mmap(NULL, length + 2 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = (char *)(((guintptr)area + 2 * MIB - 1) & ~(2 * MIB - 1));

    g_assert_true(mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at);
    g_assert_cmpint(madvise(at, length, MADV_HUGEPAGE), ==, 0);
    g_assert_cmpint(madvise(at, length, MADV_POPULATE_WRITE), ==, 0);
    return at;
}

/* ShmemPmdMapped, in bytes, of the mapping at an address. */
static guint64 huge_bytes(const char *at)
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

static void test_huge(void)
{
    struct tiers *tiers = tiers_of("");
    struct tier_got got;
    struct stat st;
    char *at;

    if (!tiers->huge) {
        g_test_skip(tiers->no_huge);
        tiers_free(tiers);
        return;
    }
    got = make(tiers, (struct tier_want){ .huge = true });
    g_assert_cmpstr(got.note, ==, "");
    g_assert_cmpuint(kind_of(got.fd).kind, ==, VT_KIND_TMPFS);
    tiers_free(tiers);              /* the daemon ends: the mount lasts as long as a file on it */
    at = map_all(got.fd, SIZE);
    g_assert_cmpuint(huge_bytes(at), ==, SIZE);
    g_assert_cmpint(fstat(got.fd, &st), ==, 0);
    g_assert_cmpuint((guint64)st.st_blocks * 512, ==, SIZE);
    munmap(at, SIZE);
    close(got.fd);
}

/* It has no limit of its own: half of the host's memory is what a tmpfs gets unless told otherwise. */
static void test_huge_size(void)
{
    struct tiers *tiers = tiers_of("");
    struct tier_got got;
    struct statfs fs;

    if (!tiers->huge) {
        g_test_skip(tiers->no_huge);
    } else {
        got = make(tiers, (struct tier_want){ .huge = true });
        g_assert_cmpint(fstatfs(got.fd, &fs), ==, 0);
        g_assert_cmpuint(fs.f_blocks, ==, 0);
        g_assert_cmpuint(fs.f_files, ==, 0);
        close(got.fd);
    }
    tiers_free(tiers);
}

/* Without the right, or with granules that are parts of a page: a memfd, and it is said. */
static void test_fallback(void)
{
    struct tiers *tiers = tiers_of("");
    struct tier_got got = make(tiers, (struct tier_want){ .huge = true, .granule = 65536 });

    g_assert_cmpuint(kind_of(got.fd).kind, ==, VT_KIND_MEMFD);
    g_assert_cmpstr(got.note, ==, "no 2 MiB pages: the granule of 64 KiB is a part of one");
    close(got.fd);
    g_clear_pointer(&tiers->huge, tier_mount_free);
    g_free(tiers->no_huge);
    tiers->no_huge = g_strdup("forbidden");
    got = make(tiers, (struct tier_want){ .huge = true });
    g_assert_cmpuint(kind_of(got.fd).kind, ==, VT_KIND_MEMFD);
    g_assert_cmpstr(got.note, ==, "no 2 MiB pages: forbidden");
    close(got.fd);
    tiers_free(tiers);
}

/* --- where path= says ------------------------------------------------------------------------------ */

static void test_directory(void)
{
    g_autofree char *dir = g_strdup("/dev/shm/vmtier-dir-XXXXXX"), *text = NULL;
    struct stat st, here;

    g_assert_nonnull(g_mkdtemp(dir));
    text = g_strdup_printf("[tier cxl]\npath=%s\n", dir);
    struct tiers *tiers = tiers_of(text);
    struct tier_got one = make(tiers, (struct tier_want){ 0 }), two = make(tiers, (struct tier_want){ 0 });

    g_assert_cmpint(stat(dir, &here), ==, 0);
    g_assert_cmpint(fstat(one.fd, &st), ==, 0);
    g_assert_cmpuint(st.st_dev, ==, here.st_dev);
    g_assert_cmpuint(st.st_nlink, ==, 0);
    g_assert_cmpint(st.st_size, ==, SIZE);
    g_assert_cmpint(pwrite(one.fd, "x", 1, 0), ==, 1);
    g_assert_cmpuint(tier_count_bytes(two.fd, 0, SIZE, &(struct tier_use){ 0 }), ==, 0);
    close(one.fd);
    close(two.fd);
    g_assert_cmpint(g_rmdir(dir), ==, 0);       /* and nothing is left in it */
    tiers_free(tiers);
}

static void test_shared_file(void)
{
    g_autofree char *path = g_strdup("/dev/shm/vmtier-file-XXXXXX"), *text = NULL;
    struct tier_use use = { 0 };
    int fd = g_mkstemp(path);

    g_assert_cmpint(ftruncate(fd, 3 * SIZE), ==, 0);
    text = g_strdup_printf("[tier cxl]\npath=%s\n", path);
    struct tiers *tiers = tiers_of(text);
    struct tier_got one = make(tiers, (struct tier_want){ 0 });
    struct tier_got two = make(tiers, (struct tier_want){ .granule = 4 * MIB });

    g_assert_cmpuint(one.base, ==, 0);
    g_assert_cmpuint(two.base, ==, SIZE);
    g_assert_cmpint(pwrite(one.fd, "x", 1, (off_t)(one.base + SIZE - 1)), ==, 1);
    g_assert_cmpint(pwrite(two.fd, "xy", 2, (off_t)two.base + 4095), ==, 2);
    g_assert_cmpuint(tier_count_bytes(one.fd, one.base, SIZE, &(struct tier_use){ 0 }), ==, 4096);
    g_assert_cmpuint(tier_count_bytes(two.fd, two.base, SIZE, &use), ==, 8192);
    g_assert_true(use.fresh);
    use.cost_us = 1000000;          /* that took long: not again at once */
    g_assert_cmpint(pwrite(two.fd, "x", 1, (off_t)two.base + 8192), ==, 1);
    g_assert_cmpuint(tier_count_bytes(two.fd, two.base, SIZE, &use), ==, 8192);
    g_assert_false(use.fresh);
    close(one.fd);
    close(two.fd);
    close(fd);
    tiers_free(tiers);
    g_unlink(path);
}

/* Mixed kinds would be a lie to QEMU, which believes in its RAM's page size. */
static void test_other_pages(void)
{
    g_autofree char *path = g_strdup("/dev/shm/vmtier-file-XXXXXX"), *text = NULL;
    int fd = g_mkstemp(path);

    expect_no_file("[tier cxl]\npath=/dev/shm\n", 2 * MIB, "tier cxl: block ram0: /dev/shm has pages of "
                   "4 KiB and the VM's RAM has pages of 2 MiB: *");
    g_assert_cmpint(ftruncate(fd, SIZE), ==, 0);
    text = g_strdup_printf("[tier cxl]\npath=%s\n", path);
    expect_no_file(text, 2 * MIB, "tier cxl: block ram0: /dev/shm/* has pages of 4 KiB and *2 MiB: *");
    close(fd);
    g_unlink(path);
}

/* --- what is refused -------------------------------------------------------------------------------- */

static const struct {
    struct filekind kind;
    const char *dax;
    int node;
    const char *says;           /* NULL: it is taken */
} kinds[] = {
    { { .kind = VT_KIND_TMPFS, .mode = S_IFREG }, NULL, -1, NULL },
    { { .kind = VT_KIND_TMPFS, .mode = S_IFDIR }, NULL, -1, NULL },
    { { .kind = VT_KIND_HUGETLB, .mode = S_IFDIR }, NULL, -1, NULL },
    { { .kind = VT_KIND_HUGETLB, .mode = S_IFREG }, NULL, -1, "path=/p: *give the directory instead*" },
    { { .kind = VT_KIND_OTHER, .mode = S_IFCHR }, "dax0.1", 3,
      "path=/p is a DAX device*`daxctl reconfigure-device --mode=system-ram dax0.1`, then nodes=3 *" },
    { { .kind = VT_KIND_OTHER, .mode = S_IFCHR }, "dax0.1", -1, "path=/p is a DAX device*then nodes=N *" },
    { { .kind = VT_KIND_OTHER, .mode = S_IFCHR }, NULL, -1, "path=/p is on a character device, and *" },
    { { .kind = VT_KIND_OTHER, .mode = S_IFBLK }, NULL, -1, "path=/p is on a block device, and *" },
    { { .kind = VT_KIND_OTHER, .mode = S_IFREG, .magic = EXT4_SUPER_MAGIC }, NULL, -1,
      "path=/p is on ext4, *only tmpfs and hugetlbfs*`daxctl reconfigure-device --mode=system-ram`*" },
    { { .kind = VT_KIND_OTHER, .mode = S_IFREG, .magic = 0x58465342 }, NULL, -1, "path=/p is on xfs, *" },
    { { .kind = VT_KIND_OTHER, .mode = S_IFDIR, .magic = 0x1234 }, NULL, -1,
      "path=/p is on file system 0x1234, *" },
};

static void test_judge(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GError) error = NULL;
        bool ok = tier_judge_path("/p", &kinds[i].kind, kinds[i].dax, kinds[i].node, &error);

        if (ok != !kinds[i].says)
            g_error("number %" G_GSIZE_FORMAT " was %s", i, ok ? "taken" : "refused");
        if (!ok && !g_pattern_match_simple(kinds[i].says, error->message))
            g_error("'%s' does not look like '%s'", error->message, kinds[i].says);
    }
}

/* Real ones, when the configuration is read. */
static void test_refused_paths(void)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        { "[tier cxl]\npath=/no/such\n", "tier cxl: path=/no/such: No such file*" },
        { "[tier cxl]\npath=/proc\n", "tier cxl: path=/proc is on file system 0x9fa0, *" },
        { "[tier cxl]\npath=/dev/null\n", "tier cxl: path=/dev/null is on a character device, *" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(make_tiers(bad[i].text, &error));
        if (!g_pattern_match_simple(bad[i].says, error->message))
            g_error("'%s' does not look like '%s'", error->message, bad[i].says);
    }
}

/* That the list is right is the kernel's to say: registers a file's mapping for write protection. */
static int try_protect(int fd)
{
    struct uffdio_api api = { .api = UFFD_API,
                              .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), context, rc;
    void *at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct uffdio_register r = { .range = { (guintptr)at, MIB }, .mode = UFFDIO_REGISTER_MODE_WP };

    if (device < 0)
        return -1;
    context = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
    g_assert_cmpint(ioctl(context, UFFDIO_API, &api), ==, 0);
    rc = ioctl(context, UFFDIO_REGISTER, &r) ? errno : 0;
    close(context);
    close(device);
    munmap(at, MIB);
    return rc;
}

static void test_kernel_agrees(void)
{
    g_autofree char *path = g_strdup("./vmtier-disk-XXXXXX");
    int memory = memfd_create("toy", MFD_CLOEXEC), disk = g_mkstemp(path);

    g_unlink(path);
    g_assert_cmpint(ftruncate(memory, MIB), ==, 0);
    g_assert_cmpint(ftruncate(disk, MIB), ==, 0);
    if (try_protect(memory) < 0)
        g_test_skip("there is no /dev/userfaultfd");
    else
        g_assert_cmpint(try_protect(memory), ==, 0);
    if (kind_of(disk).kind == VT_KIND_OTHER)
        g_assert_cmpint(try_protect(disk), !=, 0);
    close(memory);
    close(disk);
}

/* --- what a file says of itself -------------------------------------------------------------------- */

static void test_parse_thp(void)
{
    static const char mounts[] =
        "36 35 0:33 / /a rw,nosuid - ext4 /dev/vda huge=always\n"
        "37 35 0:34 / /with\\040blank rw - tmpfs tmpfs rw,size=4k,huge=advise,mode=700\n"
        "38 35 0:35 / /c rw shared:1 - tmpfs none rw,huge=within_size\n"
        "39 35 0:36 / /d rw - tmpfs none rw,size=1g\n";
    static const struct {
        guint8 kind;
        int minor;
        const char *enabled;
        enum vt_thp is;
    } cases[] = {
        { VT_KIND_TMPFS, 34, "always [never] deny", VT_THP_ADVISE },
        { VT_KIND_TMPFS, 35, NULL, VT_THP_WITHIN_SIZE },
        { VT_KIND_TMPFS, 36, "always [never] deny", VT_THP_NEVER },
        { VT_KIND_TMPFS, 99, "always [never] deny", VT_THP_UNKNOWN },
        { VT_KIND_TMPFS, 34, "always never [deny] force", VT_THP_NEVER },
        { VT_KIND_TMPFS, 36, "always never deny [force]", VT_THP_ALWAYS },
        { VT_KIND_MEMFD, 34, "always [never] deny", VT_THP_NEVER },
        { VT_KIND_MEMFD, 34, "always [advise] never", VT_THP_ADVISE },
        { VT_KIND_MEMFD, 34, "[within_size] never", VT_THP_WITHIN_SIZE },
        { VT_KIND_MEMFD, 34, "garbage", VT_THP_UNKNOWN },
        { VT_KIND_HUGETLB, 34, "[always]", VT_THP_UNKNOWN },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct filekind k = { .kind = cases[i].kind, .device = makedev(0, cases[i].minor) };

        g_test_message("%" G_GSIZE_FORMAT, i);
        g_assert_cmpint(filekind_parse_thp(&k, mounts, cases[i].enabled), ==, cases[i].is);
    }
}

static void test_text(void)
{
    static const struct {
        struct filekind k;
        const char *text;
    } cases[] = {
        { { .kind = VT_KIND_HUGETLB, .page_size = 2 << 20 }, "hugetlb, pages of 2 MiB" },
        { { .kind = VT_KIND_HUGETLB, .page_size = 1 << 30 }, "hugetlb, pages of 1 GiB" },
        { { .kind = VT_KIND_TMPFS, .thp = VT_THP_NEVER }, "tmpfs, huge=never" },
        { { .kind = VT_KIND_TMPFS, .thp = VT_THP_ADVISE }, "tmpfs, huge=advise" },
        { { .kind = VT_KIND_TMPFS }, "tmpfs" },
        { { .kind = VT_KIND_MEMFD, .thp = VT_THP_NEVER }, "memfd" },
        { { .kind = VT_KIND_MEMFD, .thp = VT_THP_ALWAYS }, "memfd, huge=always" },
        { { .kind = 200, .thp = 200 }, "another kind, huge=?" },
    };
    char text[64];

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        filekind_text(&cases[i].k, text, sizeof(text));
        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

static dev_t device_of_mount(const char *dir)
{
    struct tier_mount *m = tier_mount_new(dir, NULL);
    int fd = m ? tier_file_in_mount(m, "toy", NULL) : -1;
    struct stat st = { 0 };

    tier_mount_free(m);
    if (fd >= 0) {
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        close(fd);
    }
    return st.st_dev;
}

/* A mount with the option, as an administrator makes it, is found and used; one without is not. */
static void test_mounted(void)
{
    g_autofree char *dir = g_strdup("/tmp/vmtier-huge-XXXXXX");
    struct stat st;

    g_assert_nonnull(g_mkdtemp(dir));
    if (mount("vmtier", dir, "tmpfs", 0, "huge=advise")) {
        g_test_skip(g_strerror(errno));
    } else {
        g_assert_cmpint(stat(dir, &st), ==, 0);
        g_assert_cmpuint(device_of_mount(dir), ==, st.st_dev);
        g_assert_cmpint(mount("vmtier", dir, "tmpfs", MS_REMOUNT, "huge=never"), ==, 0);
        g_assert_cmpuint(device_of_mount(dir), !=, st.st_dev);
        g_assert_cmpint(umount(dir), ==, 0);
    }
    g_rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tier-file/memfd", test_memfd);
    g_test_add_data_func("/tier-file/hugetlb-2m", GSIZE_TO_POINTER(2u << 20), test_hugetlb);
    g_test_add_data_func("/tier-file/hugetlb-1g", GSIZE_TO_POINTER(1u << 30), test_hugetlb);
    g_test_add_func("/tier-file/huge", test_huge);
    g_test_add_func("/tier-file/huge-size", test_huge_size);
    g_test_add_func("/tier-file/fallback", test_fallback);
    g_test_add_func("/tier-file/directory", test_directory);
    g_test_add_func("/tier-file/shared-file", test_shared_file);
    g_test_add_func("/tier-file/other-pages", test_other_pages);
    g_test_add_func("/tier-file/judge", test_judge);
    g_test_add_func("/tier-file/refused-paths", test_refused_paths);
    g_test_add_func("/tier-file/kernel-agrees", test_kernel_agrees);
    g_test_add_func("/tier-file/parse-thp", test_parse_thp);
    g_test_add_func("/tier-file/text", test_text);
    g_test_add_func("/tier-file/mounted", test_mounted);
    return g_test_run();
}
