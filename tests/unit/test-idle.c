// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the source "idle", with files for the kernel's bitmap and QEMU's pagemap. The test plays the
 * kernel: it takes marks away from the pages that it says were touched. Frames are 64 apart, as a plain
 * file forgets the other marks of a word that is written.
 */
// link: -Wl,--wrap=heat_add
#include "host/source/idle.h"
#include "host/source/source.h"
#include "tests/unit/heard.h"
#include "tests/unit/vm-fixture.h"

#include <glib/gstdio.h>

#define GRANULE 65536ull
#define PAGES   (GRANULE / 4096)
#define N       32
#define HVA     0x100000ull
#define BASE    1000u           /* the first frame, of 64 */

struct bed {
    struct daemon *daemon;
    struct vm *vm;
    struct vt_err err;
    char *dir, *bitmap_path, *pagemap_path;
    int bitmap, pagemap;
};

static guint64 frame_of(guint32 page)
{
    return (BASE + page) * 64ull + page % 64;
}

static void set_frame(struct bed *b, guint32 page, guint64 frame)
{
    guint64 entry = frame ? frame | 1ull << 63 : 0;

    g_assert_cmpint(pwrite(b->pagemap, &entry, 8, (off_t)((HVA / 4096 + page) * 8)), ==, 8);
}

static bool has_mark(struct bed *b, guint64 frame)
{
    guint64 word = 0;

    (void)!pread(b->bitmap, &word, 8, (off_t)(frame / 64 * 8));
    return word >> frame % 64 & 1;
}

static void touch(struct bed *b, guint64 frame)
{
    guint64 word = 0;

    g_assert_cmpint(pwrite(b->bitmap, &word, 8, (off_t)(frame / 64 * 8)), ==, 8);
}

static struct bed *bed_new(guint64 granule, guint32 n)
{
    struct bed *b = g_new0(struct bed, 1);

    b->dir = g_dir_make_tmp("vmtier-idle-XXXXXX", NULL);
    b->bitmap_path = g_build_filename(b->dir, "bitmap", NULL);
    b->pagemap_path = g_build_filename(b->dir, "1-pagemap", NULL);
    b->bitmap = open(b->bitmap_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    b->pagemap = open(b->pagemap_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(b->bitmap, 1 << 20), ==, 0);
    g_assert_cmpint(ftruncate(b->pagemap, 1 << 20), ==, 0);
    g_autofree char *format = g_build_filename(b->dir, "%u-pagemap", NULL);

    idle_set_paths(b->bitmap_path, g_intern_string(format));
    heard_forget();
    b->daemon = fixture_daemon();
    b->daemon->config->defaults.granule = granule;
    b->vm = fixture_vm(b->daemon);
    vm_resize(b->vm, n);
    b->vm->block[0].present = true;
    b->vm->block[0].host = HVA;
    b->vm->block[0].length = n * granule;
    b->vm->block[0].count = n;
    for (guint32 g = 0; g < n; g++)
        ledger_put(&b->vm->ledger, g, 0);
    b->vm->config.sources = 1u << SRC_IDLE;
    b->vm->config.probe_budget_us = 100000;
    b->vm->now.mode = VM_ON;
    return b;
}

static void bed_free(struct bed *b)
{
    vm_unref(b->vm);
    fixture_daemon_free(b->daemon);
    close(b->bitmap);
    close(b->pagemap);
    g_unlink(b->bitmap_path);
    g_unlink(b->pagemap_path);
    g_rmdir(b->dir);
    g_free(b->bitmap_path);
    g_free(b->pagemap_path);
    g_free(b->dir);
    g_free(b);
    idle_set_paths(NULL, NULL);
}

static const struct source_stats *stats(struct bed *b)
{
    return &b->vm->stats.source[SRC_IDLE];
}

static void round_of(struct bed *b)
{
    g_assert_cmpint(sources_switch(b->vm, &b->err), ==, 0);
    g_assert_cmpint(sources_harvest(b->vm, 0.25, &b->err), ==, 0);
    b->vm->clock += 0.25;
}

static void expect_stop(void)
{
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "toy: source idle has stopped: *");
}

static void fill(struct bed *b)
{
    for (guint32 p = 0; p < N * PAGES; p++)
        set_frame(b, p, frame_of(p));
}

/* Every granule gets its marks; those of the first half are touched, always, the others never. */
static void test_touched(void)
{
    struct bed *b = bed_new(GRANULE, N);
    guint marks = 0;

    fill(b);
    round_of(b);
    g_assert_true(stats(b)->running);
    for (guint32 p = 0; p < N * PAGES; p++)
        marks += has_mark(b, frame_of(p));
    g_assert_cmpuint(marks, ==, N * 8);
    for (int i = 0; i < 20; i++) {
        for (guint32 p = 0; p < N / 2 * PAGES; p++)
            touch(b, frame_of(p));
        round_of(b);
    }
    for (guint32 g = 0; g < N; g++) {
        g_assert_cmpfloat(heard[HEAT_PROBES][g].exposure_s, >=, 8 * 3);     /* it was looked at */
        if (g < N / 2)
            g_assert_cmpfloat(heard[HEAT_PROBES][g].events, >=, 8 * 3);
        else
            g_assert_cmpfloat(heard[HEAT_PROBES][g].events, ==, 0);
    }
    g_assert_cmpuint(stats(b)->events, >=, N / 2 * 8 * 4);
    g_assert_cmpuint(stats(b)->resolution, ==, 4096);
    bed_free(b);
}

/* A page that was moved meanwhile says nothing, though its new frame has no mark. */
static void test_moved(void)
{
    struct bed *b = bed_new(GRANULE, N);

    fill(b);
    round_of(b);
    for (guint32 p = 0; p < N * PAGES; p++)
        set_frame(b, p, frame_of(p) + 20000);
    for (int i = 0; i < 5; i++)
        b->vm->clock += 0.25;
    round_of(b);
    g_assert_cmpuint(stats(b)->events, ==, 0);
    for (guint32 g = 0; g < N; g++)
        g_assert_cmpfloat(heard[HEAT_PROBES][g].exposure_s, ==, 0);
    bed_free(b);
}

/* Nothing there: nothing is marked, nothing is said, and it goes on. */
static void test_absent(void)
{
    struct bed *b = bed_new(GRANULE, N);

    for (int i = 0; i < 10; i++)
        round_of(b);
    g_assert_true(stats(b)->running);
    g_assert_cmpuint(stats(b)->events, ==, 0);
    for (guint64 w = 0; w < 1 << 10; w++)
        g_assert_false(has_mark(b, w * 64));
    bed_free(b);
}

/* No budget for all of it: every granule has its turn all the same. */
static void test_budget(void)
{
    struct bed *b = bed_new(GRANULE, N);
    guint32 seen = 0;

    fill(b);
    b->vm->config.probe_budget_us = 0;
    for (int i = 0; i < 2 * N; i++) {
        round_of(b);
        b->vm->config.probe_budget_us = i % 2 ? 0 : 3;
    }
    for (guint32 p = 0; p < N * PAGES; p += PAGES) {
        bool any = false;

        for (guint32 i = p; i < p + PAGES; i++)
            any |= has_mark(b, frame_of(i));
        seen += any;
    }
    g_assert_cmpuint(seen, ==, N);
    bed_free(b);
}

static void test_gone(void)
{
    struct bed *b = bed_new(GRANULE, N);

    fill(b);
    round_of(b);
    g_assert_cmpint(ftruncate(b->pagemap, 0), ==, 0);
    round_of(b);
    b->vm->clock += 2;
    expect_stop();
    round_of(b);
    g_test_assert_expected_messages();
    g_assert_false(stats(b)->running);
    g_assert_nonnull(strstr(stats(b)->error, "the pagemap of QEMU (pid 1)"));
    g_assert_null(b->vm->source_state[SRC_IDLE]);
    g_assert_cmpint(ftruncate(b->pagemap, 1 << 20), ==, 0);
    fill(b);
    round_of(b);
    g_assert_false(stats(b)->running);          /* not at once */
    b->vm->clock += 10;
    round_of(b);
    g_assert_true(stats(b)->running);
    bed_free(b);
}

static void test_unavailable(void)
{
    struct bed *b = bed_new(GRANULE, N);

    idle_set_paths("/nonexistent/bitmap", b->pagemap_path);
    round_of(b);
    g_assert_false(stats(b)->available || stats(b)->running);
    g_assert_nonnull(strstr(stats(b)->reason, "without idle page tracking: no /nonexistent/bitmap"));
    idle_set_paths(b->bitmap_path, "/nonexistent/%u/pagemap");
    b->vm->clock += 20;
    expect_stop();
    round_of(b);
    g_assert_true(stats(b)->available && !stats(b)->running);
    g_assert_cmpstr(stats(b)->error, ==, "/nonexistent/1/pagemap: No such file or directory");
    bed_free(b);
}

/* Whoever may not know frame numbers sees 0 for pages that are there. */
static void test_hidden(void)
{
    struct bed *b = bed_new(GRANULE, N);
    guint64 entry = 1ull << 63;

    g_assert_cmpint(pwrite(b->pagemap, &entry, 8, (off_t)(HVA / 4096 * 8)), ==, 8);
    expect_stop();
    round_of(b);
    g_assert_false(stats(b)->running);
    g_assert_nonnull(strstr(stats(b)->error, "CAP_SYS_ADMIN"));
    bed_free(b);
}

/*
 * Of a page of 2 MiB only the first frame can be marked. A file that must not grow behind the word of that
 * frame plays that for all but the first 64.
 */
static void test_huge(void)
{
    const guint64 first = 512 * 4;
    struct bed *b = bed_new(512 * 4096, 1);
    int sealed = memfd_create("bitmap", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", sealed);

    g_assert_cmpint(ftruncate(sealed, first / 64 * 8 + 8), ==, 0);
    g_assert_cmpint(fcntl(sealed, F_ADD_SEALS, F_SEAL_GROW), ==, 0);
    idle_set_paths(path, b->pagemap_path);
    for (guint32 p = 0; p < 512; p++)
        set_frame(b, p, first + p);
    for (int i = 0; i < 1000 && stats(b)->resolution != 2 << 20; i++)
        round_of(b);
    g_assert_cmpuint(stats(b)->resolution, ==, 2 << 20);
    close(b->bitmap);
    b->bitmap = sealed;
    g_assert_true(has_mark(b, first));
    touch(b, first);
    g_assert_cmpuint(stats(b)->events, ==, 0);
    round_of(b);
    g_assert_cmpuint(stats(b)->events, ==, 1);
    g_assert_cmpfloat(heard[HEAT_PROBES][0].exposure_s, >=, 512 * 0.25);
    bed_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/idle/touched", test_touched);
    g_test_add_func("/idle/moved", test_moved);
    g_test_add_func("/idle/absent", test_absent);
    g_test_add_func("/idle/budget", test_budget);
    g_test_add_func("/idle/gone", test_gone);
    g_test_add_func("/idle/unavailable", test_unavailable);
    g_test_add_func("/idle/hidden", test_hidden);
    g_test_add_func("/idle/huge", test_huge);
    return g_test_run();
}
