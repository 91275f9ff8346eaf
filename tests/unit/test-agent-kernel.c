// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtier-agent's collectors that need something of the kernel that many are built without: page idle tracking
 * and DAMON. Both are files in sysfs, and here a directory with such files is the agent's sysfs. The page
 * flags and the places of RAM are this machine's.
 */
#include "agent-host.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KDAMOND  "kernel/mm/damon/admin/kdamonds/"
#define CONTEXT  KDAMOND "0/contexts/0/"
#define SCHEME   CONTEXT "schemes/0/"
#define RAM_MOST (1ull << 40)

/* --- a sysfs ------------------------------------------------------------------------------------------ */

static void put(const char *sysfs, const char *file, const char *text)
{
    g_autofree char *path = g_build_filename(sysfs, file, NULL), *dir = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static bool has(const char *sysfs, const char *file, const char *text)
{
    g_autofree char *path = g_build_filename(sysfs, file, NULL), *is = NULL;

    return g_file_get_contents(path, &is, NULL, NULL) && g_str_has_prefix(is, text);
}

static void remove_all(const char *sysfs)
{
    char *argv[] = { (char *)"rm", (char *)"-rf", (char *)(gpointer)sysfs, NULL };

    g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
}

static struct host *host_with(const char *sysfs, const char *collect)
{
    g_autofree char *text = g_strdup_printf("sysfs=%s\ncollect=%s\npass=1\ncpu=1000\n", sysfs, collect);

    return host_at_pty(text);
}

/* Gives credits until a range of this weight has come, and of this kind unless that is VTA_NONE. */
static struct vta_range wait_range(struct host *h, enum vta_kind kind, guint8 weight)
{
    double end = now_s() + 60;

    while (now_s() < end) {
        struct vta_frame f = { .credit = { 1, 0 } };

        if (!hear(h, VTA_HINTS, 1))
            continue;
        for (guint32 i = 0; i < h->f.hints.count; i++) {
            struct vta_range r = h->f.hints.range[i];

            if ((r.kind == kind || kind == VTA_NONE) && r.weight == weight && r.length)
                return r;
        }
        say(h, VTA_CREDIT, &f, sizeof(f.credit));
    }
    g_error("no range of kind %d and weight %d came", kind, weight);
}

/* --- DAMON -------------------------------------------------------------------------------------------- */

static const char *const written[][2] = {
    { KDAMOND "nr_kdamonds", "1" }, { KDAMOND "0/contexts/nr_contexts", "1" }, { CONTEXT "operations", "paddr" },
    { CONTEXT "monitoring_attrs/nr_regions/min", "20" }, { CONTEXT "monitoring_attrs/nr_regions/max", "200" },
    { CONTEXT "monitoring_attrs/intervals/sample_us", "100000" },
    { CONTEXT "monitoring_attrs/intervals/aggr_us", "2000000" }, { CONTEXT "targets/nr_targets", "1" },
    { CONTEXT "schemes/nr_schemes", "1" }, { SCHEME "action", "stat" },
    { SCHEME "access_pattern/sz/max", "18446744073709551615" },
    { SCHEME "access_pattern/nr_accesses/max", "4294967295" },
    { SCHEME "access_pattern/age/max", "4294967295" },
};

static void put_regions(const char *sysfs)
{
    static const char *const regions[][3] = {
        { "1048576", "9437184", "20" }, { "9437184", "17825792", "10" }, { "17825792", "26214400", "0" },
    };

    for (int i = 0; i < 64; i++)        /* of this machine's RAM, as the agent asks for */
        for (int end = 0; end < 2; end++) {
            g_autofree char *file = g_strdup_printf(CONTEXT "targets/0/regions/%d/%s", i,
                                                    end ? "end" : "start");

            put(sysfs, file, "0\n");
        }
    put(sysfs, CONTEXT "targets/0/regions/nr_regions", "0\n");
    for (gsize i = 0; i < G_N_ELEMENTS(regions); i++)
        for (int k = 0; k < 3; k++) {
            static const char *const names[] = { "start", "end", "nr_accesses" };
            g_autofree char *file = g_strdup_printf(SCHEME "tried_regions/%d/%s", (int)i, names[k]);

            put(sysfs, file, regions[i][k]);
        }
}

/* As a kernel's files are, that nobody has used yet. */
static char *damon_new(const char *kdamonds)
{
    char *sysfs = g_dir_make_tmp("vmtier-sysfs-XXXXXX", NULL);

    for (gsize i = 1; i < G_N_ELEMENTS(written); i++)
        put(sysfs, written[i][0], "0\n");
    put(sysfs, KDAMOND "nr_kdamonds", kdamonds);
    put(sysfs, KDAMOND "0/state", "off\n");
    put_regions(sysfs);
    return sysfs;
}

/* Set up as it has to be; what it then says of regions comes as hints; and it is switched off at the end. */
static void test_damon(void)
{
    g_autofree char *sysfs = NULL;
    struct vta_range r;
    struct host *h;

    if (!may_run())
        return;
    sysfs = damon_new("0\n");
    h = host_with(sysfs, "damon");
    welcome(h, 4);
    r = wait_range(h, VTA_HOT, 140);
    g_assert_cmpuint(r.gpa, >=, 1048576);
    g_assert_cmpuint(r.gpa + r.length, <=, 17825792);
    g_assert_cmpuint(r.share, ==, r.gpa < 9437184 ? 255 : 128);     /* of 20 looks, 20 or 10 */
    r = wait_range(h, VTA_COLD, 140);
    g_assert_cmpuint(r.gpa, >=, 17825792);
    for (gsize i = 0; i < G_N_ELEMENTS(written); i++)
        if (!has(sysfs, written[i][0], written[i][1]))
            g_error("%s is not %s", written[i][0], written[i][1]);
    g_assert_false(has(sysfs, CONTEXT "targets/0/regions/0/end", "0\n"));
    g_assert_true(has(sysfs, KDAMOND "0/state", "update_schemes_tried_regions"));
    host_free(h);
    g_assert_true(has(sysfs, KDAMOND "0/state", "off"));
    g_assert_true(has(sysfs, KDAMOND "nr_kdamonds", "0"));
    remove_all(sysfs);
}

/* It is not taken away from anybody, and that there is none is said. */
static void test_no_damon(void)
{
    g_autofree char *sysfs = NULL, *empty = NULL;
    struct host *h;

    if (!may_run())
        return;
    sysfs = damon_new("1\n");
    h = host_with(sysfs, "damon");
    welcome(h, 4);
    expect(h, "status", 0, true, "collector damon: somebody else uses DAMON");
    host_free(h);
    g_assert_true(has(sysfs, KDAMOND "nr_kdamonds", "1"));
    g_assert_true(has(sysfs, KDAMOND "0/state", "off\n"));
    remove_all(sysfs);
    empty = g_dir_make_tmp("vmtier-sysfs-XXXXXX", NULL);
    h = host_with(empty, "damon,idle");
    welcome(h, 4);
    expect(h, "status", 0, true, "this kernel has no DAMON");
    expect(h, "status", 0, true, "page_idle/bitmap: this kernel has no page idle tracking");
    host_free(h);
    remove_all(empty);
}

/* --- page idle tracking ------------------------------------------------------------------------------- */

/* All pages, of more memory than there is. */
static char *bitmap_new(char **path)
{
    char *sysfs = g_dir_make_tmp("vmtier-sysfs-XXXXXX", NULL);

    put(sysfs, "kernel/mm/page_idle/bitmap", "");
    *path = g_build_filename(sysfs, "kernel/mm/page_idle/bitmap", NULL);
    g_assert_cmpint(truncate(*path, RAM_MOST / 4096 / 8), ==, 0);
    return sysfs;
}

/* What is not idle any more at the second pass is hot; what still is, cold; and all is marked again. */
static void test_idle(void)
{
    g_autofree char *sysfs = NULL, *path = NULL;
    guint64 was, all = G_MAXUINT64;
    struct vta_range r;
    struct host *h;
    int fd;

    if (!may_run())
        return;
    sysfs = bitmap_new(&path);
    h = host_with(sysfs, "idle");
    welcome(h, 1000);
    r = wait_range(h, VTA_COLD, 160);        /* nobody uses a page of a bitmap that is a file */
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pread(fd, &was, 8, (off_t)(r.gpa / 4096 / 64 * 8)), ==, 8);
    g_assert_cmpuint(was, ==, all);
    for (guint64 at = 0; at < RAM_MOST / 4096 / 8; at += 1 << 20) {
        static const guint8 used[1 << 20];

        if (lseek(fd, (off_t)at, SEEK_DATA) < 0)
            break;
        g_assert_cmpint(pwrite(fd, used, sizeof(used), (off_t)at), ==, sizeof(used));
    }
    r = wait_range(h, VTA_HOT, 160);
    g_assert_cmpuint(r.share, >, 0);
    close(fd);
    host_free(h);
    remove_all(sysfs);
}

/* --- page flags --------------------------------------------------------------------------------------- */

/* They are everywhere, but what they say depends on what this machine does. */
static void test_flags(void)
{
    struct vta_range r;
    struct host *h;

    if (!may_run())
        return;
    h = host_with("/sys", "flags");
    welcome(h, 1000);
    r = wait_range(h, VTA_NONE, 40);
    g_assert_true(r.kind == VTA_HOT || r.kind == VTA_COLD);
    g_assert_cmpuint(r.share, >, 0);
    host_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent-kernel/damon", test_damon);
    g_test_add_func("/agent-kernel/no-damon", test_no_damon);
    g_test_add_func("/agent-kernel/idle", test_idle);
    g_test_add_func("/agent-kernel/flags", test_flags);
    return g_test_run();
}
