// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Placement policies: which granules should change tiers.
 *
 * A policy sees heat and the ledger, never a source and never a mover. It proposes; the round
 * enforces the quota, whatever a policy says. A new policy is a new file and a row in policy.c.
 */
#ifndef VMTIER_POLICY_H
#define VMTIER_POLICY_H

#include "host/heat.h"
#include "host/ledger.h"

/* What a policy may look at when it plans one round. */
struct outlook {
    struct heat *heat;          /* a policy tells it which moves kept their promise */
    const struct ledger *ledger;
    guint32 dram_most;          /* granules of dram the quota allows */
    guint32 moves_most;         /* granules that may move this round */
    double now;                 /* seconds of the VM's clock */
    double move_cost_s;         /* CPU seconds one move has cost lately */
    guint32 pages;              /* of 4 KiB, in a granule */
    /* Can this granule be moved now? NULL: all can. */
    bool (*ready)(gconstpointer of, guint32 granule);
    gconstpointer of;
};

/* demote[i] makes room for promote[i]; promotions beyond n_demote go to free dram. */
struct plan {
    guint32 *demote, *promote;  /* room for moves_most each */
    guint32 n_demote, n_promote;
    guint32 wanted;             /* granules the policy would move if nothing limited it */
};

struct policy {
    const char *name;
    const char *summary;
    gpointer (*create)(void);
    void (*destroy)(gpointer state);
    void (*plan)(gpointer state, const struct outlook *look, struct plan *plan);
    /* The moves of the plan that were carried out; called once per plan. */
    void (*carried_out)(gpointer state, const struct outlook *look, const struct plan *done);
};

extern const struct policy policy_cbx, policy_lru;

/* NULL: there is none of that name. */
const struct policy *policy_find(const char *name);

/* --- shared by policies ------------------------------------------------------------------------- */

/*
 * May this granule move in this round? Not one the mover would refuse. One that is written just now
 * mostly waits, as its writers would, but not for ever: some rounds it goes by chance.
 */
bool policy_may_move(const struct outlook *look, guint32 granule);

/* Names of all policies, with ", " between; g_free() it. */
char *policy_names(void);

#endif
