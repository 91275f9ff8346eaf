// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "ibs": accesses that hardware samples: AMD's IBS, or any other perf event whose samples have an
 * address (perf/event.h): Intel's PEBS loads, a CXL hotness unit that is a PMU, the kernel's page faults.
 *
 * resolve.h says what becomes of a sample's address. A sample stands for as many accesses as its period says.
 *
 * Faults are seen where an emulated guest touches what was zapped, so they mirror the refault source; they are
 * for looking at (and for testing all of this without the hardware), and placement does not follow them.
 */
#include "host/source/source.h"
#include "host/daemon.h"
#include "host/perf/ibs.h"
#include "host/perf/resolve.h"
#include "host/perf/sampler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * What a sample takes from the vCPU. An interrupt: leaving the guest and coming back; assumed, as no
 * such hardware was there to measure it on. A fault's, inside the fault: 0.4 to 0.8 us were measured
 * (test-perf-live, /cost).
 */
#define INTERRUPT_NS 4000u
#define FAULT_NS     800u

struct ibs {
    Event *event;
    struct sampler *sampler;
    struct resolver resolver;
    GArray *tiers;              /* guint8: where each granule was when the map was told */
};

/* --- what it takes ------------------------------------------------------------------------------------------ */

/* NULL, with the reason in *err. */
static Event *event_for(const struct vm *vm, struct vt_err *err)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = vm->config.ibs_event ? g_strdup(vm->config.ibs_event) :
                            event_default(EVENT_DEVICES, &error);
    Event *event = text ? event_parse(text, EVENT_DEVICES, &error) : NULL;

    if (!event)
        vt_fail(err, ENODEV, "%s", error ? error->message : "no event");
    return event;
}

/*
 * Not every event goes on in a guest under KVM: PEBS is switched off there, and the kernel counts no fault of its own
 * look-ups. Of an event that somebody has named we do not know.
 */
static bool sees_guest(const struct vm *vm, const struct event *event)
{
    if (vm->accel != VT_ACCEL_KVM || event->space == EVENT_IBS)
        return true;
    return event->space == EVENT_PHYSICAL && vm->config.ibs_event;
}

static bool available(const struct vm *vm, char *reason)
{
    struct vt_err err = { 0 };
    g_autoptr(Event) event = event_for(vm, &err);

    reason[0] = '\0';
    if (!event)
        g_strlcpy(reason, err.text, VT_TEXT);
    else if (!sees_guest(vm, event))
        g_snprintf(reason, VT_TEXT, "%s does not see what a guest under KVM does", event->text);
    return !reason[0];
}

static bool cpu_has_erratum(void)
{
    g_autofree char *text = NULL, *cpuid = NULL;
    const char *family, *model;

    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL) || !strstr(text, "AuthenticAMD"))
        return false;
    family = strstr(text, "cpu family\t: ");
    model = strstr(text, "model\t\t: ");
    cpuid = g_strdup_printf("AuthenticAMD,%d,%d", family ? atoi(family + strlen("cpu family\t: ")) : 0,
                            model ? atoi(model + strlen("model\t\t: ")) : 0);
    return ibs_has_erratum_1293(cpuid);
}

static void ibs_free(struct ibs *s)
{
    sampler_free(s->sampler);
    rmap_free(s->resolver.map);
    event_free(s->event);
    if (s->tiers)
        g_array_unref(s->tiers);
    g_free(s);
}

static void tell_areas(const struct vm *vm, struct ibs *s)
{
    g_autoptr(GArray) areas = g_array_new(FALSE, FALSE, sizeof(struct rmap_area));

    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++) {
        struct rmap_area a = { b->host, b->length, b->first, b->count, b->page_size };

        if (b->present && b->host)
            g_array_append_val(areas, a);
    }
    rmap_set_areas(s->resolver.map, (gpointer)areas->data, areas->len);
}

/* The map is told of granules that are in another tier than last time. */
static void tell_moves(const struct vm *vm, struct ibs *s)
{
    guint known = s->tiers->len;

    g_array_set_size(s->tiers, vm->ledger.n);
    for (guint32 g = 0; g < vm->ledger.n; g++) {
        guint8 *was = &g_array_index(s->tiers, guint8, g);

        if (g < known && *was != vm->ledger.tier[g])
            rmap_moved(s->resolver.map, g);
        *was = vm->ledger.tier[g];
    }
}

static void layout_changed(struct vm *vm)
{
    struct ibs *s = vm->source_state[SRC_IBS];

    if (!s->resolver.map)
        return;
    tell_areas(vm, s);
    tell_moves(vm, s);
}

static int start_map(struct vm *vm, struct ibs *s, struct vt_err *err)
{
    s->resolver.space = s->event->space;
    if (s->event->space == EVENT_VIRTUAL)
        return 0;
    s->resolver.map = rmap_new((pid_t)vm->pid, vm->config.granule, err);
    if (!s->resolver.map)
        return -err->code;
    s->tiers = g_array_new(FALSE, FALSE, sizeof(guint8));
    tell_areas(vm, s);
    tell_moves(vm, s);
    return 0;
}

static int start(struct vm *vm, struct vt_err *err)
{
    struct ibs *s;
    int rc;
    Event *event = event_for(vm, err);

    if (!event)
        return -err->code;
    s = g_new0(struct ibs, 1);
    s->event = event;
    rc = start_map(vm, s, err);
    if (!rc) {
        s->sampler = sampler_new(event, (pid_t)vm->pid, vm->config.ibs_rate, err);
        rc = s->sampler ? 0 : -err->code;
    }
    if (rc) {
        ibs_free(s);
        return rc;
    }
    s->resolver.erratum = event->space == EVENT_IBS && cpu_has_erratum();
    vm->source_state[SRC_IBS] = s;
    return 0;
}

static void stop(struct vm *vm)
{
    ibs_free(vm->source_state[SRC_IBS]);
    vm->source_state[SRC_IBS] = NULL;
    vm->stats.source[SRC_IBS].detail[0] = '\0';
}

/* --- samples ------------------------------------------------------------------------------------------------- */

static void take(const struct perf_sample *sample, gpointer opaque)
{
    struct vm *vm = opaque;
    struct ibs *s = vm->source_state[SRC_IBS];
    guint32 granule;

    if (resolve(&s->resolver, vm, sample, &granule))
        source_observe(vm, SRC_IBS, granule, (double)MAX(sample->period, 1), 0);
}

/* "minor-faults: 1 threads, 998/s, period 3; of 5000 samples 4990 placed, 10 elsewhere" */
static void describe(struct vm *vm, const struct ibs *s)
{
    const struct resolver *r = &s->resolver;
    struct sampler_stats p;
    struct rmap_stats m = { 0 };

    sampler_stats(s->sampler, &p);
    if (r->map)
        rmap_stats(r->map, &m);
    g_snprintf(vm->stats.source[SRC_IBS].detail, VT_TEXT, "%s: %u %s, %.0f samples/s, period %" G_GUINT64_FORMAT
               "; of %" G_GUINT64_FORMAT " samples %" G_GUINT64_FORMAT " placed, %" G_GUINT64_FORMAT " from caches, %"
               G_GUINT64_FORMAT " elsewhere, %" G_GUINT64_FORMAT " guest addresses, %" G_GUINT64_FORMAT " lost, %"
               G_GUINT64_FORMAT " rejected; map %" G_GUINT64_FORMAT " KiB", s->event->text,
               p.cpus ? p.cpus : p.threads, p.cpus ? "CPUs" : "threads", p.rate, p.period, r->seen, r->placed,
               r->cached, r->nowhere, r->guest, p.counts.lost, r->bad + perf_counts_bad(&p.counts), m.bytes >> 10);
}

/* Until all of the map is there once, samples are of little use; so it may take more for a while. */
static int refresh_map(const struct resolver *r, guint32 budget_us, struct vt_err *err)
{
    struct rmap_stats m;

    if (!r->map)
        return 0;
    rmap_stats(r->map, &m);
    return rmap_refresh(r->map, m.sweeps ? budget_us / 2 : budget_us * 4, err);
}

static int harvest(struct vm *vm, guint32 budget_us, struct vt_err *err)
{
    struct ibs *s = vm->source_state[SRC_IBS];
    struct resolver was = s->resolver;
    int rc = refresh_map(&was, budget_us, err);     /* first: the samples are older */

    if (!rc)
        rc = sampler_read(s->sampler, budget_us / 2, take, vm, err);
    source_count(vm, SRC_IBS, s->resolver.placed - was.placed, 0,
                 (s->resolver.seen - was.seen) * (s->event->attr.type == PERF_TYPE_SOFTWARE ? FAULT_NS : INTERRUPT_NS));
    describe(vm, s);
    return rc;
}

static bool drives(const struct vm *vm)
{
    const struct ibs *s = vm->source_state[SRC_IBS];

    return s && s->event->space != EVENT_VIRTUAL;
}

const struct source source_ibs = {
    .name = "ibs",
    .summary = "accesses that the CPU samples (AMD IBS, or another perf event with addresses)",
    .unit = "samples",
    .enable = "an AMD CPU with IBS and a Linux that runs on the bare machine; or ibs-event= with another event",
    .id = SRC_IBS,
    .kind = HEAT_SAMPLES,
    .available = available,
    .start = start,
    .stop = stop,
    .harvest = harvest,
    .layout_changed = layout_changed,
    .drives = drives,
};
