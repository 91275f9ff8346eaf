// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of one probe of the refault source, in a time of our own: what a granule that is used now and
 * then costs. In a guest with little time to spend on probes those were what left none for the hot ones.
 */
#include "vmm/refault.h"
#include "vmm/refault-cost.h"
#include "vmm/refault.h"
#include "vmm/refault-probe.h"

#include <glib.h>

#define SECOND  1000000u
#define GRANULE (2u << 20)

static struct ram_block block = {
    .host = (uint8_t *)(uintptr_t)(1ull << 40), .length = GRANULE, .page_size = REFAULT_PAGE, .count = 1,
    .used = true, .present = true, .watched = true,
};

static struct pagemap_range arm(struct probe *p)
{
    struct pagemap_range r = probe_range(&block, 0, p);

    probe_start(p, &r);
    return r;
}

/* So much later, so many of its pages are mapped again. */
static void look(struct probe *p, struct pagemap_range *r, uint32_t us, uint32_t pages)
{
    probe_call.now += us;
    r->bytes = (uint64_t)pages * REFAULT_PAGE;
    probe_poll(p, r);
}

/* There is plenty of budget. */
static struct probe begin(void)
{
    refault_cost_begin(100000);
    probe_call.now += 1000 * SECOND;
    return (struct probe){ 0 };
}

/* What is half touched at once has told enough; the next stretch may be armed when its back-off is over. */
static void test_busy(void)
{
    struct probe p = begin();
    struct pagemap_range r = arm(&p);

    g_assert_cmpuint(p.pages, ==, 4);
    look(&p, &r, SECOND / 4, 2);
    g_assert_cmpint(p.state, ==, PROBE_SPENT);
    g_assert_false(probe_may_renew(&p));
    g_assert_false(probe_is_due(&p));
    probe_call.now += SECOND / 4;
    g_assert_true(probe_is_due(&p));
}

/* What takes its time goes on lying in wait with the pages it has left, and may be renewed. */
static void test_half(void)
{
    struct probe p = begin();
    struct pagemap_range r = arm(&p);

    look(&p, &r, 2 * SECOND, 1);
    look(&p, &r, 2 * SECOND, 2);
    g_assert_cmpint(p.state, ==, PROBE_ARMED);
    g_assert_false(probe_may_renew(&p));
    probe_call.now += SECOND / 4;
    g_assert_true(probe_may_renew(&p));
    look(&p, &r, 5 * SECOND, 3);
    g_assert_cmpint(p.state, ==, PROBE_ARMED);
    g_assert_cmpuint(p.events, ==, 3);
    look(&p, &r, 5 * SECOND, 4);
    g_assert_cmpint(p.state, ==, PROBE_SPENT);
    g_assert_cmpuint(p.events, ==, 4);
    g_assert_true(probe_is_due(&p));
}

/* It is renewed at once if its rest is touched far sooner than was to be expected: something has changed. */
static void test_half_is_tripwire(void)
{
    struct probe p = begin();

    for (int i = 0; i < 6; i++) {       /* calm enough to be let alone for a while */
        struct pagemap_range r = arm(&p);

        look(&p, &r, 4 * SECOND, 2);
        g_assert_cmpint(p.state, ==, PROBE_ARMED);
    }
    struct pagemap_range r = arm(&p);
    look(&p, &r, 4 * SECOND, 2);
    look(&p, &r, SECOND / 4, 4);
    g_assert_cmpint(p.state, ==, PROBE_SPENT);
    probe_call.now += SECOND / 4;
    g_assert_true(probe_is_due(&p));
}

/* Given up, what it was still waiting for is taken to be touched. */
static void test_give_up(void)
{
    struct probe p = begin();
    struct pagemap_range r = arm(&p);
    uint64_t found;

    look(&p, &r, 4 * SECOND, 3);
    found = probe_call.found;
    probe_give_up(&p);
    g_assert_cmpint(p.state, ==, PROBE_SPENT);
    g_assert_cmpuint(probe_call.found, ==, found + 1);
    g_assert_cmpuint(p.events, ==, 3);
}

/* A silence that is no longer than others were does not make it grow; a longer one does. */
static void test_grow(void)
{
    struct probe p = begin();

    for (int i = 0; i < 4; i++) {
        struct pagemap_range r = arm(&p);

        look(&p, &r, SECOND, 4);
    }
    struct pagemap_range r = arm(&p);
    for (int i = 0; i < 5; i++) {
        look(&p, &r, SECOND / 2, 0);
        g_assert_false(probe_may_grow(&p));
    }
    look(&p, &r, 6 * SECOND, 0);
    g_assert_true(probe_may_grow(&p));
}

/* Of one that nothing is known of a second and a half is enough. */
static void test_grow_unknown(void)
{
    struct probe p = begin();
    struct pagemap_range r = arm(&p);

    look(&p, &r, SECOND / 4, 0);
    look(&p, &r, SECOND / 2, 0);
    g_assert_false(probe_may_grow(&p));
    look(&p, &r, SECOND, 0);
    g_assert_true(probe_may_grow(&p));
}

/* All of a granule costs the guest a fault for each page in use: of one that is not silent, seldom. */
static void test_whole_is_dear(void)
{
    struct probe p = begin();
    struct pagemap_range r = arm(&p);

    look(&p, &r, SECOND, 4);
    g_assert_cmpint(p.state, ==, PROBE_SPENT);
    probe_call.now += 5 * SECOND;
    g_assert_false(probe_may_be_whole(&p));
    probe_call.now += 60 * SECOND;
    refault_cost_begin(100000);
    g_assert_true(probe_may_be_whole(&p));
}

/* As soon as it costs more than a small stretch does it is small again; and waits for longer the next time. */
static void review(uint32_t pages, enum probe_size size)
{
    struct probe p = begin();

    p.size = PROBE_WHOLE;
    struct pagemap_range r = arm(&p);
    look(&p, &r, SECOND / 4, 1);        /* of 512 alike pages, four a second */
    g_assert_cmpint(p.state, ==, PROBE_SPENT);
    probe_call.now += 3 * SECOND;
    r.bytes = (uint64_t)pages * REFAULT_PAGE;
    probe_review(&p, &r);
    g_assert_cmpint(p.size, ==, size);
    g_assert_cmpuint(p.dense, ==, size == PROBE_QUICK);
}

static void test_review(void)
{
    review(6, PROBE_WHOLE);
    review(16, PROBE_QUICK);
    review(300, PROBE_QUICK);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ram_set_granule(GRANULE);
    refault_set_guest(16, false);
    g_test_add_func("/refault-probe/busy", test_busy);
    g_test_add_func("/refault-probe/half", test_half);
    g_test_add_func("/refault-probe/half/tripwire", test_half_is_tripwire);
    g_test_add_func("/refault-probe/give-up", test_give_up);
    g_test_add_func("/refault-probe/grow", test_grow);
    g_test_add_func("/refault-probe/grow/unknown", test_grow_unknown);
    g_test_add_func("/refault-probe/whole-is-dear", test_whole_is_dear);
    g_test_add_func("/refault-probe/review", test_review);
    return g_test_run();
}
