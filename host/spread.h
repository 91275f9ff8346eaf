// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * On which tier each granule of a VM belongs, where "dram, or the slower one" is not all there is to say:
 *   pins       granules that stay on a tier, whatever their heat
 *   hot set    what a policy has picked for dram; with an interleave its granules are spread over tiers
 *   cold set   the rest, spread over the slower tiers by the weights that the host's configuration gives them
 *
 * Policies know dram and "not dram". They are shown a ledger (`view`) in which the hot set is in tier 0, the
 * cold one in tier 1, and pinned granules are nowhere; what they decide is turned into tiers here, and what
 * is not where it belongs is brought there, little by little. Where nothing of this is asked for, the view is
 * the ledger itself, and this costs nothing.
 *
 * The hot set is as large as the quota, whatever its weights: with dram=3 cxl=1 a quarter of what
 * dram could hold is on cxl.
 */
#ifndef VMTIER_SPREAD_H
#define VMTIER_SPREAD_H

#include "host/interleave.h"
#include "host/ledger.h"
#include "host/pin.h"

#define SPREAD_FREE 0           /* in spread->pin[]: not pinned */

struct spread {
    guint tiers;                /* that the host has */
    struct weights weights[INTERLEAVE_SETS];    /* of the hot set: all 0, it is in dram alone */
    guint8 *pin;                /* [view.n] number of the pin, from 1; NULL: there are none */
    guint8 pin_tier[PINS_MOST + 1];
    guint32 pinned[VT_TIERS];   /* granules */
    struct ledger view;
    double full_until[VT_TIERS];    /* the VM's clock: no memory there until then */

    /* As of this round. */
    const struct ledger *real;
    guint32 quota, dram_most;   /* granules of dram; of these, for the two sets */
    guint32 coming;             /* into dram, by moves that are still to be carried out */
    guint32 is[INTERLEAVE_SETS][VT_TIERS], target[INTERLEAVE_SETS][VT_TIERS];
    guint32 shut;               /* mask of tiers that are full */
    bool balancing[INTERLEAVE_SETS];
};

void spread_init(struct spread *s, guint tiers, const struct weights *cold);
void spread_clear(struct spread *s);

/* Weights of the hot set. */
void spread_interleave(struct spread *s, const struct weights *hot);

/* No granule is pinned; then granule by granule: the pin's number, from 0, and its tier. */
void spread_unpin(struct spread *s);
void spread_pin(struct spread *s, const struct ledger *real, guint32 granule, guint pin, guint8 tier);
/* The pin's number, or -1. */
int spread_pin_of(const struct spread *s, guint32 granule);

/*
 * A round begins: what policies are to see. *dram_most: granules of dram that the quota allows; what
 * is left of it for granules that are not pinned.
 */
const struct ledger *spread_look(struct spread *s, const struct ledger *real, guint32 *dram_most, double now);

/*
 * Where a granule goes that a policy takes into the hot set, or out of it: maybe where it is. LEDGER_NONE:
 * there is no room for it.
 */
guint8 spread_tier(struct spread *s, guint32 granule, bool hot);
/* It has got there. */
void spread_note(struct spread *s, guint32 granule, bool hot);
/* All moves that were asked for are carried out, or have failed. */
void spread_settle(struct spread *s);
/* A move to this tier found no memory there. */
void spread_note_full(struct spread *s, guint8 tier, double now);

/* Moves that bring granules where they belong; returns how many. No policy may be asked in between. */
guint32 spread_moves(struct spread *s, guint32 most, struct vt_move_one *moves);

/* The first placement of a granule of memory that nobody has used yet: it is hot or not. */
guint8 spread_first(struct spread *s, guint32 granule, bool hot);

/* Granules of the hot set on each tier, and how many there should be; all 0 without an interleave. */
void spread_count(const struct spread *s, const struct ledger *real, guint32 hot[VT_TIERS],
                  guint32 target[VT_TIERS]);

#endif
