// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Loads that are recordings of real guests. How often a granule is accessed is what was sampled of it in a
 * window of WINDOW_S: what is shorter is more the sampling's luck than the guest's doing. It is uneven
 * enough, so the simulation adds no flicker.
 *
 * A recording has granules of its own size. The simulation counts in granules, and whoever runs it scales
 * bytes.
 */
#include "bench/place/recorded.h"
#include "host/trace-read.h"

#include <errno.h>
#include <string.h>

#define WINDOW_S 2.0

static void start(struct sim *sim)
{
    const struct recorded *r = (const struct recorded *)(const void *)sim->load;

    for (guint32 g = 0; g < sim->n; g++)
        sim->active[g] = (guint16)MIN(r->granule / 4096, SIM_PAGES);
}

static bool step(struct sim *sim)
{
    const struct recorded *r = (const struct recorded *)(const void *)sim->load;
    const float *rates;

    if (!sim_every(sim, WINDOW_S))
        return false;
    rates = r->windows->pdata[MIN((guint)(sim->now / WINDOW_S), r->windows->len - 1)];
    for (guint32 g = 0; g < sim->n; g++)
        sim->rate[g] = (double)rates[g];
    return true;
}

/* The window of this moment; granules that come with a later layout are not followed. */
static float *window_at(struct recorded *r, double now)
{
    while (r->windows->len <= (guint)(now / WINDOW_S))
        g_ptr_array_add(r->windows, g_new0(float, r->n));
    return r->windows->pdata[(guint)(now / WINDOW_S)];
}

static void take(struct recorded *r, const struct trace_item *item)
{
    if (item->what == TRACE_LAYOUT && !r->n)
        r->n = item->layout->granules;
    else if (item->what == TRACE_ROUND)
        r->seconds += item->round.dt;
    else if (item->what == TRACE_GAP)
        r->seconds += item->gap.seconds;
    else if (item->what == TRACE_OBS && item->obs.kind == TRACE_SAMPLES)
        for (guint32 i = 0; i < item->obs.n; i++)
            if (item->obs.obs[i].granule < r->n)
                window_at(r, r->seconds)[item->obs.obs[i].granule] +=
                    (float)(item->obs.obs[i].events / WINDOW_S);
}

struct recorded *recorded_open(const char *path, struct vt_err *err)
{
    g_autoptr(Trace) t = trace_open(path, err);
    struct recorded *r;
    struct trace_item item;
    int rc;

    if (!t)
        return NULL;
    r = g_new0(struct recorded, 1);
    r->windows = g_ptr_array_new_with_free_func(g_free);
    r->granule = trace_header(t)->granule;
    while ((rc = trace_next(t, &item, err)) > TRACE_END)
        take(r, &item);
    if (rc || r->windows->len < 2) {
        if (!rc)
            vt_fail(err, ENODATA, "%s: it has no samples of accesses", path);
        recorded_free(r);
        return NULL;
    }
    g_ptr_array_set_size(r->windows, (gint)r->windows->len - 1);    /* the last is not a whole one */
    r->seconds = (double)r->windows->len * WINDOW_S;
    r->name = g_path_get_basename(path);
    if (g_str_has_suffix(r->name, ".vmtrace"))
        r->name[strlen(r->name) - strlen(".vmtrace")] = '\0';
    r->load = (struct load){ .name = r->name, .summary = "a recording", .held_out = true,
                             .recorded = true, .start = start, .step = step };
    return r;
}

void recorded_free(struct recorded *r)
{
    g_ptr_array_unref(r->windows);
    g_free(r->name);
    g_free(r);
}
