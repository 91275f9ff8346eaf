// SPDX-License-Identifier: GPL-2.0-or-later
/* One run as JSON: the series, and what follows from them. */
#include "bench/lib/report.h"
#include "peers.h"

#include <math.h>
#include <stdlib.h>

#define STEADY_S 8.0            /* the end of a phase is what it settled to */

static double phase_start(const struct peers_run *run, guint phase)
{
    return phase < run->phases->len ? g_array_index(run->phases, double, phase) : INFINITY;
}

static const struct look *look_at(const struct peers_run *run, guint i)
{
    return &g_array_index(run->looks, struct look, i);
}

static guint phase_of(const struct peers_run *run, double t)
{
    guint phase = 0;

    while (phase_start(run, phase + 1) <= t)
        phase++;
    return phase;
}

static double share_of(const struct peers_run *run, const struct look *l)
{
    return look_share(l, g_ptr_array_index(run->weights, phase_of(run, l->t)));
}

/* --- series --------------------------------------------------------------------------------------------- */

static double round_to(double x, double unit)
{
    return round(x / unit) * unit;
}

static void add_series(const struct peers_run *run, JsonObject *o)
{
    JsonArray *t = json_array_new(), *share = json_array_new(), *dram = json_array_new(), *moved = json_array_new(),
              *ops = json_array_new();

    for (guint i = 0; i < run->looks->len; i++) {
        const struct look *l = look_at(run, i);

        json_array_add_double_element(t, round_to(l->t, 0.01));
        json_array_add_double_element(share, round_to(share_of(run, l), 1e-4));
        json_array_add_int_element(dram, (gint64)l->dram * LOOK_STEP * PEERS_PAGE / (gint64)MIB);
        json_array_add_int_element(moved, (gint64)l->moved >> 10);
        json_array_add_int_element(ops, (gint64)l->ops);
    }
    json_object_set_array_member(o, "t", t);
    json_object_set_array_member(o, "share", share);
    json_object_set_array_member(o, "dram_mib", dram);
    json_object_set_array_member(o, "moved_kib", moved);
    json_object_set_array_member(o, "ops", ops);
}

/* --- phases --------------------------------------------------------------------------------------------- */

/* Mean share in a phase's last seconds. */
static double steady(const struct peers_run *run, guint phase)
{
    double end = MIN(phase_start(run, phase + 1), look_at(run, run->looks->len - 1)->t + 0.001), sum = 0;
    guint n = 0;

    for (guint i = 0; i < run->looks->len; i++) {
        const struct look *l = look_at(run, i);

        if (l->t < end && l->t >= MAX(end - STEADY_S * run->scale, phase_start(run, phase))) {
            sum += share_of(run, l);
            n++;
        }
    }
    return n ? sum / n : NAN;
}

/* Seconds from the phase's begin until so much is served from node 0; < 0: not in its time. */
static double time_to(const struct peers_run *run, guint phase, double wanted)
{
    for (guint i = 0; i < run->looks->len; i++) {
        const struct look *l = look_at(run, i);

        if (phase_of(run, l->t) == phase && l->t >= phase_start(run, phase) && share_of(run, l) >= wanted)
            return l->t - phase_start(run, phase);
    }
    return -1;
}

static void add_phases(const struct peers_run *run, JsonObject *o)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < run->phases->len; i++) {
        double oracle = look_oracle(g_ptr_array_index(run->weights, i), PEERS_DRAM);
        JsonObject *p = json_object_new();

        json_object_set_double_member(p, "start", phase_start(run, i));
        json_object_set_double_member(p, "oracle", oracle);
        json_object_set_double_member(p, "steady", MAX(steady(run, i), 0));
        json_object_set_double_member(p, "to_90_s", time_to(run, i, REACHED * oracle));
        json_array_add_object_element(list, p);
    }
    json_object_set_array_member(o, "phases", list);
}

/* --- totals --------------------------------------------------------------------------------------------- */

static double mean_share(const struct peers_run *run)
{
    double sum = 0;

    for (guint i = 0; i < run->looks->len; i++)
        sum += share_of(run, look_at(run, i));
    return sum / run->looks->len;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double spin_median(const struct peers_run *run)
{
    g_autofree double *all = g_new(double, run->looks->len);

    for (guint i = 0; i < run->looks->len; i++)
        all[i] = look_at(run, i)->spin_s;
    qsort(all, run->looks->len, sizeof(*all), by_size);
    return all[run->looks->len / 2];
}

static void add_totals(const struct peers_run *run, JsonObject *o)
{
    const struct look *first = look_at(run, 0), *last = look_at(run, run->looks->len - 1);
    uint64_t changes, back;
    guint most = 0;

    for (guint i = 0; i < run->looks->len; i++)
        most = MAX(most, look_at(run, i)->dram);
    look_changes(run->looks, &changes, &back);
    json_object_set_double_member(o, "seconds", last->t - first->t);
    json_object_set_double_member(o, "share_mean", mean_share(run));
    json_object_set_double_member(o, "ops_per_s", last->t > first->t ? (double)(last->ops - first->ops) /
                                                                       (last->t - first->t) : 0);
    json_object_set_double_member(o, "spin_s", spin_median(run));
    json_object_set_int_member(o, "moved_bytes", (gint64)last->moved);
    json_object_set_int_member(o, "moved_before_ready", (gint64)run->moved_at_start);
    json_object_set_int_member(o, "dram_most_bytes", (gint64)most * LOOK_STEP * PEERS_PAGE);
    json_object_set_int_member(o, "pages_seen_moved", (gint64)changes);
    json_object_set_int_member(o, "pages_seen_back", (gint64)back);
}

static void add_cost(const struct peers_run *run, JsonObject *o)
{
    const struct cost *a = &run->first, *b = &run->last;
    JsonObject *c = json_object_new();

    json_object_set_double_member(c, "kernel_threads_s", b->kthreads - a->kthreads);
    json_object_set_double_member(c, "daemon_s", b->daemon - a->daemon);
    json_object_set_double_member(c, "plugin_s", b->plugin - a->plugin);
    json_object_set_double_member(c, "vcpu_user_s", b->vcpu_user - a->vcpu_user);
    json_object_set_double_member(c, "vcpu_system_s", b->vcpu_system - a->vcpu_system);
    json_object_set_double_member(c, "qemu_s", b->qemu - a->qemu);
    json_object_set_int_member(c, "hint_faults", (gint64)(b->hints - a->hints));
    json_object_set_int_member(c, "pages_promoted", (gint64)(b->promoted - a->promoted));
    json_object_set_int_member(c, "pages_demoted", (gint64)(b->demoted - a->demoted));
    json_object_set_int_member(c, "pages_migrated", (gint64)(b->migrated - a->migrated));
    json_object_set_object_member(o, "cost", c);
}

bool result_write(const struct peers_run *run, const char *file)
{
    JsonObject *o = json_object_new();
    bool ok;

    json_object_set_string_member(o, "load", run->load->name);
    json_object_set_string_member(o, "system", run->system->name);
    add_totals(run, o);
    add_phases(run, o);
    add_cost(run, o);
    add_series(run, o);
    ok = bench_write(o, file);
    json_object_unref(o);
    return ok;
}
