// SPDX-License-Identifier: GPL-2.0-or-later
/* What heat answers: see heat.h. */
#include "host/heat.h"
#include "host/top.h"

#include <string.h>

#define NO_TIME    1e-3f    /* exposures below this count as none */
#define ENOUGH     16.0f    /* samples that need no probe beside them */
#define DOUBT      3.0f     /* standard deviations that make a contradiction */
#define HINT_DOUBT 0.25f    /* sd of a hint, as a share of it: less than a third, or by itself it would prove nothing */
#define MOVED_LONG 32768    /* seconds after which a move is long ago */
#define BUCKETS    2048     /* of rates: an eighth of a power of two each */

struct guess {
    float rate, var;            /* var < 0: nothing is known */
};

static inline struct guess by_samples(float rate, float per_sample)
{
    return (struct guess){ rate, (rate + 0.5f * per_sample) * per_sample };
}

/* So many of them in the time watched, decayed alike; `squared`: the time with the decay's square. */
static struct guess by_sampling(const struct heat *heat, double samples, double watched, double squared)
{
    if (!heat->by_samples || !(watched > NO_TIME))
        return (struct guess){ 0, -1 };
    return by_samples((float)(samples / watched), (float)(heat->unit[HEAT_SAMPLES] * squared / (watched * watched)));
}

static inline struct guess by_probes(float touched, float armed, float unit)
{
    float rate;

    if (armed < NO_TIME)
        return (struct guess){ 0, -1 };
    rate = touched / armed;
    return (struct guess){ rate * unit, (rate + 0.5f / armed) / armed * unit * unit };
}

static inline bool contradict(struct guess a, struct guess b)
{
    float apart = a.rate - b.rate;

    return apart * apart > DOUBT * DOUBT * (a.var + b.var);
}

/* Samples where they are many or probes cannot be right; see heat.h. */
static inline struct guess sharper(struct guess samples, struct guess probes)
{
    if (probes.var < 0)
        return samples;
    if (samples.var < 0)
        return probes;
    if (samples.rate * samples.rate >= ENOUGH * samples.var)
        return samples;
    return contradict(samples, probes) ? samples : probes;
}

static inline struct guess guess(const struct heat *heat, guint32 g)
{
    struct guess p = by_probes(heat->touched[g] * heat->probe_scale,
                               heat->armed[g] * heat->probe_scale, heat->probe_unit);

    if (!(heat->sample_var > 0))
        return p;
    return sharper(by_samples(heat->longer[g] * heat->per_sample, heat->sample_var), p);
}

static struct estimate estimate_of(struct guess g)
{
    return (struct estimate){ g.rate, g.var < 0 ? INFINITY : sqrtf(g.var) };
}

struct estimate heat_rate_unhinted(const struct heat *heat, guint32 granule)
{
    return estimate_of(guess(heat, granule));
}

struct estimate heat_rate_lately(const struct heat *heat, guint32 granule)
{
    const struct heat_memory *m = &heat->memory[HEAT_SHORT];
    struct guess all = guess(heat, granule);
    struct guess late = by_sampling(heat, heat->shorter[granule] / m->scale, m->watched_s, m->squared_s);

    return estimate_of(all.var >= 0 && late.var >= 0 && contradict(all, late) ? late : all);
}

struct estimate heat_rate(const struct heat *heat, guint32 granule)
{
    struct guess g = guess(heat, granule);

    if (heat->hinted[granule]) {
        float hint = heat_full(heat->hinted[granule]) * heat->per_hint;

        g.rate += hint;
        g.var = MAX(g.var, 0) + HINT_DOUBT * HINT_DOUBT * hint * hint;
    }
    return estimate_of(g);
}

double heat_write_share(const struct heat *heat, guint32 granule, guint32 pages)
{
    const struct heat_memory *m = &heat->memory[HEAT_WRITTEN];
    double per_s;

    if (m->watched_s < NO_TIME || !pages)
        return 0;
    per_s = heat_full(heat->written[granule]) / m->scale / m->watched_s / pages;
    return MIN(per_s, 1);
}

/* --- of all granules ------------------------------------------------------------------------------------ */

static guint32 bucket_of(float rate)
{
    union { float f; guint32 bits; } u = { .f = rate };

    return rate > 0 ? u.bits >> 20 : 0;
}

static double least_of_bucket(guint32 bucket)
{
    union { guint32 bits; float f; } u = { .bits = bucket << 20 };

    return u.f;
}

double heat_at_rank(const struct heat *heat, guint32 k)
{
    guint32 count[BUCKETS] = { 0 }, above = 0;

    for (guint32 g = 0; g < heat->n; g++)
        count[bucket_of(guess(heat, g).rate)]++;
    for (guint32 b = BUCKETS; b-- > 1;) {
        above += count[b];
        if (above >= MAX(k, 1))
            return least_of_bucket(b);
    }
    return 0;
}

guint32 heat_hottest(const struct heat *heat, guint32 *list, guint32 k)
{
    struct top top;

    top_init(&top);
    top_begin(&top, MIN(k, heat->n));
    for (guint32 g = 0; g < heat->n; g++)
        top_offer(&top, g, (float)heat_rate(heat, g).rate);
    top_sort(&top);
    for (k = 0; k < top.n; k++)
        list[k] = top.entry[k].granule;
    top_clear(&top);
    return k;
}

/* --- what has come since ---------------------------------------------------------------------------------- */

struct heat_mark heat_mark(const struct heat *heat, guint32 granule)
{
    const struct heat_memory *l = &heat->memory[HEAT_LONG], *p = &heat->memory[HEAT_PROBED];

    return (struct heat_mark){
        .samples = (float)(heat->longer[granule] / l->scale),
        .touched = (float)(heat->touched[granule] / p->scale),
        .armed = (float)(heat->armed[granule] / p->scale),
        .watched_s = l->watched_s, .squared_s = l->squared_s,
        .long_log = l->log_scale, .probed_log = p->log_scale,
    };
}

/* What has decayed since the mark is taken off what there is now; rounding may leave less than none. */
static double fresh(double now, double then, double keep)
{
    double more = now - then * keep;

    return more > 1e-5 * now ? more : 0;
}

struct estimate heat_since(const struct heat *heat, guint32 granule, const struct heat_mark *mark)
{
    const struct heat_memory *l = &heat->memory[HEAT_LONG], *p = &heat->memory[HEAT_PROBED];
    double keep = exp2(mark->long_log - l->log_scale), kept = exp2(mark->probed_log - p->log_scale);
    double watched = fresh(l->watched_s, mark->watched_s, keep);
    double squared = fresh(l->squared_s, mark->squared_s, keep * keep);

    return estimate_of(sharper(
        by_sampling(heat, fresh(heat->longer[granule] / l->scale, mark->samples, keep), watched, squared),
        by_probes((float)fresh(heat->touched[granule] / p->scale, mark->touched, kept),
                     (float)fresh(heat->armed[granule] / p->scale, mark->armed, kept),
                     heat->probe_unit)));
}

/* --- moves -------------------------------------------------------------------------------------------------- */

/* Half of the clock's range is the past. */
static guint16 stamp(double now)
{
    guint16 s = (guint16)fmod(now, 65536);

    return s ? s : 1;
}

void heat_note_moved(struct heat *heat, guint32 granule, double now)
{
    heat->moved_s[granule] = stamp(now);
}

void heat_note_judged(struct heat *heat, guint32 granule, double now, bool kept)
{
    heat->bounces[granule] = kept ? 0 : (guint8)MIN(heat->bounces[granule] + 1, 255);
    heat->moved_s[granule] = stamp(now);
}

double heat_moved_since(const struct heat *heat, guint32 granule, double now)
{
    guint16 ago = (guint16)(stamp(now) - heat->moved_s[granule]);

    return heat->moved_s[granule] && ago < MOVED_LONG ? ago : INFINITY;
}
