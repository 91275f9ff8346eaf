// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Slots of the tiers' files: who gets which, that no two granules ever have the same one, that what
 * is spare is what has memory, and that it can all be given back.
 */
#include "two-tiers.h"
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

/* The tests hold the lock. */
static void set_up(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    two_tiers_set_up(f, LENGTH, 4096, 0);
    ram_lock();
}

static void tear_down(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    ram_unlock();
    two_tiers_tear_down(f);
    g_assert_cmpuint(pool_spare(0), ==, 0);
    g_assert_cmpuint(pool_spare(1), ==, 0);
}

/* Takes, and writes to the slots, so that they have memory. */
static struct slots take(struct two_tiers *f, guint32 wish, guint32 n, bool tidy)
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

static void test_own_first(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    assert_slots(take(f, 10, 5, false), 10, 5, false);
    assert_slots(take(f, 20, 1, false), 20, 1, false);
    g_assert_cmpuint(pool_owner(f->b, 1, 12), ==, 12);
    g_assert_cmpuint(pool_owner(f->b, 1, 30), ==, UINT32_MAX);
    g_assert_cmpuint(pool_owner(f->b, 0, 30), ==, 30);
}

static void test_spare_is_taken_again(struct two_tiers *f, gconstpointer unused)
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

static void test_best_fit(struct two_tiers *f, gconstpointer unused)
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

static void test_short_last_slot(struct two_tiers *f, gconstpointer unused)
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

static void test_exact(struct two_tiers *f, gconstpointer unused)
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

static void test_trim(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    take(f, 0, 20, false);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, 20 * 4096);
    pool_give(f->b, 1, 3, 4);
    pool_give(f->b, 1, 10, 5);
    pool_trim(1, 6 * GRANULE);
    g_assert_cmpuint(pool_spare(1), ==, 6 * GRANULE);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, 17 * 4096);
    pool_trim(1, 0);
    g_assert_cmpuint(pool_spare(1), ==, 0);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, 11 * 4096);
    assert_slots(pool_take(f->b, 1, 12, 2, false), 12, 2, false);
}

/* The list of ranges is short: what does not fit is punched, never forgotten. */
static void test_many_ranges(struct two_tiers *f, gconstpointer unused)
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
static void test_random(struct two_tiers *f, gconstpointer unused)
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

static void test_fault(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    g_assert_cmpint(fault_set("pool-take=ENOMEM", NULL), ==, 0);
    g_assert_cmpuint(pool_take(f->b, 1, 0, 1, false).n, ==, 0);
    g_assert_cmpint(fault_set("", NULL), ==, 0);
    assert_slots(pool_take(f->b, 1, 0, 1, false), 0, 1, false);
}

/* What somebody may still be sending is nobody's next memory, even if it cannot be got rid of. */
static void test_held(struct two_tiers *f, gconstpointer unused)
{
    bool spare;

    (void)unused;
    take(f, 0, SLOTS - 1, false);
    g_assert_cmpint(fault_set("punch=EIO:1:0", NULL), ==, 0);
    pool_drop(f->b, 1, 10, 2);
    g_assert_cmpuint(pool_take(f->b, 1, 10, 1, false).n, ==, 0);
    g_assert_cmpuint(pool_take(f->b, 1, 50, 1, false).n, ==, 0);
    g_assert_false(pool_take_exact(f->b, 1, 11, &spare));
    g_assert_cmpuint(pool_owner(f->b, 1, 10), ==, UINT32_MAX);
    pool_trim(1, 0);
    g_assert_cmpuint(pool_take(f->b, 1, 10, 1, false).n, ==, 0);
    g_assert_cmpint(fault_set("", NULL), ==, 0);
    pool_trim(1, 0);
    g_assert_cmpuint(pool_spare(1), ==, 0);
    assert_slots(pool_take(f->b, 1, 10, 2, false), 10, 2, false);
}

static void add(const char *path, void (*fn)(struct two_tiers *f, gconstpointer unused))
{
    g_test_add(path, struct two_tiers, NULL, set_up, fn, tear_down);
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
    add("/pool/held", test_held);
    return g_test_run();
}
