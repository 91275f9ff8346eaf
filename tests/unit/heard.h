// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What sources tell heat, for tests of sources: all that heat_add() was given, summed up. Programs that
 * include this are linked with --wrap=heat_add; so they know nothing of how heat keeps it.
 */
#ifndef VMTIER_TESTS_HEARD_H
#define VMTIER_TESTS_HEARD_H

#include "host/heat.h"

#include <string.h>

#define HEARD_GRANULES 64

static struct {
    double events, exposure_s;
} heard[HEAT_KINDS][HEARD_GRANULES];

void __real_heat_add(struct heat *heat, enum heat_kind kind, guint32 granule, double events,
                     double exposure_s);
void __wrap_heat_add(struct heat *heat, enum heat_kind kind, guint32 granule, double events,
                     double exposure_s);

void __wrap_heat_add(struct heat *heat, enum heat_kind kind, guint32 granule, double events,
                     double exposure_s)
{
    g_assert_cmpuint(granule, <, HEARD_GRANULES);
    heard[kind][granule].events += events;
    heard[kind][granule].exposure_s += exposure_s;
    __real_heat_add(heat, kind, granule, events, exposure_s);
}

static inline void heard_forget(void)
{
    memset(heard, 0, sizeof(heard));
}

#endif
