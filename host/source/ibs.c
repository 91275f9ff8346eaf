// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "ibs": accesses that hardware samples: AMD's IBS, or any other perf event whose samples have an
 * address (perf/event.h): Intel's PEBS loads, a CXL hotness unit that is a PMU, the kernel's page faults.
 *
 * What an address is worth depends on the event. IBS tells where in the host an op's data is, guest or not; so
 * does an event with PERF_SAMPLE_PHYS_ADDR, but only for the process itself: of a guest's access the kernel
 * translates the guest's address as if it were QEMU's, so these are dropped. Both go through the
 * reverse map. A fault's address is QEMU's own, and needs none.
 *
 * Of IBS ops those that caches served are not counted: where they lie makes no difference. A sample stands for as many
 * accesses as its period says.
 *
 * Faults are seen where an emulated guest touches what was zapped, so they mirror the refault source; they are
 * for looking at (and for testing all of this without the hardware), and placement does not follow them.
 */
#include "host/source/source.h"
#include "host/daemon.h"
#include "host/perf/ibs.h"
#include "host/perf/sampler.h"
#include "host/rmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a sample takes from the vCPU: leaving the guest, the interrupt, coming back; and inside a fault
 * that happens anyway. Assumed, not measured on such hardware. */
#define INTERRUPT_NS 4000u
#define FAULT_NS     1000u

struct ibs {
    Event *event;
    struct sampler *sampler;
    struct rmap *map;           /* NULL: the event's addresses are QEMU's */
    GArray *tiers;              /* guint8: where each granule was when the map was told */
    bool erratum;
    guint64 seen, taken;        /* samples; those that became observations */
    guint64 cached, guest, nowhere, bad;    /* and those that did not, and why */
};

/* --- what it takes ------------------------------------------------------------------------------------------ */

static Event *event_for(const struct vm *vm, GError **error)
{
    g_autofree char *text = vm->config.ibs_event ? g_strdup(vm->config.ibs_event) :
                            event_default(EVENT_DEVICES, error);

    return text ? event_parse(text, EVENT_DEVICES, error) : NULL;
}

static bool available(const struct vm *vm, char *reason)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Event) event = event_for(vm, &error);

    if (!event)
        g_strlcpy(reason, error->message, VT_TEXT);
    return event != NULL;
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
    rmap_free(s->map);
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
    rmap_set_areas(s->map, (gpointer)areas->data, areas->len);
}

/* The map is told of granules that are in another tier than last time. */
static void tell_moves(const struct vm *vm, struct ibs *s)
{
    guint known = s->tiers->len;

    g_array_set_size(s->tiers, vm->ledger.n);
    for (guint32 g = 0; g < vm->ledger.n; g++) {
        guint8 *was = &g_array_index(s->tiers, guint8, g);

        if (g < known && *was != vm->ledger.tier[g])
            rmap_moved(s->map, g);
        *was = vm->ledger.tier[g];
    }
}

static void layout_changed(struct vm *vm)
{
    struct ibs *s = vm->source_state[SRC_IBS];

    if (!s->map)
        return;
    tell_areas(vm, s);
    tell_moves(vm, s);
}

static int start_map(struct vm *vm, struct ibs *s, struct vt_err *err)
{
    if (s->event->space == EVENT_VIRTUAL)
        return 0;
    s->map = rmap_new((pid_t)vm->pid, vm->config.granule, err);
    if (!s->map)
        return -err->code;
    s->tiers = g_array_new(FALSE, FALSE, sizeof(guint8));
    tell_areas(vm, s);
    tell_moves(vm, s);
    return 0;
}

static int start(struct vm *vm, struct vt_err *err)
{
    g_autoptr(GError) error = NULL;
    struct ibs *s = g_new0(struct ibs, 1);
    int rc;

    s->event = event_for(vm, &error);
    rc = s->event ? start_map(vm, s, err) : vt_fail(err, EINVAL, "%s", error->message);
    if (!rc) {
        s->sampler = sampler_new(s->event, (pid_t)vm->pid, vm->config.ibs_rate, err);
        rc = s->sampler ? 0 : -err->code;
    }
    if (rc) {
        ibs_free(s);
        return rc;
    }
    s->erratum = s->event->space == EVENT_IBS && cpu_has_erratum();
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

/* In which host-physical address an op's data is; 0: none that counts. */
static guint64 hpa_of_op(struct ibs *s, const struct perf_sample *sample)
{
    struct ibs_op op;

    if (ibs_decode(sample->raw, sample->raw_size, s->erratum, &op)) {
        s->bad++;
        return 0;
    }
    if (!ibs_reached_memory(&op)) {
        s->cached++;
        return 0;
    }
    if (!op.physical_valid)
        s->nowhere++;
    return op.physical_valid ? op.physical : 0;
}

static guint64 hpa_of_sample(struct ibs *s, const struct perf_sample *sample)
{
    if (s->event->space == EVENT_IBS)
        return hpa_of_op(s, sample);
    if (perf_in_guest(sample)) {
        s->guest++;
        return 0;
    }
    if (!sample->phys_addr)
        s->nowhere++;
    return sample->phys_addr;
}

static bool granule_of(struct vm *vm, struct ibs *s, const struct perf_sample *sample, guint32 *granule)
{
    guint64 hpa;
    bool found;

    if (s->event->space == EVENT_VIRTUAL) {
        found = vm_granule_of_hva(vm, sample->addr, granule);
        s->nowhere += !found;
        return found;
    }
    hpa = hpa_of_sample(s, sample);
    if (!hpa)
        return false;
    found = rmap_find(s->map, hpa, granule);
    s->nowhere += !found;
    return found;
}

static void take(const struct perf_sample *sample, gpointer opaque)
{
    struct vm *vm = opaque;
    struct ibs *s = vm->source_state[SRC_IBS];
    guint32 granule;

    s->seen++;
    if (!granule_of(vm, s, sample, &granule))
        return;
    s->taken++;
    source_observe(vm, SRC_IBS, granule, (double)MAX(sample->period, 1), 0);
}

/* "minor-faults: 1 thread, 998/s, period 3; of 5000 samples 4990 placed, 10 elsewhere" */
static void describe(struct vm *vm, const struct ibs *s)
{
    struct vm_stats *stats = &vm->stats;
    struct sampler_stats p;
    struct rmap_stats m = { 0 };

    sampler_stats(s->sampler, &p);
    if (s->map)
        rmap_stats(s->map, &m);
    g_snprintf(stats->source[SRC_IBS].detail, VT_TEXT, "%s: %u %s, %.0f samples/s, period %" G_GUINT64_FORMAT
               "; of %" G_GUINT64_FORMAT " samples %" G_GUINT64_FORMAT " placed, %" G_GUINT64_FORMAT " from caches, %"
               G_GUINT64_FORMAT " elsewhere, %" G_GUINT64_FORMAT " guest addresses, %" G_GUINT64_FORMAT " lost, %"
               G_GUINT64_FORMAT " rejected; map %" G_GUINT64_FORMAT " KiB", s->event->text,
               p.cpus ? p.cpus : p.threads, p.cpus ? "CPUs" : "threads", p.rate, p.period, s->seen, s->taken,
               s->cached, s->nowhere, s->guest, p.counts.lost, s->bad + perf_counts_bad(&p.counts), m.bytes >> 10);
}

static int harvest(struct vm *vm, guint32 budget_us, struct vt_err *err)
{
    struct ibs *s = vm->source_state[SRC_IBS];
    guint64 seen = s->seen, taken = s->taken;
    int rc = s->map ? rmap_refresh(s->map, budget_us / 2, err) : 0;

    if (!rc)
        rc = sampler_read(s->sampler, budget_us / 2, take, vm, err);
    source_count(vm, SRC_IBS, s->taken - taken, 0,
                 (s->seen - seen) * (s->event->attr.type == PERF_TYPE_SOFTWARE ? FAULT_NS : INTERRUPT_NS));
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
