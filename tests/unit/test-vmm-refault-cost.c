// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the budgets of the refault source, without any memory: what is owed is paid for, and by whom, and
 * how much of our own time an idle guest gets.
 *
 * timeout: 120
 */
#include "common/clock.h"
#include "vmm/refault-cost.h"
#include "vmm/refault.h"

#include <glib.h>
#include <stdatomic.h>

#define BUDGET_US 8000u
#define PATIENCE  (60 * G_USEC_PER_SEC)

static void begin_and_end(guint32 budget_us)
{
    refault_cost_begin(budget_us);
    refault_cost_end(0);
}

static void wait_until_there_is_some(void)
{
    gint64 until = g_get_monotonic_time() + PATIENCE;

    for (begin_and_end(BUDGET_US); !refault_cost_guest_left(); begin_and_end(BUDGET_US)) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(100000);
    }
}

/*
 * Pages that were not paid for before they were touched are paid for afterwards: nothing is armed meanwhile. But a
 * guest that has touched all it has at once is seen again after a while, and not after hours.
 */
static void test_owed(void)
{
    begin_and_end(BUDGET_US);
    refault_set_guest(1, true);         /* begins anew, with nothing */
    g_assert_false(refault_cost_pay(1, false));
    wait_until_there_is_some();
    g_assert_true(refault_cost_pay(1, false));
    wait_until_there_is_some();
    refault_cost_owe(1 << 20);
    g_assert_false(refault_cost_pay(1, false));
    begin_and_end(BUDGET_US);
    g_assert_false(refault_cost_guest_left());
    wait_until_there_is_some();
}

/* An unmapping is charged the more, the longer it took, and within limits. */
static void test_unmapped(void)
{
    uint64_t cpu, before, least, more, most, beyond;

    refault_cost_get(&cpu, &before);
    refault_cost_unmapped(0);
    refault_cost_get(&cpu, &least);
    refault_cost_unmapped(20000);
    refault_cost_get(&cpu, &more);
    refault_cost_unmapped(10000000);
    refault_cost_get(&cpu, &most);
    refault_cost_unmapped(20000000);
    refault_cost_get(&cpu, &beyond);
    g_assert_cmpuint(least, >, before);
    g_assert_cmpuint(more - least, ==, least - before + 15000);
    g_assert_cmpuint(most - more, >, more - least);
    g_assert_cmpuint(beyond - most, ==, most - more);
}

static atomic_bool stop;

static gpointer run_vcpu(gpointer unused)
{
    (void)unused;
    while (!atomic_load(&stop))
        ;
    return NULL;
}

/* What a harvest may use up when the one before has left nothing. */
static guint64 one_budget(void)
{
    guint64 from;

    refault_cost_begin(BUDGET_US);
    while (refault_cost_cpu_left())
        ;
    refault_cost_end(0);
    g_usleep(300000);
    refault_cost_begin(BUDGET_US);
    for (from = cpu_ns(); refault_cost_cpu_left();)
        ;
    refault_cost_end(0);
    return cpu_ns() - from;
}

/* Its memory does not get hot. As soon as it does something, it has all of it. */
static void test_idle(void)
{
    guint64 idle = one_budget(), busy = 0;
    gint64 until = g_get_monotonic_time() + PATIENCE;
    GThread *vcpu = g_thread_new("vcpu", run_vcpu, NULL);

    g_test_message("idle: %" G_GUINT64_FORMAT " us", idle / 1000);
    g_assert_cmpuint(idle, <, BUDGET_US * 1000 / 4);
    while (busy < BUDGET_US * 1000 * 9 / 10) {  /* it may not have run in a while that others did */
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        busy = one_budget();
    }
    atomic_store(&stop, true);
    g_thread_join(vcpu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/refault-cost/owed", test_owed);
    g_test_add_func("/refault-cost/unmapped", test_unmapped);
    g_test_add_func("/refault-cost/idle", test_idle);
    return g_test_run();
}
