// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the daemon and the guest say, as a series of points.
 *
 * The hit ratio is that of the hot set which the guest tells: its extents are looked up in the
 * daemon's counts of sampled accesses per granule. Those are totals, so each point has the
 * difference to the one before. Without samples (KVM) there is no hit ratio; then the share of the
 * hot set's granules that are in DRAM stands in, and all that prints it says so: measure_how().
 *
 * Nothing here ends the program when a process is gone, as ^C at a terminal ends them all at once.
 */
#include "demo.h"

#include "host/cli/json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PACE_S 1.0
#define REACHED_S 1.0               /* the hit ratio of so much time has to reach the wanted one */

void measure_init(struct demo *d)
{
    d->points = g_array_new(FALSE, TRUE, sizeof(struct point));
    d->hot = g_array_new(FALSE, FALSE, sizeof(struct extent));
    d->first_touch = d->steady = d->after_shift = (struct hit) { -1, -1, 0 };
}

void measure_free(struct demo *d)
{
    g_array_unref(d->points);
    g_array_unref(d->hot);
    g_clear_pointer(&d->vm_now, json_object_unref);
    g_free(d->seen[0]);
    g_free(d->seen[1]);
}

const struct point *measure_last(const struct demo *d)
{
    static const struct point nothing = { .hot_in_dram = -1 };

    return d->points->len ? &g_array_index(d->points, struct point, d->points->len - 1) : &nothing;
}

/* --- the guest ------------------------------------------------------------------------------- */

static void note_hot(struct guest_view *g, const char *line)
{
    unsigned phase, part, of;

    if (sscanf(line, "VMT HOT phase=%u part=%u/%u", &phase, &part, &of) == 3 && part == of)
        g->hot_phase = phase;
}

static void note_line(struct guest_view *g, const char *line)
{
    if (g_str_has_prefix(line, "VMT BEAT")) {
        g->ops = guest_number(line, "ops");
        g->verified = guest_number(line, "verified");
        g->bad = guest_number(line, "bad");
    } else if (g_str_has_prefix(line, "VMT READY")) {
        g->ready = true;
        g->populate_ms = guest_number(line, "populate_ms");
        g->boot_ms = guest_number(line, "boot_ms");
    } else if (g_str_has_prefix(line, "VMT SWEEP")) {
        g->swept = true;
        g->sweep_bad = guest_number(line, "bad");
        g->sweep_pages = guest_number(line, "pages");
    } else if (g_str_has_prefix(line, "VMT HOT")) {
        note_hot(g, line);
    }
}

void measure_guest(struct demo *d)
{
    char *line;

    while (d->vm->guest && (line = guest_wait_line(d->vm->guest, "VMT ", 0))) {
        note_line(&d->guest, line);
        g_free(line);
    }
}

/* --- the daemon ------------------------------------------------------------------------------ */

/* NULL: it does not know the VM (yet), or is gone. */
static JsonNode *ask(struct demo *d, const char *command)
{
    return qmp_try(d->daemon->qmp, NULL, command, "{\"vm\":\"" DEMO_VM "\"}");
}

static void ask_vm(struct demo *d)
{
    g_autoptr(JsonNode) answer = ask(d, "query-vmtier-vms");
    JsonObject *vm = answer ? js_at(json_node_get_array(answer), 0) : NULL;

    if (!vm)
        return;
    g_clear_pointer(&d->vm_now, json_object_unref);
    d->vm_now = json_object_ref(vm);
}

static bool sampling(JsonObject *vm)
{
    JsonArray *sources = js_arr(vm, "sources");

    for (guint i = 0; i < js_len(sources); i++) {
        JsonObject *s = js_at(sources, i);

        if (g_strcmp0(js_str(s, "name"), "sample") == 0)
            return js_bool(s, "active");
    }
    return false;
}

static void note_vm(struct point *p, JsonObject *vm)
{
    JsonArray *tiers = js_arr(vm, "tiers");
    JsonObject *moves = js_obj(vm, "moves");

    p->cxl_bytes = (uint64_t)js_int(js_at(tiers, 1), "file_bytes");
    p->pages = (uint64_t)js_int(moves, "pages");
    p->moved_bytes = (uint64_t)js_int(moves, "bytes");
    p->failed = (uint64_t)js_int(moves, "failed");
    p->deferred = (uint64_t)js_int(moves, "deferred");
    p->rounds = (uint64_t)js_int(vm, "rounds");
}

/* --- the hot set ----------------------------------------------------------------------------- */

typedef void (*granule_fn)(struct demo *d, guint granule, JsonObject *answer, struct point *p);

/* Granules of a range of the daemon's that an extent reaches into. */
static void each_in_range(struct demo *d, const struct extent *e, JsonObject *range,
                          JsonObject *answer, granule_fn fn, struct point *p)
{
    uint64_t size = (uint64_t)js_int(answer, "granule_bytes"), gpa = (uint64_t)js_int(range, "gpa");
    uint64_t count = (uint64_t)js_int(range, "count"), first = (uint64_t)js_int(range, "first");

    for (uint64_t at = e->gpa; at < e->gpa + e->length; at += size)
        if (at >= gpa && (at - gpa) / size < count)
            fn(d, (guint)(first + (at - gpa) / size), answer, p);
}

static void each_hot_granule(struct demo *d, JsonObject *answer, granule_fn fn, struct point *p)
{
    JsonArray *ranges = js_arr(answer, "ranges");

    if (js_int(answer, "granule_bytes") <= 0)
        return;
    for (guint i = 0; i < d->hot->len; i++)
        for (guint r = 0; r < js_len(ranges); r++)
            each_in_range(d, &g_array_index(d->hot, struct extent, i), js_at(ranges, r), answer, fn,
                          p);
}

static uint64_t count_at(JsonArray *counts, guint granule)
{
    return granule < js_len(counts) ? (uint64_t)json_array_get_int_element(counts, granule) : 0;
}

static void add_samples(struct demo *d, guint granule, JsonObject *answer, struct point *p)
{
    uint64_t dram, cxl;

    if (granule >= d->granules)
        return;
    dram = count_at(js_arr(answer, "dram"), granule) - d->seen[0][granule];
    cxl = count_at(js_arr(answer, "cxl"), granule) - d->seen[1][granule];
    p->hot_dram_samples += dram;
    p->hot_samples += dram + cxl;
}

static void remember_samples(struct demo *d, JsonObject *answer)
{
    static const char *const keys[] = { "dram", "cxl" };
    guint n = js_len(js_arr(answer, "dram"));

    for (int t = 0; t < 2; t++) {
        if (n > d->granules)
            d->seen[t] = g_renew(uint64_t, d->seen[t], n);
        for (guint g = 0; g < n; g++)
            d->seen[t][g] = count_at(js_arr(answer, keys[t]), g);
    }
    d->granules = n;
}

static void note_samples(struct demo *d, struct point *p)
{
    g_autoptr(JsonNode) node = ask(d, "query-vmtier-samples");
    JsonObject *answer = node ? json_node_get_object(node) : NULL;

    if (!answer)
        return;
    each_hot_granule(d, answer, add_samples, p);
    remember_samples(d, answer);
}

static void add_placed(struct demo *d, guint granule, JsonObject *answer, struct point *p)
{
    JsonArray *tiers = js_arr(answer, "tier");

    (void)d;
    if (granule < js_len(tiers))
        p->hot_in_dram += json_array_get_int_element(tiers, granule) == 0;
}

static void note_placement(struct demo *d, struct point *p)
{
    g_autoptr(JsonNode) node = ask(d, "query-vmtier-heatmap");
    uint64_t bytes = 0, granule;

    for (guint i = 0; i < d->hot->len; i++)
        bytes += g_array_index(d->hot, struct extent, i).length;
    if (!node || !bytes)
        return;
    granule = (uint64_t)js_int(json_node_get_object(node), "granule_bytes");
    p->hot_in_dram = 0;
    each_hot_granule(d, json_node_get_object(node), add_placed, p);
    p->hot_in_dram *= (double)granule / (double)bytes;
}

void measure_take_hot(struct demo *d, unsigned phase)
{
    measure(d);
    g_array_unref(d->hot);
    d->hot = guest_hot(d->vm->guest, phase, 5);
}

/* --- points ---------------------------------------------------------------------------------- */

/* The mean of the last second or a little more: a round moves in bursts. */
static void note_pace(const struct demo *d, struct point *p)
{
    const struct point *from = NULL;

    for (guint i = d->points->len; i-- > 0;) {
        from = &g_array_index(d->points, struct point, i);
        if (from->t <= p->t - PACE_S)
            break;
    }
    if (from && p->t > from->t && p->moved_bytes >= from->moved_bytes)
        p->move_bytes_per_s = (double)(p->moved_bytes - from->moved_bytes) /
                              MAX(p->t - from->t, PACE_S);
}

void measure(struct demo *d)
{
    struct point p = { .t = demo_now(d), .phase = d->phase, .hot_in_dram = -1 };

    p.dram_bytes = memory_watch_now(d->memory);
    ask_vm(d);
    if (d->vm_now) {
        note_vm(&p, d->vm_now);
        d->sampled = sampling(d->vm_now);
        if (d->sampled)
            note_samples(d, &p);
        else
            note_placement(d, &p);
    }
    note_pace(d, &p);
    g_array_append_val(d->points, p);
    d->measured = p.t;
}

double measure_hit(const struct demo *d, double t, double seconds, uint64_t *samples)
{
    uint64_t all = 0, dram = 0;
    double placed = -1;

    for (guint i = d->points->len; i-- > 0;) {
        const struct point *p = &g_array_index(d->points, struct point, i);

        if (p->t <= t - seconds)
            break;
        if (p->t > t)
            continue;
        all += p->hot_samples;
        dram += p->hot_dram_samples;
        placed = placed < 0 ? p->hot_in_dram : placed;
    }
    if (samples)
        *samples = all;
    return all ? (double)dram / (double)all : placed;
}

struct hit measure_hit_now(struct demo *d)
{
    struct hit hit = { .ratio = -1 };
    struct point p = { .hot_in_dram = -1 };
    double value = measure_hit(d, demo_now(d), HIT_WINDOW_S, &hit.samples);

    note_placement(d, &p);
    hit.placed = p.hot_in_dram;
    if (hit.samples)
        hit.ratio = value;
    return hit;
}

double measure_judged(const struct demo *d, const struct hit *hit)
{
    return d->sampled ? hit->ratio : hit->placed;
}

double measure_time_to_hit(const struct demo *d, double from, double until)
{
    for (guint i = 0; i < d->points->len; i++) {
        double t = g_array_index(d->points, struct point, i).t;

        if (t >= from + REACHED_S && t <= until &&
            measure_hit(d, t, REACHED_S, NULL) >= HIT_WANTED)
            return t - from;
    }
    return -1;
}

const char *measure_how(const struct demo *d)
{
    return d->sampled ? "sampled: share of the accesses to the hot set that DRAM served"
                      : "not sampled, as under KVM: share of the hot set that is in DRAM";
}

/* User and system time of a process. */
double measure_cpu_s(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *text = NULL;
    const char *after;
    unsigned long user = 0, kernel = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(after = strrchr(text, ')')))
        return 0;
    if (sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2)
        return 0;
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}
