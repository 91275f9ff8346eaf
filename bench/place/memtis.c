// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * MEMTIS (SOSP 2023): samples per 2 MiB page, a histogram of their logarithms; every 100 000 samples the
 * hot threshold is the lowest bin such that what is hot fits in dram, and the warm one a bin below it if
 * that would leave more than a tenth of dram unused; counts are halved each 2 000 000 samples. Every
 * 500 ms hot pages are promoted, in place of cold ones, of warm ones only when there are no others. The
 * rate of sampling is bounded, as by its quota of 3 % CPU. Splitting of huge pages is left out: a
 * granule moves whole here.
 */
#include "bench/place/contenders.h"

#include <math.h>

#define SAMPLES  20e3
#define ADAPT    100000u
#define COOL     2000000u
#define MIGRATE  0.5
#define BINS     16

struct memtis {
    double *count;
    guint64 sampled, adapted, cooled;
    double hot, warm;
};

static gpointer create(struct sim *sim)
{
    struct memtis *m = g_new0(struct memtis, 1);

    m->count = g_new0(double, sim->n);
    m->hot = m->warm = 1;
    return m;
}

static void destroy(gpointer state)
{
    struct memtis *m = state;

    g_free(m->count);
    g_free(m);
}

static void adapt(struct memtis *m, const struct sim *sim)
{
    guint32 bin[BINS] = { 0 }, sum = 0, b;

    for (guint32 g = 0; g < sim->n; g++)
        bin[m->count[g] >= 1 ? MIN((int)log2(m->count[g]) + 1, BINS - 1) : 0]++;
    for (b = BINS; b > 1 && sum + bin[b - 1] <= sim->quota; b--)
        sum += bin[b - 1];
    m->hot = exp2(b - 1);
    m->warm = sum < 0.9 * sim->quota ? m->hot / 2 : m->hot;
}

static void sample(struct memtis *m, struct sim *sim)
{
    double all = sim_all(sim), period = MAX(all / SAMPLES, 1);
    guint32 n = sim_poisson(sim, all * SIM_TICK / period);

    sim_charge(sim, n * COST_SAMPLE);
    for (guint32 i = 0; i < n; i++)
        m->count[sim_draw(sim)] += 1;
    m->sampled += n;
    if (m->sampled - m->cooled >= COOL) {
        for (guint32 g = 0; g < sim->n; g++)
            m->count[g] /= 2;
        m->cooled = m->sampled;
        adapt(m, sim);
    }
    if (m->sampled - m->adapted >= ADAPT) {
        adapt(m, sim);
        m->adapted = m->sampled;
    }
}

/* The next granule of dram from *at on that is colder than `below`; n: none. */
static guint32 victim(const struct memtis *m, const struct sim *sim, guint32 *at, double below)
{
    for (; *at < sim->n; (*at)++)
        if (sim_in_dram(sim, *at) && m->count[*at] < below)
            return *at;
    return sim->n;
}

static void tick(struct sim *sim, gpointer state)
{
    struct memtis *m = state;
    guint32 cold = 0, warm = 0;

    sample(m, sim);
    if (!sim_every(sim, MIGRATE))
        return;
    for (guint32 g = 0; g < sim->n && sim_may_move(sim, 2); g++) {
        guint32 out;

        if (sim_in_dram(sim, g) || m->count[g] < m->hot)
            continue;
        if (sim_full(sim)) {
            out = victim(m, sim, &cold, m->warm);
            if (out == sim->n)
                out = victim(m, sim, &warm, m->hot);
            if (out == sim->n)
                return;
            sim_move(sim, out, 1);
        }
        sim_move(sim, g, 0);
    }
}

const struct contender contender_memtis = {
    .name = "MEMTIS", .summary = "a histogram of samples that fits dram, 20 000 samples/s",
    .create = create, .tick = tick, .destroy = destroy,
};
