// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the daemon believes of each granule: a rate of accesses per second, and how sure it is.
 *
 * Evidence. A rate is events over exposure, both decaying, so that the quotient is a weighted mean of
 * the recent past and the exposure says how much it can be trusted. Kinds are kept apart:
 *   samples   accesses; every granule is exposed while a sampling source runs
 *   probes    pages touched over armed page-seconds; a unit turns them into accesses, which is
 *             calibrated where a granule has plenty of both
 *   writes    pages written: for the moment of a move, never for its worth
 *   hints     accesses that somebody tells of; they add to evidence as far as hints are trusted
 * heat_rate() takes a granule's samples where they are many or contradict its probes, else its probes:
 * the mean of both would be wrong where one is blind (a single hot page in a granule is what probes do
 * not see, and a rare sample what cannot tell warm from cold).
 *
 * Decay. A memory (struct heat_memory) has one half-life; values are stored multiplied by a scale that
 * grows instead of being divided each round, and all are scaled back now and then. So the passing of
 * time touches no granule.
 *
 * How long to remember. Samples go to two memories, a short one and a long one that is four times as
 * long. Each sample is first predicted by both; whichever gives it the greater probability is right
 * about how fast this guest changes: as long as that is the long one, both grow longer, up to
 * HEAT_LONGEST, as certainty grows with it; if it is the short one, both get shorter. Where what is
 * known is suddenly worth much less in predicting samples, the guest does something else now: then the
 * long memory becomes a copy of the short one, and most of both is forgotten. heat_rate() answers from
 * the long one.
 *
 * Memory: 24 bytes per granule with the ledger's byte; the arrays are apart, for the passes over all.
 */
#ifndef VMTIER_HEAT_H
#define VMTIER_HEAT_H

#include "vmtier/wire.h"

#include <glib.h>
#include <math.h>
#include <stdbool.h>

#define HEAT_HALF_LIFE 8.0      /* seconds: of probes, and of samples at first */
#define HEAT_LONGEST   32.0     /* of samples, at most */
#define HEAT_SHORTEST  4.0
#define HEAT_BYTES     23       /* per granule */

/* Accesses that miss the caches, per visit of a page, as far as nothing else is known; as in the simulation. */
#define HEAT_VISIT     4.0

/* Kinds of evidence, and what heat_add() wants as events and exposure of each. */
enum heat_kind {
    HEAT_SAMPLES,               /* accesses; every granule is exposed all the time */
    HEAT_PROBES,                /* pages touched; armed page-seconds */
    HEAT_WRITES,                /* pages written */
    HEAT_HINTS,                 /* accesses that somebody tells of */
    HEAT_KINDS
};

struct heat_memory {
    double half_life;           /* seconds */
    double scale;               /* what is stored is the value times this */
    double log_scale;           /* of all time, base 2: only differences mean something */
    double watched_s, squared_s;    /* decayed time of watching, and with the decay's square */
    double total;               /* of all granules, as stored */
};

enum heat_memory_id { HEAT_LONG, HEAT_SHORT, HEAT_PROBED, HEAT_WRITTEN, HEAT_HINTED, HEAT_MEMORIES };

struct heat {
    guint32 n;
    float *longer, *shorter;    /* accesses, in two memories */
    float *touched, *armed;     /* pages, page-seconds */
    guint16 *written, *hinted;  /* pages, accesses: the upper half of a float */
    guint16 *moved_s;           /* when it moved, in seconds of the VM's clock; 0: long ago */
    guint8 *bounces;            /* moves in a row that did not keep their promise */
    struct heat_memory memory[HEAT_MEMORIES];
    double unit[HEAT_KINDS];    /* accesses that one sample stands for; that a rate of one touch per
                                 * page and second stands for */
    bool unit_told;             /* of samples; else it is guessed from */
    double least;               /* the smallest sample since the last advance */
    double matched_rate, matched_touches;   /* to calibrate probes by samples */
    double hint_trust;          /* 0..1 */
    double undigested;          /* seconds whose evidence is not digested */
    bool by_samples;            /* samples may decide */
    double contest, contested;  /* short against long: nats in its favour, of so many samples */
    /* What the long memory was worth: nats, of so many samples; usually; how far off that usually is. */
    double known, asked, usual, swing;
    double break_s;             /* seconds until the past may end again */
    guint32 breaks;             /* times the past was forgotten */
    double touches;             /* pages, lately */
    double changed, probes;     /* touched probes that were not to be expected so, and all, lately */
    double news, learned_s;     /* the share of those, usually; seconds in which that was learned */
    double news_s;              /* seconds until the past may end again */
    /* Made by heat_advance() for heat_rate(). */
    float per_sample, sample_var, probe_scale, probe_unit, per_hint;
};

/* The float of which `half` is the upper half. */
static inline float heat_full(guint16 half)
{
    union { guint32 bits; float f; } u = { .bits = (guint32)half << 16 };

    return u.f;
}

struct estimate {
    double rate;                /* accesses per second */
    double sd;
};

void heat_init(struct heat *heat);
void heat_clear(struct heat *heat);

/* Makes room for granules [0, n); new ones are unknown. */
void heat_resize(struct heat *heat, guint32 n);

/* May samples decide, or are they only there to measure? */
void heat_use_samples(struct heat *heat, bool yes);

/*
 * Accesses that one sample stands for (else the smallest seen lately is taken for it), or that one
 * touched page of a probe does: pages of the granule x accesses per visit of a page.
 */
void heat_set_unit(struct heat *heat, enum heat_kind kind, double unit);

/* Share of the hints that have proved right, 0..1. */
void heat_trust_hints(struct heat *heat, double trust);

/* dt seconds go by, in which the kinds of this mask (1 << enum heat_kind) are watched. */
void heat_advance(struct heat *heat, double dt, guint32 kinds);

/*
 * What came since heat_advance() is all that comes of that time: learns from it how fast the guest changes,
 * which rates depend on. To be called before decisions; heat_advance() does it for those who do not.
 */
void heat_digest(struct heat *heat);

/* Takes evidence. The granule must be < n; what is not finite or negative is no evidence. */
void heat_add(struct heat *heat, enum heat_kind kind, guint32 granule, double events,
              double exposure_s);

/*
 * How fast the guest changes its ways, 0 hardly, 1 always: by what its samples are best predicted from; by
 * how long ago its probes' past ended, where there are no samples.
 */
double heat_changing(const struct heat *heat);

struct estimate heat_rate(const struct heat *heat, guint32 granule);

/* The same without what hints add. */
struct estimate heat_rate_unhinted(const struct heat *heat, guint32 granule);

/*
 * The same by the short memory, where that contradicts the long one: what the guest has just begun or ceased to use.
 * It is less sure of what differs little, so it is for sums over many granules.
 */
struct estimate heat_rate_lately(const struct heat *heat, guint32 granule);

/* Share of the granule's pages written per second lately, 0..1. */
double heat_write_share(const struct heat *heat, guint32 granule, guint32 pages);

/* --- of all granules ---------------------------------------------------------------------------- */

/* The rate that k granules are at or above, within an eighth; 0: fewer have any. */
double heat_at_rank(const struct heat *heat, guint32 k);

/* The k hottest, in descending order. Returns how many there are. */
guint32 heat_hottest(const struct heat *heat, guint32 *list, guint32 k);

/* --- what has come since -------------------------------------------------------------------------- */

struct heat_mark {
    float samples, touched, armed;
    double watched_s, squared_s, long_log, probed_log;
};

struct heat_mark heat_mark(const struct heat *heat, guint32 granule);

/* The rate by what came after the mark, hints aside; sd is infinite if nothing did. */
struct estimate heat_since(const struct heat *heat, guint32 granule, const struct heat_mark *mark);

/* --- moves ------------------------------------------------------------------------------------------ */

void heat_note_moved(struct heat *heat, guint32 granule, double now);

/* A move kept its promise, or not: then the granule is to be left alone for longer each time. */
void heat_note_judged(struct heat *heat, guint32 granule, double now, bool kept);

/* Whole seconds since it moved or was judged; infinite: long ago. */
double heat_moved_since(const struct heat *heat, guint32 granule, double now);

#endif
