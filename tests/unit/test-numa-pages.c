// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of batches of move_pages(2), over made-up nodes (numa-model.h): whatever the kernel's
 * answers, each page is counted where it is, what can be moved is, and what cannot is not tried for ever.
 */
// link: -Wl,--wrap=move_pages,--wrap=ioctl,--wrap=numa_node_size64
#include "numa-model.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AT    (1ull << 32)
#define PAGES 4096u
#define HUGE  512u
#define PASSES 64               /* as in pages.c */

struct fixture {
    struct tiers *tiers;
    struct pages *pages;
    int pidfd;
    struct pages_got got;
    struct vt_err err;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_set_up(AT, PAGES, 1 << 20);
    f->tiers = model_tiers("0", "1");
    f->pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    f->pages = pages_new(getpid(), f->pidfd, f->tiers);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    (void)data;
    pages_free(f->pages);
    tiers_free(f->tiers);
    close(f->pidfd);
    model_tear_down();
}

/* All pages of the model as one range. */
static int run(struct fixture *f, int tier)
{
    struct pages_want want = { AT, (guint64)PAGES * PAGE_BYTES, PAGE_BYTES, tier };

    return pages_run(f->pages, &want, &f->got, 1, &f->err);
}

static void check(const struct fixture *f, guint dram, guint cxl, guint left)
{
    g_assert_true(f->got.known);
    g_assert_cmpuint(f->got.in[0], ==, dram);
    g_assert_cmpuint(f->got.in[1], ==, cxl);
    g_assert_cmpuint(f->got.left, ==, left);
    g_assert_cmpuint(model_count(0, PAGES, 0), ==, dram);
    g_assert_cmpuint(model_count(0, PAGES, 1), ==, cxl);
}

static void test_look(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, 100, 1, 0);
    model_put(200, 50, 1, 1);
    model_put(300, 7, 1, -2);
    model_put(HUGE, HUGE, HUGE, 1);
    model_put(1600, 3, 1, 3);
    g_assert_cmpint(run(f, PAGES_STAY), ==, 0);
    check(f, 100, 50 + HUGE, 0);
    g_assert_cmpuint(f->got.in[2], ==, 3);
    g_assert_cmpuint(model.moves, ==, 0);
    g_assert_cmpuint(model.most, <=, 100 + 50 + 1 + 3);    /* the huge page once; holes not at all */
}

static void test_move(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, PAGES, 1, 0);
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 0, PAGES, 0);
    g_assert_cmpuint(f->got.moved, ==, PAGES);
    g_assert_cmpuint(model.moves, ==, 1);
    g_assert_cmpint(run(f, 1), ==, 0);              /* nothing to do: nothing is asked to move */
    g_assert_cmpuint(f->got.moved, ==, 0);
    g_assert_cmpuint(model.moves, ==, 1);
    g_assert_cmpint(run(f, 0), ==, 0);
    check(f, PAGES, 0, 0);
}

/* Every other page is there already, or is not there at all: still one call. */
static void test_holes(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < PAGES; i += 4) {
        model_put(i, 1, 1, 0);
        model_put(i + 1, 1, 1, 1);
        model_put(i + 2, 1, 1, -2);
    }
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 0, PAGES / 2, 0);
    g_assert_cmpuint(f->got.moved, ==, PAGES / 4);
    g_assert_cmpuint(model.moves, ==, 1);
}

/* A huge page is addressed once if pagemap tells; and if it does not, all of it is seen to have moved. */
static void test_huge(struct fixture *f, gconstpointer no_pagemap)
{
    model.no_pagemap = no_pagemap != NULL;
    model_put(0, 4 * HUGE, HUGE, 0);
    model_put(4 * HUGE, 512, 16, 0);
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 0, 4 * HUGE + 512, 0);
    g_assert_cmpuint(f->got.moved, ==, 4 * HUGE + 512);
    if (!no_pagemap)
        g_assert_cmpuint(model.most, ==, 4 + 512);
}

/* A range that begins and ends within huge pages takes all of both along, and counts its own part. */
static void test_cut(struct fixture *f, gconstpointer no_pagemap)
{
    struct pages_want want = { AT + 100 * PAGE_BYTES, HUGE * PAGE_BYTES, PAGE_BYTES, 1 };

    model.no_pagemap = no_pagemap != NULL;
    model_put(0, 2 * HUGE, HUGE, 0);
    g_assert_cmpint(pages_run(f->pages, &want, &f->got, 1, &f->err), ==, 0);
    g_assert_cmpuint(f->got.in[1], ==, HUGE);
    g_assert_cmpuint(f->got.left, ==, 0);
    g_assert_cmpuint(model_count(0, 2 * HUGE, 1), ==, 2 * HUGE);
}

/* hugetlb: one address for each of its pages, with or without pagemap. */
static void test_hugetlb(struct fixture *f, gconstpointer no_pagemap)
{
    struct pages_want want = { AT, (guint64)PAGES * PAGE_BYTES, HUGE * PAGE_BYTES, 1 };

    model.no_pagemap = no_pagemap != NULL;
    model_put(0, PAGES, HUGE, 0);
    g_assert_cmpint(pages_run(f->pages, &want, &f->got, 1, &f->err), ==, 0);
    check(f, 0, PAGES, 0);
    g_assert_cmpuint(model.most, ==, PAGES / HUGE);
}

/* Pages that are pinned stay, all others move, and the pinned ones are not hammered. */
static void test_pinned(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, PAGES, 1, 0);
    for (guint i = 10; i < PAGES; i += 400)
        model.page[i].pinned = true;
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 11, PAGES - 11, 11);
    g_assert_cmpint(f->got.why, ==, EBUSY);
    g_assert_cmpuint(model.tries, <=, 22);
    for (guint i = 0; i < PAGES; i++)
        model.page[i].pinned = false;
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 0, PAGES, 0);
    g_assert_cmpuint(f->got.moved, ==, 11);
}

static void test_shy(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, PAGES, 1, 0);
    for (guint i = 0; i < PAGES; i += 3)
        model.page[i].shy = 1;
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, PAGES / 3 + 1, PAGES - PAGES / 3 - 1, PAGES / 3 + 1);
    g_assert_cmpint(f->got.why, ==, EBUSY);
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 0, PAGES, 0);
}

/* A pinned folio that looks like many small pages keeps nothing else from moving. */
static void test_pinned_folios(struct fixture *f, gconstpointer data)
{
    guint pinned = 0;

    (void)data;
    model_put(0, PAGES, 16, 0);
    for (guint i = 0; i < PAGES; i += 16 * 16, pinned += 16)
        model.page[i].pinned = true;
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, pinned, PAGES - pinned, pinned);
    g_assert_cmpint(f->got.why, ==, EBUSY);
    g_assert_cmpuint(model.moves, <=, pinned / 16 + 1);
    /* More of them than a batch is tried for: the next run begins at the other end. */
    model_put(0, PAGES, 16, 0);
    for (guint i = 64 * 16; i < PAGES - 64 * 16; i += 16)
        model.page[i].pinned = true;
    for (int i = 0; i < 2; i++)
        g_assert_cmpint(run(f, 1), ==, 0);
    check(f, PAGES - 2 * 64 * 16, 2 * 64 * 16, PAGES - 2 * 64 * 16);
}

/* Without CAP_SYS_NICE what other processes have mapped stays, and it is said why. */
static void test_shared(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, PAGES, 1, 0);
    for (guint i = 0; i < 5; i++)
        model.page[i * 7].shared = true;
    model.no_cap = true;
    g_assert_true(pages_may_move_shared(f->pages));
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 5, PAGES - 5, 5);
    g_assert_cmpint(f->got.why, ==, EACCES);
    g_assert_false(pages_may_move_shared(f->pages));
}

static void test_shared_with_cap(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, PAGES, 1, 0);
    for (guint i = 0; i < PAGES; i += 7)
        model.page[i].shared = true;
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 0, PAGES, 0);
}

static void test_no_memory(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, PAGES, 1, 0);
    model.free[1] = 1000;
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, PAGES - 1000, 1000, PAGES - 1000);
    g_assert_cmpint(f->got.why, ==, ENOMEM);
    model.free[1] = PAGES;
    g_assert_cmpint(run(f, 1), ==, 0);
    check(f, 0, PAGES, 0);
}

/* The tier's node with most room first, and the other one when that is full. */
static void test_nodes(struct fixture *f, gconstpointer data)
{
    g_autofree struct pages_want *want = g_new(struct pages_want, 2);
    struct pages_got got[2];

    (void)data;
    pages_free(f->pages);
    tiers_free(f->tiers);
    f->tiers = model_tiers("0", "1,2");
    f->pages = pages_new(getpid(), f->pidfd, f->tiers);
    model_put(0, PAGES, 1, 0);
    model.free[1] = 100;
    model.free[2] = PAGES - 1000;
    g_assert_cmpint(run(f, 1), ==, 0);
    g_assert_cmpuint(f->got.in[1], ==, PAGES - 900);
    g_assert_cmpuint(f->got.left, ==, 900);
    g_assert_cmpint(f->got.why, ==, ENOMEM);
    g_assert_cmpuint(model_count(0, PAGES, 1), ==, 100);
    g_assert_cmpuint(model_count(0, PAGES, 2), ==, PAGES - 1000);
    /* Being on either of the nodes is being in the tier. */
    for (guint i = 0; i < 2; i++)
        want[i] = (struct pages_want){ AT + i * 2048 * PAGE_BYTES, 2048 * PAGE_BYTES, PAGE_BYTES, 1 };
    model.free[1] = model.free[2] = 4000;
    model.moves = 0;
    g_assert_cmpint(pages_run(f->pages, want, got, 2, &f->err), ==, 0);
    g_assert_cmpuint(got[0].in[1] + got[1].in[1], ==, PAGES);
    g_assert_cmpuint(got[0].moved + got[1].moved, ==, 900);
    g_assert_cmpuint(model.moves, ==, 1);
}

/* What nothing gets past ends the run, says what to do, and no range counts as known. */
static void test_refused(struct fixture *f, gconstpointer data)
{
    static const struct {
        int e;
        const char *says;
    } cases[] = {
        { EACCES, "*cpuset*cpuset.mems*" }, { ENODEV, "*node*not there*" }, { E2BIG, "*list too long*" },
    };

    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        model_put(0, PAGES, 1, 0);
        model.fail = cases[i].e;
        model.fail_after = 1000;
        g_assert_cmpint(run(f, 1), ==, -cases[i].e);
        g_assert_false(f->got.known);
        g_assert_true(g_pattern_match_simple(cases[i].says, f->err.text));
        g_assert_cmpint(run(f, PAGES_STAY), ==, 0);
        check(f, PAGES - 1000, 1000, 0);
    }
    model.no_ptrace = true;
    g_assert_cmpint(run(f, 1), ==, -EPERM);
    g_assert_true(strstr(f->err.text, "CAP_SYS_PTRACE") != NULL);
    model.no_process = true;
    g_assert_cmpint(run(f, 1), ==, -ESRCH);
}

/* More pages than a batch has room for, in ranges that do not end where batches do. */
static void test_batches(struct fixture *f, gconstpointer data)
{
    enum { N = 13, EACH = 1117 };
    struct pages_want want[N];
    struct pages_got got[N];

    (void)data;
    model_tear_down();
    model_set_up(AT, N * EACH, 1 << 20);
    model_put(0, N * EACH, 1, 0);
    model.page[5 * EACH].pinned = true;
    for (guint i = 0; i < N; i++)
        want[i] = (struct pages_want){ AT + i * EACH * PAGE_BYTES, EACH * PAGE_BYTES, PAGE_BYTES,
                                       i % 3 == 2 ? PAGES_STAY : 1 };
    g_assert_cmpint(pages_run(f->pages, want, got, N, &f->err), ==, 0);
    for (guint i = 0; i < N; i++) {
        guint stays = i % 3 == 2 ? EACH : 0;

        g_assert_true(got[i].known);
        g_assert_cmpuint(got[i].in[0], ==, stays);
        g_assert_cmpuint(got[i].in[1], ==, EACH - stays);
    }
    g_assert_cmpuint(model.most, <=, 4096);
    /* As one range: not all that is left of it is looked at for each batch. */
    model.scanned = 0;
    want[0].length = (guint64)N * EACH * PAGE_BYTES;
    want[0].tier = PAGES_STAY;
    g_assert_cmpint(pages_run(f->pages, want, got, 1, &f->err), ==, 0);
    g_assert_cmpuint(got[0].in[0] + got[0].in[1], ==, N * EACH);
    g_assert_cmpuint(model.scanned, <=, N * EACH + 4 * HUGE);
}

/* Anything anywhere. */
static void mess_up(void)
{
    static const guint folios[] = { 1, 1, 1, 16, HUGE };

    for (guint i = 0; i < PAGES;) {
        guint folio = folios[g_test_rand_int_range(0, G_N_ELEMENTS(folios))];
        guint n = folio == HUGE ? HUGE : (guint)g_test_rand_int_range(1, 200);

        n = MIN(n, PAGES - i);
        if (folio == HUGE && (i % HUGE || n < HUGE))
            folio = 1;
        model_put(i, n, folio, g_test_rand_int_range(folio == 1 ? -2 : 0, MODEL_NODES));
        model.page[i].pinned = g_test_rand_int_range(0, 8) == 0;
        model.page[i].shared = g_test_rand_int_range(0, 8) == 0;
        model.page[i].shy = g_test_rand_int_range(0, 4) ? 0 : (guint8)g_test_rand_int_range(1, 3);
        i += n;
    }
    model.no_pagemap = g_test_rand_bit();
    model.no_cap = g_test_rand_bit();
    for (int i = 0; i < MODEL_NODES; i++)
        model.free[i] = g_test_rand_int_range(0, 2 * PAGES);
}

/* What stays has a reason; or it was taken for a page of a folio that has. */
static bool has_reason(guint page)
{
    guint first = page & ~15u;

    for (guint i = first; i < first + 16; i++) {
        const struct model_page *head = model_head(i);

        if (head->pinned || head->shared || head->stayed)
            return true;
    }
    return false;
}

static void check_mess(const struct fixture *f, int tier)
{
    guint away = PAGES - model_count(0, PAGES, -1) - model_count(0, PAGES, -2) -
                 model_count(0, PAGES, tier);

    g_assert_cmpuint(f->got.in[0], ==, model_count(0, PAGES, 0));
    g_assert_cmpuint(f->got.in[1], ==, model_count(0, PAGES, 1));
    g_assert_cmpuint(f->got.in[2], ==, model_count(0, PAGES, 2) + model_count(0, PAGES, 3));
    g_assert_cmpuint(f->got.left, ==, away);
    g_assert_true(!away == !f->got.why);
    for (guint i = 0; i < PAGES && f->got.why != ENOMEM && model.moves < PASSES; i++)
        g_assert_true(model_head(i)->node < 0 || model_head(i)->node == tier || has_reason(i));
    if (f->got.why == ENOMEM)
        g_assert_cmpint(model.free[tier], <, HUGE);
}

static void test_random(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (int i = 0; i < 300; i++) {
        int tier = g_test_rand_bit();

        mess_up();
        pages_free(f->pages);
        f->pages = pages_new(getpid(), f->pidfd, f->tiers);
        model.moves = model.tries = 0;
        g_assert_cmpint(run(f, tier), ==, 0);
        check_mess(f, tier);
        g_assert_cmpuint(model.moves, <=, PASSES);
        g_assert_cmpint(run(f, PAGES_STAY), ==, 0);
        g_assert_cmpuint(f->got.in[tier], ==, model_count(0, PAGES, tier));
    }
}

static void test_why_not(void)
{
    static const struct {
        const char *dram, *cxl, *says;
    } cases[] = {
        { "0", "1", NULL }, { "0,2", "1,3", NULL }, { "0", NULL, "tier cxl has no NUMA node*" },
        { "0,1", "1", "node 1 is in the tiers dram and cxl*" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct tiers *tiers = model_tiers(cases[i].dram, cases[i].cxl);
        g_autofree char *why = pages_why_not(tiers);

        g_assert_true(cases[i].says ? why && g_pattern_match_simple(cases[i].says, why) : !why);
        tiers_free(tiers);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*run)(struct fixture *f, gconstpointer data);
        const char *data;
    } tests[] = {
        { "look", test_look, NULL },
        { "move", test_move, NULL },
        { "holes", test_holes, NULL },
        { "huge", test_huge, NULL },
        { "huge-unseen", test_huge, "no pagemap" },
        { "cut", test_cut, NULL },
        { "cut-unseen", test_cut, "no pagemap" },
        { "hugetlb", test_hugetlb, NULL },
        { "hugetlb-unseen", test_hugetlb, "no pagemap" },
        { "pinned", test_pinned, NULL },
        { "shy", test_shy, NULL },
        { "pinned-folios", test_pinned_folios, NULL },
        { "shared", test_shared, NULL },
        { "shared-with-cap", test_shared_with_cap, NULL },
        { "no-memory", test_no_memory, NULL },
        { "nodes", test_nodes, NULL },
        { "refused", test_refused, NULL },
        { "batches", test_batches, NULL },
        { "random", test_random, NULL },
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/numa-pages/", tests[i].path, NULL);

        g_test_add(path, struct fixture, tests[i].data, set_up, tests[i].run, tear_down);
    }
    g_test_add_func("/numa-pages/why-not", test_why_not);
    return g_test_run();
}
