// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Moves under three writers and device I/O, on every backing: nothing may be lost, and nothing torn.
 * What tests/long/torn.c does at length, here for a second each; see bench/lib/torn.h.
 *
 * The last two do harm on purpose, and the detector must find it: without the fence device I/O goes
 * to memory that was left, and a page put back to what it was is a lost update.
 *
 * timeout: 240
 */
#include "bench/lib/child.h"
#include "bench/lib/torn.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SECONDS    1u
#define HANG_LIMIT 30u          /* seconds; beside those */
#define HARM_LIMIT 60u          /* seconds; it takes less than one */
#define HUGE_PAGES 40u

static int disk;
static guint cases_run;
static guint64 total_pages, total_io;      /* of these */

static struct torn_result run(const struct torn_case *c)
{
    struct torn_result r = { 0 };
    const char *why = bench_child(torn_run, c, &r, sizeof(r), c->seconds + HANG_LIMIT);

    if (why)
        g_strlcpy(r.why, why, sizeof(r.why));
    g_test_message("%s, %s: %" G_GUINT64_FORMAT " pages moved, %" G_GUINT64_FORMAT " writes, %"
                   G_GUINT64_FORMAT " device reads, %" G_GUINT64_FORMAT " device writes; %"
                   G_GUINT64_FORMAT " lost, %" G_GUINT64_FORMAT " torn, %" G_GUINT64_FORMAT
                   " wrong at the end, %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT " bad I/O %s",
                   bench_backing_names[c->backing], torn_mode_names[c->mode], r.pages, r.writes,
                   r.reads_in, r.writes_out, r.lost, r.torn, r.wrong_at_end, r.bad_reads,
                   r.bad_writes, r.why);
    return r;
}

/* What only a tmpfs or huge pages of this host's could do is skipped; a failed move is a failure. */
static bool can_run(const struct torn_case *c, const struct torn_result *r)
{
    if (r->ok || c->backing == BENCH_4K || r->granules || strstr(r->why, "process"))
        return true;
    g_test_skip(r->why);
    return false;
}

static void test_nothing_lost(gconstpointer data)
{
    const struct torn_case *c = data;
    struct torn_case mine = *c;
    struct torn_result r;

    mine.disk = disk;
    mine.pages = G_MAXUINT64;
    mine.seconds = SECONDS;
    r = run(&mine);
    if (!can_run(c, &r))
        return;
    g_assert_cmpstr(r.why, ==, "");
    g_assert_cmpuint(torn_damage(&r), ==, 0);
    cases_run++;
    total_pages += r.pages;
    total_io += r.reads_in + r.writes_out;
}

/* On a machine that is busy one case may come to little; all of them may not. */
static void test_something_was_done(void)
{
    if (!cases_run) {
        g_test_skip("none of the cases has run");
        return;
    }
    g_assert_cmpuint(total_pages, >, 0);
    g_assert_cmpuint(total_io, >, 0);
}

static void test_huge(gconstpointer data)
{
    char why[200];

    if (!bench_huge_take(HUGE_PAGES, why)) {
        g_test_skip(why);
        return;
    }
    test_nothing_lost(data);
    bench_huge_give();
}

static struct torn_result do_harm(enum torn_harm harm)
{
    const struct torn_case c = {
        .backing = BENCH_4K, .granule = 64u << 10, .mode = TORN_KEPT, .harm = harm, .disk = disk,
        .pages = G_MAXUINT64, .seconds = HARM_LIMIT, .until_damage = true,
    };

    return run(&c);
}

static void test_no_fence_is_found(void)
{
    struct torn_result r = do_harm(TORN_NO_FENCE);

    g_assert_cmpuint(r.bad_reads + r.bad_writes, >, 0);
}

static void test_lost_update_is_found(void)
{
    struct torn_result r = do_harm(TORN_REWIND);

    g_assert_cmpuint(r.lost + r.torn, >, 0);
}

static void skip(void)
{
    g_test_skip("/dev/userfaultfd or O_DIRECT cannot be used here: run the tests as root on Linux "
                "6.4 or later, with build/ on a file system that has O_DIRECT");
}

static bool can_test(void)
{
    const char *build = g_getenv("BUILD");
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    struct vt_err err;

    disk = torn_disk(build ? build : "build", &err);
    if (disk < 0)
        g_test_message("%s", err.text);
    if (device >= 0)
        close(device);
    return device >= 0 && disk >= 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        struct torn_case c;
    } cases[] = {
#define CASE(name_, backing_, granule_, mode_) \
        { name_, { .backing = (backing_), .granule = (granule_), .mode = (mode_) } }
        CASE("/torn/4k/4k-kept", BENCH_4K, 4u << 10, TORN_KEPT),
        CASE("/torn/4k/64k-punched", BENCH_4K, 64u << 10, TORN_PUNCHED),
        CASE("/torn/4k/64k-exchanged", BENCH_4K, 64u << 10, TORN_EXCHANGED),
        CASE("/torn/4k/2m-kept", BENCH_4K, 2u << 20, TORN_KEPT),
        CASE("/torn/thp/64k-kept", BENCH_THP, 64u << 10, TORN_KEPT),
        CASE("/torn/thp/2m-exchanged", BENCH_THP, 2u << 20, TORN_EXCHANGED),
        CASE("/torn/hugetlb/2m-kept", BENCH_HUGETLB, 2u << 20, TORN_KEPT),
        CASE("/torn/hugetlb/2m-punched", BENCH_HUGETLB, 2u << 20, TORN_PUNCHED),
    };

    g_test_init(&argc, &argv, NULL);
    if (!can_test()) {
        g_test_add_func("/torn/all", skip);
        return g_test_run();
    }
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        g_test_add_data_func(cases[i].name, &cases[i].c,
                             cases[i].c.backing == BENCH_HUGETLB ? test_huge : test_nothing_lost);
    g_test_add_func("/torn/found/something-to-check", test_something_was_done);
    g_test_add_func("/torn/found/no-fence", test_no_fence_is_found);
    g_test_add_func("/torn/found/lost-update", test_lost_update_is_found);
    return g_test_run();
}
