// SPDX-License-Identifier: GPL-2.0-or-later
/* Heat: see heat.h. */
#include "host/heat.h"

#include <string.h>

#define NO_TIME       1e-3      /* exposures below this count as none */
#define EVENTS_MOST   1e15      /* of one piece of evidence */
#define SCALE_MOST    0x1p40    /* then what is stored is scaled back */
#define RATIO         4.0       /* of the two memories' half-lives */
#define WRITE_S       1.0       /* half-lives of the others */
#define HINT_S        8.0
#define GROW_S        8.0       /* the half-life doubles in so many seconds, at most */
#define SHRINK_S      1.0
#define CONTEST_S     1.0       /* half-life of the contest between the memories */
#define CONTEST_LEAST 64.0      /* samples before it says anything */
#define BREAK         0.25      /* nats per sample that knowledge lost: the past has ended */
#define BREAK_DOUBT   5.0       /* times its usual swing, at least */
#define KNOWN_MOST    2.0       /* nats of one sample: the flicker of the hottest is no break */
#define BREAK_S       1.5       /* seconds before the next */
#define USUAL_S       4.0       /* half-life of what knowledge is usually worth */
#define FORGET_PER_NAT 4.0      /* halvings of what is known, then */
#define FORGET_MOST   4.0
#define SMOOTH_S      0.5       /* of an average granule's accesses are taken as known of each */
#define PROBE_SURE    6.0       /* nats at which a probe's touches are news */
#define PROBE_SMOOTH  0.5       /* touches that are taken as known of each */
#define PROBE_LEAST   64.0      /* touched probes before the share of news among them says anything */
#define PROBE_BREAK   0.06      /* of it, above the usual: the past has ended */
#define PROBE_FORGET  4.0       /* halvings, then */
#define NEWS_S        8.0       /* half-life of what is usual; time before the next */
#define UNREST        0.5       /* of what a guest that changes all the time is, right after that */
#define TOUCHES_ENOUGH 8.0      /* per granule, in a half-life */
#define MATCH_TOUCHES 4.0f      /* of one granule, that can be compared with samples */
#define MATCH_SAMPLES 16.0f     /* of one granule, that probes can be compared with */
#define MATCH_LEAST   1024.0    /* touches in all before they calibrate the unit */
#define MATCH_S       30.0      /* half-life of the comparison */

/* --- halves of floats --------------------------------------------------------------------------------- */

static guint16 half_of(float value)
{
    union { float f; guint32 bits; } u = { .f = value };

    return (guint16)((u.bits + 0x8000) >> 16);
}

/* --- life --------------------------------------------------------------------------------------------- */

static const double first_half_life[HEAT_MEMORIES] = {
    [HEAT_LONG] = HEAT_HALF_LIFE, [HEAT_SHORT] = HEAT_HALF_LIFE / RATIO,
    [HEAT_PROBED] = HEAT_HALF_LIFE, [HEAT_WRITTEN] = WRITE_S, [HEAT_HINTED] = HINT_S,
};

static void prepare(struct heat *heat);

void heat_init(struct heat *heat)
{
    memset(heat, 0, sizeof(*heat));
    for (int m = 0; m < HEAT_MEMORIES; m++)
        heat->memory[m] = (struct heat_memory){ .half_life = first_half_life[m], .scale = 1 };
    for (int k = 0; k < HEAT_KINDS; k++)
        heat->unit[k] = 1;
    heat->hint_trust = 1;
    heat->swing = BREAK;
    heat->news = 1;             /* so nothing is a break before it is known what is usual */
    prepare(heat);
}

void heat_clear(struct heat *heat)
{
    g_free(heat->longer);
    g_free(heat->shorter);
    g_free(heat->touched);
    g_free(heat->armed);
    g_free(heat->written);
    g_free(heat->hinted);
    g_free(heat->moved_s);
    g_free(heat->bounces);
    heat_init(heat);
}

static gpointer grow(gpointer array, gsize was, gsize n, gsize size)
{
    guint8 *bytes = g_realloc_n(array, n, size);

    memset(bytes + was * size, 0, (n - was) * size);
    return bytes;
}

#define GROW(array) ((array) = grow((array), heat->n, n, sizeof((array)[0])))

void heat_resize(struct heat *heat, guint32 n)
{
    static_assert(4 * sizeof(float) + 3 * sizeof(guint16) + 1 == HEAT_BYTES, "heat: bytes per granule");
    if (n <= heat->n)
        return;
    GROW(heat->longer);
    GROW(heat->shorter);
    GROW(heat->touched);
    GROW(heat->armed);
    GROW(heat->written);
    GROW(heat->hinted);
    GROW(heat->moved_s);
    GROW(heat->bounces);
    heat->n = n;
}

void heat_use_samples(struct heat *heat, bool yes)
{
    heat->by_samples = yes;
    prepare(heat);
}

void heat_set_unit(struct heat *heat, enum heat_kind kind, double unit)
{
    if (unit > 0 && isfinite(unit))
        heat->unit[kind] = unit;
    heat->unit_told |= kind == HEAT_SAMPLES;
    prepare(heat);
}

void heat_trust_hints(struct heat *heat, double trust)
{
    heat->hint_trust = CLAMP(trust, 0, 1);
    prepare(heat);
}

/* --- memories ------------------------------------------------------------------------------------------- */

static void scale_floats(float *values, guint32 n, float by)
{
    for (guint32 i = 0; i < n; i++)
        values[i] *= by;
}

static void scale_halves(guint16 *values, guint32 n, float by)
{
    for (guint32 i = 0; i < n; i++)
        values[i] = half_of(heat_full(values[i]) * by);
}

/* By a power of two, which leaves the bits of each value's fraction as they are. */
static void scale_back(struct heat *heat, enum heat_memory_id id)
{
    struct heat_memory *m = &heat->memory[id];
    float by = (float)exp2(-floor(log2(m->scale)));

    switch (id) {
    case HEAT_LONG: scale_floats(heat->longer, heat->n, by); break;
    case HEAT_SHORT: scale_floats(heat->shorter, heat->n, by); break;
    case HEAT_PROBED:
        scale_floats(heat->touched, heat->n, by);
        scale_floats(heat->armed, heat->n, by);
        break;
    case HEAT_WRITTEN: scale_halves(heat->written, heat->n, by); break;
    default: scale_halves(heat->hinted, heat->n, by); break;
    }
    m->total *= (double)by;
    m->scale *= (double)by;
}

/* All that the memory holds shrinks to 2^-halvings of it. */
static void decay(struct heat *heat, enum heat_memory_id id, double halvings)
{
    struct heat_memory *m = &heat->memory[id];
    double keep;

    halvings = MIN(halvings, 60);
    keep = exp2(-halvings);
    m->scale /= keep;
    m->log_scale += halvings;
    m->watched_s *= keep;
    m->squared_s *= keep * keep;
    if (m->scale > SCALE_MOST)
        scale_back(heat, id);
}

/* --- how long to remember ------------------------------------------------------------------------------- */

/* What a memory says is the granule's share of all accesses, times the number of granules. */
static double likeliness(const struct heat *heat, const struct heat_memory *m, float stored)
{
    double mean = (m->total + 1e-30) / heat->n, smooth = SMOOTH_S / (m->watched_s + SMOOTH_S);

    return (stored / mean) * (1 - smooth) + smooth;
}

static void contest(struct heat *heat, guint32 granule, double samples)
{
    const struct heat_memory *l = &heat->memory[HEAT_LONG], *s = &heat->memory[HEAT_SHORT];
    double known = log(likeliness(heat, l, heat->longer[granule]));

    heat->contest += samples * (log(likeliness(heat, s, heat->shorter[granule])) - known);
    heat->contested += samples;
    heat->known += samples * MIN(known, KNOWN_MOST);
    heat->asked += samples;
}

/* The more of a surprise it was, the less is kept. */
static void forget_samples(struct heat *heat, double surprise)
{
    double halvings = MIN(surprise * FORGET_PER_NAT, FORGET_MOST);

    heat->memory[HEAT_LONG] = heat->memory[HEAT_SHORT];
    memcpy(heat->longer, heat->shorter, heat->n * sizeof(heat->longer[0]));
    decay(heat, HEAT_LONG, halvings);
    decay(heat, HEAT_SHORT, halvings);
    heat->memory[HEAT_LONG].half_life = HEAT_SHORTEST;
    heat->contest = heat->contested = 0;
    heat->break_s = BREAK_S;
    heat->breaks++;
}

/*
 * What is known of where accesses go is worth so many nats per sample. That it is suddenly worth much
 * less means that they go elsewhere. After a break it takes a while until it is worth something again.
 */
static void watch_for_breaks(struct heat *heat, double dt)
{
    double worth = heat->asked > 0 ? heat->known / heat->asked : 0, fell = heat->usual - worth;
    double share = 1 - exp2(-dt / USUAL_S);

    heat->known = 0;
    heat->break_s -= dt;
    if (heat->break_s > 0 || heat->memory[HEAT_LONG].watched_s < BREAK_S) {
        heat->usual = worth;
    } else if (heat->asked >= CONTEST_LEAST && fell > MAX(BREAK, BREAK_DOUBT * heat->swing)) {
        forget_samples(heat, fell);
    } else if (heat->asked > 0) {
        heat->swing += share * (fabs(fell) - heat->swing);
        heat->usual -= share * fell;
    }
    heat->asked = 0;
}

static void adapt(struct heat *heat, double dt)
{
    struct heat_memory *l = &heat->memory[HEAT_LONG];
    double keep = exp2(-dt / CONTEST_S);

    watch_for_breaks(heat, dt);
    if (heat->contested < CONTEST_LEAST)
        return;
    if (heat->contest > 0)
        l->half_life = MAX(l->half_life * exp2(-dt / SHRINK_S), HEAT_SHORTEST);
    else
        l->half_life = MIN(l->half_life * exp2(dt / GROW_S), HEAT_LONGEST);
    heat->memory[HEAT_SHORT].half_life = l->half_life / RATIO;
    heat->contest *= keep;
    heat->contested *= keep;
}

/*
 * Probes have no second memory. What they have is a granule's own past: touches that it does not let
 * expect are news. Some are news at any time; if suddenly more of all touched probes say so than usually,
 * the past has ended. Probes are counted, not pages: a probe may have few (four, in a guest with small
 * pages), and one that has many is no better witness. And where little is touched, it takes longer to
 * know anything.
 */
static void weigh_probe(struct heat *heat, guint32 granule, double touched, double armed)
{
    const struct heat_memory *m = &heat->memory[HEAT_PROBED];
    double known = heat->armed[granule] / m->scale, expected;

    if (known < NO_TIME || !(touched > 0))
        return;
    expected = (heat->touched[granule] / m->scale + PROBE_SMOOTH) / known * armed;
    heat->touches += touched;
    heat->probes += 1;
    if (touched > expected && touched * log(touched / expected) - (touched - expected) > PROBE_SURE)
        heat->changed += 1;
}

/* The mean of all time at first, then of what was lately: the first look at memory is news to the most. */
static void learn_usual_news(struct heat *heat, double dt, double more)
{
    heat->learned_s = MIN(heat->learned_s + dt, NEWS_S / M_LN2);
    heat->news += MIN(dt / heat->learned_s, 1) * more;
}

static void adapt_probes(struct heat *heat, double dt)
{
    double keep = exp2(-dt / CONTEST_S), more = heat->changed / MAX(heat->probes, 1) - heat->news;

    heat->news_s -= dt;
    if (heat->probes > PROBE_LEAST && heat->news_s <= 0 && more > PROBE_BREAK) {
        decay(heat, HEAT_PROBED, PROBE_FORGET);
        heat->news_s = NEWS_S;
        heat->breaks++;
    }
    heat->memory[HEAT_PROBED].half_life =
        CLAMP(TOUCHES_ENOUGH * heat->n / MAX(heat->touches * M_LN2 / CONTEST_S, 1), HEAT_HALF_LIFE,
              HEAT_LONGEST);
    if (heat->probes > PROBE_LEAST)
        learn_usual_news(heat, dt, more);
    heat->touches *= keep;
    heat->probes *= keep;
    heat->changed *= keep;
}

/* What the samples say of this granule, if they are many, against what its probe does, if it is not blind. */
static void calibrate(struct heat *heat, guint32 granule, double touched, double armed)
{
    float rate = heat->longer[granule] * heat->per_sample;

    if (heat->touched[granule] * heat->probe_scale < MATCH_TOUCHES ||
        rate < MATCH_SAMPLES * heat->sample_var)
        return;
    heat->matched_rate += (double)rate * armed;
    heat->matched_touches += touched;
}

static void take_calibration(struct heat *heat, double dt)
{
    double keep = exp2(-dt / MATCH_S);

    if (heat->matched_touches >= MATCH_LEAST)
        heat->unit[HEAT_PROBES] = heat->matched_rate / heat->matched_touches;
    heat->matched_rate *= keep;
    heat->matched_touches *= keep;
}

/* --- time --------------------------------------------------------------------------------------------- */

static void prepare(struct heat *heat)
{
    const struct heat_memory *l = &heat->memory[HEAT_LONG], *h = &heat->memory[HEAT_HINTED];
    double unit = heat->unit[HEAT_SAMPLES], watched = l->watched_s;
    bool known = heat->by_samples && watched > NO_TIME;

    heat->per_sample = known ? (float)(1 / (l->scale * watched)) : 0;
    heat->sample_var = known ? (float)(unit * l->squared_s / (watched * watched)) : 0;
    heat->probe_unit = (float)heat->unit[HEAT_PROBES];
    heat->probe_scale = (float)(1 / heat->memory[HEAT_PROBED].scale);
    heat->per_hint = (float)(heat->hint_trust * M_LN2 / (h->half_life * h->scale));
}

void heat_digest(struct heat *heat)
{
    double dt = heat->undigested;

    if (dt <= 0)
        return;
    heat->undigested = 0;
    if (heat->least > 0 && !heat->unit_told)
        heat->unit[HEAT_SAMPLES] += 0.25 * (heat->least - heat->unit[HEAT_SAMPLES]);
    heat->least = 0;
    adapt(heat, dt);
    adapt_probes(heat, dt);
    take_calibration(heat, dt);
    prepare(heat);
}

void heat_advance(struct heat *heat, double dt, guint32 kinds)
{
    static const enum heat_kind of[HEAT_MEMORIES] = {
        [HEAT_LONG] = HEAT_SAMPLES, [HEAT_SHORT] = HEAT_SAMPLES, [HEAT_PROBED] = HEAT_PROBES,
        [HEAT_WRITTEN] = HEAT_WRITES, [HEAT_HINTED] = HEAT_HINTS,
    };

    heat_digest(heat);
    heat->undigested = dt;
    for (int m = 0; m < HEAT_MEMORIES; m++) {
        struct heat_memory *memory = &heat->memory[m];

        decay(heat, m, dt / memory->half_life);
        memory->watched_s += kinds & (1u << of[m]) ? dt : 0;
        memory->squared_s += kinds & (1u << of[m]) ? dt : 0;
    }
    prepare(heat);
}

/* --- evidence --------------------------------------------------------------------------------------------- */

static void add_samples(struct heat *heat, guint32 granule, double events)
{
    struct heat_memory *l = &heat->memory[HEAT_LONG], *s = &heat->memory[HEAT_SHORT];

    if (!(events > 0))
        return;
    contest(heat, granule, events / heat->unit[HEAT_SAMPLES]);
    heat->least = heat->least > 0 ? MIN(heat->least, events) : events;
    heat->longer[granule] += (float)(events * l->scale);
    heat->shorter[granule] += (float)(events * s->scale);
    l->total += events * l->scale;
    s->total += events * s->scale;
}

static void add_probe(struct heat *heat, guint32 granule, double touched, double armed)
{
    double scale = heat->memory[HEAT_PROBED].scale;

    if (heat->sample_var > 0)
        calibrate(heat, granule, touched, armed);
    weigh_probe(heat, granule, touched, armed);
    heat->touched[granule] += (float)(touched * scale);
    heat->armed[granule] += (float)(armed * scale);
}

static void add_half(struct heat *heat, enum heat_memory_id id, guint16 *to, double events)
{
    *to = half_of(heat_full(*to) + (float)(events * heat->memory[id].scale));
}

void heat_add(struct heat *heat, enum heat_kind kind, guint32 granule, double events,
              double exposure_s)
{
    if (!isfinite(events) || events < 0 || !isfinite(exposure_s) || exposure_s < 0)
        return;
    events = MIN(events, EVENTS_MOST);
    switch (kind) {
    case HEAT_SAMPLES: add_samples(heat, granule, events); break;
    case HEAT_PROBES: add_probe(heat, granule, events, MIN(exposure_s, EVENTS_MOST)); break;
    case HEAT_WRITES: add_half(heat, HEAT_WRITTEN, &heat->written[granule], events); break;
    case HEAT_HINTS: add_half(heat, HEAT_HINTED, &heat->hinted[granule], events); break;
    default: break;
    }
}

/* --- how much changes -------------------------------------------------------------------------------------- */

double heat_changing(const struct heat *heat)
{
    if (!heat->by_samples)
        return UNREST * CLAMP(heat->news_s / NEWS_S, 0, 1);
    return log2(HEAT_LONGEST / heat->memory[HEAT_LONG].half_life) / log2(HEAT_LONGEST / HEAT_SHORTEST);
}
