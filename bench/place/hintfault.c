// SPDX-License-Identifier: GPL-2.0-or-later
/* Hint faults and a clock: see hintfault.h. */
#include "bench/place/hintfault.h"

#include <math.h>

#define SCAN_BYTES (256ull << 20)   /* numa_balancing_scan_size_mb */
#define SCAN_S     1.0              /* numa_balancing_scan_period_min_ms */
#define CLOCK_MOST 4                /* of the dram granules, a part that a search for a victim may pass */

void hintfault_begin(struct hintfault *h, const struct sim *sim)
{
    *h = (struct hintfault){ .unmapped = g_new(double, sim->n), .looked = g_new0(double, sim->n) };
    for (guint32 g = 0; g < sim->n; g++)
        h->unmapped[g] = -1;
}

void hintfault_end(struct hintfault *h)
{
    g_free(h->unmapped);
    g_free(h->looked);
}

/* With these sizes: the whole of memory in 64 s for 16 GiB. Only the slow tier's pages are unmapped. */
void hintfault_scan(struct hintfault *h, struct sim *sim)
{
    guint32 n = (guint32)lround(SCAN_BYTES / SCAN_S * SIM_TICK / SIM_GRANULE);

    for (guint32 i = 0; i < n; i++) {
        guint32 g = h->scan;

        h->scan = (h->scan + 1) % sim->n;
        sim_charge(sim, COST_ZAP);
        if (!sim_in_dram(sim, g) && h->unmapped[g] < 0)
            h->unmapped[g] = sim->now;
    }
}

bool hintfault_taken(struct hintfault *h, struct sim *sim, guint32 granule, double *latency)
{
    double visits = sim->seen[granule] / SIM_VISIT, wait;

    if (h->unmapped[granule] < 0 || visits <= 0)
        return false;
    wait = -log(sim_uniform(sim) + 1e-300) / visits;
    if (wait >= SIM_TICK)
        return false;
    *latency = sim->now - h->unmapped[granule] + wait;
    h->unmapped[granule] = -1;
    sim_charge(sim, COST_FAULT);
    return true;
}

guint32 hintfault_victim(struct hintfault *h, struct sim *sim)
{
    guint32 passed = 0;

    for (;;) {
        guint32 g = h->clock;
        double since = h->looked[g];

        h->clock = (h->clock + 1) % sim->n;
        if (!sim_in_dram(sim, g))
            continue;
        h->looked[g] = sim->now;
        sim_charge(sim, COST_BIT);
        if (++passed > sim->quota / CLOCK_MOST || !sim_touched(sim, g, sim->now - since))
            return g;
    }
}
