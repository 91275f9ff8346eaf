// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the refault source on memory that is mapped by pages of 2 MiB: tmpfs with huge=advise, and
 * hugetlb. One touch maps 512 small pages there and must count as one; a mapping must come back as
 * large as it was; and a busier granule must look busier, though all of them are touched many times
 * between two harvests.
 *
 * Each runs in a process of its own, which has its memory for itself.
 *
 * timeout: 90
 */
#include "bench/lib/child.h"
#include "bench/lib/memory.h"
#include "common/clock.h"
#include "vmm/pagemap.h"
#include "vmm/refault.h"

#include <stdatomic.h>

#define HUGE     (2u << 20)
#define PAGE     4096u
#define GRANULES 24u
#define SIZE     ((guint64)GRANULES * HUGE)
#define LONG_US  1000000u
#define BUSY     8u             /* granules of each sort in test_order() */

struct what {
    enum bench_backing backing;
    guint64 granule;
    bool blind;                 /* as on a kernel without PAGEMAP_SCAN */
    void (*run)(struct bench_memory *m);
};

struct outcome {
    bool skipped;
    char why[200];
};

static struct {
    double events, exposure;
    guint n;
} got[SIZE / PAGE];

static guint32 first;

static void emit(const struct vt_obs *o, void *opaque)
{
    (void)opaque;
    got[o->granule - first].events += o->events;
    got[o->granule - first].exposure += o->exposure;
    got[o->granule - first].n++;
}

static void harvest(void)
{
    refault_harvest(LONG_US, emit, NULL);
}

static void forget_what_was_got(void)
{
    memset(got, 0, sizeof(got));
}

static void touch(const struct bench_memory *m, guint64 at)
{
    (void)*(volatile uint8_t *)(m->host + at);
}

/* All of it mapped and known; then armed, and nothing counted yet. */
static void begin(const struct bench_memory *m)
{
    for (guint64 at = 0; at < m->size; at += PAGE)
        *(guint64 *)(void *)(m->host + at) = at + 7;
    ram_lock();
    refault_forget(m->b->first, m->b->count);
    ram_unlock();
    harvest();
    forget_what_was_got();
}

static void check_contents(const struct bench_memory *m)
{
    for (guint64 at = 0; at < m->size; at += PAGE)
        g_assert_cmpuint(*(guint64 *)(void *)(m->host + at), ==, at + 7);
}

/* --- tests ---------------------------------------------------------------------------------- */

/* So many pages of a mapping, touched anywhere, are one event; and the mapping is whole again. */
static void test_one(struct bench_memory *m)
{
    begin(m);
    g_assert_cmpuint(bench_huge_mapped(m->host, m->size), ==, 0);
    for (guint g = 0; g < GRANULES; g += 2)
        for (guint i = 0; i <= g; i++)
            touch(m, g * (guint64)HUGE + (i * 37 + g) % 512 * PAGE);
    g_usleep(1000);
    harvest();
    harvest();
    for (guint g = 0; g < GRANULES; g++)
        g_assert_cmpfloat(got[g].events, ==, g % 2 ? 0 : 1);
    check_contents(m);
    g_assert_cmpuint(bench_huge_mapped(m->host, m->size), ==, m->size);
}

/* Smaller granules share a mapping, and what is known of it; none is left out, none counted twice. */
static void test_shared(struct bench_memory *m)
{
    const guint per = HUGE / (guint)ram_granule();

    begin(m);
    touch(m, 3 * (guint64)HUGE + 77 * PAGE);
    g_usleep(1000);
    harvest();
    harvest();
    for (guint g = 0; g < m->b->count; g++)
        g_assert_cmpfloat(got[g].events, ==, g / per == 3);
    check_contents(m);
}

/* Larger ones are probed in one of theirs at a time. */
static void test_larger(struct bench_memory *m)
{
    const guint64 granule = ram_granule();

    begin(m);
    g_assert_cmpuint(bench_huge_mapped(m->host, m->size), ==,
                     m->size - m->b->count * (guint64)HUGE);
    for (guint64 at = 0; at < granule; at += HUGE)
        touch(m, at);
    g_usleep(1000);
    harvest();
    harvest();
    g_assert_cmpfloat(got[0].events, ==, 1);
    g_assert_cmpfloat(got[1].events, ==, 0);
    check_contents(m);
}

static atomic_bool stop;

/* All the time, every 60 ms, and every second: the first third, the second, the rest. */
static gpointer be_vcpu(gpointer data)
{
    const struct bench_memory *m = data;

    for (guint i = 0; !atomic_load(&stop); i++) {
        gint64 until = g_get_monotonic_time() + 2000;

        for (guint g = BUSY; g < 2 * BUSY && i % 30 == 0; g++)
            touch(m, g * (guint64)HUGE + i % 512 * PAGE);
        for (guint g = 2 * BUSY; g < GRANULES && i % 500 == 250; g++)
            touch(m, g * (guint64)HUGE + i % 512 * PAGE);
        while (g_get_monotonic_time() < until)
            for (guint g = 0; g < BUSY; g++)
                touch(m, g * (guint64)HUGE + i % 512 * PAGE);
    }
    return NULL;
}

static double rate_of(guint from)
{
    double events = 0, exposure = 0;

    for (guint g = from; g < from + BUSY; g++) {
        events += got[g].events;
        exposure += got[g].exposure;
    }
    g_assert_cmpfloat(exposure, >, 0);
    return events / exposure * 512 * 1000;
}

/* A bit per harvest would be set for the first two alike. */
static void test_order(struct bench_memory *m)
{
    GThread *vcpu;
    double rate[3];

    begin(m);
    vcpu = g_thread_new("vcpu", be_vcpu, m);
    for (int i = 0; i < 12; i++) {
        g_usleep(250000);
        harvest();
    }
    atomic_store(&stop, true);
    g_thread_join(vcpu);
    for (guint i = 0; i < 3; i++)
        rate[i] = rate_of(i * BUSY);
    g_test_message("touched all the time: %.0f/s; every 60 ms: %.0f/s; every second: %.1f/s", rate[0],
                   rate[1], rate[2]);
    /* A vCPU that has to wait for a processor touches nothing meanwhile: that is as far as it goes. */
    g_assert_cmpfloat(rate[0], >, rate[1]);
    g_assert_cmpfloat(rate[1], >, 1.5 * rate[2]);
}

/* --- running them ------------------------------------------------------------------------------- */

static void run_child(const void *data, void *result)
{
    const struct what *what = data;
    struct outcome *out = result;
    struct bench_memory m;
    struct vt_err err = { 0 };

    if (bench_memory_open(&m, what->backing, what->granule, SIZE, &err)) {
        out->skipped = true;
        g_strlcpy(out->why, err.text, sizeof(out->why));
        return;
    }
    g_assert_cmpint(refault_init(&err), ==, 0);
    if (what->blind)
        pagemap_forget_scan();
    first = m.b->first;
    what->run(&m);
}

static void run(gconstpointer data)
{
    const struct what *what = data;
    struct outcome out = { 0 };
    const char *wrong;

    /* Two files of the block's size. */
    if (what->backing == BENCH_HUGETLB && !bench_huge_take(2 * GRANULES, out.why)) {
        g_test_skip(out.why);
        return;
    }
    wrong = bench_child(run_child, what, &out, sizeof(out), 60);
    if (what->backing == BENCH_HUGETLB)
        bench_huge_give();
    if (out.skipped)
        g_test_skip(out.why);
    g_assert_cmpstr(wrong, ==, NULL);
}

static const struct {
    const char *name;
    struct what what;
} tests[] = {
    { "thp/one", { BENCH_THP, HUGE, false, test_one } },
    { "thp/one/blind", { BENCH_THP, HUGE, true, test_one } },
    { "thp/shared", { BENCH_THP, 64 << 10, false, test_shared } },
    { "thp/larger", { BENCH_THP, 4 * HUGE, false, test_larger } },
    { "thp/order", { BENCH_THP, HUGE, false, test_order } },
    { "hugetlb/one", { BENCH_HUGETLB, HUGE, false, test_one } },
    { "hugetlb/one/blind", { BENCH_HUGETLB, HUGE, true, test_one } },
    { "hugetlb/larger", { BENCH_HUGETLB, 4 * HUGE, false, test_larger } },
    { "hugetlb/order", { BENCH_HUGETLB, HUGE, false, test_order } },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/refault-huge/", tests[i].name, NULL);

        g_test_add_data_func(path, &tests[i].what, run);
    }
    return g_test_run();
}
