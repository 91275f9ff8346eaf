// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The whole path on this machine, by the kernel's own page faults: a child touches pages that are known, its
 * faults are sampled, and each sample's addresses are looked up: QEMU's way (the virtual address) and the hardware's
 * (the physical one, through the reverse map). Both have to be the granule that was touched, and the page that
 * pagemap shows.
 */
#include "common/clock.h"
#include "host/perf/sampler.h"
#include "host/rmap.h"
#include "kid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define GRANULE (64u << 10)

static char *shared;            /* KID_BYTES of a file, in the child as well */

/* --- the child ------------------------------------------------------------------------------------------------ */

static void touch_pages(void)
{
    for (gsize i = 0; i < KID_PAGES; i++)
        ((volatile char *)shared)[i * KID_PAGE] = 1;
}

static bool be_vcpu(void)
{
    prctl(PR_SET_NAME, "CPU 0/TCG");
    touch_pages();
    return true;
}

/* 'a': every page again; 's': those of a stride; each after its mapping is gone. */
static bool touch(char command)
{
    gsize step = command == 'a' ? 1 : 7;

    if (madvise(shared, KID_BYTES, MADV_DONTNEED))
        return false;
    for (gsize i = 0; i < KID_PAGES; i += step)
        ((volatile char *)shared)[i * KID_PAGE]++;
    return true;
}

static const struct role toucher = { .set_up = be_vcpu, .obey = touch };

/* --- what is seen of it --------------------------------------------------------------------------------------- */

struct live {
    struct kid kid;
    Event *event;
    struct sampler *sampler;
    struct rmap *map;
    int pagemap;
    guint64 samples, inside;    /* inside: in the memory that is known */
    guint64 right, unknown, wrong, other_page;
    guint8 seen[KID_PAGES];
};

static guint64 hpa_by_pagemap(const struct live *l, guint64 at)
{
    guint64 entry = 0;

    g_assert_cmpint(pread(l->pagemap, &entry, 8, (off_t)(at / KID_PAGE * 8)), ==, 8);
    return (entry & ((1ull << 55) - 1)) * KID_PAGE + at % KID_PAGE;
}

static void judge(const struct perf_sample *s, gpointer opaque)
{
    struct live *l = opaque;
    guint64 offset = s->addr - (uintptr_t)shared;
    guint32 granule;

    l->samples++;
    g_assert_cmpuint(s->pid, ==, (guint)l->kid.pid);
    if (offset >= KID_BYTES)
        return;
    l->inside++;
    l->seen[offset / KID_PAGE] = 1;
    l->other_page += s->phys_addr != hpa_by_pagemap(l, s->addr);
    if (!rmap_find(l->map, s->phys_addr, &granule))
        l->unknown++;
    else if (granule == 3 + offset / GRANULE)
        l->right++;
    else
        l->wrong++;
}

static bool live_start(struct live *l, double rate)
{
    struct vt_err err = { 0 };
    struct rmap_area area = { (uintptr_t)shared, KID_BYTES, 3, KID_BYTES / GRANULE, KID_PAGE };
    g_autofree char *path = NULL;

    memset(l, 0, sizeof(*l));
    l->kid = kid_start(&toucher);
    l->event = event_parse("minor-faults", EVENT_DEVICES, NULL);
    l->sampler = sampler_new(l->event, l->kid.pid, rate, &err);
    l->map = l->sampler ? rmap_new(l->kid.pid, GRANULE, &err) : NULL;
    if (!l->map) {
        g_test_skip(err.text);
        sampler_free(l->sampler);
        event_free(l->event);
        kid_end(&l->kid);
        return false;
    }
    path = g_strdup_printf("/proc/%d/pagemap", (int)l->kid.pid);
    l->pagemap = open(path, O_RDONLY | O_CLOEXEC);
    rmap_set_areas(l->map, &area, 1);
    do
        g_assert_cmpint(rmap_refresh(l->map, 5000, &err), ==, 0);
    while (rmap_is_due(l->map));
    return true;
}

static void live_read(struct live *l)
{
    struct vt_err err = { 0 };

    if (sampler_read(l->sampler, 200000, judge, l, &err))
        g_error("%s", err.text);
}

static void live_end(struct live *l)
{
    sampler_free(l->sampler);
    rmap_free(l->map);
    event_free(l->event);
    close(l->pagemap);
    kid_end(&l->kid);
}

/* All pages, in pieces that the ring holds; no two faults of one page. */
static void test_all(void)
{
    struct live l;
    struct sampler_stats stats;
    guint touched = 0;

    if (!live_start(&l, 1e9))
        return;
    for (guint round = 0; round < 20; round++) {
        g_assert_true(kid_does(&l.kid, 's'));
        live_read(&l);
    }
    for (guint i = 0; i < KID_PAGES; i++) {
        g_assert_true(i % 7 == 0 || !l.seen[i]);
        touched += l.seen[i];
    }
    sampler_stats(l.sampler, &stats);
    g_test_message("%" G_GUINT64_FORMAT " samples, %" G_GUINT64_FORMAT " lost; of %" G_GUINT64_FORMAT " in the "
                   "memory %" G_GUINT64_FORMAT " right, %" G_GUINT64_FORMAT " unknown, %" G_GUINT64_FORMAT
                   " wrong, %" G_GUINT64_FORMAT " of another page than pagemap's", l.samples, stats.counts.lost,
                   l.inside, l.right, l.unknown, l.wrong, l.other_page);
    g_assert_cmpuint(l.inside, >, 1000);
    g_assert_cmpuint(l.wrong, ==, 0);
    g_assert_cmpuint(l.right * 1000, >=, l.inside * 999);
    g_assert_cmpuint(l.other_page * 1000, <=, l.inside);
    g_assert_cmpuint(touched, >, 100);
    g_assert_cmpuint(perf_counts_bad(&stats.counts), ==, 0);
    g_assert_cmpuint(stats.threads, ==, 1);
    live_end(&l);
}

/* --- what it costs: printed, not judged ----------------------------------------------------------------------- */

#define ROUNDS 100u
#define FAULTS 512u

static int compare_numbers(gconstpointer a, gconstpointer b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof(*values), compare_numbers);
    return values[ROUNDS / 2];
}

/* CPU nanoseconds for each of FAULTS faults of our own. */
static double fault_ns(void)
{
    guint64 start;

    madvise(shared, KID_BYTES, MADV_DONTNEED);
    start = cpu_ns();
    for (gsize i = 0; i < FAULTS; i++)
        ((volatile char *)shared)[i * KID_BYTES / FAULTS]++;
    return (double)(cpu_ns() - start) / FAULTS;
}

static void find_it(const struct perf_sample *s, gpointer map)
{
    guint32 granule;

    rmap_find(map, s->phys_addr, &granule);
}

static void test_cost(void)
{
    g_autoptr(Event) event = event_parse("minor-faults", EVENT_DEVICES, NULL);
    struct rmap_area area = { (uintptr_t)shared, KID_BYTES, 0, KID_BYTES / GRANULE, KID_PAGE };
    struct vt_err err = { 0 };
    struct rmap *map = rmap_new(getpid(), GRANULE, &err);
    struct sampler *sampler = map ? sampler_new(event, getpid(), 1e9, &err) : NULL;
    double with[ROUNDS], without[ROUNDS], reading[ROUNDS];
    struct rmap_stats stats;

    if (!sampler) {
        g_test_skip(err.text);
        rmap_free(map);
        return;
    }
    touch_pages();
    madvise(shared, KID_BYTES, MADV_RANDOM);     /* so a fault is one page */
    rmap_set_areas(map, &area, 1);
    while (rmap_is_due(map))
        g_assert_cmpint(rmap_refresh(map, 100000, &err), ==, 0);
    for (guint i = 0; i < ROUNDS; i++) {
        guint64 start;

        with[i] = fault_ns();
        start = cpu_ns();
        g_assert_cmpint(sampler_read(sampler, 100000, find_it, map, &err), ==, 0);
        reading[i] = (double)(cpu_ns() - start) / FAULTS;
    }
    sampler_free(sampler);
    for (guint i = 0; i < ROUNDS; i++)
        without[i] = fault_ns();
    rmap_stats(map, &stats);
    g_test_message("a fault: %.0f ns, sampled %.0f ns; a sample read and found: %.0f ns; a page mapped back: %.0f ns",
                   median(without), median(with), median(reading), (double)stats.cpu_ns / (double)stats.pages);
    rmap_free(map);
}

/* More faults than the rate allows: the period grows until they are about as many. */
static void test_pace(void)
{
    struct live l;
    struct sampler_stats stats;
    gint64 until = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;

    if (!live_start(&l, 200))
        return;
    do {
        g_assert_true(kid_does(&l.kid, 'a'));
        live_read(&l);
        sampler_stats(l.sampler, &stats);
    } while (stats.period <= 10 && g_get_monotonic_time() < until);
    g_test_message("period %" G_GUINT64_FORMAT ", %.0f samples/s", stats.period, stats.rate);
    g_assert_cmpuint(stats.period, >, 10);
    g_assert_cmpuint(stats.period, <, 1000000);
    live_end(&l);
}

static void test_ended(void)
{
    struct live l;
    struct vt_err err = { 0 };
    int rc = 0;

    if (!live_start(&l, 1000))
        return;
    kid_reap(&l.kid);
    for (guint i = 0; !rc && i < 40; i++) {
        rc = sampler_read(l.sampler, 1000, judge, &l, &err);
        g_usleep(50000);
    }
    g_assert_cmpint(rc, ==, -ESRCH);
    g_assert_true(strstr(err.text, "has ended"));
    sampler_free(l.sampler);
    rmap_free(l.map);
    event_free(l.event);
    close(l.pagemap);
    close(l.kid.pidfd);
}

static gpointer wait_for_end(gpointer pipe_end)
{
    char byte;

    prctl(PR_SET_NAME, "CPU 1/KVM");
    return GINT_TO_POINTER((int)read(GPOINTER_TO_INT(pipe_end), &byte, 1));
}

/* Threads that are called like vCPUs, or all. */
static void test_threads(void)
{
    g_autoptr(GArray) before = sampler_threads(getpid());
    g_autoptr(GArray) during = NULL;
    int ends[2];
    GThread *thread;

    g_assert_cmpint(pipe(ends), ==, 0);
    g_assert_cmpuint(before->len, >=, 1);
    thread = g_thread_new("worker", wait_for_end, GINT_TO_POINTER(ends[0]));
    for (guint i = 0; i < 200; i++) {
        g_clear_pointer(&during, g_array_unref);
        during = sampler_threads(getpid());
        if (during->len == 1 && g_array_index(during, pid_t, 0) != getpid())
            break;
        g_usleep(10000);
    }
    g_assert_cmpuint(during->len, ==, 1);
    g_assert_cmpint(g_array_index(during, pid_t, 0), !=, getpid());
    close(ends[1]);
    g_thread_join(thread);
    close(ends[0]);
}

static void test_no_such(void)
{
    struct perf_event_attr attr = { .type = 12345, .size = sizeof(attr) };
    struct event none = { .text = (char *)"no/such/", .attr = attr, .period = 1, .period_step = 1 };
    struct vt_err err = { 0 };

    g_assert_null(sampler_new(&none, getpid(), 10, &err));
    g_assert_true(strstr(err.text, "no/such/"));
    g_assert_cmpint(err.code, !=, 0);
}

int main(int argc, char **argv)
{
    int file = memfd_create("live", MFD_CLOEXEC);

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(ftruncate(file, KID_BYTES), ==, 0);
    shared = mmap(NULL, KID_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    g_assert_true(shared != MAP_FAILED);
    g_test_add_func("/perf-live/all", test_all);
    g_test_add_func("/perf-live/cost", test_cost);
    g_test_add_func("/perf-live/pace", test_pace);
    g_test_add_func("/perf-live/ended", test_ended);
    g_test_add_func("/perf-live/threads", test_threads);
    g_test_add_func("/perf-live/no-such", test_no_such);
    return g_test_run();
}
