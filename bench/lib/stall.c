// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stalls: how long one access waits for the move of its granule.
 *
 * A thread writes to (or reads from) random pages of one granule, the one that is moved: an epoch.
 * Of each epoch the longest access counts. On a machine that is shared most long accesses are the
 * scheduler's, so an epoch is clean only if neither the thread nor the mover waited in the run queue
 * for more than 8 us (/proc/thread-self/schedstat). What the hypervisor takes is not seen by that;
 * the floor, the same without moves, says how much there is of it. It goes on until there are enough
 * clean epochs, or for three times as long as it should take.
 */
#include "bench/lib/move.h"
#include "common/clock.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define SIZE     (64ull << 20)
#define EPOCHS   40000u
#define ENOUGH   400u           /* clean epochs; a quarter of it in a quick run */
#define CLEAN_NS 8000u
#define LEAD_NS  60000u         /* the thread is at work in the granule before the move begins */
#define TAIL_NS  40000u

struct epoch {
    guint64 worst_ns, thread_delay, mover_delay;
};

struct chase {
    const struct bench_memory *m;
    bool writes, moves;
    atomic_uint epoch;          /* that goes on now; 0: none yet */
    atomic_uint index;          /* the granule in it, by its place in the block */
    atomic_bool stop;
    guint n;
    struct epoch *epochs;
};

static void access_page(const struct chase *c, uint8_t *granule, guint64 *random)
{
    guint64 page = bench_random(random) % (ram_granule() / 4096);
    volatile guint64 *at = (volatile guint64 *)(void *)(granule + page * 4096);

    if (c->writes)
        *at = *at + 1;
    else
        (void)*at;
}

static guint64 epoch_of(struct chase *c, guint epoch, guint64 *random)
{
    uint8_t *granule = c->m->host + (guint64)atomic_load(&c->index) * ram_granule();
    guint64 worst = 0;

    while (atomic_load(&c->epoch) == epoch && !atomic_load(&c->stop)) {
        guint64 start = clock_ns(CLOCK_MONOTONIC);

        access_page(c, granule, random);
        worst = MAX(worst, clock_ns(CLOCK_MONOTONIC) - start);
    }
    return worst;
}

static gpointer chase(gpointer data)
{
    struct chase *c = data;
    guint64 random = 1, before, after;
    int delay = bench_delay_open();

    bench_pin(0);
    before = bench_delay_ns(delay);
    while (!atomic_load(&c->stop)) {
        guint epoch = atomic_load(&c->epoch);
        guint64 worst = epoch_of(c, epoch, &random);

        after = bench_delay_ns(delay);
        c->epochs[epoch].worst_ns = worst;
        c->epochs[epoch].thread_delay = after - before;
        before = after;
    }
    return NULL;
}

/* One epoch; false if the granule could not be moved. */
static bool one_epoch(struct chase *c, guint index, guint32 granule, int delay)
{
    struct vt_move_one m = bench_toggle(c->m, granule);
    guint64 before = bench_delay_ns(delay);
    guint8 status;
    bool ok = true;

    atomic_store(&c->index, granule);
    atomic_store(&c->epoch, index);
    bench_spin_ns(LEAD_NS);
    if (c->moves)
        ok = bench_move(&m, 1, &status);
    else
        bench_spin_ns(TAIL_NS);
    bench_spin_ns(TAIL_NS);
    c->epochs[index].mover_delay = bench_delay_ns(delay) - before;
    return ok;
}

static bool is_clean(const struct epoch *e)
{
    return e->worst_ns && e->thread_delay < CLEAN_NS && e->mover_delay < CLEAN_NS;
}

/* The thread writes down an epoch when the next one has begun. */
static bool run_epochs(struct chase *c, guint seconds)
{
    guint64 start = clock_ns(CLOCK_MONOTONIC), span = seconds * 1000000000ull, random = 7;
    int delay = bench_delay_open();
    guint good = 0;
    bool ok = true;

    for (c->n = 1; ok && c->n < EPOCHS; c->n++) {
        guint64 spent = clock_ns(CLOCK_MONOTONIC) - start;

        good += c->n > 2 && is_clean(&c->epochs[c->n - 2]);
        if (spent > 3 * span || (spent > span && good >= seconds * ENOUGH / 4))
            break;
        ok = one_epoch(c, c->n, bench_random(&random) % c->m->b->count, delay);
    }
    close(delay);
    return ok;
}

static struct bench_spread clean(const struct chase *c)
{
    g_autofree double *us = g_new(double, EPOCHS);
    guint n = 0;

    for (guint i = 1; i < c->n; i++)
        if (is_clean(&c->epochs[i]))
            us[n++] = (double)c->epochs[i].worst_ns / 1e3;
    return bench_spread(us, n);
}

static bool chase_once(const struct bench_memory *m, bool writes, bool moves, guint seconds,
                       struct bench_spread *out, guint *epochs)
{
    struct chase c = { .m = m, .writes = writes, .moves = moves,
                       .epochs = g_new0(struct epoch, EPOCHS) };
    GThread *thread = g_thread_new("chase", chase, &c);
    bool ok = run_epochs(&c, seconds);

    atomic_store(&c.stop, true);
    g_thread_join(thread);
    *out = clean(&c);
    *epochs = c.n - 1;
    g_free(c.epochs);
    return ok;
}

/* What the granule's bytes cost memcpy(), median. */
static double copy_us(const struct bench_memory *m)
{
    uint8_t *from = bench_memory_more(m, SIZE), *to = bench_memory_more(m, SIZE);
    double us[256];
    guint n = 0;

    if (!from || !to)
        return 0;
    for (guint64 at = 0; at < SIZE && n < G_N_ELEMENTS(us); at += ram_granule()) {
        guint64 start = clock_ns(CLOCK_MONOTONIC);

        memcpy(to + at, from + at, ram_granule());
        us[n++] = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e3;
    }
    return bench_spread(us, n).median;
}

/* All granules twice, so that the pool is there. */
static bool warm_up(const struct bench_memory *m)
{
    guint8 status;

    for (guint32 i = 0; i < 2 * m->b->count; i++) {
        struct vt_move_one one = bench_toggle(m, i % m->b->count);

        if (!bench_move(&one, 1, &status))
            return false;
    }
    return true;
}

void bench_stall(const void *what, void *result)
{
    const struct bench_case *c = what;
    struct stall_result *r = result;
    struct bench_memory m;

    if (!bench_case_open(c, SIZE, &m, r->why))
        return;
    if (!bench_pin(1)) {
        g_strlcpy(r->why, "stalls take two processors", sizeof(r->why));
        return;
    }
    r->copy_us = copy_us(&m);
    r->ok = warm_up(&m) &&
            chase_once(&m, true, false, 1, &r->writer_floor, &r->epochs) &&
            chase_once(&m, false, false, 1, &r->reader_floor, &r->epochs) &&
            chase_once(&m, false, true, c->seconds, &r->reader, &r->epochs) &&
            chase_once(&m, true, true, c->seconds, &r->writer, &r->epochs);
    if (!r->ok)
        g_strlcpy(r->why, "a move failed", sizeof(r->why));
}
