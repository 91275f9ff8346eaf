// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Survival probes as vmm/refault.c makes them: one 64 KiB block of each granule armed, polled, re-armed
 * within a budget.
 */
#ifndef VMTIER_BENCH_PLACE_PROBER_H
#define VMTIER_BENCH_PLACE_PROBER_H

#include "bench/place/sim.h"
#include "host/heat.h"

struct probe {
    guint8 armed, live;         /* pages not touched yet; of these, those that are ever accessed */
    float at, next, backoff, rate;
};

struct prober {
    struct probe *probe;        /* [n] */
    guint32 cursor;
    double budget_us, tokens;   /* per second */
};

void prober_begin(struct prober *p, const struct sim *sim, double budget_us);
void prober_end(struct prober *p);

/* Polls what is armed, after `seconds`; tells heat; arms anew what the budget allows. */
void prober_poll(struct prober *p, struct sim *sim, struct heat *heat, double seconds);

#endif
