// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the refault source, on memory of our own that is registered with userfaultfd: pages
 * that were touched are seen, exactly those, nothing is lost, and the budget holds.
 *
 * Which 64 KiB of a granule are armed is looked up in our page table: all memory is populated before.
 *
 * timeout: 60
 */
#include "vmm/ram.h"
#include "vmm/refault.h"
#include "vmm/uffd.h"

#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GRANULE  (2u << 20)
#define PAGE     4096u
#define PROBE    (64u << 10)
#define GRANULES 64u
#define LONG_US  1000000u

static struct ram_block *block;

/* What was emitted of each granule since the last harvest. */
static struct {
    guint32 n, events, exposure, tier;
} got[GRANULES];

static void emit(const struct vt_obs *o, void *opaque)
{
    guint32 g = o->granule - block->first;

    (void)opaque;
    g_assert_cmpuint(g, <, GRANULES);
    g_assert_cmpuint(o->source, ==, VT_SRC_REFAULT);
    got[g].n++;
    got[g].events += o->events;
    got[g].exposure += o->exposure;
    got[g].tier = o->tier;
}

static void harvest(guint32 budget_us)
{
    memset(got, 0, sizeof(got));
    refault_harvest(budget_us, emit, NULL);
}

static guint32 all_events(void)
{
    guint32 n = 0;

    for (guint32 g = 0; g < GRANULES; g++)
        n += got[g].events;
    return n;
}

static bool is_mapped(const guint8 *at)
{
    static int pagemap = -1;
    guint64 entry = 0;

    if (pagemap < 0)
        pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)at / PAGE * 8)), ==, 8);
    return entry >> 63;
}

/* Where the granule's probe lies in wait; NULL if it does not. */
static guint8 *armed(guint32 granule)
{
    guint8 *start = block->host + (size_t)granule * GRANULE;

    for (guint32 at = 0; at < GRANULE; at += PROBE)
        if (!is_mapped(start + at))
            return start + at;
    return NULL;
}

static void touch(guint8 *at, bool write)
{
    if (write)
        *(volatile guint8 *)at = *at;
    else
        (void)*(volatile guint8 *)at;
}

/* All mapped, with contents; all probes new, and armed by a first harvest. */
static void start(void)
{
    for (size_t at = 0; at < (size_t)GRANULES * GRANULE; at += PAGE)
        *(guint64 *)(void *)(block->host + at) = at ^ 0x5a5a;
    ram_lock();
    refault_forget(block->first, GRANULES);
    ram_unlock();
    harvest(LONG_US);
}

static void check_contents(void)
{
    for (size_t at = 0; at < (size_t)GRANULES * GRANULE; at += PAGE)
        g_assert_cmpuint(*(guint64 *)(void *)(block->host + at), ==, at ^ 0x5a5a);
}

/* --- tests --------------------------------------------------------------------------------------- */

/* Every granule has one probe of 64 KiB, and that is all that was unmapped. */
static void test_armed(void)
{
    start();
    for (guint32 g = 0; g < GRANULES; g++) {
        guint32 unmapped = 0;

        for (guint32 at = 0; at < GRANULE; at += PAGE)
            unmapped += !is_mapped(block->host + (size_t)g * GRANULE + at);
        g_assert_cmpuint(unmapped, ==, PROBE / PAGE);
    }
    check_contents();
}

/* So many pages touched, so many events: no fault maps its neighbours. */
static void test_exact(gconstpointer write)
{
    start();
    for (guint32 g = 0; g < 16; g++) {
        guint8 *probe = armed(g);

        for (guint32 page = 0; page < g; page++)
            touch(probe + (page * 7 % 16) * PAGE, write != NULL);
    }
    g_usleep(5000);
    harvest(LONG_US);
    for (guint32 g = 0; g < GRANULES; g++)
        g_assert_cmpuint(got[g].events, ==, g < 16 ? g : 0);
    check_contents();
}

/* Touches elsewhere in the granule are none of the probe's. */
static void test_beside(void)
{
    start();
    guint8 *probe = armed(3);

    for (guint8 *at = block->host + 3 * GRANULE; at < block->host + 4 * GRANULE; at += PAGE)
        if (at < probe || at >= probe + PROBE)
            touch(at, true);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(all_events(), ==, 0);
}

/* A page counts once for each time its probe is armed. */
static void test_once(void)
{
    start();
    guint8 *probe = armed(5);

    touch(probe, true);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[5].events, ==, 1);
    touch(probe, true);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[5].events, ==, 0);
    touch(probe + PAGE, false);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[5].events, ==, 1);
}

/* Silence is reported, too: exposure is armed pages times milliseconds. */
static void test_exposure(void)
{
    gint64 from = g_get_monotonic_time();

    start();

    g_usleep(1200000);
    harvest(LONG_US);
    double ms = (double)(g_get_monotonic_time() - from) / 1000;

    for (guint32 g = 0; g < GRANULES; g++) {
        g_assert_cmpuint(got[g].n, ==, 1);
        g_assert_cmpuint(got[g].events, ==, 0);
        g_assert_cmpfloat(got[g].exposure, >, 16 * 1150);
        /* What an earlier test left unreported comes along. */
        g_assert_cmpfloat(got[g].exposure, <, 16 * (ms + 200));
    }
}

/* A spent probe is armed again elsewhere, after its back-off. */
static void test_armed_again(void)
{
    start();
    guint8 *probe = armed(7);

    for (guint32 at = 0; at < PROBE; at += PAGE)
        touch(probe + at, false);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[7].events, ==, 16);
    g_assert_null(armed(7));
    g_usleep(250000);
    harvest(LONG_US);
    g_assert_nonnull(armed(7));
    g_assert_true(armed(7) != probe);
    touch(armed(7), false);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[7].events, ==, 1);
    check_contents();
}

/* What a move has mapped is no access; and the report names the tier. */
static void test_forget(void)
{
    start();
    guint8 *probe = armed(9);

    for (guint32 at = 0; at < PROBE; at += PAGE)
        touch(probe + at, true);
    ram_lock();
    refault_forget(block->first + 9, 1);
    ram_tier[block->first + 10] = 1;
    ram_unlock();
    touch(armed(10), true);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[9].events, ==, 0);
    g_assert_cmpuint(got[10].events, ==, 1);
    g_assert_cmpuint(got[10].tier, ==, 1);
    ram_tier[block->first + 10] = 0;
}

/* Memory that left the guest is let alone. */
static void test_absent(void)
{
    start();
    touch(armed(1), false);
    ram_lock();
    block->present = false;
    ram_unlock();
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(all_events(), ==, 0);
    ram_lock();
    block->present = true;
    ram_unlock();
}

/* Without a budget nothing is done; a small one is kept but for the granules that are taken at once. */
static void test_budget(void)
{
    guint64 before, after, events;

    start();
    for (guint32 g = 0; g < GRANULES; g++)
        touch(armed(g), false);
    g_usleep(5000);
    refault_get_cost(&before, &events);
    harvest(0);
    g_assert_cmpuint(all_events(), ==, 0);
    harvest(1);
    refault_get_cost(&after, &events);
    g_test_message("%u us spent of 1", (unsigned)((after - before) / 1000));
    g_assert_cmpuint(after - before, <, 20000000);
    g_assert_cmpuint(all_events(), ==, GRANULES);
}

static void ignore(const struct vt_obs *o, void *opaque)
{
    (void)o;
    (void)opaque;
}

static void count(const struct vt_obs *o, void *opaque)
{
    g_assert_cmpuint(o->events, ==, PROBE / PAGE);
    (*(guint32 *)opaque)++;
}

/* 64 granules are taken at once, so that a small budget gets through any memory in the end. */
static void test_cursor(void)
{
    enum { MORE = 1000, SLICES = (MORE + 63) / 64 };
    int fd = memfd_create("toy", MFD_CLOEXEC);
    guint32 seen = 0;
    struct vt_err err;

    g_assert_cmpint(ftruncate(fd, (off_t)MORE * GRANULE), ==, 0);
    guint8 *host = mmap(NULL, (size_t)MORE * GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    ram_lock();
    struct ram_block *b = ram_add("more", host, (guint64)MORE * GRANULE, PAGE, fd, &err);

    g_assert_cmpint(uffd_register(host, (guint64)MORE * GRANULE), ==, 0);
    b->watched = true;
    block->present = false;
    ram_unlock();
    for (int i = 0; i <= SLICES; i++)
        refault_harvest(1, ignore, NULL);
    for (size_t at = 0; at < (size_t)MORE * GRANULE; at += PAGE)
        touch(host + at, false);
    g_usleep(5000);
    for (int i = 0; i <= SLICES; i++)
        refault_harvest(1, count, &seen);
    g_assert_cmpuint(seen, ==, MORE);
    ram_lock();
    ram_drop(b);
    block->present = true;
    ram_unlock();
    munmap(host, (size_t)MORE * GRANULE);
    close(fd);
}

/* --- start --------------------------------------------------------------------------------------- */

static bool set_up(void)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;
    struct vt_err err;
    guint8 *host;

    if (device < 0)
        return false;
    g_assert_cmpint(uffd_open(device, &err), ==, 0);
    close(device);
    g_assert_cmpint(ram_init(&err), ==, 0);
    g_assert_cmpint(refault_init(&err), ==, 0);
    ram_set_granule(GRANULE);
    fd = memfd_create("toy", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, (off_t)GRANULES * GRANULE), ==, 0);
    host = mmap(NULL, GRANULES * GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ram_lock();
    block = ram_add("toy", host, GRANULES * GRANULE, PAGE, fd, &err);
    g_assert_cmpint(uffd_register(host, GRANULES * GRANULE), ==, 0);
    block->watched = true;
    ram_unlock();
    return true;
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    { "armed", test_armed },     { "beside", test_beside },
    { "once", test_once },       { "exposure", test_exposure },
    { "armed-again", test_armed_again }, { "forget", test_forget },
    { "absent", test_absent },   { "budget", test_budget },
    { "cursor", test_cursor },
};

static void test_skipped(void)
{
    g_test_skip("/dev/userfaultfd cannot be opened");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    bool able = set_up();

    g_test_add_data_func("/refault/exact/read", NULL, able ? test_exact : (GTestDataFunc)test_skipped);
    g_test_add_data_func("/refault/exact/write", "w", able ? test_exact : (GTestDataFunc)test_skipped);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/refault/", tests[i].name, NULL);

        g_test_add_func(path, able ? tests[i].run : test_skipped);
    }
    return g_test_run();
}
