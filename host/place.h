// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The placing part of a round: a policy's plan, within quota and pace, and its being carried out. It knows
 * no VM, so that a recording is placed by the same code (trace-replay.c).
 *
 * The quota holds at every instant because demotions are carried out, and their memory given back,
 * before any promotion is sent, and only as many promotions are sent as there is room for.
 */
#ifndef VMTIER_PLACE_H
#define VMTIER_PLACE_H

#include "common/err.h"
#include "host/pace.h"
#include "host/policy/policy.h"
#include "host/policy/wish.h"
#include "host/spread.h"

#define PLACE_MOVES_MOST 256    /* granules per round, whatever the rate allows */

struct placing {
    const struct policy *policy;
    gpointer policy_state;
    struct heat *heat;
    const struct ledger *ledger;
    struct pace *pace;
    guint64 granule;            /* bytes */
    guint32 dram_most;          /* granules */
    double now, move_cost_s;    /* as in struct outlook */
    bool moves;                 /* else it is planned, and that is all */
    const struct wishes *wishes;    /* NULL: there are none */
    struct spread *spread;      /* NULL: what is hot goes to dram, what is cold to tier 1 */

    gpointer of;                /* for the two below */
    /* Can the granule be moved now? NULL: all can. */
    bool (*ready)(gconstpointer of, guint32 granule);
    /* Carries moves out, notes each one's status, and the ledger follows. `coming`: promotions that will
     * be asked for next. 0, or a negative errno. */
    int (*carry_out)(gpointer of, struct vt_move_one *moves, guint32 n, guint32 coming,
                     struct vt_err *err);

    /* What came of it: granules that would move if nothing limited it, and that did (or would). */
    guint32 wanted, demoted, promoted;
    guint32 spread_moved;       /* granules brought where weights or a pin want them */
};

/* 0, or carry_out's error. */
int place_round(struct placing *placing, struct vt_err *err);

#endif
