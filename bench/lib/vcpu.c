// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What moves leave of a vCPU's throughput.
 *
 * A thread adds to random words of 256 MiB. Phases with moves and without alternate; counted are
 * accesses per second in which the thread was running or could have run, that is wall time less what
 * it waited in the run queue. A phase with moves is compared with the mean of the two phases around
 * it, so that slow changes of the machine's speed cancel out. The rate is kept by moving one granule
 * whenever it is due, taken at random, to the tier it is not in.
 *
 * A phase in which the thread had the processor for less than half of the time says little, nor does
 * one next to it: such are left out.
 *
 * Two controls do the same with a mover that only sleeps, which says what a ratio is worth, and with
 * one that only copies as many bytes between other places, which says what of it is the copy's.
 */
#include "bench/lib/move.h"
#include "common/clock.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define SIZE     (256ull << 20)
#define PHASE_NS 200000000ull
#define PHASES   1024u
#define COPIED   (64ull << 20)     /* where the control copies */
#define BATCH    64u            /* accesses between two looks at the phase */

struct phase {
    double ops, ns, wall_ns;
};

struct vcpu {
    const struct bench_memory *m;
    enum bench_control control;
    uint8_t *from, *to;         /* for the one that only copies */
    guint64 due;                /* the next move, ns from the phase's start */
    atomic_uint phase;
    atomic_bool stop;
    struct phase phases[PHASES];
};

static void access_some(const struct vcpu *v, guint64 *random)
{
    for (guint i = 0; i < BATCH; i++) {
        guint64 at = (guint64)bench_random(random) % (SIZE / 8);
        volatile guint64 *word = (volatile guint64 *)(void *)v->m->host + at;

        *word = *word + 1;
    }
}

static gpointer run_vcpu(gpointer data)
{
    struct vcpu *v = data;
    guint64 random = 3;
    int delay = bench_delay_open();

    bench_pin(0);
    while (!atomic_load(&v->stop)) {
        guint phase = atomic_load(&v->phase);
        guint64 start = clock_ns(CLOCK_MONOTONIC), waited = bench_delay_ns(delay), n = 0;
        double wall;

        for (; atomic_load(&v->phase) == phase && !atomic_load(&v->stop); n += BATCH)
            access_some(v, &random);
        wall = (double)(clock_ns(CLOCK_MONOTONIC) - start);
        v->phases[phase] = (struct phase){
            (double)n, wall - (double)(bench_delay_ns(delay) - waited), wall };
    }
    return NULL;
}

static void sleep_until(guint64 when)
{
    const struct timespec t = { .tv_sec = (time_t)(when / 1000000000u),
                                .tv_nsec = (long)(when % 1000000000u) };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* One granule; false if it was not moved. */
static bool one_move(const struct vcpu *v, guint32 index)
{
    struct vt_move_one m = bench_toggle(v->m, index);
    guint64 at = index * ram_granule() % COPIED;
    guint8 status;

    if (v->control == BENCH_COPIES)
        memcpy(v->to + at, v->from + at, ram_granule());
    return v->control == BENCH_MOVES && bench_move(&m, 1, &status);
}

/* Bytes moved in the phase; sleeps through it without a rate. */
static guint64 one_phase(struct vcpu *v, guint rate, guint64 *random)
{
    guint64 start = clock_ns(CLOCK_MONOTONIC), granule = ram_granule(), moved = 0;
    guint64 step = rate ? granule * 1000u / rate : PHASE_NS;

    for (; rate && v->due < PHASE_NS; v->due += step) {
        sleep_until(start + v->due);
        moved += one_move(v, bench_random(random) % v->m->b->count) ? granule : 0;
    }
    v->due -= rate ? PHASE_NS : 0;
    sleep_until(start + PHASE_NS);
    return moved;
}

static double speed(const struct phase *p)
{
    return p->ns > 0 ? p->ops / p->ns : 0;
}

static bool is_sound(const struct phase *p)
{
    return p->ops > 0 && p->ns > p->wall_ns / 2;
}

/* Phases without moves have even numbers. */
static void compare(const struct vcpu *v, guint phases, struct vcpu_result *r)
{
    double ratio[PHASES], quiet[PHASES], sum = 0, squares = 0;
    guint n = 0, q = 0;

    for (guint i = 0; i < phases; i += 2)
        quiet[q++] = speed(&v->phases[i]) * 1e3;
    for (guint i = 1; i + 1 < phases; i += 2) {
        const struct phase *p = &v->phases[i];

        if (!is_sound(p - 1) || !is_sound(p) || !is_sound(p + 1))
            continue;
        ratio[n] = speed(p) / ((speed(p - 1) + speed(p + 1)) / 2);
        sum += ratio[n];
        squares += ratio[n] * ratio[n];
        n++;
    }
    r->ops = bench_spread(quiet, q).median;
    r->ratio = bench_spread(ratio, n);
    if (n > 1)
        r->error = 1.253 * sqrt(MAX(squares / n - sum / n * sum / n, 0) / n);
}

static guint count_sound(const struct vcpu *v, guint phases)
{
    guint n = 0;

    for (guint i = 1; i + 1 < phases; i += 2)
        n += is_sound(&v->phases[i - 1]) && is_sound(&v->phases[i]) && is_sound(&v->phases[i + 1]);
    return n;
}

/* As many as fit the time; on a busy machine three times that, until half of them can be compared. */
static void run_phases(const struct bench_case *c, struct vcpu *v, struct vcpu_result *r)
{
    guint wanted = MAX((guint)(c->seconds * 1000000000ull / PHASE_NS), 3);
    guint most = CLAMP(3 * wanted, 9, PHASES - 1), pairs;
    guint64 random = 11, moved = 0;
    GThread *thread = g_thread_new("vcpu", run_vcpu, v);
    guint n = 0;

    bench_pin(1);
    for (; n < most && (n < wanted || n % 2 == 0 || count_sound(v, n - 1) < wanted / 4); n++) {
        atomic_store(&v->phase, n);
        moved += one_phase(v, n & 1 ? c->rate : 0, &random);
    }
    atomic_store(&v->stop, true);
    g_thread_join(thread);
    compare(v, n, r);
    pairs = n / 2;
    r->moved_mbs = (double)moved * 1e3 / (pairs * (double)PHASE_NS);
}

/* Half of the granules in each tier, and a pool in both. */
static bool spread_out(const struct bench_memory *m)
{
    guint8 status;

    for (guint32 i = 0; i < m->b->count * 3 / 2; i++) {
        struct vt_move_one one = bench_toggle(m, i % m->b->count);

        if (!bench_move(&one, 1, &status))
            return false;
    }
    bench_memory_touch(m);
    return true;
}

void bench_vcpu(const void *what, void *result)
{
    const struct bench_case *c = what;
    struct vcpu_result *r = result;
    struct bench_memory m;
    struct vcpu *v;

    if (!bench_case_open(c, SIZE, &m, r->why))
        return;
    if (!spread_out(&m)) {
        g_strlcpy(r->why, "a move failed", sizeof(r->why));
        return;
    }
    v = g_new0(struct vcpu, 1);
    v->m = &m;
    v->control = c->control;
    if (c->control == BENCH_COPIES) {
        v->from = bench_memory_more(&m, COPIED);
        v->to = bench_memory_more(&m, COPIED);
    }
    if (c->control == BENCH_COPIES && (!v->from || !v->to)) {
        g_strlcpy(r->why, "no memory to copy", sizeof(r->why));
        g_free(v);
        return;
    }
    run_phases(c, v, r);
    g_free(v);
    r->ok = r->ratio.n > 0;
    if (!r->ok)
        g_strlcpy(r->why, "the machine is too busy: no three phases on end had a processor for half "
                  "of the time", sizeof(r->why));
}
