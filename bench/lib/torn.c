// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The mover's side of torn.h, and the run as a whole.
 *
 * Lists are half neighbours and half granules from anywhere, as the daemon's are. With a pool that
 * is kept, or punched, a list takes each granule to the tier it is not in; an exchange takes as many
 * up as down, in pairs, with spare memory for one list only.
 */
#include "bench/lib/torn.h"
#include "bench/lib/stat.h"
#include "bench/lib/torn-parts.h"
#include "common/clock.h"

#include <string.h>
#include <unistd.h>

#define SIZE (32ull << 20)

const char *const torn_mode_names[TORN_MODES] = { "pool kept", "punched", "exchanged" };

guint torn_pick_page(struct torn *t, guint64 *random)
{
    guint n = atomic_load(&t->focused), in_granule = (guint)(ram_granule() / 4096);

    if (!n || bench_random(random) % 4 == 0)
        return bench_random(random) % t->pages;
    return atomic_load(&t->focus[bench_random(random) % n]) * in_granule +
           bench_random(random) % in_granule;
}

static bool listed(const struct vt_move_one *list, guint n, guint32 granule)
{
    for (guint i = 0; i < n; i++)
        if (list[i].granule == granule)
            return true;
    return false;
}

/* Granule `index` (modulo) or the next one that is in the tier (2: any) and not listed yet. */
static guint add(const struct torn *t, struct vt_move_one *list, guint n, guint index, guint tier)
{
    const struct ram_block *b = t->m.b;

    for (guint i = 0; i < b->count; i++) {
        struct vt_move_one one = bench_toggle(&t->m, (index + i) % b->count);

        if ((tier == 2 || one.tier != tier) && !listed(list, n, one.granule)) {
            list[n] = one;
            return n + 1;
        }
    }
    return n;
}

static guint fill_list(const struct torn *t, struct vt_move_one *list, guint64 *random)
{
    guint most = CLAMP(t->m.b->count / 4, 1, TORN_LIST), first = bench_random(random), n = 0;

    for (guint i = 0; i < most; i++) {
        guint index = i < most / 2 ? first + i : bench_random(random);
        guint tier = t->c->mode == TORN_EXCHANGED ? i & 1 : 2;

        n = add(t, list, n, index, tier);
    }
    return n;
}

static void aim(struct torn *t, const struct vt_move_one *list, guint n)
{
    for (guint i = 0; i < n; i++)
        atomic_store(&t->focus[i], list[i].granule - t->m.b->first);
    atomic_store(&t->focused, n);
}

/* An update lost by hand: a page as it was a while ago. */
static void rewind_page(const struct torn *t)
{
    uint8_t *page = t->m.host + (gsize)atomic_load(&t->focus[0]) * ram_granule(), before[4096];

    memcpy(before, page, sizeof(before));
    g_usleep(20000);
    memcpy(page, before, sizeof(before));
}

static bool take_in(const struct vt_move_one *list, guint n, struct torn_result *r)
{
    for (guint i = 0; i < n; i++)
        switch (list[i].status) {
        case VT_ST_OK:
            r->granules++;
            break;
        case VT_ST_BUSY: case VT_ST_LIMIT: case VT_ST_AGAIN:
            r->deferred++;
            break;
        default:
            g_snprintf(r->why, sizeof(r->why), "a move ended with status %u", list[i].status);
            return false;
        }
    return true;
}

static bool goes_on(struct torn *t, const struct torn_result *r, guint64 start)
{
    return r->pages < t->c->pages &&
           clock_ns(CLOCK_MONOTONIC) - start < t->c->seconds * 1000000000ull &&
           !(t->c->until_damage && atomic_load(&t->damage));
}

static bool move_on(struct torn *t, struct torn_result *r)
{
    guint64 start = clock_ns(CLOCK_MONOTONIC), random = 5;
    struct vt_move_one list[TORN_LIST];
    bool ok = true;

    while (ok && goes_on(t, r, start)) {
        guint n = fill_list(t, list, &random);

        aim(t, list, n);
        r->pages += bench_move_some(list, n);
        if (t->c->harm == TORN_REWIND)
            rewind_page(t);
        ok = take_in(list, n, r);
    }
    r->seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
    return ok;
}

static void tune(const struct torn *t)
{
    const struct bench_tuning tuning = {
        .run_bytes = MAX(t->c->granule, 8u << 20), .threads = 1,
        .keep = t->c->mode == TORN_KEPT ? SIZE :
                t->c->mode == TORN_EXCHANGED ? TORN_LIST * t->c->granule : 0,
    };

    bench_tune(&tuning);
}

static void begin_writer(struct torn *t, struct torn_writer *w, guint id)
{
    *w = (struct torn_writer){ .t = t, .id = id };
    w->mine = g_new0(guint64, t->pages);
    w->seen = g_new0(guint64, t->pages);
    w->added = g_new0(guint64, t->pages);
}

static void sum_up(const struct torn *t, const struct torn_writer *w, const struct torn_device *d,
                   struct torn_result *r)
{
    for (guint i = 0; i < TORN_WRITERS; i++) {
        r->writes += w[i].writes;
        r->lost += w[i].lost;
        r->torn += w[i].torn;
    }
    for (guint i = 0; i < TORN_DEVICES; i++) {
        r->reads_in += d[i].reads;
        r->writes_out += d[i].writes;
        r->bad_reads += d[i].bad_reads;
        r->bad_writes += d[i].bad_writes;
        if (d[i].failed && r->ok) {
            r->ok = false;
            g_snprintf(r->why, sizeof(r->why), "device I/O: %s", g_strerror(d[i].failed));
        }
    }
    r->wrong_at_end = torn_check(t, w);
}

static void run_threads(struct torn *t, struct torn_result *r)
{
    struct torn_writer w[TORN_WRITERS];
    struct torn_device d[TORN_DEVICES];
    GThread *thread[TORN_WRITERS + TORN_DEVICES];

    for (guint i = 0; i < TORN_WRITERS; i++) {
        begin_writer(t, &w[i], i);
        thread[i] = g_thread_new("writer", torn_write, &w[i]);
    }
    for (guint i = 0; i < TORN_DEVICES; i++) {
        d[i] = (struct torn_device){ .t = t, .id = i };
        thread[TORN_WRITERS + i] = g_thread_new("device", torn_do_io, &d[i]);
    }
    r->ok = move_on(t, r);
    atomic_store(&t->stop, true);
    for (guint i = 0; i < G_N_ELEMENTS(thread); i++)
        g_thread_join(thread[i]);
    sum_up(t, w, d, r);
}

void torn_run(const void *what, void *result)
{
    struct torn_result *r = result;
    struct torn *t = g_new0(struct torn, 1);
    struct vt_err err = { 0 };

    t->c = what;
    t->pages = SIZE / 4096;
    if (bench_memory_open(&t->m, t->c->backing, t->c->granule, SIZE, &err)) {
        g_strlcpy(r->why, err.text, sizeof(r->why));
        return;
    }
    tune(t);
    run_threads(t, r);
}
