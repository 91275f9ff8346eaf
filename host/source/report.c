// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "report": the queue, and what becomes of a report. See report.h.
 *
 * A report counts as if it had been heard when it happened: its weight is decayed by its age, that in the
 * queue included. A range spreads its weight over the granules it covers, by their bytes.
 *
 * Placement follows reports while they come; when nobody has said anything for QUIET_S, silence is no sign
 * that all memory is cold, and what else there is decides.
 *
 * `in` and `left` are guarded by vm->lock, the rest is the worker's.
 */
#include "host/source/report.h"
#include "host/qmp.h"
#include "host/rmap.h"
#include "host/source/source.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#define QUIET_S   20.0
#define OLD_S     (10 * HEAT_HALF_LIFE) /* a thousandth of it would be left */
#define MAP_S     10.0            /* as long do physical addresses wait for the first map */
#define LOOK_EVERY 64           /* lookups between two looks at the clock */

struct queue {
    GArray *in;                 /* of struct report */
    GArray *work;
    guint next;                 /* in `work` */
    guint left;                 /* of `work` */
    double heard;               /* when the last one came, on the VM's clock */
    struct rmap *rmap;          /* made when the first physical address comes */
    double rmap_made;           /* on the VM's clock */
    guint8 *tier;               /* [n_tier] where the granules were when it was told last */
    guint32 n_tier;
    char no_rmap[VT_TEXT];      /* why not */
};

/* --- addresses ---------------------------------------------------------------------------------- */

/* Tells the map where the blocks are, and which granules have moved since it was told last. */
static void update_map(struct vm *vm, struct queue *q)
{
    struct rmap_area areas[VT_BLOCKS];
    guint n = 0;

    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present && b->host)
            areas[n++] = (struct rmap_area){ .hva = b->host, .length = b->length, .first = b->first,
                                             .count = b->count, .page_size = b->page_size };
    rmap_set_areas(q->rmap, areas, n);
    for (guint32 g = 0; g < MIN(q->n_tier, vm->ledger.n); g++)
        if (q->tier[g] != vm->ledger.tier[g])
            rmap_moved(q->rmap, g);
    q->n_tier = vm->ledger.n;
    q->tier = g_renew(guint8, q->tier, q->n_tier);
    memcpy(q->tier, vm->ledger.tier, q->n_tier);
}

static bool of_hpa(struct vm *vm, guint64 address, struct vm_place *place)
{
    struct queue *q = vm->source_state[SRC_REPORT];

    place->left = 4096 - address % 4096;
    return q->rmap && rmap_find(q->rmap, address, &place->granule);
}

static bool of_gpa(struct vm *vm, guint64 address, struct vm_place *place)
{
    return vm_place_of_gpa(vm, address, place);
}

static bool of_hva(struct vm *vm, guint64 address, struct vm_place *place)
{
    return vm_place_of_hva(vm, address, place);
}

static bool (*const find[])(struct vm *vm, guint64 address, struct vm_place *place) = {
    [REPORT_GPA] = of_gpa, [REPORT_HVA] = of_hva, [REPORT_HPA] = of_hpa,
};
static_assert(G_N_ELEMENTS(find) == REPORT_SPACES, "an address space has no lookup");

/* The first physical address makes the map. It finds little until all was read, so they wait for that. */
static bool physical_is_ready(struct vm *vm, struct queue *q)
{
    struct rmap_stats stats = { 0 };
    struct vt_err err = { 0 };

    if (q->rmap) {
        rmap_stats(q->rmap, &stats);
        return stats.sweeps > 0 || vm->clock - q->rmap_made > MAP_S;
    }
    if (q->no_rmap[0])
        return true;
    q->rmap_made = vm->clock;
    q->rmap = rmap_new((pid_t)vm->pid, vm->config.granule, &err);
    if (q->rmap)
        update_map(vm, q);
    else
        g_strlcpy(q->no_rmap, err.text, sizeof(q->no_rmap));
    return !q->rmap;
}

/* --- the worker's side -------------------------------------------------------------------------- */

/* False: not a byte of it is this VM's tiered RAM. *steps grows by the lookups it took. */
static bool take_one(struct vm *vm, const struct report *r, double accesses, guint *steps)
{
    bool any = false;

    for (guint64 at = r->address, end = r->address + r->size; at < end;) {
        struct vm_place place = { .left = 4096 - at % 4096 };
        bool found = find[r->space](vm, at, &place);
        guint64 n = MIN(place.left, end - at);

        if (found)
            source_observe(vm, SRC_REPORT, place.granule, accesses * (double)n / (double)r->size, 0);
        any |= found;
        at += n;
        ++*steps;
    }
    return any;
}

static void refill(struct vm *vm, struct queue *q)
{
    GArray *done = q->work;

    g_mutex_lock(&vm->lock);
    if (q->next == q->work->len) {
        g_array_set_size(done, 0);
        q->work = q->in;
        q->in = done;
        q->next = 0;
    }
    q->left = q->work->len - q->next;
    g_mutex_unlock(&vm->lock);
}

static guint64 thread_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (guint64)t.tv_sec * 1000000 + (guint64)t.tv_nsec / 1000;
}

static void take(struct vm *vm, struct queue *q, gint64 now, guint64 until_us)
{
    guint64 taken = 0, missed = 0;
    guint steps = 0;

    while (q->next < q->work->len) {
        const struct report *r = &g_array_index(q->work, struct report, q->next);
        double age = MAX((double)(now - r->at_us) / 1e6, 0);

        if (r->space == REPORT_HPA && !physical_is_ready(vm, q))
            break;
        q->next++;
        if (age < OLD_S && take_one(vm, r, r->weight * exp2(-age / HEAT_HALF_LIFE), &steps))
            taken++;
        else
            missed++;
        if (++steps < LOOK_EVERY)
            continue;
        if (thread_us() >= until_us)
            break;
        steps = 0;
    }
    source_count(vm, SRC_REPORT, taken, 0, 0);
    source_miss(vm, SRC_REPORT, missed);
}

static int harvest(struct vm *vm, guint32 budget_us, struct vt_err *err)
{
    struct queue *q = vm->source_state[SRC_REPORT];
    guint64 until_us = thread_us() + budget_us;
    struct vt_err why = { 0 };

    (void)err;
    refill(vm, q);
    if (q->left)
        q->heard = vm->clock;
    if (q->rmap && rmap_refresh(q->rmap, budget_us / 2, &why)) {
        g_clear_pointer(&q->rmap, rmap_free);
        g_strlcpy(q->no_rmap, why.text, sizeof(q->no_rmap));
    }
    if (q->no_rmap[0] && strcmp(q->no_rmap, vm->stats.source[SRC_REPORT].error) != 0)
        vm_clean_text(vm->stats.source[SRC_REPORT].error, q->no_rmap, VT_TEXT);
    if (q->left)
        take(vm, q, g_get_monotonic_time(), until_us);
    refill(vm, q);
    return 0;
}

static bool drives(const struct vm *vm)
{
    const struct queue *q = vm->source_state[SRC_REPORT];

    return q && vm->clock - q->heard < QUIET_S;
}

static void layout_changed(struct vm *vm)
{
    struct queue *q = vm->source_state[SRC_REPORT];

    if (q->rmap)
        update_map(vm, q);
}

static bool available(const struct vm *vm, char *reason)
{
    (void)vm;
    (void)reason;
    return true;
}

static int start(struct vm *vm, struct vt_err *err)
{
    struct queue *q = g_new0(struct queue, 1);

    (void)err;
    q->in = g_array_new(FALSE, FALSE, sizeof(struct report));
    q->work = g_array_new(FALSE, FALSE, sizeof(struct report));
    q->heard = -INFINITY;
    g_mutex_lock(&vm->lock);
    vm->source_state[SRC_REPORT] = q;
    g_mutex_unlock(&vm->lock);
    return 0;
}

static void stop(struct vm *vm)
{
    struct queue *q;

    g_mutex_lock(&vm->lock);
    q = g_steal_pointer(&vm->source_state[SRC_REPORT]);
    g_mutex_unlock(&vm->lock);
    g_array_unref(q->in);
    g_array_unref(q->work);
    g_clear_pointer(&q->rmap, rmap_free);
    g_free(q->tier);
    g_free(q);
}

/* --- the main thread's -------------------------------------------------------------------------- */

#define FAIL(error, ...) (g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, __VA_ARGS__), false)

guint report_waiting(struct vm *vm)
{
    const struct queue *q;
    guint n;

    g_mutex_lock(&vm->lock);
    q = vm->source_state[SRC_REPORT];
    n = q ? q->in->len + q->left : 0;
    g_mutex_unlock(&vm->lock);
    return n;
}

bool report_push(struct vm *vm, const struct report *batch, guint n, GError **error)
{
    struct queue *q;
    guint waiting = 0;

    g_mutex_lock(&vm->lock);
    q = vm->source_state[SRC_REPORT];
    if (q)
        waiting = q->in->len + q->left;
    if (q && n <= REPORT_QUEUE - waiting)
        g_array_append_vals(q->in, batch, n);
    g_mutex_unlock(&vm->lock);
    if (!q)
        return FAIL(error, "%s takes no reports: its mode is off, it is not tiered yet, or sources= does "
                    "not name report", vm->name);
    return n <= REPORT_QUEUE - waiting ||
           FAIL(error, "%s: %u reports are more than fit: %u of %d wait already; send less, or later",
                vm->name, n, waiting, REPORT_QUEUE);
}

const struct source source_report = {
    .name = "report",
    .summary = "accesses that others saw and push over the control socket",
    .unit = "reports",
    .enable = "sources= with report, and somebody who pushes",
    .id = SRC_REPORT,
    .kind = HEAT_SAMPLES,
    .available = available,
    .start = start,
    .stop = stop,
    .harvest = harvest,
    .layout_changed = layout_changed,
    .drives = drives,
};
