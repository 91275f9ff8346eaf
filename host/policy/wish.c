// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Wishes: see wish.h.
 *
 * The plan's promotions are filtered, those of kept granules put in front; then its demotions are filtered
 * and made to fit: each promotion beyond what is free needs a victim. Victims are looked for once, the empty
 * ones first, then by heat. If there are not enough, the last promotions go.
 *
 * Empty granules also leave when nobody takes their place at once, as long as there are others outside that
 * have any heat: the policy fills the room they make, for which it needs less proof than for an exchange.
 */
#include "host/policy/wish.h"
#include "host/top.h"

#include <string.h>

void wishes_clear(struct wishes *w)
{
    g_free(w->of);
    memset(w, 0, sizeof(*w));
}

void wishes_resize(struct wishes *w, guint32 n)
{
    if (n <= w->n)
        return;
    w->of = g_renew(guint8, w->of, n);
    memset(w->of + w->n, WISH_NONE, n - w->n);
    w->count[WISH_NONE] += n - w->n;
    w->n = n;
}

void wish_set(struct wishes *w, guint32 granule, enum wish wish)
{
    w->count[w->of[granule]]--;
    w->count[wish]++;
    w->of[granule] = (guint8)wish;
}

float wish_key(const struct wishes *w, guint32 granule, double rate)
{
    switch (wish_of(w, granule)) {
    case WISH_EMPTY:
        return 1e30f - (float)rate;
    case WISH_COLD:
        return (float)(-rate / 2);
    case WISH_KEEP:
        return -1e30f - (float)rate;
    default:
        return (float)-rate;
    }
}

struct amending {
    const struct wishes *w;
    const struct outlook *look;
    struct plan *p;
    guint8 *listed;             /* [ledger->n] is in the plan */
    guint32 *victim, n_victims, next;
    guint32 warm;               /* granules outside of dram that have some heat */
};

static bool in_dram(const struct amending *a, guint32 granule)
{
    return a->look->ledger->tier[granule] == 0;
}

static bool may_move(const struct amending *a)
{
    return a->p->n_promote + a->p->n_demote < a->look->moves_most;
}

/* --- promotions ------------------------------------------------------------------------------------- */

static void drop_empty_promotions(struct amending *a)
{
    guint32 n = 0;

    for (guint32 i = 0; i < a->p->n_promote; i++)
        if (wish_of(a->w, a->p->promote[i]) != WISH_EMPTY)
            a->p->promote[n++] = a->p->promote[i];
    a->p->n_promote = n;
}

static void put_in_front(struct amending *a, guint32 granule)
{
    struct plan *p = a->p;
    guint32 n = p->n_promote;

    /* Each promotion may need a demotion. */
    if (2 * (n + 1) > a->look->moves_most && n)
        n--;
    memmove(p->promote + 1, p->promote, n * sizeof(p->promote[0]));
    p->promote[0] = granule;
    p->n_promote = n + 1;
}

static void promote_kept(struct amending *a)
{
    guint32 most = MAX(a->look->moves_most / 2, 1), n = 0;

    for (guint32 i = 0; i < a->p->n_promote; i++)
        a->listed[a->p->promote[i]] = 1;
    for (guint32 g = 0; g < a->w->n && g < a->look->ledger->n && n < most; g++)
        if (a->w->of[g] == WISH_KEEP && !in_dram(a, g) && a->look->ledger->tier[g] != LEDGER_NONE &&
            !a->listed[g]) {
            put_in_front(a, g);
            a->listed[g] = 1;
            n++;
        }
}

/* --- demotions -------------------------------------------------------------------------------------- */

static void find_victims(struct amending *a)
{
    const struct ledger *l = a->look->ledger;
    struct top top;

    top_init(&top);
    top_begin(&top, 2 * a->look->moves_most);
    for (guint32 g = 0; g < l->n; g++) {
        enum wish wish = wish_of(a->w, g);
        double rate = l->tier[g] == LEDGER_NONE ? 0 : heat_rate(a->look->heat, g).rate;

        a->warm += l->tier[g] != 0 && wish != WISH_EMPTY && rate > 0;
        if (l->tier[g] != 0 || wish == WISH_KEEP)
            continue;
        if (policy_may_move(a->look, g))
            top_offer(&top, g, wish_key(a->w, g, rate));
    }
    top_sort(&top);
    a->n_victims = top.n;
    a->victim = g_new(guint32, MAX(top.n, 1));
    for (guint32 i = 0; i < top.n; i++)
        a->victim[i] = top.entry[i].granule;
    top_clear(&top);
}

/* The next victim that is not in the plan; `empty`: only if it is. */
static bool take_victim(struct amending *a, bool empty, guint32 *granule)
{
    while (a->next < a->n_victims && a->listed[a->victim[a->next]])
        a->next++;
    if (a->next == a->n_victims || (empty && wish_of(a->w, a->victim[a->next]) != WISH_EMPTY))
        return false;
    *granule = a->victim[a->next++];
    a->listed[*granule] = 1;
    return true;
}

/* Kept granules stay, and the place of any other is taken by an empty one as long as there are some. */
static void replace_demotions(struct amending *a)
{
    struct plan *p = a->p;
    guint32 n = 0, better;

    for (guint32 i = 0; i < p->n_demote; i++)
        a->listed[p->demote[i]] = 1;
    for (guint32 i = 0; i < p->n_demote; i++) {
        enum wish wish = wish_of(a->w, p->demote[i]);

        if (wish != WISH_EMPTY && take_victim(a, wish != WISH_KEEP, &better))
            p->demote[n++] = better;
        else if (wish != WISH_KEEP)
            p->demote[n++] = p->demote[i];
    }
    p->n_demote = n;
}

static guint32 free_granules(const struct amending *a)
{
    guint32 used = a->look->ledger->count[0];

    return used < a->look->dram_most ? a->look->dram_most - used : 0;
}

static void fit(struct amending *a)
{
    struct plan *p = a->p;
    guint32 victim, room = free_granules(a);

    while (p->n_promote > room + p->n_demote && may_move(a) && take_victim(a, false, &victim))
        p->demote[p->n_demote++] = victim;
    p->n_promote = MIN(p->n_promote, room + p->n_demote);
    for (guint32 more = a->warm > p->n_promote ? a->warm - p->n_promote : 0;
         more > room && may_move(a) && take_victim(a, true, &victim); more--)
        p->demote[p->n_demote++] = victim;
}

void wishes_amend(const struct wishes *w, const struct outlook *look, struct plan *plan)
{
    struct amending a = { .w = w, .look = look, .p = plan };

    if (!w->of || w->count[WISH_NONE] == w->n || !look->moves_most)
        return;
    a.listed = g_new0(guint8, MAX(look->ledger->n, 1));
    drop_empty_promotions(&a);
    promote_kept(&a);
    find_victims(&a);
    replace_demotions(&a);
    fit(&a);
    g_free(a.victim);
    g_free(a.listed);
}
