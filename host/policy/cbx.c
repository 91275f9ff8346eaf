// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Policy "cbx": exchange by calibrated benefit.
 *
 * A hot granule on the slow tier is exchanged with a cold one in dram when three things hold:
 *   proof     the difference of their rates is above some standard deviations of it, the fewer the faster
 *             the guest changes;
 *   payback   the accesses it gains within HORIZON are worth the CPU time of two moves;
 *   trust     exchanges of its kind have kept their promise. Exchanges are remembered with their
 *             predicted gain; once SETTLE seconds have passed, evidence that arrived since then tells
 *             the realised gain. Kinds are bins of the gain and of gain over its standard deviation, and
 *             a bin for those that only a hint has made. The quotient realised / predicted discounts new
 *             predictions; where it is too low only a few probing exchanges go through. This is what
 *             keeps uniform and streaming loads from churning: the greatest of many noisy values is
 *             always too great. The hints' quotient is also what heat makes of further hints.
 * A granule whose move did not keep its promise is left alone, twice as long each time.
 * Dram that the quota leaves free is filled with the hottest there are, proved or not.
 * Nothing is exchanged in the first FIRST_S seconds of probing.
 *
 * No threshold of heat exists: only differences count. The constants were chosen in simulation
 * (bench/place).
 */
#include "host/policy/policy.h"
#include "host/top.h"

#include <math.h>
#include <string.h>

#define PROOF       3.0     /* standard deviations, of a guest that hardly changes */
#define PROOF_LEAST 0.75    /* of one that changes all the time: waiting costs more than an error */
#define HORIZON     60.0    /* seconds in which an exchange must pay back */
#define GAIN        75e-9   /* seconds saved per access served from dram instead of CXL */
#define SETTLE      10.0    /* seconds until an exchange is judged */
#define JUST_NOW    2.0     /* seconds; a change is not seen at once */
#define FORGET      30.0    /* half-life of judgements, seconds */
#define TRUST_LEAST 0.25    /* below this only probing exchanges go through */
#define TRUST_WHOLE 0.5
#define PROBES      0.4     /* of those, per second */
#define SIZES       3       /* of gains: below the rate at the quota's rank, up to four times it, above */
#define SURENESSES  8       /* of gains over their standard deviation, a bin per power of two */
#define HINTED      (SIZES * SURENESSES)    /* the bin of exchanges that hints have made */
#define PRIOR       4.0     /* exchanges that a kind's first judgements have to outweigh */
#define PENDING     1024    /* exchanges that wait for their judgement */
#define KEPT        0.25    /* share of the predicted gain that is a promise kept */
#define PROOF_BACK  2.0     /* at least, of a granule that has moved within the last SETTLED seconds */
#define SETTLED     30.0
#define RANK_S      1.0     /* seconds between looks at the rate at the quota's rank */
#define FIRST_S     1.25    /* seconds of probes: what is used just now may be what a scan passes */

#define QUIET       4.0     /* seconds a granule is left alone after its first broken promise */
#define QUIET_MOST  9       /* doublings */

struct exchange {
    guint32 up, down;           /* the promoted and the demoted granule */
    float at, predicted;
    struct heat_mark up_mark, down_mark;
    guint8 bin;
};

struct cbx {
    struct exchange pending[PENDING];
    guint32 head, n_pending;    /* a ring */
    double judged[HINTED + 1], realised[HINTED + 1];    /* how many; the sum of their realised shares */
    guint32 open[HINTED + 1];   /* not judged yet */
    double advanced;            /* time of the last plan */
    double probes;              /* tokens */
    double proof;               /* standard deviations, in this round */
    guint32 breaks;             /* of heat's, that were taken account of */
    double rank_rate, ranked;   /* the rate at the quota's rank; when that was looked at */
    double probed;              /* since when there are probes */
    struct exchange *chosen;    /* of this round's plan, in its order */
    guint32 n_chosen, room;
    struct top hot, cold;       /* candidates */
};

static gpointer create(void)
{
    struct cbx *c = g_new0(struct cbx, 1);

    c->ranked = -INFINITY;
    c->probed = INFINITY;
    return c;
}

static void destroy(gpointer state)
{
    struct cbx *c = state;

    top_clear(&c->hot);
    top_clear(&c->cold);
    g_free(c->chosen);
    g_free(c);
}

/* --- judging old exchanges ------------------------------------------------------------------------ */

/* A kind of which little is known is trusted as others of its size are; hints are for themselves. */
static double trust_of(const struct cbx *c, guint8 bin)
{
    double judged = PRIOR, realised = PRIOR, all = 1;
    int size = bin / SURENESSES;

    for (int b = size * SURENESSES; bin != HINTED && b < (size + 1) * SURENESSES; b++) {
        judged += c->judged[b];
        realised += c->realised[b];
    }
    all = CLAMP(realised / judged, 0, 1);
    return CLAMP((c->realised[bin] + all * PRIOR) / (c->judged[bin] + PRIOR), 0, 1);
}

static void judge(struct cbx *c, const struct exchange *x, const struct outlook *look)
{
    struct estimate up = heat_since(look->heat, x->up, &x->up_mark);
    struct estimate down = heat_since(look->heat, x->down, &x->down_mark);
    double gain = up.rate - down.rate;
    bool kept = gain >= KEPT * (double)x->predicted;

    c->open[x->bin]--;
    if (isinf(up.sd) || isinf(down.sd))
        return;
    c->judged[x->bin] += 1;
    c->realised[x->bin] += CLAMP(gain / (double)x->predicted, -1, 2);
    heat_note_judged(look->heat, x->up, look->now, kept);
    heat_note_judged(look->heat, x->down, look->now, kept);
}

/*
 * Heat says that the guest does something else now: what was gained was gained until now. Of what has moved
 * just now nobody knows whether it was before the change or because of it.
 */
static void judge_by_age(struct cbx *c, const struct outlook *look)
{
    for (; c->n_pending; c->n_pending--) {
        const struct exchange *x = &c->pending[c->head];
        double age = look->now - (double)x->at;

        c->open[x->bin]--;
        c->judged[x->bin] += age > JUST_NOW;
        c->realised[x->bin] += age > JUST_NOW ? age / SETTLE : 0;
        c->head = (c->head + 1) % PENDING;
    }
    c->breaks = look->heat->breaks;
}

static void settle(struct cbx *c, const struct outlook *look)
{
    double keep = exp2(-(look->now - c->advanced) / FORGET);

    for (int b = 0; b <= HINTED; b++) {
        c->judged[b] *= keep;
        c->realised[b] *= keep;
    }
    c->probes = MIN(c->probes + (look->now - c->advanced) * PROBES, 1.0);
    c->advanced = look->now;
    if (c->breaks != look->heat->breaks)
        judge_by_age(c, look);
    while (c->n_pending && (double)c->pending[c->head].at + SETTLE <= look->now) {
        judge(c, &c->pending[c->head], look);
        c->head = (c->head + 1) % PENDING;
        c->n_pending--;
    }
    heat_trust_hints(look->heat, trust_of(c, HINTED));
}

/* --- candidates ------------------------------------------------------------------------------------- */

static bool is_quiet(const struct outlook *look, guint32 granule)
{
    guint8 bounces = look->heat->bounces[granule];

    return bounces && heat_moved_since(look->heat, granule, look->now) <
                      QUIET * (1u << MIN(bounces - 1, QUIET_MOST));
}

/* The bar first: what has no chance is not asked whether it may. */
static void offer(struct top *top, const struct outlook *look, guint32 granule, double key)
{
    if ((float)key > top_bar(top) && !is_quiet(look, granule) && policy_may_move(look, granule))
        top_insert(top, granule, (float)key);
}

/* What has moved lately does not go back for next to no proof: else noise would move it to and fro. */
static double proof_for(const struct cbx *c, const struct outlook *look, guint32 granule)
{
    return heat_moved_since(look->heat, granule, look->now) < SETTLED ? MAX(PROOF_BACK, c->proof)
                                                                        : c->proof;
}

/* The best candidates of both tiers, as many as this round can use. */
static void rank(struct cbx *c, const struct outlook *look, bool fill)
{
    top_begin(&c->hot, look->moves_most);
    top_begin(&c->cold, fill ? 0 : look->moves_most);
    for (guint32 g = 0; g < look->ledger->n; g++) {
        guint8 tier = look->ledger->tier[g];
        struct estimate e;

        if (tier == LEDGER_NONE || (tier == 0 && fill))
            continue;
        e = heat_rate(look->heat, g);
        if (tier == 0)
            offer(&c->cold, look, g, -(e.rate + proof_for(c, look, g) * e.sd));
        else if (fill ? e.rate > 0 : e.rate > c->proof * e.sd)
            offer(&c->hot, look, g, fill ? e.rate : e.rate - proof_for(c, look, g) * e.sd);
    }
    top_sort(&c->hot);
    top_sort(&c->cold);
}

/* --- one exchange ------------------------------------------------------------------------------------- */

static bool proved(double proof, struct estimate hot, struct estimate cold)
{
    return hot.rate - cold.rate > proof * hypot(hot.sd, cold.sd);
}

static guint8 bin_of(const struct cbx *c, const struct outlook *look, guint32 up, guint32 down,
                     double gain, double sd)
{
    int sure = sd > 0 ? (int)lround(log2(gain / sd)) : SURENESSES - 1;
    int size = gain < c->rank_rate ? 0 : gain < 4 * c->rank_rate ? 1 : 2;

    if (look->heat->hinted[up] &&
        !proved(c->proof, heat_rate_unhinted(look->heat, up), heat_rate_unhinted(look->heat, down)))
        return HINTED;
    return (guint8)(size * SURENESSES + CLAMP(sure, 0, SURENESSES - 1));
}

static bool pays(double gain, const struct outlook *look)
{
    return gain * GAIN * HORIZON >= 2 * look->move_cost_s;
}

/* A kind that is half trusted may have so many waiting for judgement as its past has earned. */
static bool trusted(struct cbx *c, guint8 bin, double gain, const struct outlook *look)
{
    double trust = trust_of(c, bin);
    bool few = trust >= TRUST_WHOLE || c->open[bin] < PRIOR + c->realised[bin];

    if (trust >= TRUST_LEAST && few && pays(trust * gain, look))
        return true;
    if (c->probes < 1)
        return false;
    c->probes -= 1;
    return true;
}

enum verdict { GO, NEXT_HOT, NEXT_COLD, STOP };

static enum verdict choose(struct cbx *c, guint32 up, guint32 down, const struct outlook *look)
{
    struct estimate hot = heat_rate(look->heat, up), cold = heat_rate(look->heat, down);
    double gain = hot.rate - cold.rate;
    struct exchange x = { .up = up, .down = down, .predicted = (float)gain };

    if (!proved(c->proof, hot, cold) || !pays(gain, look))
        return STOP;
    if (!proved(proof_for(c, look, up), hot, cold))
        return NEXT_HOT;
    if (!proved(proof_for(c, look, down), hot, cold))
        return NEXT_COLD;
    x.bin = bin_of(c, look, up, down, gain, hypot(hot.sd, cold.sd));
    if (!trusted(c, x.bin, gain, look))
        return NEXT_HOT;
    x.up_mark = heat_mark(look->heat, up);
    x.down_mark = heat_mark(look->heat, down);
    c->open[x.bin]++;
    c->chosen[c->n_chosen++] = x;
    return GO;
}

static void fill_dram(const struct cbx *c, guint32 free, struct plan *p)
{
    for (guint32 i = 0; i < c->hot.n && i < free; i++)
        p->promote[p->n_promote++] = c->hot.entry[i].granule;
}

/* Where probes decide. Before that all there is to know comes from one moment, and is no mean of anything. */
static bool knows_little(struct cbx *c, const struct outlook *look)
{
    if (look->heat->by_samples || !(look->heat->memory[HEAT_PROBED].watched_s > 0))
        return false;
    c->probed = MIN(c->probed, look->now);
    return look->now < c->probed + FIRST_S;
}

static void exchange(struct cbx *c, const struct outlook *look, struct plan *p)
{
    guint32 i = 0, j = 0;

    if (knows_little(c, look))
        return;
    while (i < c->hot.n && j < c->cold.n && p->n_promote + p->n_demote + 2 <= look->moves_most) {
        guint32 up = c->hot.entry[i].granule, down = c->cold.entry[j].granule;
        enum verdict v = choose(c, up, down, look);

        if (v == STOP)
            return;
        if (v == GO) {
            p->promote[p->n_promote++] = up;
            p->demote[p->n_demote++] = down;
        }
        i += v != NEXT_COLD;
        j += v != NEXT_HOT;
    }
}

static void plan(gpointer state, const struct outlook *look, struct plan *p)
{
    struct cbx *c = state;
    guint32 in_dram = look->ledger->count[0];
    guint32 free = in_dram < look->dram_most ? look->dram_most - in_dram : 0;

    if (c->room < look->moves_most) {
        c->room = look->moves_most;
        c->chosen = g_renew(struct exchange, c->chosen, c->room);
    }
    if (c->ranked + RANK_S <= look->now) {
        c->rank_rate = heat_at_rank(look->heat, look->dram_most);
        c->ranked = look->now;
    }
    settle(c, look);
    c->proof = PROOF + heat_changing(look->heat) * (PROOF_LEAST - PROOF);
    rank(c, look, free > 0);
    c->n_chosen = 0;
    p->wanted = c->hot.n;
    if (free)
        fill_dram(c, free, p);
    else
        exchange(c, look, p);
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
            !listed(done->demote, done->n_demote, x->down)) {
            c->open[x->bin]--;
            continue;
        }
        x->at = (float)look->now;
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
