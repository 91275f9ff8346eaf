// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Weights: how many of a set of granules belong on each tier, and which.
 *
 * Which one follows from the granule's number, so that neighbours are spread over the tiers and nothing has
 * to be remembered; how many, from the weights alone. Where the two disagree the number of granules wins:
 * some go elsewhere then. When weights change, a granule only moves from a tier that has too many to one
 * that has too few, which is the least there is to move.
 */
#ifndef VMTIER_INTERLEAVE_H
#define VMTIER_INTERLEAVE_H

#include "vmtier/wire.h"

#include <glib.h>
#include <stdbool.h>

#define INTERLEAVE_WEIGHT_MOST 100u

/* All zero: there are none. */
struct weights {
    guint32 of[VT_TIERS];
};

guint32 weights_sum(const struct weights *weights);
bool weights_equal(const struct weights *a, const struct weights *b);

/* Two sets of granules are spread in ways that have nothing to do with each other. */
enum interleave_set { INTERLEAVE_HOT, INTERLEAVE_COLD, INTERLEAVE_SETS };

/* The tier that a granule belongs on. The weights' sum is not 0. */
guint8 interleave_tier(const struct weights *weights, enum interleave_set set, guint32 granule);

/* How many of n granules belong on each tier: within one of the share, and n together. */
void interleave_targets(const struct weights *weights, guint32 n, guint32 target[VT_TIERS]);

/* Granules that are too many somewhere. */
guint32 interleave_surplus(const guint32 is[VT_TIERS], const guint32 target[VT_TIERS]);

/* So many may be, in a set of n, without anything being moved because of it. */
guint32 interleave_slack(guint32 n);

/*
 * A tier for one granule more: the one it belongs on, or where that has all it should, where most are
 * missing. `shut`: mask of tiers that take none. VT_TIERS: there is no tier.
 */
guint8 interleave_join(const struct weights *weights, enum interleave_set set, guint32 granule,
                       const guint32 is[VT_TIERS], const guint32 target[VT_TIERS], guint32 shut);

/*
 * Moves that bring the numbers nearer to their targets, `most` at most; returns how many. `tier` says
 * where each granule is, VT_TIERS or more: it is not of the set. `is` is brought up to date. `shut`: mask
 * of tiers that take none.
 */
struct interleave_job {
    const struct weights *weights;
    enum interleave_set set;
    guint8 (*tier)(gconstpointer of, guint32 granule);
    gconstpointer of;
    guint32 n;                  /* granules */
    guint32 *is;
    const guint32 *target;
    guint32 shut;
};
guint32 interleave_balance(const struct interleave_job *job, guint32 most, struct vt_move_one *moves);

/* --- as text ------------------------------------------------------------------------------------------- */

/* "dram=3 cxl=1", or "off". `names`: of the tiers, in their order, up to a NULL. */
bool weights_parse(const char *text, const char *const *names, struct weights *weights, GError **error);
char *weights_format(const struct weights *weights, const char *const *names);

/* The number of a tier, or -1 with the error. */
int tier_number(const char *name, const char *const *names, GError **error);

#endif
