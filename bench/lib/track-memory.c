// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The source "refault" on memory of this process: a thread accesses it like a guest, another harvests
 * four times a second, as the daemon would have it, in every other phase.
 *
 * 16 GiB are a file of 1 GiB, mapped 16 times: the page tables are what costs, and each mapping has its
 * own. The busy load is one in which all pages are in use: 90 of 100 accesses go to a tenth of the
 * memory, the rest anywhere. The idle one touches a few dozen pages 250 times a second.
 *
 * The speed is what counts. Where a machine is so busy that it says nothing, there is what the kernel took of the
 * thread's time beyond what it takes without the source: what the source costs, but for the state of caches and TLBs.
 *
 * A moment after each switch does not count: what was armed when the source was switched off is touched
 * and mapped again, and what was touched meanwhile is armed again. Neither do the first phases with the
 * source: nothing is known of any granule, then. The idle load is not compared, it only says what we cost
 * once all is quiet.
 */
#include "bench/lib/track.h"
#include "common/clock.h"
#include "vmm/refault.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define FILE_BYTES (1ull << 30)
#define GRANULE    (2ull << 20)
#define BUDGET_US  2500u            /* the daemon's default, each ROUND_US */
#define ROUND_US   250000u
#define BATCH      64u
#define IDLE_PAGES 40u
#define IDLE_US    4000u
#define WARM_S     20.0             /* with the source, before the first phase that counts */
#define SETTLE_S   0.7

const char *const track_load_names[] = { "busy", "idle" };

struct vcpu {
    const struct bench_memory *m;
    enum track_load load;
    atomic_uint phase;              /* what it is to count for */
    atomic_bool stop;
    double speed[2 * TRACK_PAIRS_MOST + 8];
    double kernel[2 * TRACK_PAIRS_MOST + 8], cpu[2 * TRACK_PAIRS_MOST + 8]; /* s: its time in the kernel, and all */
};

static void touch(const struct vcpu *v, guint64 at)
{
    volatile guint64 *word = (volatile guint64 *)(void *)v->m->host + at / 8;

    *word = *word + 1;
}

static guint64 random64(guint64 *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return *state >> 16;
}

/* The tenth is scattered: granules with a number that 10 divides. */
static void access_some(const struct vcpu *v, guint64 *random)
{
    for (guint i = 0; i < BATCH; i++) {
        guint64 r = random64(random), at = r % v->m->size;

        if (r >> 40 & 15)           /* 15 of 16; one in ten of the rest hits it, too */
            at = at / GRANULE / 10 * 10 * GRANULE + at % GRANULE;
        touch(v, at);
    }
}

static void be_idle(const struct vcpu *v)
{
    for (guint i = 0; i < IDLE_PAGES; i++)
        touch(v, (i * 7919 % (v->m->size / GRANULE)) * GRANULE + i * 4096 % GRANULE);
    g_usleep(IDLE_US);
}

/* All that takes this thread into the kernel are page faults and interrupts. */
static double kernel_s(void)
{
    struct rusage own;

    getrusage(RUSAGE_THREAD, &own);
    return (double)own.ru_stime.tv_sec + (double)own.ru_stime.tv_usec / 1e6;
}

static gpointer run_vcpu(gpointer data)
{
    struct vcpu *v = data;
    guint64 random = 3;

    bench_pin(0);
    while (!atomic_load(&v->stop)) {
        guint phase = atomic_load(&v->phase);
        guint64 start = cpu_ns(), n = 0;
        double kernel = kernel_s();

        for (; atomic_load(&v->phase) == phase && !atomic_load(&v->stop); n += BATCH)
            if (v->load == TRACK_BUSY)
                access_some(v, &random);
            else
                be_idle(v);
        v->cpu[phase] = (double)MAX(cpu_ns() - start, 1) / 1e9;
        v->speed[phase] = (double)n / v->cpu[phase] / 1e6;
        v->kernel[phase] = kernel_s() - kernel;
    }
    return NULL;
}

static void ignore(const struct vt_obs *o, void *opaque)
{
    (void)o;
    (void)opaque;
}

static void harvest_for(double seconds)
{
    gint64 end = g_get_monotonic_time() + (gint64)(seconds * 1e6);

    for (gint64 next = g_get_monotonic_time(); next < end; next += ROUND_US) {
        gint64 wait = next - g_get_monotonic_time();

        if (wait > 0)
            g_usleep((gulong)wait);
        refault_harvest(BUDGET_US, ignore, NULL);
    }
}

static void phase_begin(struct vcpu *v, guint phase)
{
    atomic_store(&v->phase, phase);
}

static void add_cost(struct refault_cost *sum, double *seconds, double phase_s)
{
    struct refault_cost before, after;
    gint64 start = g_get_monotonic_time();

    refault_get_cost(&before);
    harvest_for(phase_s);
    refault_get_cost(&after);
    *seconds += (double)(g_get_monotonic_time() - start) / 1e6;
    sum->cpu_ns += after.cpu_ns - before.cpu_ns;
    sum->vcpu_ns += after.vcpu_ns - before.vcpu_ns;
    sum->events += after.events - before.events;
}

/* Its share of the time, with the source, less that without: the mean of the pairs, and its standard error. */
static void compare_kernel(const struct vcpu *v, guint n, struct track_result *r)
{
    const guint halves = n / 2;
    double sum = 0, squares = 0, pairs = halves;

    for (guint i = 0; i + 1 < n; i += 2) {
        double more = v->kernel[i + 1] / v->cpu[i + 1] - v->kernel[i] / v->cpu[i];

        sum += more;
        squares += more * more;
    }
    r->kernel = sum / pairs;
    r->kernel_error = pairs > 1 ? sqrt(MAX(squares - sum * sum / pairs, 0) / (pairs - 1) / pairs) : 0;
}

/* What does not count has the last number. */
static void run_phases(const struct track_case *c, struct vcpu *v, struct track_result *r)
{
    const guint none = G_N_ELEMENTS(v->speed) - 1;
    struct refault_cost sum = { 0 };
    double seconds = 0;

    harvest_for(WARM_S);
    for (guint i = 0; i < 2 * c->pairs && c->load == TRACK_BUSY; i++) {
        phase_begin(v, none);
        if (i % 2) {
            harvest_for(SETTLE_S);
            phase_begin(v, i);
            add_cost(&sum, &seconds, c->phase_s);
        } else {
            g_usleep((gulong)(SETTLE_S * 1e6));
            phase_begin(v, i);
            g_usleep((gulong)(c->phase_s * 1e6));
        }
    }
    if (c->load == TRACK_IDLE)
        add_cost(&sum, &seconds, c->pairs * c->phase_s);
    r->tracker = (double)sum.cpu_ns / 1e9 / seconds;
    r->vcpu = (double)sum.vcpu_ns / 1e9 / seconds;
    r->events_per_s = (double)sum.events / seconds;
}

/* Memory of huge pages, mapped by small ones in every other phase. */
static void run_split(const struct track_case *c, struct vcpu *v)
{
    const guint idle_phase = G_N_ELEMENTS(v->speed) - 1;

    for (guint i = 0; i < 2 * c->pairs; i++) {
        phase_begin(v, idle_phase);
        madvise(v->m->host, v->m->size, MADV_DONTNEED);
        madvise(v->m->host, v->m->size, i % 2 ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
        bench_memory_touch(v->m);
        phase_begin(v, i);
        g_usleep((gulong)(c->phase_s * 1e6));
    }
}

void track_compare(const double *speed, guint n, struct track_result *r)
{
    double ratio[TRACK_PAIRS_MOST], noise[TRACK_PAIRS_MOST], without[TRACK_PAIRS_MOST + 1];
    guint k = 0, q = 0;

    for (guint i = 1; i < n; i += 2) {
        double around = i + 1 < n ? (speed[i - 1] + speed[i + 1]) / 2 : speed[i - 1];

        ratio[k++] = speed[i] / around;
    }
    for (guint i = 0; i < n; i += 2)
        without[i / 2] = speed[i];
    for (guint i = 2; i < n; i += 2)
        noise[q++] = speed[i] / speed[i - 2];
    r->ratio = bench_spread(ratio, k);
    r->noise = bench_spread(noise, q);
    r->speed = bench_spread(without, (n + 1) / 2).median;
    r->error = k ? 1.253 * (r->ratio.q3 - r->ratio.q1) / 1.349 / sqrt(k) : 0;
}

void track_memory_run(const void *what, void *result)
{
    const struct track_case *c = what;
    struct track_result *r = result;
    struct bench_memory m;
    struct vt_err err = { 0 };
    struct vcpu *v;
    GThread *thread;

    if (bench_memory_open_wide(&m, c->backing, GRANULE, FILE_BYTES, c->gib, &err) ||
        refault_init(&err)) {
        g_strlcpy(r->why, err.text, sizeof(r->why));
        return;
    }
    v = g_new0(struct vcpu, 1);
    v->m = &m;
    v->load = c->load;
    atomic_store(&v->phase, G_N_ELEMENTS(v->speed) - 1);
    thread = g_thread_new("vcpu", run_vcpu, v);
    bench_pin(1);
    if (c->split)
        run_split(c, v);
    else
        run_phases(c, v, r);
    atomic_store(&v->stop, true);
    g_thread_join(thread);
    if (c->load == TRACK_BUSY) {
        track_compare(v->speed, 2 * c->pairs, r);
        compare_kernel(v, 2 * c->pairs, r);
    }
    r->ok = true;
    g_free(v);
}
