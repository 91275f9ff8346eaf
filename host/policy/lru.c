// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Policy "lru": recency alone, as kernels do it, for comparison and for those who want it plain.
 *
 * A granule of the slow tier that was accessed in this round and in an earlier one not longer than
 * AGAIN_S ago comes to dram; the one that has not been accessed for longest goes, if that is at least
 * IDLE_S. Nothing is weighed against anything, so it knows neither how often a granule is accessed nor
 * what a move costs.
 *
 * That a granule was accessed is seen by the lowest bits of its heat as it is stored, which only an
 * access changes. Four bytes per granule.
 */
#include "host/policy/policy.h"
#include "host/top.h"

#include <string.h>

#define AGAIN_S 10.0
#define IDLE_S  5.0

struct seen {
    guint16 at;                 /* tick, 1 to 65535; 0: not for long */
    guint8 bits;                /* of its heat, then */
    guint8 again;               /* accessed in this tick, and not for the first time */
};
static_assert(sizeof(struct seen) == 4, "lru: bytes per granule");

struct lru {
    struct seen *seen;
    guint32 n;
    guint16 tick;
    double at, round_s;         /* time of the last round; how long rounds are */
    struct top hot, cold;
};

static gpointer create(void)
{
    return g_new0(struct lru, 1);
}

static void destroy(gpointer state)
{
    struct lru *l = state;

    top_clear(&l->hot);
    top_clear(&l->cold);
    g_free(l->seen);
    g_free(l);
}

static void make_room(struct lru *l, guint32 n)
{
    if (n <= l->n)
        return;
    l->seen = g_renew(struct seen, l->seen, n);
    memset(l->seen + l->n, 0, (n - l->n) * sizeof(l->seen[0]));
    l->n = n;
}

static void next_tick(struct lru *l, double now)
{
    double dt = now - l->at;

    if (l->tick)
        l->round_s += 0.1 * (dt - l->round_s);
    else
        l->round_s = 0.25;
    l->at = now;
    l->tick = l->tick == G_MAXUINT16 ? 1 : l->tick + 1;
}

static guint8 low_bits(float value)
{
    union { float f; guint32 bits; } u = { .f = value };

    return (guint8)(u.bits ^ (u.bits >> 8) ^ (u.bits >> 16));
}

static double age_of(const struct lru *l, const struct seen *s)
{
    return s->at ? (guint16)(l->tick - s->at) * l->round_s : G_MAXDOUBLE;
}

static void note_access(struct lru *l, const struct heat *heat, guint32 granule)
{
    struct seen *s = &l->seen[granule];
    guint8 bits = low_bits(heat->shorter[granule]) ^ low_bits(heat->touched[granule]);

    s->again = 0;
    if (age_of(l, s) > 32768 * l->round_s)
        s->at = 0;
    if (bits == s->bits)
        return;
    s->again = age_of(l, s) <= AGAIN_S;
    s->at = l->tick;
    s->bits = bits;
}

static void rank(struct lru *l, const struct outlook *look)
{
    top_begin(&l->hot, look->moves_most);
    top_begin(&l->cold, look->moves_most);
    for (guint32 g = 0; g < look->ledger->n; g++) {
        guint8 tier = look->ledger->tier[g];
        double age;

        note_access(l, look->heat, g);
        age = MIN(age_of(l, &l->seen[g]), 1e6);
        if (tier == LEDGER_NONE)
            continue;
        if (tier == 0 && age >= IDLE_S && age > (double)top_bar(&l->cold) &&
            policy_may_move(look, g))
            top_insert(&l->cold, g, (float)age);
        if (tier != 0 && l->seen[g].again && top_bar(&l->hot) < 0 && policy_may_move(look, g))
            top_insert(&l->hot, g, 0);
    }
    top_sort(&l->cold);
}

static void plan(gpointer state, const struct outlook *look, struct plan *p)
{
    struct lru *l = state;
    guint32 in_dram = look->ledger->count[0];
    guint32 free = in_dram < look->dram_most ? look->dram_most - in_dram : 0;

    make_room(l, look->ledger->n);
    next_tick(l, look->now);
    rank(l, look);
    p->wanted = l->hot.n;
    for (guint32 i = 0; i < l->hot.n; i++) {
        bool pair = p->n_promote >= free;

        if ((pair && p->n_demote == l->cold.n) ||
            p->n_promote + p->n_demote + 1 + pair > look->moves_most)
            return;
        if (pair) {
            p->demote[p->n_demote] = l->cold.entry[p->n_demote].granule;
            p->n_demote++;
        }
        p->promote[p->n_promote++] = l->hot.entry[i].granule;
    }
}

static void carried_out(gpointer state, const struct outlook *look, const struct plan *done)
{
    (void)state;
    (void)look;
    (void)done;
}

const struct policy policy_lru = {
    .name = "lru",
    .summary = "what was accessed lately is in dram, however often that was",
    .create = create,
    .destroy = destroy,
    .plan = plan,
    .carried_out = carried_out,
};
