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

void heat_add(struct heat *heat, enum heat_kind kind, guint32 granule, double events,
              double exposure_s)
{
    struct heat_cell *c = &heat->cell[granule];

    switch (kind) {
    case HEAT_SAMPLES:
    case HEAT_HINTS:
        c->samples += (float)events;
        c->all_events += heat->by_samples ? (guint32)events : 0;
        break;
    case HEAT_PROBES:
        c->touched += (float)events;
        c->armed += (float)exposure_s;
        c->all_events += heat->by_samples ? 0 : (guint32)events;
        c->all_exposure += heat->by_samples ? 0 : (guint32)(exposure_s * 1000 + 0.5);
        break;
    case HEAT_WRITES:
        c->written += (float)events;
        break;
    default:
        break;
    }
}

void heat_observe(struct heat *heat, const struct vt_obs *o)
{
    static const enum heat_kind kinds[] = {
        [VT_SRC_REFAULT] = HEAT_PROBES, [VT_SRC_DIRTY] = HEAT_WRITES, [VT_SRC_SAMPLE] = HEAT_SAMPLES,
    };

    static_assert(G_N_ELEMENTS(kinds) == VT_SRC_END, "a source has no kind of evidence");
    if (o->source < VT_SRC_END)
        heat_add(heat, kinds[o->source], o->granule, o->events, o->exposure / 1000.0);
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
