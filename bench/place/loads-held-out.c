// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Loads for judging: written down before anything was tuned, and nothing was tuned on them.
 */
#include "bench/place/loads.h"

#include <math.h>

#define TOTAL 20e6

/* --- walk: each granule's heat wanders, and forgets where it was in about a minute ----------------------- */

static void start_walk(struct sim *sim)
{
    for (guint32 g = 0; g < sim->n; g++)
        sim->rate[g] = exp(1.5 * sim_normal(sim));
    sim_scale(sim, TOTAL);
}

static bool step_walk(struct sim *sim)
{
    double keep = exp(-1.0 / 60), fresh = 1.5 * sqrt(1 - keep * keep), mean = 0;

    if (!sim_every(sim, 1))
        return false;
    for (guint32 g = 0; g < sim->n; g++)
        mean += log(sim->rate[g] + 1e-9);
    mean /= sim->n;
    for (guint32 g = 0; g < sim->n; g++)
        sim->rate[g] = exp(keep * (log(sim->rate[g] + 1e-9) - mean) + fresh * sim_normal(sim));
    sim_scale(sim, TOTAL);
    return true;
}

/* --- phases: a build: each step has its own memory, 10 to 60 s, next to a core that is always used --------- */

static void start_phases(struct sim *sim)
{
    sim->own[0] = 0;                        /* when the next phase begins */
}

static bool step_phases(struct sim *sim)
{
    guint32 core = sim->n / 20, own = sim->n / 8, first;

    if (sim->now < sim->own[0])
        return false;
    sim->own[0] = sim->now + 10 + 50 * sim_uniform(sim);
    first = core + sim_below(sim, sim->n - core - own);
    for (guint32 i = 0; i < sim->n; i++)
        sim->rate[sim->order[i]] = (i < core ? 0.4 / core : 0.1 / sim->n) +
                                   (i >= first && i < first + own ? 0.5 / own : 0);
    sim_scale(sim, TOTAL);
    sim->shifted = sim->tick > 0;
    return true;
}

/* --- bursts: zipf, and every 20 s a fiftieth of memory gets a third of all accesses for 3 s ---------------- */

static void start_bursts(struct sim *sim)
{
    (void)sim;
}

static bool step_bursts(struct sim *sim)
{
    double in = fmod(sim->now, 20);
    guint32 some = sim->n / 50, first = 0;

    if (!sim_every(sim, 20) && !sim_every(sim, 1))
        return false;
    if (sim_every(sim, 20))
        sim->own[0] = sim_below(sim, sim->n - some);
    for (guint32 i = 0; i < sim->n; i++)
        sim->rate[sim->order[i]] = pow(i + 1, -0.8);
    sim_scale(sim, TOTAL);
    first = (guint32)sim->own[0];
    for (guint32 i = first; i < first + some && in < 3; i++)
        sim->rate[sim->other[i]] += TOTAL / 2 / some;
    return true;
}

/* --- sweep: what is popular is near a place in memory that goes once round in 200 s ----------------------- */

static bool step_sweep(struct sim *sim)
{
    double centre = fmod(sim->now / 200, 1) * sim->n, width = sim->n * 0.06;

    if (!sim_every(sim, 1))
        return false;
    for (guint32 g = 0; g < sim->n; g++) {
        double away = fabs(g - centre);

        away = fmin(away, sim->n - away) / width;
        sim->rate[g] = exp(-away * away / 2) + 0.03;
    }
    sim_scale(sim, TOTAL);
    return true;
}

/* --- breathe: the working set grows from a twentieth to a half of memory and shrinks again, in 90 s --------- */

static bool step_breathe(struct sim *sim)
{
    double part = 0.275 - 0.225 * cos(2 * M_PI * sim->now / 90);

    if (!sim_every(sim, 1))
        return false;
    load_hot_set(sim, 0, (guint32)(part * sim->n), 0.9, TOTAL);
    return true;
}

/* --- batch: 40 s of zipf work, then 20 s in which only a scan and hardly anything else runs ---------------- */

static void start_batch(struct sim *sim)
{
    sim->reference = g_new(double, sim->n);
    for (guint32 i = 0; i < sim->n; i++)
        sim->reference[sim->order[i]] = pow(i + 1, -0.9);
}

static bool step_batch(struct sim *sim)
{
    bool works = fmod(sim->now, 60) < 40;

    if (works && !sim_every(sim, 1))
        return false;
    for (guint32 i = 0; i < sim->n; i++)
        sim->rate[sim->order[i]] = pow(i + 1, -0.9);
    sim_scale(sim, works ? TOTAL : TOTAL / 20);
    if (!works)
        load_add_scan(sim, 30);
    return true;
}

#define LOAD(id, name_, start_, step_, summary_) \
    const struct load load_##id = { .name = (name_), .summary = (summary_), .start = (start_), \
                                    .step = (step_), .held_out = true }

LOAD(walk, "walk", start_walk, step_walk, "each granule's heat wanders, within a minute");
LOAD(phases, "phases", start_phases, step_phases, "a core, and an eighth of memory that changes every 10 to 60 s");
LOAD(bursts, "bursts", start_bursts, step_bursts, "zipf 0.8; 3 s in 20 a fiftieth of memory gets a third");
LOAD(sweep, "sweep", start_bursts, step_sweep, "a popular place that goes round in 200 s");
LOAD(breathe, "breathe", start_bursts, step_breathe, "the working set grows to half of memory and shrinks, in 90 s");
LOAD(batch, "batch", start_batch, step_batch, "40 s of zipf 0.9, 20 s of a slow scan with little else");

const struct load *const loads[] = {
    &load_zipf99, &load_zipf60, &load_hot, &load_shift, &load_drift, &load_zigzag15, &load_zigzag5,
    &load_scan, &load_uniform, &load_diurnal, &load_stream, &load_sparse, &load_quiet,
    &load_walk, &load_phases, &load_bursts, &load_sweep, &load_breathe, &load_batch,
};
const guint n_loads = G_N_ELEMENTS(loads);
