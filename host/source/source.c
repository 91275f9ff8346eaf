// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table of sources, which of them run, and what they are asked in each round: see source.h.
 *
 * A daemon's source that fails to start, or fails later, is tried again after RETRY_S, then twice as long
 * each time it fails again. Whether the others could run is looked up every LOOK_S, for whoever asks.
 */
#include "host/source/source.h"
#include "host/daemon.h"
#include "host/trace-tap.h"

#include <string.h>
#include <time.h>

#define RETRY_S      5.0
#define RETRY_MOST_S 320.0
#define LOOK_S       10.0
#define SMOOTH       0.2        /* of the newest value, in what is shown per second */

const struct source *const sources[SRC_END] = {
    [SRC_REFAULT] = &source_refault,
    [SRC_DIRTY] = &source_dirty,
    [SRC_SAMPLE] = &source_sample,
    [SRC_IBS] = &source_ibs,
    [SRC_IDLE] = &source_idle,
    [SRC_DAMON] = &source_damon,
    [SRC_REPORT] = &source_report,
    [SRC_AGENT] = &source_agent,
};

static bool runs(const struct vm *vm, enum source_id id)
{
    return vm->sources & (1u << id);
}

static bool drives(const struct vm *vm, const struct source *s)
{
    return runs(vm, s->id) && (!s->drives || s->drives(vm));
}

/* --- counting and observing --------------------------------------------------------------------- */

void source_count(struct vm *vm, enum source_id id, guint64 events, guint64 cpu_ns, guint64 vcpu_ns)
{
    struct source_stats *s = &vm->stats.source[id];

    s->events += events;
    s->cpu_ns += cpu_ns;
    s->vcpu_ns += vcpu_ns;
}

void source_miss(struct vm *vm, enum source_id id, guint64 n)
{
    vm->stats.source[id].missed += n;
}

void source_observe(struct vm *vm, enum source_id id, guint32 granule, double events,
                    double exposure_s)
{
    if (granule >= vm->ledger.n || vm->ledger.tier[granule] == LEDGER_NONE || !(events >= 0))
        return;
    if (id >= SRC_IBS)          /* what QEMU says was recorded as it came */
        tap_observe(vm, id, vm->ledger.tier[granule], granule, events, exposure_s);
    heat_add(&vm->heat, sources[id]->kind, granule, events, exposure_s);
}

bool sources_sampling(const struct vm *vm)
{
    return sources_watching(vm) & (1u << HEAT_SAMPLES);
}

guint32 sources_watching(const struct vm *vm)
{
    guint32 kinds = 0;

    for (int i = 0; i < SRC_END; i++)
        if (sources[i] && (sources[i]->kind == HEAT_WRITES ? runs(vm, i) : drives(vm, sources[i])))
            kinds |= 1u << sources[i]->kind;
    return kinds;
}

/* --- starting and stopping ---------------------------------------------------------------------- */

static void stop(struct vm *vm, const struct source *s)
{
    vm->sources &= ~(1u << s->id);
    if (s->stop)
        s->stop(vm);
}

static void fail(struct vm *vm, const struct source *s, const struct vt_err *err)
{
    struct source_stats *stats = &vm->stats.source[s->id];
    double *wait = &vm->source_wait[s->id];

    if (runs(vm, s->id))
        stop(vm, s);
    *wait = CLAMP(2 * *wait, RETRY_S, RETRY_MOST_S);
    vm->source_retry[s->id] = vm->clock + *wait;
    if (strcmp(stats->error, err->text) != 0)
        g_warning("%s: source %s has stopped: %s", vm->name, s->name, err->text);
    vm_clean_text(stats->error, err->text, sizeof(stats->error));
}

static void start(struct vm *vm, const struct source *s)
{
    struct vt_err err = { 0 };

    if (vm->clock < vm->source_retry[s->id])
        return;
    if (s->start && s->start(vm, &err))
        fail(vm, s, &err);
    else
        vm->sources |= 1u << s->id;
}

static bool wanted(const struct vm *vm, enum source_id id)
{
    return vm->now.mode != VM_OFF && vm->config.sources & (1u << id);
}

/* QEMU's sources: HELLO said what it can run. */
static void look_at_qemus(struct vm *vm, enum source_id id)
{
    struct source_stats *stats = &vm->stats.source[id];

    stats->available = vm->can_sources & (1u << id);
    G_STATIC_ASSERT(sizeof(vm->no_source[0]) <= sizeof(stats->reason));
    memcpy(stats->reason, stats->available ? "" : vm->no_source[id],
           stats->available ? 1 : sizeof(vm->no_source[id]));
}

static void look(struct vm *vm, const struct source *s)
{
    struct source_stats *stats = &vm->stats.source[s->id];
    char reason[VT_TEXT] = "";

    if (1u << s->id & SOURCES_IN_QEMU) {
        look_at_qemus(vm, s->id);
        return;
    }
    stats->available = runs(vm, s->id) || !s->available || s->available(vm, reason);
    vm_clean_text(stats->reason, stats->available ? "" : reason, sizeof(stats->reason));
}

void sources_init(struct vm *vm)
{
    for (int i = 0; i < SRC_END; i++)
        if (i < VT_SRC_END)
            look_at_qemus(vm, i);
        else
            g_strlcpy(vm->stats.source[i].reason, "the VM is not tiered yet", VT_TEXT);
}

int sources_switch(struct vm *vm, struct vt_err *err)
{
    bool due = vm->clock >= vm->source_look;

    if (due)
        vm->source_look = vm->clock + LOOK_S;
    for (int i = 0; i < SRC_END; i++) {
        if (!sources[i])
            continue;
        if (due || (i >= VT_SRC_END && wanted(vm, i) && !runs(vm, i) && vm->clock >= vm->source_retry[i]))
            look(vm, sources[i]);
        if (i < VT_SRC_END)
            continue;
        if (!wanted(vm, i) && runs(vm, i))
            stop(vm, sources[i]);
        else if (wanted(vm, i) && !runs(vm, i) && vm->stats.source[i].available)
            start(vm, sources[i]);
    }
    return source_qemu_switch(vm, vm->now.mode == VM_OFF ? 0 : vm->config.sources & vm->can_sources,
                              err);
}

void sources_close(struct vm *vm)
{
    for (int i = VT_SRC_END; i < SRC_END; i++)
        if (sources[i] && runs(vm, i))
            stop(vm, sources[i]);
}

/* --- a round ------------------------------------------------------------------------------------ */

static guint64 thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (guint64)t.tv_sec * 1000000000 + (guint64)t.tv_nsec;
}

static void harvest(struct vm *vm, const struct source *s)
{
    struct vt_err err = { 0 };
    guint64 start_ns = thread_ns();
    int rc = s->harvest(vm, vm->config.probe_budget_us, &err);

    source_count(vm, s->id, 0, thread_ns() - start_ns, 0);
    if (rc)
        fail(vm, s, &err);
    else
        vm->source_wait[s->id] = 0;
}

static void tell_change(struct vm *vm)
{
    for (int i = VT_SRC_END; i < SRC_END; i++)
        if (sources[i] && runs(vm, i) && sources[i]->layout_changed)
            sources[i]->layout_changed(vm);
    vm->map_changed = false;
}

static void smooth(double *mean, guint64 now, guint64 was, double dt)
{
    *mean += SMOOTH * ((double)(now - was) / dt - *mean);
}

static void note(struct vm *vm, const struct source *s, const struct source_stats *was, double dt)
{
    struct source_stats *now = &vm->stats.source[s->id];

    now->running = runs(vm, s->id);
    now->drives = drives(vm, s);
    now->resolution = s->resolution ? s->resolution(vm) : 4096;
    smooth(&now->events_per_s, now->events, was->events, dt);
    smooth(&now->cpu_share, now->cpu_ns, was->cpu_ns, dt * 1e9);
    smooth(&now->vcpu_share, now->vcpu_ns, was->vcpu_ns, dt * 1e9);
}

int sources_harvest(struct vm *vm, double dt, struct vt_err *err)
{
    struct source_stats *was = vm->source_was;
    int rc = 0;

    tap_begin(vm, dt);
    if (vm->map_changed)
        tell_change(vm);
    for (int i = VT_SRC_END; i < SRC_END; i++)
        if (sources[i] && runs(vm, i) && sources[i]->harvest)
            harvest(vm, sources[i]);
    if (vm->sources & SOURCES_IN_QEMU)
        rc = source_qemu_harvest(vm, err);
    for (int i = 0; i < SRC_END; i++)
        if (sources[i]) {
            note(vm, sources[i], &was[i], dt);
            was[i] = vm->stats.source[i];
        }
    tap_end(vm);
    return rc;
}
