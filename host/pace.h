// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The pace of moving: a token bucket in bytes that never saves up more than a moment's worth, so that
 * a quiet hour does not end in a burst.
 */
#ifndef VMTIER_PACE_H
#define VMTIER_PACE_H

#include <glib.h>

struct pace {
    double tokens;              /* bytes; may be negative by one granule */
};

/* dt seconds have passed at `rate` bytes per second; at least one granule of `unit` fits the bucket. */
static inline void pace_advance(struct pace *p, double dt, guint64 rate, guint64 unit)
{
    double most = MAX((double)rate * 0.25, rate ? 2.0 * (double)unit : 0.0);

    p->tokens = MIN(p->tokens + dt * (double)rate, most);
}

/* How many units may move now. */
static inline guint32 pace_units(const struct pace *p, guint64 unit)
{
    return p->tokens < (double)unit ? 0 : (guint32)MIN(p->tokens / (double)unit, 1e9);
}

static inline void pace_spend(struct pace *p, guint64 bytes)
{
    p->tokens -= (double)bytes;
}

#endif
