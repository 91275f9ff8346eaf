// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Discards: cut at granules, punched where each of them is, neighbours together. fallocate() is ours
 * here, so that each call is seen and can fail. The last test runs discards and moves against each
 * other and needs /dev/userfaultfd.
 *
 * timeout: 60
 */
#include "two-tiers.h"
#include "vmm/discard.h"
#include "vmm/mover.h"
#include "vmm/ram.h"
#include "vmm/refault.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GRANULE  (64u << 10)
#define GRANULES 16u                    /* and a last one of two pages */
#define SIZE     ((uint64_t)GRANULE * GRANULES + 8192)
#define PAGES    (SIZE / 4096)
#define PUNCH    (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* --- fallocate() ---------------------------------------------------------------------------- */

struct call {
    int fd, mode;
    uint64_t offset, length;
};

static struct {
    struct call call[64];
    unsigned n, fail_at;                /* the call that fails, counted from 1; 0: none */
    int with;
    bool quiet;                         /* the mover punches, too */
} seen;

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (!seen.quiet) {
        g_assert_cmpuint(seen.n, <, G_N_ELEMENTS(seen.call));
        seen.call[seen.n++] = (struct call){ fd, mode, (uint64_t)offset, (uint64_t)length };
        if (seen.n == seen.fail_at) {
            errno = seen.with;
            return -1;
        }
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

static void forget(void)
{
    memset(&seen, 0, sizeof(seen));
}

static void expect(unsigned i, int fd, uint64_t offset, uint64_t length)
{
    g_assert_cmpuint(i, <, seen.n);
    g_assert_cmpint(seen.call[i].fd, ==, fd);
    g_assert_cmpuint(seen.call[i].offset, ==, offset);
    g_assert_cmpuint(seen.call[i].length, ==, length);
}

/* --- a block -------------------------------------------------------------------------------- */

static void set_up(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    forget();
    two_tiers_set_up(f, SIZE, 4096, 0);
}

static void tear_down(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    forget();
    two_tiers_tear_down(f);
}

static void put(struct two_tiers *f, uint32_t granule, uint8_t tier, uint32_t slot)
{
    ram_tier[f->b->first + granule] = tier;
    ram_slot[f->b->first + granule] = slot;
}

static int discard(struct two_tiers *f, uint64_t offset, uint64_t length)
{
    return discard_in_file(f->file[0], PUNCH, offset, length);
}

/* --- cutting and joining -------------------------------------------------------------------- */

static void test_whole(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    g_assert_cmpint(discard(f, 0, SIZE), ==, 0);
    g_assert_cmpuint(seen.n, ==, 1);
    expect(0, f->file[0], 0, SIZE);
    g_assert_cmpint(discard(f, 5 * GRANULE + 4096, 4096), ==, 0);
    g_assert_cmpuint(seen.n, ==, 2);
    expect(1, f->file[0], 5 * GRANULE + 4096, 4096);
    g_assert_cmpint(seen.call[1].mode, ==, PUNCH);
}

/* Granules 2 to 4 are on the other tier, 3 out of order; 6 and 7 have changed places. */
static void test_cut(struct two_tiers *f, gconstpointer unused)
{
    struct discard_stats before, after;

    (void)unused;
    put(f, 2, 1, 2);
    put(f, 3, 1, 9);
    put(f, 4, 1, 10);
    put(f, 6, 0, 7);
    put(f, 7, 0, 6);
    discard_get_stats(&before);
    g_assert_cmpint(discard(f, 2 * GRANULE - 4096, 6 * GRANULE), ==, 0);
    discard_get_stats(&after);
    g_assert_cmpuint(seen.n, ==, 6);
    expect(0, f->file[0], 2 * GRANULE - 4096, 4096);
    expect(1, f->file[1], 2 * GRANULE, GRANULE);
    expect(2, f->file[1], 9 * GRANULE, 2 * GRANULE);    /* 3 and 4 are neighbours there, too */
    expect(3, f->file[0], 5 * GRANULE, GRANULE);
    expect(4, f->file[0], 7 * GRANULE, GRANULE);
    expect(5, f->file[0], 6 * GRANULE, GRANULE - 4096);
    g_assert_cmpuint(after.calls - before.calls, ==, 1);
    g_assert_cmpuint(after.bytes - before.bytes, ==, 6 * GRANULE);
    g_assert_cmpuint(after.elsewhere - before.elsewhere, ==, 5 * GRANULE - 4096);
}

/* The last granule is shorter: what follows it in its file is not the next one's. */
static void test_tail(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    put(f, GRANULES, 1, 3);
    put(f, 0, 1, 4);
    g_assert_cmpint(discard(f, GRANULES * GRANULE - 100, 100 + 8192), ==, 0);
    g_assert_cmpuint(seen.n, ==, 2);
    expect(0, f->file[0], GRANULES * GRANULE - 100, 100);
    expect(1, f->file[1], 3 * GRANULE, 8192);
    /* Beyond the block the file is nobody's; it is longer only if QEMU says so. */
    forget();
    g_assert_cmpint(discard(f, SIZE - 4096, 4096 + 12288), ==, 0);
    g_assert_cmpuint(seen.n, ==, 2);
    expect(0, f->file[1], 3 * GRANULE + 4096, 4096);
    expect(1, f->file[0], SIZE, 12288);
    g_assert_cmpint(discard(f, SIZE, 4096), ==, 1);
    g_assert_cmpuint(seen.n, ==, 2);
}

static bool page_is(int fd, uint64_t offset, uint8_t value)
{
    uint8_t page[4096];

    g_assert_cmpint(pread(fd, page, sizeof(page), (off_t)offset), ==, sizeof(page));
    return page[0] == value && !memcmp(page, page + 1, sizeof(page) - 1);
}

static void shuffle_places(struct two_tiers *f)
{
    uint32_t slot[2][GRANULES];

    for (uint32_t i = 0; i < GRANULES; i++)
        slot[0][i] = slot[1][i] = i;
    for (uint32_t i = GRANULES; i > 1; i--)
        for (int t = 0; t < 2; t++) {
            uint32_t j = (uint32_t)g_test_rand_int_range(0, (gint32)i), was = slot[t][i - 1];

            slot[t][i - 1] = slot[t][j];
            slot[t][j] = was;
        }
    for (uint32_t g = 0; g < GRANULES; g++) {
        uint8_t tier = (uint8_t)g_test_rand_int_range(0, 2);

        put(f, g, tier, slot[tier][g]);
    }
}

/* All pages hold the number of the page, but what is nobody's, which holds 0xff. */
static void fill_places(struct two_tiers *f)
{
    uint8_t page[4096];

    memset(page, 0xff, sizeof(page));
    for (int t = 0; t < 2; t++)
        for (uint64_t at = 0; at < SIZE; at += 4096)
            g_assert_cmpint(pwrite(f->file[t], page, sizeof(page), (off_t)at), ==, 4096);
    for (uint32_t p = 0; p < PAGES; p++) {
        uint32_t g = f->b->first + p * 4096 / GRANULE;
        uint64_t offset;
        int fd;

        ram_place(f->b, g, &fd, &offset);
        memset(page, (int)(1 + p % 250), sizeof(page));
        g_assert_cmpint(pwrite(fd, page, sizeof(page), (off_t)(offset + p * 4096ull % GRANULE)), ==,
                        4096);
    }
}

/* Pages [from, to) of the block are zeros, all others as they were, those of nobody too. */
static void check_places(struct two_tiers *f, uint32_t from, uint32_t to)
{
    bool used[2][PAGES] = { { false } };

    for (uint32_t p = 0; p < PAGES; p++) {
        uint64_t offset;
        int fd, tier;

        ram_place(f->b, f->b->first + p * 4096 / GRANULE, &fd, &offset);
        offset += p * 4096ull % GRANULE;
        tier = fd == f->file[1];
        used[tier][offset / 4096] = true;
        g_assert_true(page_is(fd, offset, p >= from && p < to ? 0 : (uint8_t)(1 + p % 250)));
    }
    for (int t = 0; t < 2; t++)
        for (uint32_t p = 0; p < PAGES; p++)
            g_assert_true(used[t][p] || page_is(f->file[t], p * 4096ull, 0xff));
}

static void test_any_place(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    for (int round = 0; round < 200; round++) {
        uint32_t from = (uint32_t)g_test_rand_int_range(0, PAGES);
        uint32_t to = (uint32_t)g_test_rand_int_range((gint32)from, PAGES) + 1;

        shuffle_places(f);
        fill_places(f);
        forget();
        g_assert_cmpint(discard(f, from * 4096ull, (to - from) * 4096ull), ==, 0);
        check_places(f, from, to);
    }
}

/* --- other files, other modes, errors ------------------------------------------------------- */

static void test_not_ours(struct two_tiers *f, gconstpointer unused)
{
    int other = memfd_create("other", MFD_CLOEXEC), number = f->file[0], kept = dup(number);

    (void)unused;
    g_assert_cmpint(ftruncate(other, SIZE), ==, 0);
    g_assert_cmpint(discard_in_file(other, PUNCH, 0, 4096), ==, 1);
    g_assert_cmpint(discard_in_file(f->file[1], PUNCH, 0, 4096), ==, 1);    /* our own file */
    g_assert_cmpint(discard_in_file(-1, PUNCH, 0, 4096), ==, 1);
    g_assert_cmpint(discard(f, 0, 0), ==, 1);
    g_assert_cmpint(discard(f, (uint64_t)-4096, 8192), ==, 1);
    g_assert_cmpint(discard(f, 4096, (uint64_t)-4096), ==, 1);
    /* The block is gone, its descriptor's number is another file's: a disk's, say. */
    g_assert_cmpint(dup2(other, number), ==, number);
    g_assert_cmpint(discard(f, 0, 4096), ==, 1);
    g_assert_cmpint(dup2(kept, number), ==, number);
    g_assert_cmpint(discard(f, 0, 4096), ==, 0);
    g_assert_cmpuint(seen.n, ==, 1);
    close(kept);
    close(other);
}

static void test_modes(struct two_tiers *f, gconstpointer unused)
{
    static const int same[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE };
    static const int shifting[] = { FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE };

    (void)unused;
    put(f, 1, 1, 5);
    for (size_t i = 0; i < G_N_ELEMENTS(same); i++) {
        int rc = discard_in_file(f->file[0], same[i], GRANULE, GRANULE);

        g_assert_cmpint(rc, ==, same[i] == FALLOC_FL_ZERO_RANGE ? -1 : 0);  /* not on a memfd */
        expect((unsigned)i, f->file[1], 5 * GRANULE, GRANULE);
        g_assert_cmpint(seen.call[i].mode, ==, same[i]);
    }
    forget();
    for (size_t i = 0; i < G_N_ELEMENTS(shifting); i++) {
        g_assert_cmpint(discard_in_file(f->file[0], shifting[i], GRANULE, GRANULE), ==, -1);
        g_assert_cmpint(errno, ==, EOPNOTSUPP);
    }
    g_assert_cmpuint(seen.n, ==, 0);
}

static void test_error(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    put(f, 1, 1, 1);
    seen.fail_at = 2;
    seen.with = ENOSPC;
    g_assert_cmpint(discard(f, 0, 3 * GRANULE), ==, -1);
    g_assert_cmpint(errno, ==, ENOSPC);
    g_assert_cmpuint(seen.n, ==, 2);
}

/* Two blocks in one file, neither at its beginning, and room between them. */
static void test_shared_file(void)
{
    const uint64_t base[2] = { GRANULE + 4096, 4 * GRANULE }, length = 2 * GRANULE;
    int fd = memfd_create("both", MFD_CLOEXEC);
    struct ram_block *b[2];
    uint8_t *host;
    struct vt_err err;

    forget();
    g_assert_cmpint(ftruncate(fd, 8 * GRANULE), ==, 0);
    host = mmap(NULL, 8 * GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (int i = 0; i < 2; i++) {
        b[i] = ram_add("shared", host + base[i], length, 4096, fd, &err);
        b[i]->base[0] = base[i];
    }
    ram_slot[b[1]->first] = 1;
    ram_slot[b[1]->first + 1] = 0;
    g_assert_cmpint(discard_in_file(fd, PUNCH, 0, 7 * GRANULE), ==, 0);
    g_assert_cmpuint(seen.n, ==, 4);
    expect(0, fd, 0, 4 * GRANULE);              /* nothing there has moved: one call */
    expect(1, fd, 5 * GRANULE, GRANULE);
    expect(2, fd, 4 * GRANULE, GRANULE);
    expect(3, fd, 6 * GRANULE, GRANULE);
    g_assert_cmpint(discard_in_file(fd, PUNCH, 0, 4096), ==, 1);
    g_assert_cmpint(discard_in_file(fd, PUNCH, 6 * GRANULE, GRANULE), ==, 1);
    ram_drop(b[0]);
    ram_drop(b[1]);
    munmap(host, 8 * GRANULE);
    close(fd);
}

/* --- a page with a memory error ------------------------------------------------------------- */

static void test_mapped(struct two_tiers *f, gconstpointer unused)
{
    const uint64_t at = 3 * GRANULE + 4096;
    uint8_t *elsewhere = f->host + SIZE;

    (void)unused;
    put(f, 3, 1, 8);
    g_assert_cmpint(discard_mapped(f->host + at, 4096, f->file[0], at), ==, 0);
    g_assert_cmpuint(seen.n, ==, 1);
    expect(0, f->file[1], 8 * GRANULE + 4096, 4096);
    g_assert_cmpint(seen.call[0].mode, ==, PUNCH);
    /* Not over RAM, over more than it, another file, another place of the file. */
    g_assert_cmpint(discard_mapped(elsewhere, 4096, f->file[0], 0), ==, 1);
    g_assert_cmpint(discard_mapped(f->host + SIZE - 4096, 8192, f->file[0], SIZE - 4096), ==, 1);
    g_assert_cmpint(discard_mapped(f->host + at, 4096, f->file[1], at), ==, 1);
    g_assert_cmpint(discard_mapped(f->host + at, 4096, f->file[0], at - 4096), ==, 1);
    g_assert_cmpuint(seen.n, ==, 1);
    seen.fail_at = 2;
    seen.with = EIO;
    g_assert_cmpint(discard_mapped(f->host + at, 4096, f->file[0], at), ==, -1);
    g_assert_cmpint(errno, ==, EIO);
}

/* --- against the mover ---------------------------------------------------------------------- */

static atomic_bool stop;

/* To the other tier and back, neighbours together, as fast as it goes. */
static gpointer move_around(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    struct two_tiers *f = data;
    guint moved = 0;

    while (!atomic_load(&stop)) {
        struct vt_move_one m[8];
        guint32 first = (guint32)g_rand_int_range(rand, 0, GRANULES - 8);
        guint32 n = (guint32)g_rand_int_range(rand, 1, 9);
        struct mover_cost cost;

        for (guint32 i = 0; i < n; i++)
            m[i] = (struct vt_move_one){ .granule = f->b->first + first + i,
                                         .tier = !ram_tier[f->b->first + first + i] };
        mover_carry_out(m, n, false, &cost);
        for (guint32 i = 0; i < n; i++)
            moved += m[i].status == VT_ST_OK;
    }
    return GUINT_TO_POINTER(moved);
}

static void fill_page(uint8_t *page, uint64_t value)
{
    for (unsigned i = 0; i < 512; i++)
        memcpy(page + 8ul * i, &value, 8);
}

static unsigned bad_words(const uint8_t *page, uint64_t value)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < 512; i++)
        bad += memcmp(page + 8ul * i, &value, 8) != 0;
    return bad;
}

/* As QEMU does it: the hole, then the address. Reads zeros, takes new contents, keeps the others'. */
static void discard_and_refill(struct two_tiers *f, uint64_t *value, uint32_t from, uint32_t n,
                               uint64_t fresh)
{
    uint8_t *start = f->host + from * 4096ull;

    g_assert_cmpint(discard(f, from * 4096ull, n * 4096ull), ==, 0);
    g_assert_cmpint(madvise(start, n * 4096ull, MADV_DONTNEED), ==, 0);
    for (uint32_t p = 0; p < n; p++) {
        g_assert_cmpuint(bad_words(start + p * 4096ull, 0), ==, 0);
        if (fresh % 3 == 0) {           /* some stay holes, for a while */
            value[from + p] = 0;
            continue;
        }
        fill_page(start + p * 4096ull, fresh + p);
        value[from + p] = fresh + p;
    }
}

static void test_moving(struct two_tiers *f, gconstpointer unused)
{
    const struct mover_tuning keep = { .keep = { 3 * GRANULE, 3 * GRANULE } }, none = { .rate = 0 };
    uint64_t value[PAGES] = { 0 }, rounds = 0;
    gint64 end = g_get_monotonic_time() + 3 * G_USEC_PER_SEC;
    struct vt_err err;
    GThread *mover;
    guint moved;

    (void)unused;
    seen.quiet = true;
    ram_lock();
    g_assert_cmpint(mover_watch(f->b, &err), ==, 0);
    ram_unlock();
    mover_set_tuning(&keep);            /* spare memory has granules change their slots */
    atomic_store(&stop, false);
    mover = g_thread_new("mover", move_around, f);
    for (; g_get_monotonic_time() < end; rounds++) {
        uint32_t from = (uint32_t)g_test_rand_int_range(0, PAGES - 40);

        discard_and_refill(f, value, from, (uint32_t)g_test_rand_int_range(1, 40),
                           (rounds + 1) << 16);
        for (uint32_t p = 0; p < PAGES; p += 3)
            g_assert_cmpuint(bad_words(f->host + p * 4096ull, value[p]), ==, 0);
    }
    atomic_store(&stop, true);
    moved = GPOINTER_TO_UINT(g_thread_join(mover));
    mover_set_tuning(&none);
    g_test_message("%u discards, %u moves", (unsigned)rounds, moved);
    g_assert_cmpuint(rounds, >, 20);
    g_assert_cmpuint(moved, >, 100);
}

static void move_all(struct two_tiers *f, uint8_t tier)
{
    struct vt_move_one m[GRANULES];
    struct mover_cost cost;

    for (uint32_t i = 0; i < GRANULES; i++)
        m[i] = (struct vt_move_one){ .granule = f->b->first + i, .tier = tier };
    mover_carry_out(m, GRANULES, 0, &cost);
    for (uint32_t i = 0; i < GRANULES; i++)
        g_assert_cmpint(m[i].status, ==, VT_ST_OK);
}

/* What is given back is given back: a move does not bring memory where there was none. */
static void test_stays_free(struct two_tiers *f, gconstpointer unused)
{
    const struct mover_tuning keep = { .keep = { SIZE, SIZE } }, none = { .rate = 0 };
    struct stat st[2];
    struct vt_err err;

    (void)unused;
    seen.quiet = true;
    ram_lock();
    g_assert_cmpint(mover_watch(f->b, &err), ==, 0);
    ram_unlock();
    memset(f->host, 1, SIZE);
    mover_set_tuning(&keep);            /* while it is whole, the mover may learn that by heart */
    for (uint8_t i = 0; i < 4; i++)
        move_all(f, !(i % 2));
    mover_set_tuning(&none);
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t p = round; p < PAGES; p += 4) {
            g_assert_cmpint(discard(f, p * 4096ull, 4096), ==, 0);
            madvise(f->host + p * 4096ull, 4096, MADV_DONTNEED);
        }
        move_all(f, !round);
        for (int t = 0; t < 2; t++)
            g_assert_cmpint(fstat(f->file[t], &st[t]), ==, 0);
        g_assert_cmpint((st[0].st_blocks + st[1].st_blocks) / 8, <=,
                        (gint64)(PAGES - (round + 1) * PAGES / 4 + 2));
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct two_tiers *f, gconstpointer unused);
        bool moves;
    } tests[] = {
        { "whole", test_whole, false },       { "cut", test_cut, false },
        { "tail", test_tail, false },         { "any-place", test_any_place, false },
        { "not-ours", test_not_ours, false }, { "modes", test_modes, false },
        { "error", test_error, false },       { "mapped", test_mapped, false },
        { "moving", test_moving, true },      { "stays-free", test_stays_free, true },
    };
    struct vt_err err = { 0 };
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(ram_init(&err), ==, 0);
    g_assert_cmpint(refault_init(&err), ==, 0);
    ram_set_granule(GRANULE);
    if (device >= 0)
        g_assert_cmpint(uffd_open(device, &err), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/discard/", tests[i].name, NULL);

        if (device >= 0 || !tests[i].moves)
            g_test_add(path, struct two_tiers, NULL, set_up, tests[i].run, tear_down);
    }
    g_test_add_func("/discard/shared-file", test_shared_file);
    return g_test_run();
}
