// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See arbiter.h.
 *
 * Quota moves in steps of a granule or more. For each the arbiter asks what the best taker would
 * gain from it and what the best giver would lose; with K steps and N VMs that is K x N looks at a curve.
 */
#include "host/arbiter.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define STEPS      512          /* a pool has so many, or as many as it has granules */
#define MARGIN     1.10         /* a gain over a loss, to be worth it */
#define MARGIN_BACK 1.5         /* ... if it goes back */
#define FAIR_GAP   1.0          /* the same of per cent that are not served */
#define FAIR_BACK  5.0
#define TURN_ROUNDS 20
#define LITTLE     0.005        /* of all accesses: exchanges that gain less in all are not begun */
#define LITTLE_FAIR 0.02        /* ... of those of the VM that is served worst */

static const char *const mode_names[] = { "off", "throughput", "fair" };
static_assert(G_N_ELEMENTS(mode_names) == ARBITER_MODES, "a mode has no name");

const char *arbiter_mode_name(enum arbiter_mode mode)
{
    return mode_names[mode];
}

bool arbiter_mode_parse(const char *text, enum arbiter_mode *mode)
{
    for (guint i = 0; i < ARBITER_MODES; i++)
        if (!strcmp(text, mode_names[i])) {
            *mode = (enum arbiter_mode)i;
            return true;
        }
    return false;
}

/* --- curves ----------------------------------------------------------------------------------------- */

void curve_clear(struct curve *c)
{
    memset(c, 0, sizeof(*c));
}

/* One access per second into 2 MiB is in the middle. */
static guint bin_of(double density)
{
    double bin = CURVE_BINS / 2.0 + 4 * (log2(density) + 21);

    return density <= 0 ? 0 : (guint)CLAMP(bin, 0, CURVE_BINS - 1);
}

void curve_add(struct curve *c, guint64 bytes, double accesses_per_s)
{
    double rate = isfinite(accesses_per_s) && accesses_per_s > 0 ? accesses_per_s : 0;
    guint bin;

    if (!bytes)
        return;
    bin = bin_of(rate / (double)bytes);
    c->bytes[bin] += (double)bytes;
    c->rate[bin] += rate;
    c->total += rate;
}

double curve_served(const struct curve *c, double bytes)
{
    double served = 0;

    for (int i = CURVE_BINS - 1; i >= 0 && bytes > 0; i--) {
        if (c->bytes[i] <= 0)
            continue;
        served += c->rate[i] * MIN(bytes / c->bytes[i], 1);
        bytes -= c->bytes[i];
    }
    return served;
}

/* --- one step ----------------------------------------------------------------------------------------- */

struct division {
    enum arbiter_mode mode;
    struct share *share;
    guint n;
    guint64 step;               /* of every granule a multiple */
};

static guint64 whole(const struct share *s, guint64 bytes)
{
    return bytes / s->granule * s->granule;
}

/* The next step up, and down; 0: there is no room. */
static guint64 step_up(const struct division *d, const struct share *s)
{
    return s->quota >= s->max ? 0 : MIN(d->step, whole(s, s->max - s->quota));
}

static guint64 step_down(const struct division *d, const struct share *s)
{
    return s->quota <= s->min ? 0 : MIN(d->step, whole(s, s->quota - s->min));
}

/* Accesses per second into what is between two quotas. */
static double between(const struct share *s, guint64 less, guint64 more)
{
    return curve_served(s->curve, (double)more) - curve_served(s->curve, (double)less);
}

/* Per cent of its accesses that dram does not serve; what it serves counts by the weight. */
static double unserved(const struct share *s)
{
    double served = curve_served(s->curve, (double)s->quota) / s->curve->total;

    return 100 - served * 100 * 100 / s->weight;
}

/* What this VM would gain from a step more, in the mode's terms; -infinite: it takes none. */
static double gain_of(const struct division *d, const struct share *s)
{
    guint64 step = step_up(d, s);
    double more;

    if (!step || s->curve->total <= 0)
        return -INFINITY;
    more = between(s, s->quota, s->quota + step);
    if (more <= 1e-9 * s->curve->total)
        return -INFINITY;
    return d->mode == ARBITER_THROUGHPUT ? more * s->weight / (double)step : unserved(s);
}

/* What it would lose with a step less; infinite: it gives none. */
static double loss_of(const struct division *d, const struct share *s)
{
    guint64 step = step_down(d, s);

    if (!step || s->curve->total <= 0)
        return INFINITY;
    if (d->mode == ARBITER_THROUGHPUT)
        return between(s, s->quota - step, s->quota) * s->weight / (double)step;
    return unserved(s);
}

static struct share *best_taker(const struct division *d, double *gain)
{
    struct share *best = NULL;

    *gain = -INFINITY;
    for (guint i = 0; i < d->n; i++) {
        double g = gain_of(d, &d->share[i]);

        if (g > *gain) {
            *gain = g;
            best = &d->share[i];
        }
    }
    return best;
}

static struct share *best_giver(const struct division *d, double *loss)
{
    struct share *best = NULL;

    *loss = INFINITY;
    for (guint i = 0; i < d->n; i++) {
        double l = loss_of(d, &d->share[i]);

        if (l < *loss) {
            *loss = l;
            best = &d->share[i];
        }
    }
    return best;
}

static bool worth_it(const struct division *d, const struct share *from, const struct share *to,
                     double gain, double loss)
{
    bool back = from->turn > 0 || to->turn < 0;

    if (d->mode == ARBITER_THROUGHPUT)
        return gain > loss * (back ? MARGIN_BACK : MARGIN);
    return gain > loss + (back ? FAIR_BACK : FAIR_GAP);
}

static void turn(struct share *s, gint8 direction)
{
    s->turn = direction;
    s->turned = TURN_ROUNDS;
}

/* --- dividing ------------------------------------------------------------------------------------------- */

static guint64 sum_of(const struct share *share, guint n)
{
    guint64 sum = 0;

    for (guint i = 0; i < n; i++)
        sum += share[i].quota;
    return sum;
}

static void keep_bounds(struct share *share, guint n)
{
    for (guint i = 0; i < n; i++) {
        struct share *s = &share[i];

        s->quota = CLAMP(s->quota, s->min, MAX(s->max, s->min));
        if (s->turned && !--s->turned)
            s->turn = 0;
    }
}

/* The one that has most above its guarantee, for when nothing is known of anyone. */
static struct share *richest(const struct division *d)
{
    struct share *best = NULL;

    for (guint i = 0; i < d->n; i++) {
        struct share *s = &d->share[i];

        if (s->quota > s->min && (!best || s->quota - s->min > best->quota - best->min))
            best = s;
    }
    return best;
}

/* Quotas exceed the pool: takes what hurts least. */
static void take_excess(const struct division *d, guint64 pool)
{
    for (guint64 sum = sum_of(d->share, d->n); sum > pool; sum = sum_of(d->share, d->n)) {
        double loss;
        struct share *s = best_giver(d, &loss);

        if (!s)
            s = richest(d);
        if (!s)
            return;                     /* the guarantees alone are more than there is */
        s->quota -= MIN(MIN(d->step, s->quota - s->min),
                        (sum - pool + s->granule - 1) / s->granule * s->granule);
        turn(s, -1);
    }
}

/* Nobody has it: gives it to who gains most, or, as long as nobody does, leaves it. */
static void give_rest(const struct division *d, guint64 pool, guint64 *most)
{
    for (;;) {
        guint64 sum = sum_of(d->share, d->n), step;
        double gain;
        struct share *s = best_taker(d, &gain);

        if (!s || sum >= pool)
            return;
        step = MIN(step_up(d, s), whole(s, MIN(pool - sum, *most)));
        if (!step)
            return;
        s->quota += step;
        *most -= step;
        turn(s, 1);
    }
}

/* What the mode is after: of all accesses those that dram serves, or of the VM's that is served worst. */
static double merit(const struct division *d)
{
    double hits = 0, all = 0, worst = 1;

    for (guint i = 0; i < d->n; i++) {
        const struct share *s = &d->share[i];

        if (s->curve->total <= 0)
            continue;
        hits += curve_served(s->curve, (double)s->quota) * s->weight;
        all += s->curve->total * s->weight;
        worst = MIN(worst, 1 - unserved(s) / 100);
    }
    return d->mode == ARBITER_FAIR ? worst : all > 0 ? hits / all : 0;
}

static void exchange(const struct division *d, guint64 most)
{
    for (;;) {
        double gain, loss;
        struct share *to = best_taker(d, &gain), *from = best_giver(d, &loss);
        guint64 step;

        if (!to || !from || to == from || !worth_it(d, from, to, gain, loss))
            return;
        step = MIN(MIN(step_up(d, to), step_down(d, from)), most);
        step = MIN(whole(to, step), whole(from, step));
        if (!step)
            return;
        from->quota -= step;
        to->quota += step;
        most -= step;
        turn(to, 1);
        turn(from, -1);
    }
}

/* Steps that are worth it one by one may be noise; all of them together are to gain something. */
static bool worth_a_start(const struct division *d, guint64 pool)
{
    g_autofree struct share *tried = g_memdup2(d->share, d->n * sizeof(*tried));
    struct division try = *d;

    try.share = tried;
    exchange(&try, pool);
    return merit(&try) - merit(d) > (d->mode == ARBITER_FAIR ? LITTLE_FAIR : LITTLE);
}

void arbiter_divide(enum arbiter_mode mode, struct share *share, guint n, guint64 pool,
                    guint64 most)
{
    struct division d = { .mode = mode, .share = share, .n = n };
    guint64 granule = 4096;

    keep_bounds(share, n);
    for (guint i = 0; i < n; i++)
        granule = MAX(granule, share[i].granule);
    d.step = MAX(pool / STEPS / granule, 1) * granule;
    take_excess(&d, pool);
    give_rest(&d, pool, &most);
    if (worth_a_start(&d, pool))
        exchange(&d, most);
}
