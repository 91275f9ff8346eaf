// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a VM's recording listens in: see trace-tap.h.
 *
 * `vm->recorder` is the newest recording, over or not, under the VM's lock; `vm->tap` is the worker's
 * reference to it for one round, NULL where nothing is to be recorded.
 */
#include "host/trace-tap.h"
#include "host/daemon.h"
#include "host/source/source.h"

#include <string.h>

static const enum trace_kind kinds[] = {
    [HEAT_SAMPLES] = TRACE_SAMPLES, [HEAT_PROBES] = TRACE_PROBES, [HEAT_WRITES] = TRACE_WRITES,
    [HEAT_HINTS] = TRACE_HINTS,
};
static_assert(G_N_ELEMENTS(kinds) == HEAT_KINDS, "a kind of evidence has no place in a recording");
static_assert(SRC_END <= TRACE_SOURCES, "a recording has room for all sources");

/* The VM's source of number i is the recording's source i. */
static void describe_source(const struct vm *vm, int i, struct trace_source *to)
{
    if (!sources[i])
        return;
    g_strlcpy(to->name, sources[i]->name, sizeof(to->name));
    to->kind = kinds[sources[i]->kind];
    to->scale = i == SRC_SAMPLE ? MAX(vm->config.sample_period, 1u) : 1;
}

struct trace_header tap_header(struct vm *vm)
{
    struct trace_header h = {
        .granule = vm->config.granule,
        .start_us = (guint64)g_get_real_time(),
        .round_ms = ROUND_MS,
    };

    g_strlcpy(h.vm, vm->name, sizeof(h.vm));
    g_strlcpy(h.qemu, vm->qemu ? vm->qemu : "", sizeof(h.qemu));
    for (int i = 0; i < SRC_END; i++)
        describe_source(vm, i, &h.source[i]);
    g_mutex_lock(&vm->lock);
    h.quota = vm_quota(vm, &vm->want, vm->shown.ram_bytes);
    for (int i = 0; i < SRC_END; i++)
        h.places |= vm->shown.source[i].drives ? 1u << i : 0;
    g_mutex_unlock(&vm->lock);
    return h;
}

/* Slots name blocks by QEMU's numbers; those that are in no block of ours are left out. */
static void describe_slots(const struct vm *vm, const guint32 *index, struct trace_layout *l)
{
    for (guint32 i = 0; i < vm->stats.n_slots && l->n_slots < TRACE_SLOTS_MOST; i++) {
        struct vt_slot s = vm->stats.slot[i];

        if (s.block >= VT_BLOCKS || index[s.block] == G_MAXUINT32 ||
            s.offset > vm->block[s.block].length || s.gpa > G_MAXUINT64 - s.length ||
            s.length > vm->block[s.block].length - s.offset)
            continue;
        s.block = index[s.block];
        s.pad = 0;
        l->slot[l->n_slots++] = s;
    }
}

/* The present block that comes next at or after granule `from`, or VT_BLOCKS. */
static guint32 next_block(const struct vm *vm, guint32 from)
{
    guint32 best = VT_BLOCKS;

    for (guint32 b = 0; b < VT_BLOCKS; b++)
        if (vm->block[b].present && vm->block[b].first >= from &&
            (best == VT_BLOCKS || vm->block[b].first < vm->block[best].first))
            best = b;
    return best;
}

static void describe_layout(const struct vm *vm, struct trace_layout *l)
{
    guint32 index[VT_BLOCKS], b;

    memset(l, 0, sizeof(*l));
    memset(index, 0xff, sizeof(index));
    l->granules = vm->ledger.n;
    for (guint32 from = 0; (b = next_block(vm, from)) < VT_BLOCKS; from = vm->block[b].first + 1) {
        struct trace_block *to = &l->block[l->n_blocks];

        index[b] = l->n_blocks++;
        to->first = vm->block[b].first;
        to->count = vm->block[b].count;
        to->length = vm->block[b].length;
        g_strlcpy(to->name, vm->block[b].name, sizeof(to->name));
    }
    describe_slots(vm, index, l);
}

void tap_begin(struct vm *vm, double dt)
{
    struct trace_layout layout;

    g_mutex_lock(&vm->lock);
    vm->tap = vm->recorder && vm->ledger.n ? recorder_ref(vm->recorder) : NULL;
    g_mutex_unlock(&vm->lock);
    if (vm->tap && !recorder_wants(vm->tap))
        g_clear_pointer(&vm->tap, recorder_unref);
    if (!vm->tap)
        return;
    describe_layout(vm, &layout);
    recorder_layout(vm->tap, &layout);
    recorder_round(vm->tap, dt, vm->sources);
}

void tap_end(struct vm *vm)
{
    if (!vm->tap)
        return;
    recorder_commit(vm->tap);
    g_clear_pointer(&vm->tap, recorder_unref);
}

void tap_close(struct vm *vm)
{
    const bool stops = g_atomic_int_get(&vm->daemon->stopping);

    if (vm->recorder)
        recorder_end(vm->recorder, stops ? TRACE_DAEMON_ENDS : TRACE_VM_GONE);
    g_clear_pointer(&vm->recorder, recorder_unref);
    g_clear_pointer(&vm->tap, recorder_unref);
}
