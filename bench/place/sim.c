// SPDX-License-Identifier: GPL-2.0-or-later
/* The simulated memory: see sim.h. */
#include "bench/place/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FLICKER  0.3            /* sigma of its logarithm */
#define BACK_S   30.0f          /* moved back within so long is ping-pong */
#define REACHED  0.9            /* of the oracle: the shift is over */

/* --- chance ------------------------------------------------------------------------------------------- */

static guint64 draw(struct sim *sim)
{
    guint64 a = sim->random[0], b = sim->random[1];

    sim->random[0] = b;
    a ^= a << 23;
    sim->random[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return sim->random[1] + b;
}

double sim_uniform(struct sim *sim)
{
    return (double)(draw(sim) >> 11) * 0x1p-53;
}

double sim_normal(struct sim *sim)
{
    double u = sim_uniform(sim) + 1e-300, v = sim_uniform(sim);

    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

guint32 sim_below(struct sim *sim, guint32 n)
{
    return (guint32)(sim_uniform(sim) * n);
}

void sim_shuffle(struct sim *sim, guint32 *list, guint32 n)
{
    for (guint32 i = 0; i < n; i++)
        list[i] = i;
    for (guint32 i = n; i-- > 1;) {
        guint32 j = sim_below(sim, i + 1), was = list[i];

        list[i] = list[j];
        list[j] = was;
    }
}

guint32 sim_poisson(struct sim *sim, double mean)
{
    double limit = exp(-mean), p = 1;
    guint32 k = 0;

    if (mean > 30)
        return (guint32)MAX(0, floor(mean + sqrt(mean) * sim_normal(sim) + 0.5));
    while ((p *= sim_uniform(sim)) > limit)
        k++;
    return k;
}

guint32 sim_binomial(struct sim *sim, guint32 n, double p)
{
    double q = 1 - p, r, u;
    guint32 k = 0;

    if (!n || p <= 0)
        return 0;
    if (p >= 1)
        return n;
    if (p > 0.5)
        return n - sim_binomial(sim, n, q);
    if (n * p > 25)
        return (guint32)CLAMP(floor(n * p + sqrt(n * p * q) * sim_normal(sim) + 0.5), 0, n);
    r = pow(q, n);
    for (u = sim_uniform(sim); u > r && k < n; k++) {
        u -= r;
        r *= (double)(n - k) / (k + 1) * p / q;
    }
    return k;
}

bool sim_every(const struct sim *sim, double seconds)
{
    return sim->tick % (guint64)lround(seconds / SIM_TICK) == 0;
}

void sim_scale(struct sim *sim, double total)
{
    double sum = 0;

    for (guint32 g = 0; g < sim->n; g++)
        sum += sim->rate[g];
    for (guint32 g = 0; g < sim->n; g++)
        sim->rate[g] *= total / sum;
}

/* --- life ------------------------------------------------------------------------------------------------ */

void sim_begin(struct sim *sim, const struct load *load, guint64 seed)
{
    guint32 n = sim->n;

    sim->load = load;
    sim->random[0] = 88172645463325252u ^ seed * 0x9e3779b97f4a7c15u;
    sim->random[1] = 1181783497276652981u;
    for (int i = 0; i < 20; i++)
        draw(sim);
    sim->rate = g_new0(double, n);
    sim->flicker = g_new(double, n);
    sim->seen = g_new0(double, n);
    sim->sum = g_new0(double, n);
    sim->active = g_new(guint16, n);
    sim->order = g_new(guint32, n);
    sim->other = g_new(guint32, n);
    sim->moved_at = g_new(float, n);
    ledger_init(&sim->ledger, SIM_GRANULE);
    ledger_resize(&sim->ledger, n);
    for (guint32 g = 0; g < n; g++) {
        sim->active[g] = SIM_PAGES;
        sim->flicker[g] = 1;
        sim->moved_at[g] = -1e9f;
        ledger_put(&sim->ledger, g, g < sim->quota ? 0 : 1);
    }
    sim_shuffle(sim, sim->order, n);
    sim_shuffle(sim, sim->other, n);
    sim->cold_s = -1;
    sim->waiting_since = -1;
    load->start(sim);
}

void sim_end(struct sim *sim)
{
    g_free(sim->rate);
    g_free(sim->flicker);
    g_free(sim->seen);
    g_free(sim->reference);
    g_free(sim->sum);
    g_free(sim->active);
    g_free(sim->order);
    g_free(sim->other);
    g_free(sim->moved_at);
    ledger_clear(&sim->ledger);
}

/* --- one tick -------------------------------------------------------------------------------------------- */

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

/* The share of accesses that the hottest granules would serve from dram. */
static double look_up_oracle(const struct sim *sim)
{
    g_autofree double *sorted = g_memdup2(sim->reference ? sim->reference : sim->rate,
                                          sim->n * sizeof(double));
    double all = 0, top = 0;

    qsort(sorted, sim->n, sizeof(sorted[0]), descending);
    for (guint32 g = 0; g < sim->n; g++) {
        all += sorted[g];
        top += g < sim->quota ? sorted[g] : 0;
    }
    return top / all;
}

static void advance_load(struct sim *sim)
{
    bool changed, flickers = sim_every(sim, 1) && !sim->load->recorded;

    sim->shifted = false;
    changed = sim->load->step(sim);
    if (changed && (!sim->reference || !sim->tick))
        sim->oracle = look_up_oracle(sim);
    if (flickers)
        for (guint32 g = 0; g < sim->n; g++)
            sim->flicker[g] = exp(FLICKER * sim_normal(sim) - FLICKER * FLICKER / 2);
    if (!changed && !flickers)
        return;
    for (guint32 g = 0; g < sim->n; g++)
        sim->seen[g] = sim->rate[g] * sim->flicker[g];
    sim->summed = false;
}

static void count_hits(struct sim *sim)
{
    double all = 0, dram = 0;

    for (guint32 g = 0; g < sim->n; g++) {
        all += sim->seen[g];
        dram += sim->ledger.tier[g] == 0 ? sim->seen[g] : 0;
    }
    sim->hit = all > 0 ? dram / all : 0;
    if (sim->now < sim->warm_s)
        return;
    sim->hits += sim->hit;
    sim->oracles += sim->oracle;
    sim->ticks++;
}

static void time_shifts(struct sim *sim)
{
    bool there = sim->hit >= REACHED * sim->oracle;

    if (there && sim->cold_s < 0)
        sim->cold_s = sim->now;
    if (sim->shifted) {
        sim->missed += sim->waiting_since >= 0;
        sim->waiting_since = sim->now;
    }
    if (there && sim->waiting_since >= 0) {
        sim->shift_s += sim->now - sim->waiting_since;
        sim->shifts++;
        sim->waiting_since = -1;
    }
}

static void refill(struct sim *sim)
{
    double most = MAX((double)sim->rate_limit * sim->depth_s, 2.0 * SIM_GRANULE);

    sim->pace.tokens = MIN(sim->pace.tokens + SIM_TICK * (double)sim->rate_limit, most);
}

void sim_run(struct sim *sim, const struct contender *c)
{
    guint64 end = (guint64)lround(sim->seconds / SIM_TICK);
    gpointer state = c->create(sim);

    for (sim->tick = 0; sim->tick < end; sim->tick++) {
        double before = sim->track_us;

        sim->now = (double)sim->tick * SIM_TICK;
        advance_load(sim);
        count_hits(sim);
        time_shifts(sim);
        refill(sim);
        c->tick(sim, state);
        sim->tracked_us += sim->now >= sim->warm_s ? sim->track_us - before : 0;
    }
    c->destroy(state);
}

/* --- for contenders ---------------------------------------------------------------------------------------- */

double sim_all(struct sim *sim)
{
    double sum = 0;

    if (sim->summed)
        return sim->sum[sim->n - 1];
    for (guint32 g = 0; g < sim->n; g++)
        sim->sum[g] = sum += sim->seen[g];
    sim->summed = true;
    return sum;
}

guint32 sim_draw(struct sim *sim)
{
    double at = sim_uniform(sim) * sim_all(sim);
    guint32 low = 0, high = sim->n - 1;

    while (low < high) {
        guint32 middle = (low + high) / 2;

        if (sim->sum[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool sim_touched(struct sim *sim, guint32 granule, double seconds)
{
    return sim_uniform(sim) < 1 - exp(-sim->seen[granule] / SIM_VISIT * seconds);
}

bool sim_may_move(const struct sim *sim, guint32 n)
{
    return sim->pace.tokens >= n * (double)SIM_GRANULE;
}

bool sim_full(const struct sim *sim)
{
    return sim->ledger.count[0] >= sim->quota;
}

void sim_move(struct sim *sim, guint32 granule, guint8 tier)
{
    bool back = (float)sim->now - sim->moved_at[granule] < BACK_S;

    g_assert(sim->ledger.tier[granule] != tier);
    ledger_put(&sim->ledger, granule, tier);
    g_assert(sim->ledger.count[0] <= sim->quota);
    pace_spend(&sim->pace, SIM_GRANULE);
    sim->moved_at[granule] = (float)sim->now;
    sim->all_moves++;
    if (sim->now < sim->warm_s)
        return;
    sim->moves++;
    sim->back += back;
}

static int by_key(const void *a, const void *b, void *data)
{
    const double *key = data, x = key[*(const guint32 *)a], y = key[*(const guint32 *)b];

    return (x > y) - (x < y);
}

void sim_sort(guint32 *list, guint32 n, const double *key)
{
    qsort_r(list, n, sizeof(list[0]), by_key, (void *)key);
}
