// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replays a recording: see trace-replay.h.
 *
 * The order within a round is the daemon's (round.c): time goes on, the sources' observations come, then
 * placement. A recording's round ends when the next one, a gap or the end comes.
 */
#include "host/trace-replay.h"
#include "common/clock.h"
#include "host/place.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_S    10.0
#define SKIP_S      60.0        /* at most, where nothing else is said */
#define SKIP_SHARE  0.25
#define MOVE_COST_S 200e-6      /* as the daemon assumes; here nothing is moved */

static const enum heat_kind kinds[] = {
    [TRACE_SAMPLES] = HEAT_SAMPLES, [TRACE_PROBES] = HEAT_PROBES, [TRACE_WRITES] = HEAT_WRITES,
    [TRACE_HINTS] = HEAT_HINTS,
};
static_assert(G_N_ELEMENTS(kinds) == TRACE_KIND_END, "a kind of a recording is no evidence");

struct replay {
    const struct replay_options *options;
    struct replay_result *result;
    struct trace_header header;
    guint32 follows;            /* mask of the header's sources that placement hears of */

    struct heat heat;
    struct ledger ledger;
    struct pace pace;
    gpointer policy_state;
    double clock;
    bool in_round;

    double *window;             /* [n] accesses in this window */
    double *moved_at;           /* [n] when it moved last; < 0: never */
    guint8 *moved_to;
    guint32 n;                  /* room in these three and result->total */
    struct replay_point point;
};

void replay_clear(struct replay_result *r)
{
    g_clear_pointer(&r->points, g_array_unref);
    g_clear_pointer(&r->total, g_free);
}

/* --- memory ------------------------------------------------------------------------------------------- */

static void make_room(struct replay *r, guint32 n)
{
    if (n <= r->n)
        return;
    r->window = g_renew(double, r->window, n);
    r->moved_at = g_renew(double, r->moved_at, n);
    r->moved_to = g_renew(guint8, r->moved_to, n);
    r->result->total = g_renew(double, r->result->total, n);
    for (guint32 g = r->n; g < n; g++) {
        r->window[g] = r->result->total[g] = 0;
        r->moved_at[g] = -1;
        r->moved_to[g] = 0;
    }
    ledger_resize(&r->ledger, n);
    heat_resize(&r->heat, n);
    r->n = r->result->numbers = n;
}

static bool is_present(const struct trace_layout *l, guint32 granule)
{
    for (guint32 b = 0; b < l->n_blocks; b++)
        if (granule >= l->block[b].first && granule - l->block[b].first < l->block[b].count)
            return true;
    return false;
}

/* As the daemon does with a VM that starts: what fits the quota is in dram, from address 0 on. */
static void take_layout(struct replay *r, const struct trace_layout *l)
{
    make_room(r, l->granules);
    for (guint32 g = 0; g < r->ledger.n; g++)
        if (r->ledger.tier[g] != LEDGER_NONE && !is_present(l, g))
            ledger_put(&r->ledger, g, LEDGER_NONE);
    for (guint32 b = 0; b < l->n_blocks; b++)
        for (guint32 g = l->block[b].first; g < l->block[b].first + l->block[b].count; g++)
            if (r->ledger.tier[g] == LEDGER_NONE)
                ledger_put(&r->ledger, g, r->ledger.count[0] < r->result->dram_granules ? 0 : 1);
    r->result->granules = r->ledger.count[0] + r->ledger.count[1];
}

static int move(gpointer of, struct vt_move_one *moves, guint32 n, guint32 coming, struct vt_err *err)
{
    struct replay *r = of;

    (void)coming, (void)err;
    for (guint32 i = 0; i < n; i++) {
        const guint32 g = moves[i].granule;
        const bool soon = r->moved_at[g] >= 0 && r->clock - r->moved_at[g] <= REPLAY_BACK_S;

        if (r->point.at_s >= r->result->skip_s) {
            r->result->moves++;
            r->result->back += soon && r->moved_to[g] != moves[i].tier;
        }
        r->point.moved += r->header.granule;
        r->moved_at[g] = r->clock;
        r->moved_to[g] = moves[i].tier;
        ledger_put(&r->ledger, g, moves[i].tier);
        moves[i].status = VT_ST_OK;
    }
    return 0;
}

/* --- windows ------------------------------------------------------------------------------------------ */

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

double replay_top_sum(const double *values, guint32 n, guint32 k)
{
    g_autofree double *sorted = g_memdup2(values, n * sizeof(values[0]));
    double sum = 0;

    if (n)
        qsort(sorted, n, sizeof(sorted[0]), descending);
    for (guint32 i = 0; i < MIN(k, n); i++)
        sum += sorted[i];
    return sum;
}

static void end_window(struct replay *r)
{
    struct replay_result *result = r->result;
    struct replay_point *p = &r->point;

    p->seconds = r->clock - p->at_s;
    p->oracle = replay_top_sum(r->window, r->n, result->dram_granules);
    if (p->seconds > 0)
        g_array_append_val(result->points, *p);
    if (p->at_s >= result->skip_s) {
        result->seconds += p->seconds;
        result->accesses += p->accesses;
        result->hits += p->hits;
        result->oracle += p->oracle;
        result->moved += p->moved;
    }
    memset(r->window, 0, r->n * sizeof(r->window[0]));
    *p = (struct replay_point){ .at_s = r->clock };
}

/* --- rounds ------------------------------------------------------------------------------------------- */

static void place(struct replay *r)
{
    struct placing p = {
        .policy = r->options->policy, .policy_state = r->policy_state,
        .heat = &r->heat, .ledger = &r->ledger, .pace = &r->pace,
        .granule = r->header.granule, .dram_most = r->result->dram_granules, .now = r->clock,
        .move_cost_s = MOVE_COST_S, .moves = true, .of = r, .carry_out = move,
    };

    if (!r->in_round)
        return;
    heat_digest(&r->heat);
    place_round(&p, NULL);
    r->in_round = false;
}

static void pass_time(struct replay *r, double dt, guint32 sources)
{
    guint32 watched = 0;

    for (int i = 0; i < TRACE_SOURCES; i++)
        if (sources & r->follows & (1u << i))
            watched |= 1u << kinds[r->header.source[i].kind];
    r->clock += dt;
    pace_advance(&r->pace, dt, r->options->rate, r->header.granule);
    heat_advance(&r->heat, dt, watched);
}

static void begin_round(struct replay *r, double dt, guint32 sources)
{
    place(r);
    if (r->clock - r->point.at_s >= r->options->window_s)
        end_window(r);
    pass_time(r, dt, sources);
    r->in_round = true;
}

static void score(struct replay *r, const struct trace_item *item)
{
    const bool counts = r->point.at_s >= r->result->skip_s;

    for (guint32 i = 0; i < item->obs.n; i++) {
        const struct trace_obs *o = &item->obs.obs[i];

        r->window[o->granule] += o->events;
        r->point.accesses += o->events;
        r->point.hits += r->ledger.tier[o->granule] == 0 ? o->events : 0;
        if (counts)
            r->result->total[o->granule] += o->events;
    }
    r->result->samples += counts ? item->obs.n : 0;
}

static void observe(struct replay *r, const struct trace_item *item)
{
    const enum heat_kind kind = kinds[item->obs.kind];

    if (item->obs.kind == TRACE_SAMPLES)
        score(r, item);
    if (!(r->follows & (1u << item->obs.source)))
        return;
    for (guint32 i = 0; i < item->obs.n; i++)
        heat_add(&r->heat, kind, item->obs.obs[i].granule, item->obs.obs[i].events,
                 item->obs.obs[i].exposure_s);
}

static void take(struct replay *r, const struct trace_item *item)
{
    switch (item->what) {
    case TRACE_LAYOUT:
        place(r);
        take_layout(r, item->layout);
        break;
    case TRACE_ROUND:
        begin_round(r, item->round.dt, item->round.sources);
        break;
    case TRACE_OBS:
        observe(r, item);
        break;
    case TRACE_GAP:
        place(r);
        pass_time(r, item->gap.seconds, 0);
        break;
    default:
        break;
    }
}

/* --- the whole ---------------------------------------------------------------------------------------- */

/* What is recorded at all: how long it is, and which sources said something. */
static int scan(const char *path, guint32 *spoke, struct replay_result *result, struct vt_err *err)
{
    g_autoptr(Trace) t = trace_open(path, err);
    struct trace_item item;
    int rc;

    if (!t)
        return -err->code;
    result->header = *trace_header(t);
    while ((rc = trace_next(t, &item, err)) > TRACE_END)
        if (item.what == TRACE_OBS)
            *spoke |= 1u << item.obs.source;
    if (!rc) {
        result->cut = item.end.cut;
        result->totals = item.end.totals;
    }
    return rc;
}

static guint32 of_kind(const struct trace_header *h, enum trace_kind kind)
{
    guint32 mask = 0;

    for (guint32 i = 0; i < TRACE_SOURCES; i++)
        mask |= h->source[i].name[0] && h->source[i].kind == kind ? 1u << i : 0;
    return mask;
}

/* What heat hears of: of the sources that said something, those that placement is to follow, and writes. */
static guint32 followed(const struct replay *r, guint32 spoke)
{
    const struct trace_header *h = &r->header;
    const guint32 writes = of_kind(h, TRACE_WRITES) & spoke;
    const guint32 as_recorded = h->places & spoke & ~writes ? h->places & spoke : spoke;

    switch (r->options->use) {
    case REPLAY_SAMPLES:
        return spoke & ~of_kind(h, TRACE_PROBES);
    case REPLAY_PROBES:
        return (spoke & of_kind(h, TRACE_PROBES)) | writes;
    default:
        return as_recorded | writes;
    }
}

/* Hints alone place nothing that could be judged. */
static int check_evidence(const struct replay *r, const char *path, struct vt_err *err)
{
    const guint32 samples = of_kind(&r->header, TRACE_SAMPLES) & r->follows;
    const guint32 probes = of_kind(&r->header, TRACE_PROBES) & r->follows;

    if (samples || (probes && r->options->use != REPLAY_SAMPLES))
        return 0;
    return vt_fail(err, ENODATA, "%s: no source in it has %s: there is nothing that placement could "
                   "follow", path, r->options->use == REPLAY_PROBES ? "probed pages"
                                                                    : "sampled accesses");
}

static int play(struct replay *r, const char *path, struct vt_err *err)
{
    g_autoptr(Trace) t = trace_open(path, err);
    struct trace_item item;
    int rc;

    if (!t)
        return -err->code;
    while ((rc = trace_next(t, &item, err)) > TRACE_END)
        take(r, &item);
    place(r);
    end_window(r);
    return rc;
}

/* As the daemon does for its sources (vm.c, source/sample.c). */
static void set_units(struct replay *r)
{
    const guint32 samples = of_kind(&r->header, TRACE_SAMPLES) & r->follows;
    const double pages = (double)r->header.granule / 4096;

    heat_use_samples(&r->heat, samples);
    heat_set_unit(&r->heat, HEAT_PROBES, pages * HEAT_VISIT);
    if (samples && r->header.source[__builtin_ctz(samples)].scale > 1)
        heat_set_unit(&r->heat, HEAT_SAMPLES, r->header.source[__builtin_ctz(samples)].scale);
}

static void prepare(struct replay *r, guint32 spoke)
{
    const double seconds = (double)r->result->totals.duration_us / 1e6;
    const guint64 most = VT_GRANULES_MAX;

    r->header = r->result->header;
    r->follows = followed(r, spoke);
    r->result->dram_granules = (guint32)MIN(r->options->dram / r->header.granule, most);
    r->result->points = g_array_new(FALSE, FALSE, sizeof(struct replay_point));
    r->result->skip_s = r->options->skip_s >= 0 ? r->options->skip_s
                                                : MIN(SKIP_S, SKIP_SHARE * seconds);
    ledger_init(&r->ledger, r->header.granule);
    heat_init(&r->heat);
    set_units(r);
    r->policy_state = r->options->policy->create();
}

static void forget(struct replay *r)
{
    r->options->policy->destroy(r->policy_state);
    heat_clear(&r->heat);
    ledger_clear(&r->ledger);
    g_free(r->window);
    g_free(r->moved_at);
    g_free(r->moved_to);
}

int replay_run(const char *path, const struct replay_options *options, struct replay_result *result,
               struct vt_err *err)
{
    struct replay_options all = *options;
    struct replay r = { .options = &all, .result = result };
    const guint64 start_ns = cpu_ns();
    guint32 spoke = 0;
    int rc;

    memset(result, 0, sizeof(*result));
    if (!(all.window_s > 0))
        all.window_s = WINDOW_S;
    rc = scan(path, &spoke, result, err);
    if (rc)
        return rc;
    prepare(&r, spoke);
    rc = check_evidence(&r, path, err);
    if (!rc)
        rc = play(&r, path, err);
    result->long_run = replay_top_sum(result->total, r.n, result->dram_granules);
    result->cpu_s = (double)(cpu_ns() - start_ns) / 1e9;
    forget(&r);
    return rc;
}
