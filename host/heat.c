// SPDX-License-Identifier: GPL-2.0-or-later
/* Heat: see heat.h. */
#include "host/heat.h"

#include <math.h>
#include <string.h>

#define LONG_AGO 1e-3   /* exposures below this count as none */

void heat_init(struct heat *heat)
{
    memset(heat, 0, sizeof(*heat));
}

void heat_clear(struct heat *heat)
{
    g_free(heat->cell);
    heat_init(heat);
}

void heat_resize(struct heat *heat, guint32 n)
{
    heat->cell = g_renew(struct heat_cell, heat->cell, n);
    if (n > heat->n)
        memset(heat->cell + heat->n, 0, (n - heat->n) * sizeof(heat->cell[0]));
    heat->n = n;
}

void heat_use_samples(struct heat *heat, bool yes)
{
    if (yes == heat->by_samples)
        return;
    heat->by_samples = yes;
    for (guint32 g = 0; g < heat->n; g++)
        heat->cell[g].all_events = heat->cell[g].all_exposure = 0;
    heat->sampled_all_s = 0;
}

void heat_advance(struct heat *heat, double dt, guint32 sources)
{
    const float keep = (float)exp2(-dt / HEAT_HALF_LIFE);
    const bool sampled = sources & (1u << VT_SRC_SAMPLE);

    for (guint32 g = 0; g < heat->n; g++) {
        struct heat_cell *c = &heat->cell[g];

        c->samples *= keep;
        c->touched *= keep;
        c->armed *= keep;
        c->written *= keep;
    }
    heat->sampled_s = heat->sampled_s * keep + (sampled ? dt : 0);
    heat->sampled_all_s += sampled ? dt : 0;
    heat->written_s = heat->written_s * keep + (sources & (1u << VT_SRC_DIRTY) ? dt : 0);
}

void heat_observe(struct heat *heat, const struct vt_obs *o)
{
    struct heat_cell *c = &heat->cell[o->granule];
    float events = (float)o->events;

    switch (o->source) {
    case VT_SRC_SAMPLE:
        c->samples += events;
        c->all_events += heat->by_samples ? o->events : 0;
        break;
    case VT_SRC_REFAULT:
        c->touched += events;
        c->armed += (float)o->exposure / 1000;
        c->all_events += heat->by_samples ? 0 : o->events;
        c->all_exposure += heat->by_samples ? 0 : o->exposure;
        break;
    case VT_SRC_DIRTY:
        c->written += events;
        break;
    default:
        break;
    }
}

struct estimate heat_rate(const struct heat *heat, guint32 granule)
{
    const struct heat_cell *c = &heat->cell[granule];
    double events = heat->by_samples ? c->samples : c->touched;
    double exposure = heat->by_samples ? heat->sampled_s : c->armed;
    struct estimate e;

    if (exposure < LONG_AGO)
        return (struct estimate){ 0, INFINITY };
    e.rate = events / exposure;
    e.sd = sqrt((e.rate + 0.5 / exposure) / exposure);
    return e;
}

double heat_write_share(const struct heat *heat, guint32 granule, guint32 pages)
{
    double per_s;

    if (heat->written_s < LONG_AGO || !pages)
        return 0;
    per_s = heat->cell[granule].written / heat->written_s / pages;
    return per_s < 1 ? per_s : 1;
}

void heat_totals(const struct heat *heat, guint32 granule, double *events, double *exposure)
{
    const struct heat_cell *c = &heat->cell[granule];

    *events = c->all_events;
    *exposure = heat->by_samples ? heat->sampled_all_s : c->all_exposure / 1000.0;
}
