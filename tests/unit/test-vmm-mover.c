// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The remap mover on memory of our own: contents, holes, files, mappings, failures, and writers that
 * must not lose an update. Needs /dev/userfaultfd.
 *
 * timeout: 120
 */
#include "two-tiers.h"
#include "common/fault.h"
#include "vmm/backing.h"
#include "vmm/mover.h"
#include "vmm/poison.h"
#include "vmm/pool.h"
#include "vmm/refault.h"
#include "vmm/uffd.h"

#include <fcntl.h>
#include <glib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRANULE  (64u << 10)
#define GRANULES 64u
#define SIZE     ((size_t)GRANULE * GRANULES)
#define PAGES    (SIZE / 4096)
#define MANY     24u                /* granules: more than the mover would let lie about anyway */

static void set_up(struct two_tiers *f, gconstpointer flags)
{
    two_tiers_set_up(f, SIZE, 4096, GPOINTER_TO_INT(flags));
    two_tiers_watch(f);
}

static void tear_down(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    two_tiers_tear_down(f);
}

/* Carries out a list of moves of the block's granules, numbered in it; returns how many arrived. */
static guint32 carry_out(struct two_tiers *f, struct vt_move_one *m, guint32 n)
{
    guint8 tier[2 * GRANULES];
    struct mover_cost cost;
    guint32 ok = 0;

    for (guint32 i = 0; i < n; i++) {
        m[i].granule += f->b->first;
        tier[i] = m[i].tier;
    }
    mover_carry_out(m, n, 0, &cost);
    for (guint32 i = 0; i < n; i++)
        ok += m[i].status == VT_ST_OK && m[i].tier == tier[i];
    return ok;
}

/* Moves granules [first, first + n) of the block; returns how many arrived. */
static guint32 move(struct two_tiers *f, guint32 first, guint32 n, guint8 tier)
{
    struct vt_move_one m[GRANULES];

    for (guint32 i = 0; i < n; i++)
        m[i] = (struct vt_move_one){ .granule = first + i, .tier = tier };
    return carry_out(f, m, n);
}

/* The same of every `step`th granule from `first` on, in one list. */
static guint32 move_each(struct two_tiers *f, guint32 first, guint32 step, guint8 tier)
{
    struct vt_move_one m[GRANULES];
    guint32 n = 0;

    for (guint32 g = first; g < GRANULES; g += step)
        m[n++] = (struct vt_move_one){ .granule = g, .tier = tier };
    return carry_out(f, m, n);
}

static enum vt_status move_one(guint32 granule, guint8 tier)
{
    struct vt_move_one m = { .granule = granule, .tier = tier };
    struct mover_cost cost;

    mover_carry_out(&m, 1, 0, &cost);
    return m.status;
}

static void fill(uint8_t *host)
{
    for (guint32 p = 0; p < PAGES; p++)
        memset(host + (size_t)p * 4096, (int)(p * 7 + 1) & 0xff, 4096);
}

static void assert_filled(const uint8_t *host)
{
    for (guint32 p = 0; p < PAGES; p++)
        for (guint32 i = 0; i < 4096; i += 512)
            g_assert_cmpint(host[(size_t)p * 4096 + i], ==, (p * 7 + 1) & 0xff);
}

static long count_mappings(const uint8_t *host)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long from, to;
    char line[512];
    long n = 0;

    while (fgets(line, sizeof(line), maps))
        n += sscanf(line, "%lx-%lx", &from, &to) == 2 && from < (gulong)host + SIZE &&
             to > (gulong)host;
    fclose(maps);
    return n;
}

/* --- where things end up --------------------------------------------------------------------- */

static void test_there_and_back(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    fill(f->host);
    g_assert_cmpuint(move(f, 0, GRANULES, 1), ==, GRANULES);
    assert_filled(f->host);
    g_assert_cmpuint(file_allocated(f->file[0]), ==, 0);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, SIZE);
    g_assert_cmpuint(move(f, 0, GRANULES, 0), ==, GRANULES);
    assert_filled(f->host);
    g_assert_cmpuint(file_allocated(f->file[0]), ==, SIZE);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, 0);
}

static void test_writes_follow(struct two_tiers *f, gconstpointer unused)
{
    guint8 seen = 0;

    (void)unused;
    fill(f->host);
    g_assert_cmpuint(move(f, 3, 1, 1), ==, 1);
    f->host[3 * GRANULE] = 0xee;
    g_assert_cmpint(pread(f->file[1], &seen, 1, 3 * GRANULE), ==, 1);
    g_assert_cmpuint(seen, ==, 0xee);
    g_assert_cmpint(pread(f->file[0], &seen, 1, 3 * GRANULE), ==, 1);
    g_assert_cmpuint(seen, ==, 0);      /* a hole */
    g_assert_cmpuint(ram_tier[f->b->first + 3], ==, 1);
    g_assert_cmpuint(ram_tier[f->b->first + 4], ==, 0);
}

static void test_holes_stay_holes(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    f->host[5 * GRANULE + 4096] = 1;
    f->host[5 * GRANULE + 5 * 4096] = 2;
    g_assert_cmpuint(move(f, 0, GRANULES, 1), ==, GRANULES);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, 2 * 4096);
    g_assert_cmpuint(f->host[5 * GRANULE + 4096], ==, 1);
    g_assert_cmpuint(f->host[5 * GRANULE + 5 * 4096], ==, 2);
}

static void test_mappings_merge_again(struct two_tiers *f, gconstpointer unused)
{
    long before;

    (void)unused;
    fill(f->host);
    before = count_mappings(f->host);
    for (guint32 g = 1; g < GRANULES; g += 2)
        g_assert_cmpuint(move(f, g, 1, 1), ==, 1);
    g_assert_cmpint(count_mappings(f->host), ==, GRANULES);
    for (guint32 g = 1; g < GRANULES; g += 2)
        g_assert_cmpuint(move(f, g, 1, 0), ==, 1);
    g_assert_cmpint(count_mappings(f->host), ==, before);
    assert_filled(f->host);
}

/* --- spare memory -------------------------------------------------------------------------------------- */

static void keep(guint64 dram, guint64 cxl)
{
    const struct mover_tuning t = { .run_bytes = GRANULE, .keep = { dram * GRANULE, cxl * GRANULE } };

    mover_set_tuning(&t);
}

/*
 * What demotions have left is the promotions' memory, which come in a list of their own: the first of them
 * must not give back what is the others'. When they have arrived nothing is left of it.
 */
static void exchange(struct two_tiers *f, guint32 step)
{
    struct vt_move_one up[MANY];

    fill(f->host);
    keep(0, 0);
    g_assert_cmpuint(move(f, 0, MANY, 1), ==, MANY);
    keep(MANY, MANY);
    g_assert_cmpuint(move(f, MANY, MANY, 1), ==, MANY);
    g_assert_cmpuint(pool_spare(0), ==, MANY * GRANULE);
    for (guint32 i = 0; i < MANY; i++)
        up[i] = (struct vt_move_one){ .granule = step * i, .tier = 0 };
    keep(0, MANY);
    g_assert_cmpint(fault_set("write=ENOMEM:1:0", NULL), ==, 0);    /* it is made by writing */
    g_assert_cmpuint(carry_out(f, up, MANY), ==, MANY);
    g_assert_cmpint(fault_set("", NULL), ==, 0);
    assert_filled(f->host);
    g_assert_cmpuint(pool_spare(0), ==, 0);
    g_assert_cmpuint(file_allocated(f->file[0]), ==, SIZE - MANY * GRANULE);
    keep(0, 0);
}

static void test_exchange(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    exchange(f, 1);
}

static void test_exchange_in_batches(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    exchange(f, 2);
}

static struct two_tiers *two[2];

/* Each run's memory is there. */
static void check_dram(enum fault_point point)
{
    g_assert_cmpint(point, ==, FAULT_MAP_OVER);
    g_assert_cmpuint(file_allocated(two[0]->file[0]) + file_allocated(two[1]->file[0]), <=,
                     2 * SIZE - MANY * GRANULE);
}

/* Memory that is made where none is spare takes the place of what is spare elsewhere, before it is made. */
static void test_spare_elsewhere(struct two_tiers *f, gconstpointer unused)
{
    struct two_tiers other;

    (void)unused;
    two_tiers_set_up(&other, SIZE, 4096, 0);
    two_tiers_watch(&other);
    two[0] = f;
    two[1] = &other;
    fill(f->host);
    fill(other.host);
    keep(0, 0);
    g_assert_cmpuint(move(&other, 0, MANY, 1), ==, MANY);
    keep(MANY, 0);
    g_assert_cmpuint(move(f, 0, MANY, 1), ==, MANY);
    keep(0, 0);
    fault_on_pause(check_dram);
    g_assert_cmpint(fault_set("map-over=pause:1:0", NULL), ==, 0);
    g_assert_cmpuint(move(&other, 0, MANY, 0), ==, MANY);
    g_assert_cmpint(fault_set("", NULL), ==, 0);
    fault_on_pause(NULL);
    g_assert_cmpuint(pool_spare(0), ==, 0);
    assert_filled(other.host);
    two_tiers_tear_down(&other);
}

/* What could not be given back is memory of its tier still: who comes there takes that, and makes no other. */
static void test_not_given_back(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    fill(f->host);
    keep(0, 0);
    g_assert_cmpuint(move(f, 0, 8, 1), ==, 8);
    g_assert_cmpint(fault_set("punch=ENOSPC:1:0", NULL), ==, 0);
    g_assert_cmpuint(move(f, 8, 8, 1), ==, 8);
    g_assert_cmpuint(pool_spare(0), ==, 8 * GRANULE);
    g_assert_cmpuint(move(f, 0, 8, 0), ==, 8);
    g_assert_cmpuint(file_allocated(f->file[0]), ==, SIZE - 8 * GRANULE);
    g_assert_cmpint(fault_set("", NULL), ==, 0);
    g_assert_cmpuint(move(f, 8, 8, 0), ==, 8);
    assert_filled(f->host);
    g_assert_cmpuint(pool_spare(0), ==, 0);
}

static void say_corrupted(const char *path, unsigned kib)
{
    g_autofree char *text = g_strdup_printf("MemTotal: 8 kB\nHardwareCorrupted: %5u kB\nPercpu: 4 kB\n", kib);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    poison_ask(path);
}

/* After a memory error each page is asked for before it is touched, however well it was known. */
static void test_memory_error(struct two_tiers *f, gconstpointer unused)
{
    g_autofree char *path = g_strdup_printf("/tmp/vmtier-test-meminfo-%d", (int)getpid());

    (void)unused;
    f->b->small[0] = f->b->small[1] = false;    /* copied from view to view */
    fill(f->host);
    keep(8, 8);
    say_corrupted(path, 0);
    for (guint8 there = 0; there < 3; there++)
        g_assert_cmpuint(move(f, 0, 8, !(there % 2)), ==, 8);
    g_assert_true(pool_is_mapped(f->b, 1, 0, 8));
    say_corrupted(path, 0);
    g_assert_cmpuint(move(f, 8, 1, 1), ==, 1);
    g_assert_true(pool_is_mapped(f->b, 1, 0, 8));
    say_corrupted(path, 4);
    g_assert_cmpuint(move(f, 9, 1, 1), ==, 1);
    g_assert_false(pool_is_mapped(f->b, 1, 0, 1));
    g_assert_cmpint(fault_set("populate-source=EHWPOISON:1:0", NULL), ==, 0);
    g_assert_cmpint(move_one(f->b->first, 0), ==, VT_ST_NOMEM);
    g_assert_cmpint(fault_set("", NULL), ==, 0);
    g_assert_cmpuint(move(f, 0, 8, 0), ==, 8);
    assert_filled(f->host);
    keep(0, 0);
    poison_ask("/proc/meminfo");
    unlink(path);
}

/* --- lists of granules that are no neighbours ------------------------------------------------------ */

static void assert_registered(const struct two_tiers *f)
{
    struct backing_flags flags[GRANULES];

    for (guint32 g = 0; g < GRANULES; g++)
        flags[g] = (struct backing_flags){ .at = f->host + (size_t)g * GRANULE };
    g_assert_cmpint(backing_read_flags(flags, GRANULES), ==, 0);
    for (guint32 g = 0; g < GRANULES; g++)
        if (!strstr(flags[g].text, " uw") || !strstr(flags[g].text, " dd"))
            g_error("granule %u: %s", g, flags[g].text);
}

/* All that is mapped anew has its flags and is registered, and merges with its neighbours at the end. */
static void test_batch(struct two_tiers *f, gconstpointer unused)
{
    long before = count_mappings(f->host);

    (void)unused;
    fill(f->host);
    g_assert_cmpuint(move_each(f, 1, 2, 1), ==, GRANULES / 2);
    assert_filled(f->host);
    assert_registered(f);
    g_assert_cmpint(count_mappings(f->host), ==, GRANULES);
    g_assert_cmpuint(file_allocated(f->file[0]), ==, SIZE / 2);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, SIZE / 2);
    g_assert_cmpuint(move_each(f, 0, 3, 1), ==, (GRANULES + 2) / 3);
    assert_filled(f->host);
    assert_registered(f);
    for (guint32 third = 0; third < 3; third++)
        move_each(f, third, 3, 0);
    assert_filled(f->host);
    assert_registered(f);
    g_assert_cmpint(count_mappings(f->host), ==, before);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, 0);
}

/* A granule's second move finds it registered again, and from the end of the list to its beginning. */
static void test_batch_twice(struct two_tiers *f, gconstpointer unused)
{
    struct vt_move_one m[2 * GRANULES];
    guint32 n = 0;

    (void)unused;
    fill(f->host);
    for (guint32 g = GRANULES - 2; g > 4; g -= 4) {
        m[n++] = (struct vt_move_one){ .granule = g, .tier = 1 };
        m[n++] = (struct vt_move_one){ .granule = g - 2, .tier = 1 };
        m[n++] = (struct vt_move_one){ .granule = g, .tier = 0 };
    }
    g_assert_cmpuint(carry_out(f, m, n), ==, n);
    assert_filled(f->host);
    assert_registered(f);
    g_assert_cmpuint(file_allocated(f->file[1]), ==, (size_t)n / 3 * GRANULE);
}

static void test_moving_where_it_is(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    fill(f->host);
    g_assert_cmpuint(move(f, 0, 4, 0), ==, 4);
    assert_filled(f->host);
}

/* --- what must fail, and leave everything as it was --------------------------------------------- */

static void test_invalid(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    fill(f->host);
    g_assert_cmpint(move_one(f->b->first + GRANULES, 1), ==, VT_ST_INVALID);
    g_assert_cmpint(move_one(VT_GRANULES_MAX - 1, 1), ==, VT_ST_INVALID);
    g_assert_cmpint(move_one(f->b->first, 2), ==, VT_ST_INVALID);
    g_assert_cmpint(move_one(f->b->first, 200), ==, VT_ST_INVALID);
    f->b->present = false;
    g_assert_cmpint(move_one(f->b->first, 1), ==, VT_ST_INVALID);
    f->b->present = true;
    assert_filled(f->host);
}

static void test_no_memory(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    fill(f->host);
    f->b->small[1] = false;             /* else it is written to, which makes it longer again */
    g_assert_cmpint(ftruncate(f->file[1], 0), ==, 0);
    g_assert_cmpint(move_one(f->b->first + 1, 1), ==, VT_ST_NOMEM);
    g_assert_cmpuint(ram_tier[f->b->first + 1], ==, 0);
    assert_filled(f->host);
    f->host[GRANULE] = 9;               /* nobody waits for ever */
    g_assert_cmpint(ftruncate(f->file[1], SIZE), ==, 0);
    g_assert_cmpint(move_one(f->b->first + 1, 1), ==, VT_ST_OK);
    g_assert_cmpuint(f->host[GRANULE], ==, 9);
}

static void test_frozen(struct two_tiers *f, gconstpointer unused)
{
    char reason[VT_TEXT];

    (void)unused;
    mover_freeze(false, "a test says %s", "so");
    g_assert_true(mover_frozen(reason));
    g_assert_cmpstr(reason, ==, "a test says so");
    g_assert_cmpint(move_one(f->b->first, 1), ==, VT_ST_FROZEN);
    mover_freeze(false, "second reasons are not kept");
    mover_frozen(reason);
    g_assert_cmpstr(reason, ==, "a test says so");
    g_assert_true(mover_thaw());
    g_assert_cmpint(move_one(f->b->first, 1), ==, VT_ST_OK);
}

static void test_retreat(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    fill(f->host);
    g_assert_cmpuint(move(f, 7, 20, 1), ==, 20);
    mover_freeze(false, "a device");
    mover_retreat();
    g_assert_true(mover_thaw());
    g_assert_cmpuint(file_allocated(f->file[1]), ==, 0);
    assert_filled(f->host);
}

/* --- writers --------------------------------------------------------------------------------------- */

#define WRITERS 3

struct writer {
    uint8_t *host;
    guint32 lane;
    guint64 count[PAGES];
    guint64 random;
    atomic_bool *stop;
};

/* Each writer has a counter of its own in each page, and knows what it must hold. */
static gpointer write_counters(gpointer data)
{
    struct writer *w = data;

    while (!atomic_load(w->stop)) {
        guint32 page;
        volatile guint64 *at;

        w->random = w->random * 6364136223846793005u + 1442695040888963407u;
        page = (guint32)(w->random >> 33) % PAGES;
        at = (volatile guint64 *)(void *)(w->host + (size_t)page * 4096 + w->lane * 64);
        g_assert_cmpuint(*at, ==, w->count[page]);
        *at = ++w->count[page];
    }
    return NULL;
}

static void test_writers(struct two_tiers *f, gconstpointer unused)
{
    static struct writer writers[WRITERS];
    GThread *threads[WRITERS];
    atomic_bool stop = false;
    gint64 start = g_get_monotonic_time();
    guint64 moved = 0;
    guint8 tier = 1;

    (void)unused;
    memset(f->host, 0, SIZE);
    for (guint32 i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){ .host = f->host, .lane = i, .random = i + 1, .stop = &stop };
        threads[i] = g_thread_new("writer", write_counters, &writers[i]);
    }
    for (; moved < 2000 || g_get_monotonic_time() < start + 3 * G_USEC_PER_SEC; tier = !tier)
        for (guint32 g = 0; g < GRANULES; g += 1 + g % 5)
            moved += g % 2 ? move_each(f, g, 3, tier) : move(f, g, MIN(1 + g % 5, GRANULES - g), tier);
    atomic_store(&stop, true);
    for (guint32 i = 0; i < WRITERS; i++)
        g_thread_join(threads[i]);
    for (guint32 i = 0; i < WRITERS; i++)
        for (guint32 p = 0; p < PAGES; p++)
            g_assert_cmpuint(*(guint64 *)(void *)(f->host + (size_t)p * 4096 + i * 64), ==,
                             writers[i].count[p]);
    g_test_message("%" G_GUINT64_FORMAT " granules moved under %d writers", moved, WRITERS);
}

/* --- */

static bool have_userfault(void)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    struct vt_err err;
    bool ok;

    if (device < 0)
        return false;
    ok = uffd_open(device, &err) == 0;
    if (!ok)
        g_test_message("%s", err.text);
    close(device);
    return ok;
}

static void skip(void)
{
    g_test_skip("/dev/userfaultfd cannot be used here: run the tests as root on Linux 6.4 or later");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct two_tiers *f, gconstpointer unused);
        int map_flags;
    } tests[] = {
        { "/mover/there-and-back", test_there_and_back, 0 },
        { "/mover/writes-follow", test_writes_follow, 0 },
        { "/mover/holes-stay-holes", test_holes_stay_holes, 0 },
        { "/mover/mappings-merge-again", test_mappings_merge_again, 0 },
        { "/mover/mappings-merge-with-reserve-off", test_mappings_merge_again, MAP_NORESERVE },
        { "/mover/exchange", test_exchange, 0 },
        { "/mover/exchange-in-batches", test_exchange_in_batches, 0 },
        { "/mover/spare-elsewhere", test_spare_elsewhere, 0 },
        { "/mover/not-given-back", test_not_given_back, 0 },
        { "/mover/memory-error", test_memory_error, 0 },
        { "/mover/batch", test_batch, 0 },
        { "/mover/batch-twice", test_batch_twice, 0 },
        { "/mover/moving-where-it-is", test_moving_where_it_is, 0 },
        { "/mover/invalid", test_invalid, 0 },
        { "/mover/no-memory", test_no_memory, 0 },
        { "/mover/frozen", test_frozen, 0 },
        { "/mover/retreat", test_retreat, 0 },
        { "/mover/writers", test_writers, 0 },
    };
    struct vt_err err;
    bool can;

    g_test_init(&argc, &argv, NULL);
    can = have_userfault();
    g_assert_cmpint(ram_init(&err), ==, 0);
    ram_set_granule(GRANULE);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        if (can)
            g_test_add(tests[i].name, struct two_tiers, GINT_TO_POINTER(tests[i].map_flags), set_up,
                       tests[i].run, tear_down);
        else
            g_test_add_func(tests[i].name, skip);
    return g_test_run();
}
