// SPDX-License-Identifier: GPL-2.0-or-later
/* The placing part of a round: see place.h. */
#include "host/place.h"
#include "common/fault.h"
#include "host/top.h"

#include <stdlib.h>

static const struct wishes *wishes_of(const struct placing *p)
{
    static const struct wishes none;

    return p->wishes ? p->wishes : &none;
}

static struct outlook look_out(const struct placing *p)
{
    return (struct outlook){
        .heat = p->heat,
        .ledger = p->ledger,
        .dram_most = p->dram_most,
        .moves_most = MIN(pace_units(p->pace, p->granule), PLACE_MOVES_MOST),
        .now = p->now,
        .move_cost_s = p->move_cost_s,
        .pages = (guint32)(p->granule / 4096),
        .ready = p->ready,
        .of = p->of,
    };
}

/* More dram than the quota allows: the coldest have to go, worth it or not. */
static void plan_shrink(const struct placing *p, const struct outlook *look, struct plan *plan)
{
    const struct ledger *l = p->ledger;
    guint32 over = l->count[0] - look->dram_most;
    struct top coldest;

    top_init(&coldest);
    top_begin(&coldest, MIN(over, look->moves_most));
    for (guint32 g = 0; g < l->n; g++)
        if (l->tier[g] == 0 && (!p->ready || p->ready(p->of, g)))
            top_offer(&coldest, g, wish_key(wishes_of(p), g, heat_rate(p->heat, g).rate));
    top_sort(&coldest);
    plan->wanted = over;
    plan->n_demote = coldest.n;
    for (guint32 i = 0; i < coldest.n; i++)
        plan->demote[i] = coldest.entry[i].granule;
    top_clear(&coldest);
}

static int by_granule(const void *a, const void *b)
{
    const struct vt_move_one *x = a, *y = b;

    return (x->granule > y->granule) - (x->granule < y->granule);
}

/* Moves list[0..n) to a tier in the order of addresses, so that neighbours go together. Keeps in the
 * list those that arrived. */
static int move_list(struct placing *p, guint32 *list, guint32 *n, guint8 tier, guint32 coming,
                     struct vt_err *err)
{
    struct vt_move_one moves[PLACE_MOVES_MOST] = { 0 };
    guint32 arrived = 0;
    int rc;

    for (guint32 i = 0; i < *n; i++)
        moves[i] = (struct vt_move_one){ .granule = list[i], .tier = tier };
    qsort(moves, *n, sizeof(moves[0]), by_granule);
    rc = p->carry_out(p->of, moves, *n, coming, err);
    for (guint32 i = 0; !rc && i < *n; i++)
        if (moves[i].status == VT_ST_OK) {
            heat_note_moved(p->heat, moves[i].granule, p->now);
            list[arrived++] = moves[i].granule;
        }
    pace_spend(p->pace, arrived * p->granule);
    *n = arrived;
    return rc;
}

static int carry_out(struct placing *p, const struct outlook *look, struct plan *plan,
                     struct vt_err *err)
{
    guint32 used;
    int rc = move_list(p, plan->demote, &plan->n_demote, 1, plan->n_promote, err);

    (void)fault_at(FAULT_ROUND_DEMOTED);
    if (rc)
        return rc;
    used = p->ledger->count[0];
    plan->n_promote = MIN(plan->n_promote, used < look->dram_most ? look->dram_most - used : 0);
    return move_list(p, plan->promote, &plan->n_promote, 0, 0, err);
}

static void make_plan(const struct placing *p, const struct outlook *look, struct plan *plan)
{
    if (look->dram_most < p->ledger->count[0]) {
        plan_shrink(p, look, plan);
        return;
    }
    p->policy->plan(p->policy_state, look, plan);
    wishes_amend(wishes_of(p), look, plan);
}

int place_round(struct placing *p, struct vt_err *err)
{
    guint32 demote[PLACE_MOVES_MOST], promote[PLACE_MOVES_MOST];
    struct plan plan = { .demote = demote, .promote = promote };
    const struct outlook look = look_out(p);
    int rc = 0;

    make_plan(p, &look, &plan);
    (void)fault_at(FAULT_ROUND_PLANNED);
    if (p->moves) {
        rc = carry_out(p, &look, &plan, err);
        p->policy->carried_out(p->policy_state, &look, &plan);
    }
    p->wanted = plan.wanted;
    p->demoted = plan.n_demote;
    p->promoted = plan.n_promote;
    return rc;
}
