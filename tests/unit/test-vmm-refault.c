// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the refault source, on memory of our own that is registered with userfaultfd: pages
 * that were touched are seen, exactly those, nothing is lost, and the budgets hold. Memory of huge pages
 * has its own tests, in test-vmm-refault-huge.c.
 *
 * What of a granule is armed is looked up in our page table: all memory is populated before.
 *
 * timeout: 180
 */
#include "page-table.h"
#include "vmm/ram.h"
#include "vmm/refault.h"
#include "vmm/uffd.h"

#include <fcntl.h>
#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GRANULE  (2u << 20)
#define PAGE     4096u
#define PROBE    (16u << 10)      /* of a granule that is not known yet, ... */
#define WIDE     (32u << 10)      /* ... and of one that has been silent */
#define GRANULES 64u
#define LONG_US  1000000u
#define SMALL_US 200u
#define VCPUS    16u        /* so that the guest's budget does not matter where it is not the point */
#define MORE     250u
#define SPARSE   8u
#define TURNS    3u

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

static guint8 *granule_at(guint32 granule)
{
    return block->host + (size_t)granule * GRANULE;
}

static guint32 unmapped(guint32 granule)
{
    return page_table_missing(granule_at(granule));
}

/* Where the granule's probe lies in wait; NULL if it does not. */
static guint8 *armed(guint32 granule)
{
    return page_table_first_missing(granule_at(granule));
}

/* A kernel that looks for memory to reclaim unmaps pages as well: a granule from `from` on where it has not. */
static guint32 only_armed(guint32 from)
{
    guint32 g = from;

    while (g < GRANULES && unmapped(g) != PROBE)
        g++;
    g_assert_cmpuint(g, <, GRANULES);
    return g;
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

/* Every granule has one small probe, and that is all that was unmapped. */
static void test_armed(void)
{
    start();
    for (guint32 g = 0; g < GRANULES; g++)
        g_assert_cmpuint(unmapped(g), ==, PROBE);
    check_contents();
}

/* So many pages touched, so many events: no fault maps its neighbours. */
static void test_exact(gconstpointer write)
{
    start();
    for (guint32 g = 0; g <= PROBE / PAGE; g++) {
        guint8 *probe = armed(g);

        for (guint32 page = 0; page < g; page++)
            touch(probe + (page * 3 % 4) * PAGE, write != NULL);
    }
    g_usleep(5000);
    harvest(LONG_US);
    for (guint32 g = 0; g < GRANULES; g++)
        g_assert_cmpuint(got[g].events, ==, g <= PROBE / PAGE ? g : 0);
    check_contents();
}

/* Touches by a vCPU's thread: the kernel counts page faults by thread. */
static gpointer touch_probes(gpointer pages)
{
    for (guint32 g = 0; g < 16; g++) {
        guint8 *probe = armed(g);

        for (guint32 page = 0; page < GPOINTER_TO_UINT(pages); page++)
            touch(probe + (page * 7 % 8) * PAGE, page & 1);
    }
    return NULL;
}

/*
 * A probe that stays silent grows. It is polled every few seconds only; but many page faults that no
 * poll has explained make all be polled at once.
 */
static void test_silent(void)
{
    struct refault_cost before, after;

    start();
    for (guint32 g = 0, i = 0; g < GRANULES && i < 300; i++) {
        g_usleep(100000);
        harvest(LONG_US);
        while (g < GRANULES && unmapped(g) >= WIDE)
            g++;
    }
    for (guint32 g = 0; g < GRANULES; g++)
        g_assert_cmpuint(unmapped(g), >=, WIDE);
    for (int i = 0; i < 10; i++) {  /* so that none is due soon */
        g_usleep(100000);
        harvest(LONG_US);
    }
    refault_get_cost(&before);
    g_thread_join(g_thread_new("vcpu", touch_probes, GUINT_TO_POINTER(7)));
    g_usleep(5000);
    harvest(LONG_US);
    refault_get_cost(&after);       /* a report of so much silence rounds them away for now */
    g_assert_cmpuint(after.events - before.events, ==, 16 * 7);
    check_contents();
}

static atomic_bool stop;

/* One page in each of a few granules, all the time. */
static gpointer use_single_pages(gpointer unused)
{
    (void)unused;
    while (!atomic_load(&stop))
        for (guint32 g = 0; g < SPARSE; g++)
            touch(block->host + (size_t)g * GRANULE + (g * 61 + 40) % 512 * PAGE, g & 1);
    return NULL;
}

/*
 * What is silent is armed as a whole in the end. Then a page that is used all the time is found, wherever
 * it is; that and not how many pages are touched is what makes a granule busy.
 */
static void test_sparse(void)
{
    guint32 events[GRANULES] = { 0 };
    double exposure[GRANULES] = { 0 };
    guint32 found = 0;
    GThread *vcpu;

    start();
    for (guint32 g = 0, i = 0; g < GRANULES && i < 2000; i++) {
        g_usleep(20000);
        harvest(LONG_US);
        while (g < GRANULES && unmapped(g) == GRANULE)
            g++;
    }
    g_assert_cmpuint(unmapped(GRANULES - 1), ==, GRANULE);
    vcpu = g_thread_new("vcpu", use_single_pages, NULL);
    for (int i = 0; i < 100 && found < SPARSE; i++) {
        g_usleep(100000);
        harvest(LONG_US);
        found = 0;
        for (guint32 g = 0; g < GRANULES; g++) {
            events[g] += got[g].events;
            exposure[g] += got[g].exposure;
            found += events[g] > 0;
        }
    }
    atomic_store(&stop, true);
    g_thread_join(vcpu);
    g_test_message("%.1f touches a second in a granule", events[0] / exposure[0] * 512 * 1000);
    for (guint32 g = 0; g < GRANULES; g++)
        if (g < SPARSE)
            g_assert_cmpuint(events[g], >=, 1);
        else
            g_assert_cmpuint(events[g], ==, 0);
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
    guint32 g = only_armed(5);
    guint8 *probe = armed(g);

    touch(probe, true);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[g].events, ==, 1);
    touch(probe, true);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[g].events, ==, 0);
    touch(probe + PAGE, false);
    g_usleep(300000);
    harvest(LONG_US);
    g_assert_cmpuint(got[g].events, ==, 1);
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
        g_assert_cmpfloat(got[g].exposure, >, 4 * 1150);
        /* What an earlier test left unreported comes along. */
        g_assert_cmpfloat(got[g].exposure, <, 4 * ms + 16 * 1000);
    }
}

/* Touches all of a new probe and has that found. NULL: it took so long that it may be taken for a calm one. */
static guint8 *spend_probe(guint32 *granule)
{
    gint64 from = g_get_monotonic_time();
    guint8 *probe;

    start();
    *granule = only_armed(*granule);
    probe = armed(*granule);
    for (guint32 at = 0; at < PROBE; at += PAGE)
        touch(probe + at, false);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[*granule].events, ==, PROBE / PAGE);
    g_assert_null(armed(*granule));
    return g_get_monotonic_time() < from + 250000 ? probe : NULL;
}

/* A spent probe is armed again elsewhere, after its back-off. */
static void test_armed_again(void)
{
    guint32 g = 7;
    guint8 *probe;

    while (!(probe = spend_probe(&g)))
        g++;
    g_usleep(250000);
    harvest(LONG_US);
    g_assert_nonnull(armed(g));
    g_assert_true(armed(g) != probe);
    touch(armed(g), false);
    g_usleep(5000);
    harvest(LONG_US);
    g_assert_cmpuint(got[g].events, ==, 1);
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
    struct refault_cost before, after;

    start();
    for (guint32 g = 0; g < GRANULES; g++)
        touch(armed(g), false);
    g_usleep(5000);
    refault_get_cost(&before);
    harvest(0);
    g_assert_cmpuint(all_events(), ==, 0);
    harvest(SMALL_US);
    refault_get_cost(&after);
    g_test_message("%u us spent of %u", (unsigned)((after.cpu_ns - before.cpu_ns) / 1000), SMALL_US);
    g_assert_cmpuint(after.cpu_ns - before.cpu_ns, <, 20000000);
    g_assert_cmpuint(all_events(), ==, GRANULES);
    g_assert_cmpuint(after.vcpu_ns - before.vcpu_ns, >=, GRANULES * 100);
}

static void ignore(const struct vt_obs *o, void *opaque)
{
    (void)o;
    (void)opaque;
}

static void count(const struct vt_obs *o, void *opaque)
{
    *(guint32 *)opaque += o->events;
}

/* A larger block in the place of the other. */
struct more {
    struct ram_block *b;
    guint8 *host;
    int fd;
};

static struct more more_begin(void)
{
    struct more m = { .fd = memfd_create("toy", MFD_CLOEXEC) };
    struct vt_err err;

    g_assert_cmpint(ftruncate(m.fd, (off_t)MORE * GRANULE), ==, 0);
    m.host = mmap(NULL, (size_t)MORE * GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
    ram_lock();
    m.b = ram_add("more", m.host, (guint64)MORE * GRANULE, PAGE, m.fd, &err);
    g_assert_cmpint(uffd_register(m.host, (guint64)MORE * GRANULE), ==, 0);
    m.b->watched = true;
    block->present = false;
    ram_unlock();
    return m;
}

static void more_end(struct more *m)
{
    ram_lock();
    ram_drop(m->b);
    block->present = true;
    ram_unlock();
    munmap(m->host, (size_t)MORE * GRANULE);
    close(m->fd);
}

static void touch_all(const struct more *m)
{
    for (size_t at = 0; at < (size_t)MORE * GRANULE; at += PAGE)
        touch(m->host + at, false);
}

/* So many harvests as there are slices in it, a small budget gets through any memory. */
static void test_cursor(void)
{
    struct more m = more_begin();
    guint32 seen = 0;

    for (int i = 0; i < 2000; i++)
        refault_harvest(SMALL_US, ignore, NULL);
    touch_all(&m);
    g_usleep(5000);
    for (int i = 0; i < 2000 && seen < MORE * (PROBE / PAGE); i++)
        refault_harvest(SMALL_US, count, &seen);
    g_assert_cmpuint(seen, ==, MORE * (PROBE / PAGE));
    more_end(&m);
}

/*
 * However much CPU time there is, the guest pays no more than 0.7 % of its time, and what a
 * second's worth of that is at once. All it has is touched all the time.
 */
static void test_guest_budget(void)
{
    struct more m = more_begin();
    struct refault_cost before, after;
    gint64 from, to;
    guint32 armed_pages = GRANULE / PAGE;   /* of the last granule that is armed as a whole */
    double each;

    touch_all(&m);
    refault_harvest(LONG_US, ignore, NULL);
    refault_set_guest(1, true);     /* begins anew, with nothing */
    for (guint32 g = 0; g < MORE; g++)
        armed_pages += page_table_missing(m.host + (size_t)g * GRANULE) / PAGE;
    refault_get_cost(&before);
    from = g_get_monotonic_time();
    do {
        refault_harvest(LONG_US, ignore, NULL);
        touch_all(&m);
        to = g_get_monotonic_time();
    } while (to < from + 1500000);
    refault_get_cost(&after);
    g_test_message("%.2f ms of vCPU time in %.2f s", (double)(after.vcpu_ns - before.vcpu_ns) / 1e6,
                   (double)(to - from) / 1e6);
    g_assert_cmpuint(after.vcpu_ns, >, before.vcpu_ns + 1000000);
    /*
     * What was armed before it was limited comes on top, at what a touch costs here; and the last granule that was
     * armed as a whole, which is paid for by and by.
     */
    each = (double)(after.vcpu_ns - before.vcpu_ns) / (double)(after.events - before.events);
    g_assert_cmpfloat((double)(after.vcpu_ns - before.vcpu_ns), <,
                      7.0 * (double)(to - from) + each * armed_pages);
    refault_set_guest(VCPUS, false);
    more_end(&m);
}

static guint turns[MORE];
static guint32 first_of_more;

static void take_turn(const struct vt_obs *o, void *opaque)
{
    (void)opaque;
    if (o->granule >= first_of_more && o->granule < first_of_more + MORE)
        turns[o->granule - first_of_more] += o->events > 0;
}

/*
 * If the guest's budget is not enough for all, all get as much of it: no granule is looked at again and again
 * while another waits. All is touched all the time.
 */
static void test_turns(void)
{
    struct more m = more_begin();
    guint least = 0, most = 0;

    first_of_more = m.b->first;
    touch_all(&m);
    refault_harvest(LONG_US, ignore, NULL);
    refault_set_guest(1, true);
    memset(turns, 0, sizeof(turns));
    while (least < TURNS) {
        refault_harvest(LONG_US, take_turn, NULL);
        touch_all(&m);
        least = most = turns[0];
        for (guint g = 1; g < MORE; g++) {
            least = MIN(least, turns[g]);
            most = MAX(most, turns[g]);
        }
    }
    g_test_message("each granule was seen %u to %u times", least, most);
    g_assert_cmpuint(most, <=, 2 * TURNS);
    refault_set_guest(VCPUS, false);
    more_end(&m);
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
    refault_set_guest(VCPUS, false);
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
    { "cursor", test_cursor },   { "silent", test_silent },
    { "sparse", test_sparse },
    { "guest-budget", test_guest_budget }, { "turns", test_turns },
};

static void test_skipped(void)
{
    g_test_skip("/dev/userfaultfd cannot be opened");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    bool able = set_up();

    g_test_add_data_func("/refault/exact-read", NULL, able ? test_exact : (GTestDataFunc)test_skipped);
    g_test_add_data_func("/refault/exact-write", "w", able ? test_exact : (GTestDataFunc)test_skipped);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/refault/", tests[i].name, NULL);

        g_test_add_func(path, able ? tests[i].run : test_skipped);
    }
    return g_test_run();
}
