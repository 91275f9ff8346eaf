// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Slots of the tiers' files: who gets which, that no two granules ever have the same one, that what
 * is spare is what has memory, and that it can all be given back.
 */
#include "common/fault.h"
#include "vmm/pool.h"
#include "vmm/ram.h"

#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRANULE (64u << 10)
#define SLOTS   100u
#define LENGTH  ((SLOTS - 1) * (guint64)GRANULE + 8192) /* the last granule is a short one */

struct fixture {
    struct ram_block *b;
    int file[2];
    uint8_t *host;
};

static void set_up(struct fixture *f, gconstpointer unused)
{
    struct vt_err err = { 0 };

    (void)unused;
    for (int t = 0; t < 2; t++) {
        f->file[t] = memfd_create("test", MFD_CLOEXEC);
        g_assert_cmpint(ftruncate(f->file[t], LENGTH), ==, 0);
    }
    f->host = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, f->file[0], 0);
    g_assert_true(f->host != MAP_FAILED);
    ram_lock();
    f->b = ram_add("test", f->host, LENGTH, 4096, f->file[0], &err);
    g_assert_nonnull(f->b);
    g_assert_cmpint(ram_set_file(f->b, 1, f->file[1], 0, &err), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    ram_drop(f->b);
    ram_unlock();
    g_assert_cmpuint(pool_spare(0), ==, 0);
    g_assert_cmpuint(pool_spare(1), ==, 0);
    munmap(f->host, LENGTH);
    close(f->file[0]);
}

static guint64 allocated(int fd)
{
    struct stat st;

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    return (guint64)st.st_blocks * 512;
}

/* Takes, and writes to the slots, so that they have memory. */
static struct slots take(struct fixture *f, guint32 wish, guint32 n, bool tidy)
{
    struct slots s = pool_take(f->b, 1, wish, n, tidy);

    for (guint32 i = 0; i < s.n; i++)
        f->b->view[1][(s.first + i) * (guint64)GRANULE] = 1;
    return s;
}

static void assert_slots(struct slots s, guint32 first, guint32 n, bool spare)
{
    g_assert_cmpuint(s.n, ==, n);
    g_assert_cmpuint(s.first, ==, first);
    g_assert_cmpint(s.spare, ==, spare);
}

static void test_own_first(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    assert_slots(take(f, 10, 5, false), 10, 5, false);
    assert_slots(take(f, 20, 1, false), 20, 1, false);
    g_assert_cmpuint(pool_owner(f->b, 1, 12), ==, 12);
    g_assert_cmpuint(pool_owner(f->b, 1, 30), ==, UINT32_MAX);
    g_assert_cmpuint(pool_owner(f->b, 0, 30), ==, 30);
}

static void test_spare_is_taken_again(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    take(f, 10, 5, false);
    pool_give(f->b, 1, 10, 5);
    g_assert_cmpuint(pool_spare(1), ==, 5 * GRANULE);
    assert_slots(pool_take(f->b, 1, 50, 2, false), 10, 2, true);
    g_assert_cmpuint(pool_owner(f->b, 1, 10), ==, 50);
    g_assert_cmpuint(pool_owner(f->b, 1, 11), ==, 51);
    /* its own, even if another range would be longer */
    assert_slots(pool_take(f->b, 1, 14, 1, false), 14, 1, true);
    g_assert_cmpuint(pool_spare(1), ==, 2 * GRANULE);
    /* and its own empty one before another's spare one where mappings are scarce */
    assert_slots(pool_take(f->b, 1, 60, 2, true), 60, 2, false);
    assert_slots(pool_take(f->b, 1, 70, 4, false), 12, 2, true);
    g_assert_cmpuint(pool_spare(1), ==, 0);
}

static void test_best_fit(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    take(f, 0, 40, false);
    pool_give(f->b, 1, 2, 8);
    pool_give(f->b, 1, 20, 3);
    pool_give(f->b, 1, 30, 2);
    assert_slots(pool_take(f->b, 1, 50, 3, false), 20, 3, true);
    assert_slots(pool_take(f->b, 1, 60, 9, false), 2, 8, true);
    assert_slots(pool_take(f->b, 1, 80, 3, false), 30, 2, true);
}

static void test_short_last_slot(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    assert_slots(take(f, 95, 5, false), 95, 4, false);
    assert_slots(take(f, 99, 1, false), 99, 1, false);
    pool_give(f->b, 1, 98, 2);
    g_assert_cmpuint(pool_spare(1), ==, GRANULE);   /* the short one is nobody else's: punched */
    assert_slots(pool_take(f->b, 1, 5, 3, false), 98, 1, true);
    for (guint32 i = 0; i < 95; i++)
        g_assert_cmpuint(pool_take(f->b, 1, 0, 1, false).n, ==, 1);
    g_assert_cmpuint(pool_take(f->b, 1, 0, 1, false).n, ==, 0);
    assert_slots(take(f, 99, 1, false), 99, 1, false);
}

static void test_exact(struct fixture *f, gconstpointer unused)
{
    bool spare;

    (void)unused;
    g_assert_true(pool_take_exact(f->b, 1, 7, &spare));
    g_assert_false(spare);
    g_assert_false(pool_take_exact(f->b, 1, 7, &spare));
    pool_give(f->b, 1, 7, 1);
    g_assert_true(pool_take_exact(f->b, 1, 7, &spare));
    g_assert_true(spare);
    g_assert_false(pool_take_exact(f->b, 0, 7, &spare));
}

static void test_trim(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    take(f, 0, 20, false);
    g_assert_cmpuint(allocated(f->file[1]), ==, 20 * 4096);
    pool_give(f->b, 1, 3, 4);
    pool_give(f->b, 1, 10, 5);
    pool_trim(1, 6 * GRANULE);
    g_assert_cmpuint(pool_spare(1), ==, 6 * GRANULE);
    g_assert_cmpuint(allocated(f->file[1]), ==, 17 * 4096);
    pool_trim(1, 0);
    g_assert_cmpuint(pool_spare(1), ==, 0);
    g_assert_cmpuint(allocated(f->file[1]), ==, 11 * 4096);
    assert_slots(pool_take(f->b, 1, 12, 2, false), 12, 2, false);
}

/* The list of ranges is short: what does not fit is punched, never forgotten. */
static void test_many_ranges(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    take(f, 0, 99, false);
    for (guint32 s = 0; s < 99; s += 2)
        pool_give(f->b, 1, s, 1);
    g_assert_cmpuint(pool_spare(1), ==, 50 * GRANULE);
    for (guint32 s = 1; s < 99; s += 2)
        pool_give(f->b, 1, s, 1);
    g_assert_cmpuint(pool_spare(1), ==, 99 * GRANULE);
    assert_slots(pool_take(f->b, 1, 0, 99, false), 0, 99, true);
}

/* Whatever is taken and given in whatever order: each slot has one owner, each granule one slot. */
static void test_random(struct fixture *f, gconstpointer unused)
{
    g_autofree guint32 *slot_of = g_new(guint32, SLOTS);
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)g_test_rand_int());

    (void)unused;
    memset(slot_of, 0xff, SLOTS * sizeof(*slot_of));
    for (int i = 0; i < 200000; i++) {
        guint32 g = (guint32)g_rand_int_range(rand, 0, SLOTS);

        if (slot_of[g] == UINT32_MAX) {
            struct slots s = pool_take(f->b, 1, g, 1, g_rand_boolean(rand));

            g_assert_cmpuint(s.n, ==, 1);
            g_assert_cmpuint(pool_owner(f->b, 1, s.first), ==, g);
            for (guint32 other = 0; other < SLOTS; other++)
                g_assert_true(other == g || slot_of[other] != s.first);
            slot_of[g] = s.first;
        } else {
            pool_give(f->b, 1, slot_of[g], 1);
            g_assert_cmpuint(pool_owner(f->b, 1, slot_of[g]), ==, UINT32_MAX);
            slot_of[g] = UINT32_MAX;
        }
        if (g_rand_int_range(rand, 0, 50) == 0)
            pool_trim(1, (guint64)g_rand_int_range(rand, 0, 30) * GRANULE);
    }
}

static void test_fault(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    g_assert_cmpint(fault_set("pool-take=ENOMEM", NULL), ==, 0);
    g_assert_cmpuint(pool_take(f->b, 1, 0, 1, false).n, ==, 0);
    g_assert_cmpint(fault_set("", NULL), ==, 0);
    assert_slots(pool_take(f->b, 1, 0, 1, false), 0, 1, false);
}

static void add(const char *path, void (*fn)(struct fixture *f, gconstpointer unused))
{
    g_test_add(path, struct fixture, NULL, set_up, fn, tear_down);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(ram_init(NULL), ==, 0);
    ram_set_granule(GRANULE);
    add("/pool/own-first", test_own_first);
    add("/pool/spare-is-taken-again", test_spare_is_taken_again);
    add("/pool/best-fit", test_best_fit);
    add("/pool/short-last-slot", test_short_last_slot);
    add("/pool/exact", test_exact);
    add("/pool/trim", test_trim);
    add("/pool/many-ranges", test_many_ranges);
    add("/pool/random", test_random);
    add("/pool/fault", test_fault);
    return g_test_run();
}
