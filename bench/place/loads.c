// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The loads that policy and heat were tuned on: skewed and stationary, changing slowly, suddenly and in
 * phases, scanning, uniform, sparse and quiet. Those kept for judging are in loads-held-out.c.
 */
#include "bench/place/loads.h"

#include <math.h>

#define TOTAL 20e6              /* accesses per second that miss the caches, of a busy guest */
#define PAGES_OF_GRANULE 32768.0    /* cache lines, rather: accesses of one pass over a granule */

static bool still(struct sim *sim)
{
    return sim->tick == 0;
}

/* --- stationary --------------------------------------------------------------------------------------- */

static void zipf(struct sim *sim, double s)
{
    for (guint32 i = 0; i < sim->n; i++)
        sim->rate[sim->order[i]] = pow(i + 1, -s);
    sim_scale(sim, TOTAL);
}

static void start_zipf99(struct sim *sim)
{
    zipf(sim, 0.99);
}

static void start_zipf60(struct sim *sim)
{
    zipf(sim, 0.6);
}

/* `hot` granules from `first` in the random order get `share` of all accesses. */
void load_hot_set(struct sim *sim, guint32 first, guint32 hot, double share, double total)
{
    for (guint32 i = 0; i < sim->n; i++)
        sim->rate[sim->order[(i + first) % sim->n]] = i < hot ? share / hot
                                                              : (1 - share) / (sim->n - hot);
    sim_scale(sim, total);
}

static void start_hot(struct sim *sim)
{
    load_hot_set(sim, 0, sim->n / 10, 0.9, TOTAL);
}

static void start_quiet(struct sim *sim)
{
    load_hot_set(sim, 0, sim->n / 10, 0.9, 100e3);
}

static void start_uniform(struct sim *sim)
{
    for (guint32 g = 0; g < sim->n; g++)
        sim->rate[g] = TOTAL / sim->n;
}

/* A fifth of the granules is hot by one page each, which a probe of another page does not see. */
static void start_sparse(struct sim *sim)
{
    guint32 one = sim->n / 5, dense = sim->n / 10;

    for (guint32 i = 0; i < sim->n; i++) {
        guint32 g = sim->order[i];

        sim->active[g] = i < one ? 1 : SIM_PAGES;
        sim->rate[g] = i < one ? 0.6 / one : i < one + dense ? 0.3 / dense
                               : 0.1 / (sim->n - one - dense);
    }
    sim_scale(sim, TOTAL);
}

/* --- changing ------------------------------------------------------------------------------------------- */

static void start_nothing(struct sim *sim)
{
    (void)sim;
}

static bool step_shift(struct sim *sim)
{
    guint32 hot = sim->n / 10;

    if (!sim_every(sim, 60))
        return false;
    load_hot_set(sim, (guint32)(sim->now / 60) * hot, hot, 0.9, TOTAL);
    sim->shifted = sim->tick > 0;
    return true;
}

static bool step_drift(struct sim *sim)
{
    guint32 hot = sim->n / 10;

    if (!sim_every(sim, 1))
        return false;
    load_hot_set(sim, (guint32)(sim->now / 120 * hot), hot, 0.9, TOTAL);
    return true;
}

static bool alternate(struct sim *sim, double period)
{
    guint32 hot = sim->n * 15 / 100;

    if (!sim_every(sim, period))
        return false;
    load_hot_set(sim, ((guint32)lround(sim->now / period) & 1) * hot, hot, 0.9, TOTAL);
    return true;
}

static bool step_zigzag15(struct sim *sim)
{
    return alternate(sim, 15);
}

static bool step_zigzag5(struct sim *sim)
{
    return alternate(sim, 5);
}

static bool step_diurnal(struct sim *sim)
{
    double w = 0.5 + 0.45 * sin(2 * M_PI * sim->now / 120);
    guint32 half = sim->n / 2;

    if (!sim_every(sim, 1))
        return false;
    for (guint32 i = 0; i < half; i++) {
        sim->rate[sim->order[i]] = w * pow(i + 1, -0.99);
        sim->rate[sim->order[half + i]] = (1 - w) * pow(i + 1, -0.99);
    }
    sim_scale(sim, TOTAL);
    return true;
}

/* --- scanning: in the order of addresses; the oracle knows what each granule gets in the long run ------- */

void load_add_scan(struct sim *sim, double per_s)
{
    double from = fmod(sim->now * per_s, sim->n), to = from + per_s * SIM_TICK;

    for (guint32 g = (guint32)from; g <= (guint32)to; g++) {
        double part = fmin(to, g + 1) - fmax(from, g);

        if (part > 0)
            sim->rate[g % sim->n] += part * PAGES_OF_GRANULE / SIM_TICK;
    }
}

static void start_stream(struct sim *sim)
{
    sim->reference = g_new(double, sim->n);
    for (guint32 g = 0; g < sim->n; g++)
        sim->reference[g] = TOTAL / sim->n;
}

static bool step_stream(struct sim *sim)
{
    for (guint32 g = 0; g < sim->n; g++)
        sim->rate[g] = 0;
    load_add_scan(sim, TOTAL / PAGES_OF_GRANULE);
    return true;
}

static void set_scan_background(const struct sim *sim, double *rate, double more)
{
    guint32 hot = sim->n / 10;

    for (guint32 i = 0; i < sim->n; i++)
        rate[sim->order[i]] = more + (i < hot ? 0.55 * TOTAL / hot : 0.05 * TOTAL / (sim->n - hot));
}

static void start_scan(struct sim *sim)
{
    sim->reference = g_new(double, sim->n);
    set_scan_background(sim, sim->reference, 0.4 * TOTAL / sim->n);
}

static bool step_scan(struct sim *sim)
{
    set_scan_background(sim, sim->rate, 0);
    load_add_scan(sim, 0.4 * TOTAL / PAGES_OF_GRANULE);
    return true;
}

#define LOAD(id, name_, start_, step_, summary_) \
    const struct load load_##id = { .name = (name_), .summary = (summary_), .start = (start_), \
                                    .step = (step_) }

LOAD(zipf99, "zipf.99", start_zipf99, still, "zipf, s = 0.99");
LOAD(zipf60, "zipf.6", start_zipf60, still, "zipf, s = 0.6");
LOAD(hot, "hot10/90", start_hot, still, "a tenth of memory gets nine tenths of the accesses");
LOAD(shift, "shift", start_nothing, step_shift, "hot10/90, another tenth every 60 s");
LOAD(drift, "drift", start_nothing, step_drift, "hot10/90, the hot set replaced in 120 s");
LOAD(zigzag15, "zigzag15", start_nothing, step_zigzag15, "15 % hot, and another 15 %, in turn, 15 s each");
LOAD(zigzag5, "zigzag5", start_nothing, step_zigzag5, "the same, 5 s each");
LOAD(scan, "scan+hot", start_scan, step_scan, "a hot tenth with 55 %, a scan over all memory with 40 %");
LOAD(uniform, "uniform", start_uniform, still, "all alike");
LOAD(diurnal, "diurnal", start_nothing, step_diurnal, "two zipf sets, weights change in 120 s");
LOAD(stream, "stream", start_stream, step_stream, "a scan over all memory and nothing else");
LOAD(sparse, "sparse", start_sparse, still, "a fifth of memory is hot by one page per granule");
LOAD(quiet, "quiet", start_quiet, still, "hot10/90 with 100 000 accesses per second");
