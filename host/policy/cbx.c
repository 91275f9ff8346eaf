// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Policy "cbx": exchange by calibrated benefit.
 *
 * A hot granule on the slow tier is exchanged with a cold one in dram when three things hold:
 *   proof     the hot one's pessimistic heat (rate - Z sd) is above the cold one's optimistic heat
 *             (rate + Z sd);
 *   payback   the accesses it gains within HORIZON are worth the CPU time of two moves;
 *   trust     exchanges of its kind have kept their promise. Each exchange is remembered with its
 *             predicted gain; once SETTLE seconds have passed, evidence that arrived since then tells
 *             the realised gain. Kinds are bins of gain over its standard deviation. The quotient
 *             realised / predicted discounts new predictions; where it is too low only a few probing
 *             exchanges go through. This is what keeps uniform and streaming loads from churning:
 *             the greatest of many noisy values is always too great.
 * A granule that was moved and soon moved back is left alone, twice as long each time.
 *
 * No threshold of heat exists: only differences count. The constants were chosen in simulation.
 */
#include "host/policy/policy.h"

#include <math.h>
#include <string.h>

#define Z           2.0     /* standard deviations of proof */
#define HORIZON     60.0    /* seconds in which an exchange must pay back */
#define GAIN        75e-9   /* seconds saved per access served from dram instead of CXL */
#define SETTLE      10.0    /* seconds until an exchange is judged */
#define FORGET      30.0    /* half-life of judgements, seconds */
#define TRUST_LEAST 0.25    /* below this only probing exchanges go through */
#define PROBES      0.5     /* of those, per second */
#define BINS        16
#define PENDING     4096    /* exchanges that wait for their judgement */

#define QUIET       4.0     /* seconds a granule is left alone after its first bounce */
#define QUIET_MOST  9       /* doublings */

struct exchange {
    guint32 up, down;           /* the promoted and the demoted granule */
    double at, predicted;
    double up_events, up_exposure, down_events, down_exposure;  /* totals when decided */
    guint8 bin;
};

struct cbx {
    struct exchange pending[PENDING];
    guint32 head, n_pending;    /* a ring */
    double predicted[BINS], realised[BINS];
    double advanced;            /* time of the last plan */
    double probes;              /* tokens */
    struct exchange *chosen;    /* of this round's plan, in its order */
    guint32 n_chosen, room;
    guint32 *cold, *hot;        /* candidate lists */
    float *key;
    guint32 n;                  /* room in the three above */
};

static gpointer create(void)
{
    return g_new0(struct cbx, 1);
}

static void destroy(gpointer state)
{
    struct cbx *c = state;

    g_free(c->chosen);
    g_free(c->cold);
    g_free(c->hot);
    g_free(c->key);
    g_free(c);
}

static void make_room(struct cbx *c, const struct outlook *look)
{
    if (c->n < look->ledger->n) {
        c->n = look->ledger->n;
        c->cold = g_renew(guint32, c->cold, c->n);
        c->hot = g_renew(guint32, c->hot, c->n);
        c->key = g_renew(float, c->key, c->n);
    }
    if (c->room < look->moves_most) {
        c->room = look->moves_most;
        c->chosen = g_renew(struct exchange, c->chosen, c->room);
    }
}

/* --- judging old exchanges ------------------------------------------------------------------------ */

static double rate_since(const struct heat *heat, guint32 granule, double events, double exposure,
                         bool *known)
{
    double now_events, now_exposure;

    heat_totals(heat, granule, &now_events, &now_exposure);
    *known = now_exposure > exposure && now_events >= events;
    return *known ? (now_events - events) / (now_exposure - exposure) : 0;
}

static void judge(struct cbx *c, const struct exchange *x, const struct heat *heat)
{
    bool up_known, down_known;
    double up = rate_since(heat, x->up, x->up_events, x->up_exposure, &up_known);
    double down = rate_since(heat, x->down, x->down_events, x->down_exposure, &down_known);

    if (!up_known || !down_known)
        return;
    c->predicted[x->bin] += x->predicted;
    c->realised[x->bin] += CLAMP(up - down, -x->predicted, 2 * x->predicted);
}

static void settle(struct cbx *c, const struct outlook *look)
{
    double keep = exp2(-(look->now - c->advanced) / FORGET);

    for (int b = 0; b < BINS; b++) {
        c->predicted[b] *= keep;
        c->realised[b] *= keep;
    }
    c->probes = MIN(c->probes + (look->now - c->advanced) * PROBES, 1.0);
    c->advanced = look->now;
    while (c->n_pending && c->pending[c->head].at + SETTLE <= look->now) {
        judge(c, &c->pending[c->head], look->heat);
        c->head = (c->head + 1) % PENDING;
        c->n_pending--;
    }
}

/* --- candidates ------------------------------------------------------------------------------------- */

static bool is_quiet(const struct outlook *look, guint32 granule)
{
    const struct heat_cell *cell = &look->heat->cell[granule];

    return cell->bounces &&
           look->now - cell->moved_s < QUIET * (1u << MIN(cell->bounces - 1, QUIET_MOST));
}

/* Sorts both tiers' candidates as far as this round can use them. */
static void rank(struct cbx *c, const struct outlook *look, guint32 *n_hot, guint32 *n_cold)
{
    guint32 hot = 0, cold = 0;

    for (guint32 g = 0; g < look->ledger->n; g++) {
        guint8 tier = look->ledger->tier[g];
        struct estimate e;

        if (tier == LEDGER_NONE || is_quiet(look, g))
            continue;
        e = heat_rate(look->heat, g);
        if (tier == 0) {
            c->key[g] = (float)-(e.rate + Z * e.sd);
            c->cold[cold++] = g;
        } else if (e.rate > Z * e.sd) {
            c->key[g] = (float)(e.rate - Z * e.sd);
            c->hot[hot++] = g;
        }
    }
    *n_hot = policy_select(c->hot, c->key, hot, look->moves_most);
    *n_cold = policy_select(c->cold, c->key, cold, look->moves_most);
}

static double rate_at_rank(const struct outlook *look, guint32 granule)
{
    return heat_rate(look->heat, granule).rate;
}

/* --- one exchange ------------------------------------------------------------------------------------- */

static int bin_of(double gain, double sd)
{
    int b = sd > 0 ? (int)lround(log2(gain / sd)) + 4 : BINS - 1;

    return CLAMP(b, 0, BINS - 1);
}

static bool trusted(struct cbx *c, int bin, double gain, double prior, const struct outlook *look)
{
    double trust = CLAMP((c->realised[bin] + prior) / (c->predicted[bin] + prior), 0, 1);
    double saved = trust * gain * look->accesses_per_unit * GAIN * HORIZON;

    if (trust >= TRUST_LEAST && saved >= 2 * look->move_cost_s)
        return true;
    if (c->probes < 1)
        return false;
    c->probes -= 1;
    return true;
}

static bool choose(struct cbx *c, guint32 up, guint32 down, double prior,
                   const struct outlook *look)
{
    struct estimate hot = heat_rate(look->heat, up), cold = heat_rate(look->heat, down);
    double gain = hot.rate - cold.rate;
    struct exchange x = { .up = up, .down = down, .at = look->now, .predicted = gain };

    if (c->key[up] <= -c->key[down])
        return false;                       /* not proved */
    if (gain * look->accesses_per_unit * GAIN * HORIZON < 2 * look->move_cost_s)
        return false;                       /* does not pay */
    x.bin = (guint8)bin_of(gain, hypot(hot.sd, cold.sd));
    if (!trusted(c, x.bin, gain, prior, look))
        return false;
    heat_totals(look->heat, up, &x.up_events, &x.up_exposure);
    heat_totals(look->heat, down, &x.down_events, &x.down_exposure);
    c->chosen[c->n_chosen++] = x;
    return true;
}

static void plan(gpointer state, const struct outlook *look, struct plan *p)
{
    struct cbx *c = state;
    guint32 in_dram = look->ledger->count[0], hot, cold, i = 0;
    guint32 free = in_dram < look->dram_most ? look->dram_most - in_dram : 0;
    double prior;

    make_room(c, look);
    settle(c, look);
    rank(c, look, &hot, &cold);
    c->n_chosen = 0;
    p->wanted = hot;
    for (; i < hot && i < free && p->n_promote < look->moves_most; i++)
        p->promote[p->n_promote++] = c->hot[i];
    prior = cold ? 2 * rate_at_rank(look, c->cold[cold - 1]) : 0;
    for (guint32 j = 0; i < hot && j < cold; i++, j++) {
        if (p->n_promote + p->n_demote + 2 > look->moves_most)
            break;
        if (!choose(c, c->hot[i], c->cold[j], prior + 1e-9, look))
            break;
        p->promote[p->n_promote++] = c->hot[i];
        p->demote[p->n_demote++] = c->cold[j];
    }
}

/* --- what became of it ---------------------------------------------------------------------------------- */

static bool listed(const guint32 *list, guint32 n, guint32 granule)
{
    for (guint32 i = 0; i < n; i++)
        if (list[i] == granule)
            return true;
    return false;
}

static void carried_out(gpointer state, const struct outlook *look, const struct plan *done)
{
    struct cbx *c = state;

    for (guint32 i = 0; i < c->n_chosen; i++) {
        struct exchange *x = &c->chosen[i];

        if (c->n_pending == PENDING || !listed(done->promote, done->n_promote, x->up) ||
            !listed(done->demote, done->n_demote, x->down))
            continue;
        x->at = look->now;
        c->pending[(c->head + c->n_pending++) % PENDING] = *x;
    }
    c->n_chosen = 0;
}

const struct policy policy_cbx = {
    .name = "cbx",
    .summary = "exchange hot and cold granules when it provably pays, learning from past exchanges",
    .create = create,
    .destroy = destroy,
    .plan = plan,
    .carried_out = carried_out,
};
