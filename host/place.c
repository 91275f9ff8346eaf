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
    guint32 dram_most = p->dram_most;
    const struct ledger *ledger =
        p->spread ? spread_look(p->spread, p->ledger, &dram_most, p->now) : p->ledger;

    return (struct outlook){
        .heat = p->heat,
        .ledger = ledger,
        .dram_most = dram_most,
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
    const struct ledger *l = look->ledger;
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

/* Carries moves out in the order of addresses, so that neighbours go together. */
static int carry_moves(struct placing *p, struct vt_move_one *moves, guint32 n, guint32 coming,
                       guint32 *arrived, struct vt_err *err)
{
    guint8 tier[PLACE_MOVES_MOST];
    int rc;

    *arrived = 0;
    qsort(moves, n, sizeof(moves[0]), by_granule);
    for (guint32 i = 0; i < n; i++)
        tier[i] = moves[i].tier;
    rc = p->carry_out(p->of, moves, n, coming, err);
    for (guint32 i = 0; !rc && i < n; i++) {
        *arrived += moves[i].status == VT_ST_OK;
        if (moves[i].status == VT_ST_NOMEM && p->spread)
            spread_note_full(p->spread, tier[i], p->now);
    }
    if (p->spread)
        spread_settle(p->spread);
    pace_spend(p->pace, *arrived * p->granule);
    return rc;
}

static void note_arrived(struct placing *p, guint32 granule, bool hot)
{
    if (p->spread)
        spread_note(p->spread, granule, hot);
    heat_note_moved(p->heat, granule, p->now);
}

/* Makes list[0..n) hot or cold, and moves what has to move for that. Keeps in the list those that did. */
static int move_list(struct placing *p, guint32 *list, guint32 *n, bool hot, guint32 coming,
                     struct vt_err *err)
{
    struct vt_move_one moves[PLACE_MOVES_MOST] = { 0 };
    guint32 asked = 0, kept = 0, arrived;
    int rc;

    for (guint32 i = 0; i < *n; i++) {
        guint8 to = p->spread ? spread_tier(p->spread, list[i], hot) : !hot;

        if (to != LEDGER_NONE && to != p->ledger->tier[list[i]]) {
            moves[asked++] = (struct vt_move_one){ .granule = list[i], .tier = to };
        } else if (to != LEDGER_NONE) {
            note_arrived(p, list[i], hot);
            list[kept++] = list[i];
        }
    }
    rc = carry_moves(p, moves, asked, coming, &arrived, err);
    for (guint32 i = 0; !rc && i < asked; i++)
        if (moves[i].status == VT_ST_OK) {
            note_arrived(p, moves[i].granule, hot);
            list[kept++] = moves[i].granule;
        }
    *n = kept;
    return rc;
}

static int by_tier(const void *a, const void *b)
{
    const struct vt_move_one *x = a, *y = b;

    return (x->tier == 0) - (y->tier == 0);
}

/*
 * What is not where its pin or the weights want it. A part of the round's moves is left for the policy; and
 * what leaves dram does so before anything comes.
 */
static int spread_out(struct placing *p, struct outlook *look, struct vt_err *err)
{
    struct vt_move_one moves[PLACE_MOVES_MOST] = { 0 };
    guint32 most = (look->moves_most + 1) / 2, n, out = 0, left, came;
    int rc;

    n = spread_moves(p->spread, most, moves);
    qsort(moves, n, sizeof(moves[0]), by_tier);
    while (out < n && moves[out].tier != 0)
        out++;
    if (!n)
        return 0;
    look->moves_most -= n;
    rc = carry_moves(p, moves, out, n - out, &left, err);
    if (!rc)
        rc = carry_moves(p, moves + out, n - out, 0, &came, err);
    if (!rc)
        p->spread_moved = left + came;
    return rc;
}

static int carry_out(struct placing *p, const struct outlook *look, struct plan *plan,
                     struct vt_err *err)
{
    guint32 used;
    int rc = move_list(p, plan->demote, &plan->n_demote, false, plan->n_promote, err);

    (void)fault_at(FAULT_ROUND_DEMOTED);
    if (rc)
        return rc;
    used = look->ledger->count[0];
    plan->n_promote = MIN(plan->n_promote, used < look->dram_most ? look->dram_most - used : 0);
    return move_list(p, plan->promote, &plan->n_promote, true, 0, err);
}

static void make_plan(const struct placing *p, const struct outlook *look, struct plan *plan)
{
    if (look->dram_most < look->ledger->count[0]) {
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
    struct outlook look = look_out(p);
    int rc = 0;

    p->spread_moved = 0;
    if (p->spread && p->moves)
        rc = spread_out(p, &look, err);
    if (rc)
        return rc;
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
