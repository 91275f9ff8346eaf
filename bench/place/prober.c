// SPDX-License-Identifier: GPL-2.0-or-later
/* Survival probes: see prober.h. */
#include "bench/place/prober.h"

#include <math.h>

#define BLOCK       16u         /* pages of a probe */
#define BACKOFF_MIN 0.2f
#define BACKOFF_MAX 3.0f
#define STALE_S     30.0f       /* a probe that stays silent is put elsewhere after so long */

void prober_begin(struct prober *p, const struct sim *sim, double budget_us)
{
    *p = (struct prober){ .probe = g_new0(struct probe, sim->n), .budget_us = budget_us };
}

void prober_end(struct prober *p)
{
    g_free(p->probe);
}

static void spend(struct prober *p, struct sim *sim, double us)
{
    p->tokens -= us;
    sim_charge(sim, us);
}

/* Half of it has been touched: it rests for longer the longer its rate agrees with itself. */
static void rest(struct probe *b, double now)
{
    float touched = (float)(BLOCK - b->armed), age = (float)now - b->at + 0.05f;
    float rate = touched / ((BLOCK - 0.5f * touched) * age);
    bool agrees = rate < 2 * b->rate && rate > 0.5f * b->rate;

    b->backoff = agrees ? CLAMP(2 * b->backoff, BACKOFF_MIN, BACKOFF_MAX) : 0;
    b->rate = rate;
    b->next = (float)now + b->backoff;
}

static void poll_one(struct prober *p, struct sim *sim, struct heat *heat, guint32 g, double seconds)
{
    struct probe *b = &p->probe[g];
    double per_page = sim->seen[g] / SIM_VISIT / sim->active[g];
    guint32 k = sim_binomial(sim, b->live, 1 - exp(-per_page * seconds));

    heat_add(heat, HEAT_PROBES, g, k, (b->armed - 0.5 * k) * seconds);
    if (!k)
        return;
    spend(p, sim, k * COST_TOUCH);
    b->armed = (guint8)(b->armed - k);
    b->live = (guint8)(b->live - k);
    if (b->armed <= BLOCK / 2)
        rest(b, sim->now);
}

static void arm(struct prober *p, struct sim *sim, guint32 g)
{
    struct probe *b = &p->probe[g];

    spend(p, sim, BLOCK * COST_ZAP);
    b->armed = BLOCK;
    b->live = (guint8)(sim->active[g] == SIM_PAGES ? BLOCK
                       : sim_binomial(sim, BLOCK, sim->active[g] / (double)SIM_PAGES));
    b->at = (float)sim->now;
}

void prober_poll(struct prober *p, struct sim *sim, struct heat *heat, double seconds)
{
    float now = (float)sim->now;

    p->tokens = MIN(p->tokens + p->budget_us * seconds, 0.3 * p->budget_us);
    for (guint32 g = 0; g < sim->n; g++)
        if (p->probe[g].armed)
            poll_one(p, sim, heat, g, seconds);
    sim_charge(sim, COST_POLL * sim->n);
    for (guint32 i = 0; i < sim->n && p->tokens > 0; i++) {
        struct probe *b = &p->probe[p->cursor];

        if ((b->armed <= BLOCK / 2 && now >= b->next) || now - b->at > STALE_S)
            arm(p, sim, p->cursor);
        p->cursor = (p->cursor + 1) % sim->n;
    }
}
