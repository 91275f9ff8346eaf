// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * DAMON with migrate_hot and migrate_cold: regions of memory, one page of each checked every 5 ms,
 * aggregated every 100 ms, merged where alike and split at random, 10 to 1000 of them. Ten times a
 * the coldest regions are demoted and the hottest promoted, with quota goals that keep dram 99.7 % used,
 * as the kernel's mtier sample sets them. Bits are of 2 MiB pages.
 */
#include "bench/place/contenders.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHECKS     20           /* per aggregation: 100 ms of 5 ms */
#define CHECK_S    0.005
#define AGGREGATE  0.1
#define REGIONS    1000u
#define ALIKE      2            /* accesses of 20: a tenth of the most */
#define USED       0.997
#define FREE       0.005

struct region {
    guint32 first, n;
    int accesses, before, age;
};

struct damon {
    struct region *region, *next;
    guint32 n;
};

static gpointer create(struct sim *sim)
{
    struct damon *d = g_new0(struct damon, 1);

    d->region = g_new0(struct region, 2 * REGIONS + 2);
    d->next = g_new0(struct region, 2 * REGIONS + 2);
    d->n = 10;
    for (guint32 i = 0; i < d->n; i++) {
        d->region[i].first = i * sim->n / d->n;
        d->region[i].n = (i + 1) * sim->n / d->n - d->region[i].first;
    }
    return d;
}

static void destroy(gpointer state)
{
    struct damon *d = state;

    g_free(d->region);
    g_free(d->next);
    g_free(d);
}

static void check(struct damon *d, struct sim *sim)
{
    for (guint32 i = 0; i < d->n; i++) {
        struct region *r = &d->region[i];

        r->before = r->accesses;
        r->accesses = 0;
        for (int k = 0; k < CHECKS; k++)
            r->accesses += sim_touched(sim, r->first + sim_below(sim, r->n), CHECK_S);
        r->age = abs(r->accesses - r->before) <= ALIKE ? r->age + 1 : 0;
    }
    sim_charge(sim, d->n * CHECKS * COST_BIT);
}

static void merge(struct damon *d, const struct sim *sim)
{
    guint32 n = 0;

    for (guint32 i = 0; i < d->n; i++) {
        struct region *last = n ? &d->next[n - 1] : NULL, *r = &d->region[i];

        if (last && abs(last->accesses - r->accesses) <= ALIKE &&
            last->n + r->n <= MAX(sim->n / 10, 1)) {
            last->accesses = (int)((last->accesses * (double)last->n + r->accesses * (double)r->n) /
                                   (last->n + r->n));
            last->age = (int)((last->age * (double)last->n + r->age * (double)r->n) / (last->n + r->n));
            last->n += r->n;
        } else {
            d->next[n++] = *r;
        }
    }
    d->n = n;
}

static void split(struct damon *d, struct sim *sim)
{
    guint32 n = 0;
    bool more = d->n <= REGIONS / 2;

    for (guint32 i = 0; i < d->n; i++) {
        struct region r = d->next[i];

        if (more && r.n > 1) {
            guint32 part = 1 + sim_below(sim, r.n - 1);

            d->region[n] = r;
            d->region[n++].n = part;
            r.first += part;
            r.n -= part;
        }
        d->region[n++] = r;
    }
    d->n = n;
}

/* Hottest first: by accesses, then hot for long, or cold for short. */
static int by_heat(const void *a, const void *b)
{
    const struct region *x = a, *y = b;

    if (x->accesses != y->accesses)
        return y->accesses - x->accesses;
    return x->accesses ? y->age - x->age : x->age - y->age;
}

static void demote(struct damon *d, struct sim *sim, guint32 n)
{
    for (guint32 i = d->n; i-- > 0 && n;)
        for (guint32 g = d->next[i].first; g < d->next[i].first + d->next[i].n && n; g++)
            if (sim_in_dram(sim, g) && sim_may_move(sim, 1)) {
                sim_move(sim, g, 1);
                n--;
            }
}

static void promote(struct damon *d, struct sim *sim, guint32 most)
{
    for (guint32 i = 0; i < d->n && d->next[i].accesses; i++)
        for (guint32 g = d->next[i].first; g < d->next[i].first + d->next[i].n; g++) {
            if (sim->ledger.count[0] >= most || !sim_may_move(sim, 1))
                return;
            if (!sim_in_dram(sim, g))
                sim_move(sim, g, 0);
        }
}

/* What the goals let come must be let go first: half of the rate for each. */
static void apply(struct damon *d, struct sim *sim)
{
    guint32 most = (guint32)(USED * sim->quota), half = (guint32)(sim->pace.tokens / 2 / SIM_GRANULE);

    memcpy(d->next, d->region, d->n * sizeof(d->next[0]));
    qsort(d->next, d->n, sizeof(d->next[0]), by_heat);
    if (sim->ledger.count[0] + FREE * sim->quota > sim->quota)
        demote(d, sim, MAX(half, 1));
    promote(d, sim, most);
}

static void tick(struct sim *sim, gpointer state)
{
    struct damon *d = state;

    if (!sim_every(sim, AGGREGATE))
        return;
    check(d, sim);
    if (sim->tick && sim_every(sim, 0.25))
        apply(d, sim);
    merge(d, sim);
    split(d, sim);
}

const struct contender contender_damon = {
    .name = "DAMON", .summary = "regions, migrate_hot and migrate_cold with goals", .create = create,
    .tick = tick, .destroy = destroy,
};
