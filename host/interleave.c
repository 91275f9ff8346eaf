// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Weights: see interleave.h.
 *
 * A granule's number times an irrational number, of which only the fraction is kept, is its point between
 * 0 and 1. The points of any stretch of granules are spread evenly, much more so than chance would, and
 * tiers get a piece of the line as long as their share. Hot and cold sets use two numbers whose pairs of
 * points are spread evenly over the square, so that what was hot on one tier is cold on all.
 */
#include "host/interleave.h"
#include "host/error.h"

#include <errno.h>
#include <string.h>

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EINVAL, __VA_ARGS__), false)

/* 2^32 divided by the root of x^3 = x + 1, and by its square. */
static const guint32 step[] = { 3242174889u, 2447445413u };
static_assert(G_N_ELEMENTS(step) == INTERLEAVE_SETS, "a set has no step");

guint32 weights_sum(const struct weights *w)
{
    guint32 sum = 0;

    for (guint t = 0; t < VT_TIERS; t++)
        sum += w->of[t];
    return sum;
}

bool weights_equal(const struct weights *a, const struct weights *b)
{
    return !memcmp(a->of, b->of, sizeof(a->of));
}

/* --- which --------------------------------------------------------------------------------------------- */

guint8 interleave_tier(const struct weights *w, enum interleave_set set, guint32 granule)
{
    guint64 point = (guint32)(granule * step[set]) * (guint64)weights_sum(w) >> 32, end = 0;
    guint8 t = 0;

    for (; t < VT_TIERS - 1; t++) {
        end += w->of[t];
        if (point < end)
            break;
    }
    return t;
}

/* --- how many ------------------------------------------------------------------------------------------ */

/* What rounding leaves goes to the tiers that lost most by it; of equals the lower first. */
void interleave_targets(const struct weights *w, guint32 n, guint32 target[VT_TIERS])
{
    guint64 rest[VT_TIERS], sum = MAX(weights_sum(w), 1);
    guint32 left = n;

    for (guint t = 0; t < VT_TIERS; t++) {
        target[t] = (guint32)((guint64)n * w->of[t] / sum);
        rest[t] = (guint64)n * w->of[t] % sum;
        left -= target[t];
    }
    for (; left && weights_sum(w); left--) {
        guint best = 0;

        for (guint t = 1; t < VT_TIERS; t++)
            if (rest[t] > rest[best])
                best = t;
        target[best]++;
        rest[best] = 0;
    }
}

guint32 interleave_surplus(const guint32 is[VT_TIERS], const guint32 target[VT_TIERS])
{
    guint32 surplus = 0;

    for (guint t = 0; t < VT_TIERS; t++)
        surplus += is[t] > target[t] ? is[t] - target[t] : 0;
    return surplus;
}

guint32 interleave_slack(guint32 n)
{
    return MAX(n / 200, 1);
}

/* Where most are missing; VT_TIERS if nowhere any are. */
static guint8 neediest(const guint32 is[VT_TIERS], const guint32 target[VT_TIERS], guint32 shut)
{
    guint8 best = VT_TIERS;
    guint32 most = 0;

    for (guint8 t = 0; t < VT_TIERS; t++)
        if (!(shut & 1u << t) && target[t] > is[t] && target[t] - is[t] > most) {
            most = target[t] - is[t];
            best = t;
        }
    return best;
}

guint8 interleave_join(const struct weights *w, enum interleave_set set, guint32 granule,
                       const guint32 is[VT_TIERS], const guint32 target[VT_TIERS], guint32 shut)
{
    guint8 own = interleave_tier(w, set, granule), other;

    if (!(shut & 1u << own) && is[own] < target[own])
        return own;
    other = neediest(is, target, shut);
    if (other < VT_TIERS)
        return other;
    for (guint8 t = 0; t < VT_TIERS && shut & 1u << own; t++)    /* all have enough: any that takes some */
        if (w->of[t] && !(shut & 1u << t))
            own = t;
    return shut & 1u << own ? VT_TIERS : own;
}

/* --- moves ----------------------------------------------------------------------------------------------- */

/* Of granules in tiers that have too many: those that belong elsewhere (`own`), or any. */
static guint32 pick(const struct interleave_job *j, bool own, guint32 most, struct vt_move_one *moves)
{
    guint32 n = 0;

    for (guint32 g = 0; g < j->n && n < most; g++) {
        guint8 from = j->tier(j->of, g), to;

        if (from >= VT_TIERS || j->is[from] <= j->target[from])
            continue;
        to = own ? interleave_tier(j->weights, j->set, g) : neediest(j->is, j->target, j->shut);
        if (to == VT_TIERS)
            break;
        if (to == from || j->shut & 1u << to || j->is[to] >= j->target[to])
            continue;
        moves[n++] = (struct vt_move_one){ .granule = g, .tier = to };
        j->is[from]--;
        j->is[to]++;
    }
    return n;
}

/* What was picked is not to be picked again: `is` has it already, tier() does not. */
struct rest {
    const struct interleave_job *job;
    const struct vt_move_one *picked;       /* in the order of granules */
    guint32 n;
};

static guint8 tier_unless_picked(gconstpointer of, guint32 granule)
{
    const struct rest *r = of;
    guint32 low = 0, high = r->n;

    while (low < high) {
        guint32 middle = (low + high) / 2;

        if (r->picked[middle].granule < granule)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->n && r->picked[low].granule == granule ? VT_TIERS
                                                           : r->job->tier(r->job->of, granule);
}

guint32 interleave_balance(const struct interleave_job *job, guint32 most, struct vt_move_one *moves)
{
    guint32 n = pick(job, true, most, moves);
    const struct rest rest = { job, moves, n };
    struct interleave_job others = *job;

    others.tier = tier_unless_picked;
    others.of = &rest;
    return n < most ? n + pick(&others, false, most - n, moves + n) : n;
}

/* --- as text --------------------------------------------------------------------------------------------- */

int tier_number(const char *name, const char *const *names, GError **error)
{
    g_autofree char *all = g_strjoinv(", ", (char **)names);

    for (int t = 0; names[t]; t++)
        if (!strcmp(names[t], name))
            return t;
    g_set_error(error, VMT_ERROR, EINVAL, "there is no tier '%s'; there are %s", name, all);
    return -1;
}

static bool parse_one(const char *word, const char *const *names, struct weights *w, guint32 *seen,
                      GError **error)
{
    g_auto(GStrv) part = g_strsplit(word, "=", 2);
    guint64 weight;
    int t;

    if (g_strv_length(part) != 2)
        return FAIL(error, "'%s': it is TIER=WEIGHT, like dram=3", word);
    t = tier_number(part[0], names, error);
    if (t < 0)
        return false;
    if (*seen & 1u << t)
        return FAIL(error, "tier %s is there twice", part[0]);
    if (!g_ascii_string_to_unsigned(part[1], 10, 0, INTERLEAVE_WEIGHT_MOST, &weight, NULL))
        return FAIL(error, "'%s': a weight is 0 to %u", word, INTERLEAVE_WEIGHT_MOST);
    *seen |= 1u << t;
    w->of[t] = (guint32)weight;
    return true;
}

bool weights_parse(const char *text, const char *const *names, struct weights *weights, GError **error)
{
    g_auto(GStrv) words = g_strsplit_set(text, " \t", -1);
    struct weights w = { 0 };
    guint32 seen = 0;

    *weights = w;
    if (!strcmp(text, "off"))
        return true;
    for (char **word = words; *word; word++)
        if (**word && !parse_one(*word, names, &w, &seen, error))
            return false;
    if (__builtin_popcount(seen) < 2)
        return FAIL(error, "'%s': weights of two tiers at least, like dram=3 %s=1, or off", text,
                    names[0] && names[1] ? names[1] : "cxl");
    if (!weights_sum(&w))
        return FAIL(error, "'%s': some weight is above 0", text);
    *weights = w;
    return true;
}

char *weights_format(const struct weights *w, const char *const *names)
{
    GString *s = g_string_new(NULL);

    for (guint t = 0; t < VT_TIERS && names[t]; t++)
        if (w->of[t])
            g_string_append_printf(s, "%s%s=%u", s->len ? " " : "", names[t], w->of[t]);
    return g_string_free(s->len ? s : g_string_assign(s, "off"), FALSE);
}
