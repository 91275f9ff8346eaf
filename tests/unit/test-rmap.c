// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The reverse map: its table against a model, and the map of this process' own memory against its
 * pagemap, through moves, migration and memory that goes away.
 */
#include "host/rmap-table.h"
#include "host/rmap.h"
#include "kid.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u

/* --- the table --------------------------------------------------------------------------------------------- */

#define MODEL_PAGES    8192u
#define MODEL_GRANULES 24u
#define NOBODY         G_MAXUINT32

static void check_against(const struct rmap_table *t, const guint32 *owner, guint64 base)
{
    guint32 pages[MODEL_GRANULES] = { 0 }, all = 0;

    for (guint32 p = 0; p < MODEL_PAGES; p++) {
        guint32 granule = NOBODY;
        bool found = rmap_table_find(t, base + p, &granule);

        g_assert_cmpuint(granule, ==, owner[p]);
        g_assert_true(found == (owner[p] != NOBODY));
        if (found) {
            g_assert_true(rmap_table_holds(t, base + p, 1, granule));
            pages[granule]++;
            all++;
        }
    }
    for (guint32 g = 0; g < MODEL_GRANULES; g++)
        g_assert_cmpuint(rmap_table_pages(t, g), ==, pages[g]);
    g_assert_cmpuint(rmap_table_all_pages(t), ==, all);
}

static void test_model(void)
{
    struct rmap_table *t = rmap_table_new();
    g_autofree guint32 *owner = g_new(guint32, MODEL_PAGES);
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    const guint64 base = 0x123456789;

    memset(owner, 0xff, MODEL_PAGES * sizeof(*owner));
    rmap_table_resize(t, MODEL_GRANULES);
    for (int round = 0; round < 8000; round++) {
        guint32 g = (guint32)g_rand_int_range(rand, 0, MODEL_GRANULES);
        guint32 n = g_rand_boolean(rand) ? 1 : (guint32)g_rand_int_range(rand, 1, 1500);
        guint32 at = (guint32)g_rand_int_range(rand, 0, (gint32)(MODEL_PAGES - n));

        if (g_rand_int_range(rand, 0, 40) == 0) {
            rmap_table_forget(t, g);
            for (guint32 p = 0; p < MODEL_PAGES; p++)
                owner[p] = owner[p] == g ? NOBODY : owner[p];
        } else {
            rmap_table_put(t, base + at, n, g);
            for (guint32 p = at; p < at + n; p++)
                owner[p] = g;
        }
        if (round % 500 == 0)
            check_against(t, owner, base);
    }
    check_against(t, owner, base);
    rmap_table_free(t);
}

static void test_holds(void)
{
    struct rmap_table *t = rmap_table_new();

    rmap_table_resize(t, 3);
    rmap_table_put(t, 500, 1000, 1);
    rmap_table_put(t, 900, 10, 2);
    g_assert_true(rmap_table_holds(t, 500, 400, 1));
    g_assert_false(rmap_table_holds(t, 500, 401, 1));
    g_assert_true(rmap_table_holds(t, 910, 590, 1));
    g_assert_false(rmap_table_holds(t, 910, 591, 1));
    g_assert_false(rmap_table_holds(t, 499, 2, 1));
    rmap_table_free(t);
}

/* 64 GiB, once in huge pages and once with no page beside its neighbour. */
static void test_bytes(void)
{
    const guint64 pages = 1ull << 24;
    struct rmap_table *huge = rmap_table_new(), *small = rmap_table_new();
    double per_huge, per_small;

    rmap_table_resize(huge, 1u << 15);
    for (guint32 g = 0; g < 1u << 15; g++)
        rmap_table_put(huge, (guint64)(g ^ 0x155) * 512, 512, g);
    per_huge = (double)rmap_table_bytes(huge) / (double)pages;
    rmap_table_resize(small, 1u << 11);
    for (guint32 p = 0; p < 1u << 20; p++)
        rmap_table_put(small, (guint64)p * 0x9e375 % (1u << 20), 1, p >> 9);
    per_small = (double)rmap_table_bytes(small) / (double)rmap_table_all_pages(small);
    g_test_message("bytes a page: %.3f in 2 MiB pages, %.2f scattered", per_huge, per_small);
    g_assert_cmpfloat(per_huge, <, 0.15);
    g_assert_cmpfloat(per_small, <, 8.3);
    g_assert_cmpuint(rmap_table_all_pages(small), ==, 1u << 20);
    rmap_table_free(huge);
    rmap_table_free(small);
}

/* Granules that are forgotten again and again leave nothing behind. */
static void test_forgotten(void)
{
    struct rmap_table *t = rmap_table_new();

    rmap_table_resize(t, 64);
    for (guint32 i = 0; i < 200000; i++) {
        guint32 granule;

        rmap_table_put(t, (guint64)i * 512 + i % 512, 2, i % 64);
        rmap_table_forget(t, i % 64);
        g_assert_false(rmap_table_find(t, (guint64)i * 512 + i % 512, &granule));
    }
    g_assert_cmpuint(rmap_table_all_pages(t), ==, 0);
    g_assert_cmpuint(rmap_table_bytes(t), <, 256u << 10);
    rmap_table_free(t);
}

/* --- a process ------------------------------------------------------------------------------------------------ */

#define GRANULE  (64u << 10)
#define GRANULES 64u
#define BYTES    ((gsize)GRANULE * GRANULES)

struct own {
    struct rmap *map;
    int file, pagemap;
    char *memory;
};

/* Where a page of ours is, or 0; by pagemap, read here. */
static guint64 hpa_of(const struct own *own, const char *at)
{
    guint64 entry = 0;

    g_assert_cmpint(pread(own->pagemap, &entry, 8, (off_t)((uintptr_t)at / PAGE * 8)), ==, 8);
    return entry >> 63 ? (entry & ((1ull << 55) - 1)) * PAGE + (uintptr_t)at % PAGE : 0;
}

static void finish(struct own *own)
{
    struct vt_err err;

    do
        g_assert_cmpint(rmap_refresh(own->map, 100, &err), ==, 0);
    while (rmap_is_due(own->map));
}

static bool own_start(struct own *own)
{
    struct vt_err err = { 0 };
    struct rmap_area area = { .count = GRANULES, .first = 5, .length = BYTES, .page_size = PAGE };

    own->map = rmap_new(getpid(), GRANULE, &err);
    if (!own->map) {
        g_test_skip(err.text);
        return false;
    }
    own->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    own->file = memfd_create("rmap", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(own->file, BYTES), ==, 0);
    own->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, own->file, 0);
    g_assert_true(own->memory != MAP_FAILED);
    memset(own->memory, 1, BYTES);
    area.hva = (uintptr_t)own->memory;
    rmap_set_pauses(own->map, 0.2, 60);
    rmap_set_areas(own->map, &area, 1);
    g_assert_true(rmap_is_due(own->map));
    finish(own);
    return true;
}

static void own_end(struct own *own)
{
    rmap_free(own->map);
    munmap(own->memory, BYTES);
    close(own->file);
    close(own->pagemap);
}

/* How many pages are found, all of them in the right granule. */
static guint found_right(const struct own *own)
{
    guint found = 0;

    for (gsize at = 0; at < BYTES; at += PAGE) {
        guint64 hpa = hpa_of(own, own->memory + at);
        guint32 granule = 0;

        if (!hpa || !rmap_find(own->map, hpa + at % PAGE, &granule))
            continue;
        g_assert_cmpuint(granule, ==, 5 + at / GRANULE);
        found++;
    }
    return found;
}

static void test_own(void)
{
    struct own own;
    struct rmap_stats stats;
    guint32 granule;

    if (!own_start(&own))
        return;
    g_assert_cmpuint(found_right(&own), ==, BYTES / PAGE);
    g_assert_false(rmap_find(own.map, 0, &granule));
    rmap_stats(own.map, &stats);
    g_assert_cmpuint(stats.pages, ==, BYTES / PAGE);
    g_assert_cmpuint(stats.missed, ==, 1);
    g_assert_cmpuint(stats.sweeps, ==, 1);
    own_end(&own);
}

/* Many misses are a reason for another look; but not at once. */
static void look_again(const struct own *own)
{
    gint64 until = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    struct rmap_stats stats;
    struct vt_err err;
    guint64 sweeps;
    guint32 granule;

    rmap_stats(own->map, &stats);
    sweeps = stats.sweeps;
    do {
        for (guint64 hpa = 0; hpa < 32; hpa++)
            rmap_find(own->map, hpa, &granule);
        g_usleep(50000);
        g_assert_cmpint(rmap_refresh(own->map, 2000, &err), ==, 0);
        rmap_stats(own->map, &stats);
    } while (stats.sweeps == sweeps && g_get_monotonic_time() < until);
    g_assert_cmpuint(stats.sweeps, ==, sweeps + 1);
}

/* Memory that is only zapped is still known when it comes back, also if it was looked at in between. */
static void test_zapped(void)
{
    struct own own;

    if (!own_start(&own))
        return;
    madvise(own.memory, BYTES, MADV_DONTNEED);
    g_assert_cmpuint(found_right(&own), ==, 0);
    look_again(&own);
    memset(own.memory, 2, BYTES);
    g_assert_cmpuint(found_right(&own), ==, BYTES / PAGE);
    own_end(&own);
}

/* A granule that is moved is in other pages: unknown until it is read, right afterwards. */
static void test_moved(void)
{
    struct own own;
    guint64 was;
    guint32 granule;

    if (!own_start(&own))
        return;
    was = hpa_of(&own, own.memory + 3 * GRANULE);
    g_assert_true(rmap_find(own.map, was, &granule));
    g_assert_true(mmap(own.memory + 3 * GRANULE, GRANULE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) != MAP_FAILED);
    rmap_moved(own.map, 8);
    g_assert_false(rmap_find(own.map, was, &granule));
    g_assert_cmpuint(found_right(&own), ==, (BYTES - GRANULE) / PAGE);
    g_assert_true(rmap_is_due(own.map));
    finish(&own);
    g_assert_cmpuint(found_right(&own), ==, BYTES / PAGE);
    g_assert_false(rmap_find(own.map, was, &granule));
    own_end(&own);
}

/* A granule that has moved and is touched only later is read again, without a look at everything. */
static void test_touched_later(void)
{
    struct own own;
    struct vt_err err;
    struct rmap_stats stats;
    gint64 until = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    char *moved;

    if (!own_start(&own))
        return;
    rmap_set_pauses(own.map, 1000, 1000);
    moved = own.memory + 3 * GRANULE;
    g_assert_true(mmap(moved, GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, -1, 0) ==
                  moved);
    rmap_moved(own.map, 8);
    finish(&own);
    g_assert_cmpuint(found_right(&own), ==, (BYTES - GRANULE) / PAGE);
    memset(moved, 3, GRANULE);
    g_assert_cmpuint(found_right(&own), ==, (BYTES - GRANULE) / PAGE);
    rmap_moved(own.map, 8);         /* again: that is read at once */
    finish(&own);
    g_assert_cmpuint(found_right(&own), ==, BYTES / PAGE);
    g_assert_true(mmap(moved, GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, -1, 0) ==
                  moved);
    rmap_moved(own.map, 8);
    finish(&own);
    memset(moved, 4, GRANULE);
    do {
        g_usleep(20000);
        g_assert_cmpint(rmap_refresh(own.map, 2000, &err), ==, 0);
        rmap_stats(own.map, &stats);
    } while (stats.pages < BYTES / PAGE && g_get_monotonic_time() < until);
    g_assert_cmpuint(found_right(&own), ==, BYTES / PAGE);
    g_assert_cmpuint(stats.sweeps, ==, 1);
    own_end(&own);
}

/* Two granules change places, as an exchange between tiers does; only one is told. */
static void test_exchanged(void)
{
    struct own own;

    if (!own_start(&own))
        return;
    g_assert_true(mmap(own.memory, GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
                       own.file, GRANULE) != MAP_FAILED);
    g_assert_true(mmap(own.memory + GRANULE, GRANULE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED | MAP_POPULATE, own.file, 0) != MAP_FAILED);
    rmap_moved(own.map, 5);
    rmap_moved(own.map, 5);
    rmap_moved(own.map, 6);
    finish(&own);
    g_assert_cmpuint(found_right(&own), ==, BYTES / PAGE);
    own_end(&own);
}

/* Memory that went away and came anew is found without being told; what went is forgotten at the next look. */
static void test_missed(void)
{
    struct own own;
    struct rmap_stats stats;

    if (!own_start(&own))
        return;
    g_assert_cmpint(fallocate(own.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BYTES), ==, 0);
    memset(own.memory, 2, BYTES);
    look_again(&own);
    g_assert_cmpuint(found_right(&own), ==, BYTES / PAGE);
    g_assert_cmpint(fallocate(own.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BYTES), ==, 0);
    look_again(&own);
    look_again(&own);
    rmap_stats(own.map, &stats);
    g_assert_cmpuint(stats.pages, ==, 0);
    own_end(&own);
}

/* A block that goes is forgotten; one that stays is not read again. */
static void test_areas(void)
{
    struct own own;
    struct rmap_area half[2];
    struct rmap_stats stats;

    if (!own_start(&own))
        return;
    half[0] = (struct rmap_area){ (uintptr_t)own.memory, BYTES, 5, GRANULES, PAGE };
    rmap_set_areas(own.map, half, 1);
    g_assert_false(rmap_is_due(own.map));
    half[0].length /= 2;
    half[0].count /= 2;
    rmap_set_areas(own.map, half, 1);
    finish(&own);
    g_assert_cmpuint(found_right(&own), ==, BYTES / PAGE / 2);
    half[1] = (struct rmap_area){ (uintptr_t)own.memory + BYTES / 2, BYTES / 2 - PAGE, 200, GRANULES / 2, PAGE };
    rmap_set_areas(own.map, half, 2);
    finish(&own);
    rmap_stats(own.map, &stats);
    g_assert_cmpuint(stats.pages, ==, BYTES / PAGE - 1);
    rmap_set_areas(own.map, NULL, 0);
    rmap_stats(own.map, &stats);
    g_assert_cmpuint(stats.pages, ==, 0);
    own_end(&own);
}

static bool nothing_to_do(void)
{
    return true;
}

static void test_ended(void)
{
    static const struct role idle = { .set_up = nothing_to_do };
    struct kid kid = kid_start(&idle);
    struct vt_err err = { 0 };
    struct rmap *map = rmap_new(kid.pid, GRANULE, &err);
    struct rmap_area area = { (uintptr_t)memory, KID_BYTES, 0, KID_BYTES / GRANULE, PAGE };

    if (map) {
        rmap_set_areas(map, &area, 1);
        kid_reap(&kid);
        g_assert_cmpint(rmap_refresh(map, 100000, &err), ==, -ESRCH);
        g_assert_true(strstr(err.text, "has ended"));
        close(kid.pidfd);
        rmap_free(map);
        g_assert_null(rmap_new(kid.pid, GRANULE, &err));
    } else {
        kid_end(&kid);
        g_test_skip(err.text);
    }
}

/* Without the capability, it is said what is missing, instead of finding nothing. */
static bool look_without_rights(void)
{
    struct vt_err err = { 0 };

    return setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0 &&
           !rmap_new(getpid(), GRANULE, &err) && (strstr(err.text, "CAP_SYS_ADMIN") || err.code == EACCES);
}

static void test_no_rights(void)
{
    static const struct role role = { .set_up = look_without_rights };
    struct kid kid;

    if (geteuid() != 0) {
        g_test_skip("only root can give its rights away");
        return;
    }
    kid = kid_start(&role);
    kid_end(&kid);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    kid_prepare();
    g_test_add_func("/rmap/table/model", test_model);
    g_test_add_func("/rmap/table/holds", test_holds);
    g_test_add_func("/rmap/table/bytes", test_bytes);
    g_test_add_func("/rmap/table/forgotten", test_forgotten);
    g_test_add_func("/rmap/own", test_own);
    g_test_add_func("/rmap/zapped", test_zapped);
    g_test_add_func("/rmap/moved", test_moved);
    g_test_add_func("/rmap/touched-later", test_touched_later);
    g_test_add_func("/rmap/exchanged", test_exchanged);
    g_test_add_func("/rmap/missed", test_missed);
    g_test_add_func("/rmap/areas", test_areas);
    g_test_add_func("/rmap/ended", test_ended);
    g_test_add_func("/rmap/no-rights", test_no_rights);
    return g_test_run();
}
