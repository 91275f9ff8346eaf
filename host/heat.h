// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the daemon believes of each granule.
 *
 * Heat is a rate: events over exposure, both decaying with one half-life, so that the quotient is a
 * weighted mean of the recent past and the exposure says how much it can be trusted. Two kinds of
 * evidence are kept apart, because their units differ and neither improves by averaging in the other:
 *   samples   accesses seen by a sampling source; every granule is exposed all the time
 *   probes    pages touched over armed page-seconds
 * heat_rate() answers from the sharper one the VM has.
 */
#ifndef VMTIER_HEAT_H
#define VMTIER_HEAT_H

#include "vmtier/wire.h"

#include <glib.h>
#include <stdbool.h>

#define HEAT_HALF_LIFE 8.0      /* seconds */

struct heat_cell {
    float samples;              /* decayed */
    float touched, armed;       /* decayed; pages, page-seconds */
    float written;              /* decayed; pages */
    /* Of the kind in use, never decayed, to settle decisions: only differences mean something, as
     * they wrap. Events; page-milliseconds. */
    guint32 all_events, all_exposure;
    guint32 moved_s;            /* when it moved last, in seconds of the VM's clock; 0: never */
    guint8 bounces;             /* times it went back soon after it had come */
    guint8 pad[3];
};
static_assert(sizeof(struct heat_cell) == 32, "heat: at most 32 bytes per granule");

struct heat {
    guint32 n;
    struct heat_cell *cell;
    double sampled_s;           /* decayed time the sampling source has watched */
    double sampled_all_s;       /* the same, never decayed */
    double written_s;           /* decayed time the dirty log has watched */
    bool by_samples;            /* which evidence is in use */
};

/* Kinds of evidence, and what heat_add() wants as events and exposure of each. */
enum heat_kind {
    HEAT_SAMPLES,               /* accesses; every granule is exposed all the time */
    HEAT_PROBES,                /* pages touched; armed page-seconds */
    HEAT_WRITES,                /* pages written */
    HEAT_HINTS,                 /* accesses that somebody tells of */
    HEAT_KINDS
};

struct estimate {
    double rate;                /* samples per second, or touches per page-second */
    double sd;
};

void heat_init(struct heat *heat);
void heat_clear(struct heat *heat);

/* Makes room for granules [0, n); new ones are unknown. */
void heat_resize(struct heat *heat, guint32 n);

/* Which evidence to use from now on. Decisions under way are settled with what they have. */
void heat_use_samples(struct heat *heat, bool yes);

/* Time goes on: decays everything by dt seconds, adds exposure for the sources that ran. */
void heat_advance(struct heat *heat, double dt, guint32 sources);

/* Takes evidence. The granule must be < n. */
void heat_add(struct heat *heat, enum heat_kind kind, guint32 granule, double events,
              double exposure_s);

/* Takes one observation. The granule must be < n. */
void heat_observe(struct heat *heat, const struct vt_obs *obs);

struct estimate heat_rate(const struct heat *heat, guint32 granule);

/* Share of the granule's pages written per second, 0..1. */
double heat_write_share(const struct heat *heat, guint32 granule, guint32 pages);

/* Events and exposure (seconds) so far, of the evidence in use. They may wrap and then seem to shrink. */
void heat_totals(const struct heat *heat, guint32 granule, double *events, double *exposure);

#endif
