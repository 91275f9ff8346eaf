// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pins, the hot set's weights and the cold set's, put together: see spread.h.
 *
 * Who is in the hot set is remembered in `view` from round to round. Whatever got into dram (by a first
 * placement, an operator's order, or QEMU bringing everything home) is in it, too; without an interleave
 * there is no other way to be in it.
 */
#include "host/spread.h"

#include <string.h>

#define FULL_S 10.0             /* seconds until a tier that had no memory is tried again */

#define NOT_OF_THE_SET VT_TIERS

void spread_init(struct spread *s, guint tiers, const struct weights *cold)
{
    *s = (struct spread){ .tiers = tiers };
    s->weights[INTERLEAVE_COLD] = *cold;
    ledger_init(&s->view, 0);
}

void spread_clear(struct spread *s)
{
    g_clear_pointer(&s->pin, g_free);
    ledger_clear(&s->view);
}

void spread_interleave(struct spread *s, const struct weights *hot)
{
    if (weights_equal(&s->weights[INTERLEAVE_HOT], hot))
        return;
    s->weights[INTERLEAVE_HOT] = *hot;
    s->balancing[INTERLEAVE_HOT] = true;
}

static bool is_interleaved(const struct spread *s)
{
    return weights_sum(&s->weights[INTERLEAVE_HOT]) > 0;
}

/* What a policy sees is how it is. */
static bool is_plain(const struct spread *s)
{
    return !s->pin && !is_interleaved(s);
}

/* Makes room for as many granules as there are. */
static void resize(struct spread *s, guint32 n)
{
    guint32 was = s->view.n;

    if (n <= was)
        return;
    ledger_resize(&s->view, n);
    if (s->pin) {
        s->pin = g_realloc(s->pin, n);
        memset(s->pin + was, SPREAD_FREE, n - was);
    }
}

/* Like ledger_put(), but that this is no ledger whose every change matters to tests of faults. */
static void put(struct spread *s, guint32 granule, guint8 tier)
{
    guint8 *at = &s->view.tier[granule];

    if (*at != LEDGER_NONE)
        s->view.count[*at]--;
    *at = tier;
    if (tier != LEDGER_NONE)
        s->view.count[tier]++;
}

/* --- pins ------------------------------------------------------------------------------------------------ */

void spread_unpin(struct spread *s)
{
    g_clear_pointer(&s->pin, g_free);
    memset(s->pinned, 0, sizeof(s->pinned));
}

void spread_pin(struct spread *s, const struct ledger *real, guint32 granule, guint pin, guint8 tier)
{
    resize(s, real->n);
    if (!s->pin) {
        s->pin = g_malloc(s->view.n);
        memset(s->pin, SPREAD_FREE, s->view.n);
    }
    s->pin[granule] = (guint8)(pin + 1);
    s->pin_tier[pin + 1] = tier;
    s->pinned[tier]++;
}

int spread_pin_of(const struct spread *s, guint32 granule)
{
    return s->pin && granule < s->view.n ? s->pin[granule] - 1 : -1;
}

static bool is_pinned(const struct spread *s, guint32 granule)
{
    return s->pin && s->pin[granule] != SPREAD_FREE;
}

/* --- a round begins ---------------------------------------------------------------------------------------- */

static bool is_hot(const struct spread *s, guint32 granule)
{
    return s->view.tier[granule] == 0;
}

static void look_at(struct spread *s, guint32 g)
{
    guint8 tier = s->real->tier[g];
    bool hot;

    if (tier == LEDGER_NONE || is_pinned(s, g)) {
        put(s, g, LEDGER_NONE);
        return;
    }
    hot = tier == 0 || (is_interleaved(s) && is_hot(s, g));
    put(s, g, hot ? 0 : 1);
    s->is[hot ? INTERLEAVE_HOT : INTERLEAVE_COLD][tier]++;
}

static void set_targets(struct spread *s)
{
    const struct weights *hot = &s->weights[INTERLEAVE_HOT];
    guint32 cold = 0, all = s->view.count[0] + s->view.count[1];

    for (guint t = 1; t < VT_TIERS; t++)
        cold += s->is[INTERLEAVE_COLD][t];
    interleave_targets(&s->weights[INTERLEAVE_COLD], cold, s->target[INTERLEAVE_COLD]);
    /* By what the set may have, not by what it has: it may only be small for now. */
    if (is_interleaved(s))
        interleave_targets(hot, MIN(s->dram_most, all), s->target[INTERLEAVE_HOT]);
}

static void see_who_is_full(struct spread *s, double now)
{
    s->shut = 0;
    for (guint t = 1; t < VT_TIERS; t++)
        if (t >= s->tiers || s->full_until[t] > now)
            s->shut |= 1u << t;
}

static void look_at_all(struct spread *s)
{
    memset(s->is, 0, sizeof(s->is));
    if (is_plain(s)) {
        memcpy(s->is[INTERLEAVE_COLD], s->real->count, sizeof(s->is[0]));
        s->is[INTERLEAVE_COLD][0] = 0;
        return;
    }
    resize(s, s->real->n);
    for (guint32 g = 0; g < s->real->n; g++)
        look_at(s, g);
}

const struct ledger *spread_look(struct spread *s, const struct ledger *real, guint32 *dram_most, double now)
{
    guint32 quota = *dram_most;

    s->real = real;
    s->quota = quota;
    s->coming = 0;
    *dram_most = quota - MIN(s->pinned[0], quota);
    s->dram_most = *dram_most;
    see_who_is_full(s, now);
    look_at_all(s);
    set_targets(s);
    s->view.granule = real->granule;
    return is_plain(s) ? real : &s->view;
}

/* For one granule more in dram? What is pinned elsewhere may still be there. */
static bool has_room(const struct spread *s)
{
    return s->real->count[0] + s->coming < s->quota;
}

/* --- what policies decide ------------------------------------------------------------------------------------ */

static guint8 hot_tier(struct spread *s, guint32 granule)
{
    guint32 shut = s->shut | (has_room(s) ? 0 : 1);

    if (!is_interleaved(s))
        return has_room(s) ? 0 : VT_TIERS;
    return interleave_join(&s->weights[INTERLEAVE_HOT], INTERLEAVE_HOT, granule, s->is[INTERLEAVE_HOT],
                           s->target[INTERLEAVE_HOT], shut);
}

/* What is on a slower tier stays there, unless that is to have nothing. */
static guint8 cold_tier(struct spread *s, guint32 granule)
{
    const struct weights *w = &s->weights[INTERLEAVE_COLD];
    guint8 is = s->real->tier[granule];
    guint8 tier;

    if (is != 0 && w->of[is])
        return is;
    tier = interleave_join(w, INTERLEAVE_COLD, granule, s->is[INTERLEAVE_COLD],
                           s->target[INTERLEAVE_COLD], s->shut);
    return tier == VT_TIERS ? interleave_tier(w, INTERLEAVE_COLD, granule) : tier;
}

guint8 spread_tier(struct spread *s, guint32 granule, bool hot)
{
    guint8 is = s->real->tier[granule], tier = hot ? hot_tier(s, granule) : cold_tier(s, granule);

    if (tier == VT_TIERS)
        return LEDGER_NONE;
    if (!is_plain(s))
        s->is[hot ? INTERLEAVE_COLD : INTERLEAVE_HOT][is]--;
    s->is[hot ? INTERLEAVE_HOT : INTERLEAVE_COLD][tier]++;
    s->coming += is != 0 && tier == 0;
    return tier;
}

void spread_settle(struct spread *s)
{
    s->coming = 0;
}

void spread_note(struct spread *s, guint32 granule, bool hot)
{
    if (!is_plain(s))
        put(s, granule, hot ? 0 : 1);
}

void spread_note_full(struct spread *s, guint8 tier, double now)
{
    if (tier == 0 || tier >= VT_TIERS || s->tiers <= 2)
        return;
    s->full_until[tier] = now + FULL_S;
}

/* --- bringing everything where it belongs --------------------------------------------------------------------- */

static guint32 pin_moves(struct spread *s, guint32 most, struct vt_move_one *moves)
{
    guint32 n = 0;

    for (guint32 g = 0; s->pin && g < s->real->n && n < most; g++) {
        guint8 to = s->pin_tier[s->pin[g]], is = s->real->tier[g];

        if (!is_pinned(s, g) || is == LEDGER_NONE || is == to || s->shut & 1u << to ||
            (to == 0 && !has_room(s)))
            continue;
        s->coming += to == 0;
        moves[n++] = (struct vt_move_one){ .granule = g, .tier = to };
    }
    return n;
}

static guint8 tier_if_hot(gconstpointer of, guint32 granule)
{
    const struct spread *s = of;

    return s->view.tier[granule] == 0 ? s->real->tier[granule] : NOT_OF_THE_SET;
}

static guint8 tier_if_cold(gconstpointer of, guint32 granule)
{
    const struct spread *s = of;
    const struct ledger *view = is_plain(s) ? s->real : &s->view;
    guint8 seen = view->tier[granule];

    return seen != 0 && seen != LEDGER_NONE ? s->real->tier[granule] : NOT_OF_THE_SET;
}

/* Begins when the numbers are off by more than a little, and ends when they are right. */
static guint32 balance(struct spread *s, enum interleave_set set, guint32 most, struct vt_move_one *moves)
{
    const guint32 *is = s->is[set], *target = s->target[set];
    const struct interleave_job job = {
        .weights = &s->weights[set], .set = set, .of = s, .n = s->real->n,
        .tier = set == INTERLEAVE_HOT ? tier_if_hot : tier_if_cold,
        .is = s->is[set], .target = target, .shut = s->shut | (has_room(s) ? 0 : 1),
    };
    guint32 all = 0, surplus = interleave_surplus(is, target);

    for (guint t = 0; t < VT_TIERS; t++)
        all += target[t];
    s->balancing[set] = surplus && (s->balancing[set] || surplus > interleave_slack(all));
    return s->balancing[set] ? interleave_balance(&job, most, moves) : 0;
}

/* Only as many may come into dram as there is room for. */
static guint32 keep_to_room(struct spread *s, guint32 n, struct vt_move_one *moves)
{
    guint32 kept = 0;

    for (guint32 i = 0; i < n; i++) {
        if (moves[i].tier == 0 && !has_room(s))
            continue;
        s->coming += moves[i].tier == 0;
        moves[kept++] = moves[i];
    }
    return kept;
}

guint32 spread_moves(struct spread *s, guint32 most, struct vt_move_one *moves)
{
    guint32 n = pin_moves(s, most, moves), more;

    for (int set = 0; set < INTERLEAVE_SETS; set++) {
        if (set == INTERLEAVE_HOT ? !is_interleaved(s) : s->tiers < 3)
            continue;
        more = balance(s, (enum interleave_set)set, most - n, moves + n);
        n += keep_to_room(s, more, moves + n);
    }
    return n;
}

/* --- the first placement -------------------------------------------------------------------------------------- */

guint8 spread_first(struct spread *s, guint32 granule, bool hot)
{
    int pin = spread_pin_of(s, granule);

    if (pin >= 0)
        return s->pin_tier[pin + 1];
    if (!hot)
        return interleave_tier(&s->weights[INTERLEAVE_COLD], INTERLEAVE_COLD, granule);
    if (!is_interleaved(s))
        return 0;
    resize(s, granule + 1);
    put(s, granule, 0);
    return interleave_tier(&s->weights[INTERLEAVE_HOT], INTERLEAVE_HOT, granule);
}

/* --- what is shown ---------------------------------------------------------------------------------------------- */

void spread_count(const struct spread *s, const struct ledger *real, guint32 hot[VT_TIERS],
                  guint32 target[VT_TIERS])
{
    memset(hot, 0, VT_TIERS * sizeof(hot[0]));
    memset(target, 0, VT_TIERS * sizeof(target[0]));
    if (!is_interleaved(s))
        return;
    memcpy(target, s->target[INTERLEAVE_HOT], VT_TIERS * sizeof(target[0]));
    for (guint32 g = 0; g < MIN(s->view.n, real->n); g++)
        if (is_hot(s, g) && real->tier[g] != LEDGER_NONE)
            hot[real->tier[g]]++;
}
