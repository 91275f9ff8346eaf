// SPDX-License-Identifier: GPL-2.0-or-later
/* The table of sources, and the harvest of those that run in QEMU. */
#include "host/source/source.h"
#include "host/daemon.h"

#include <errno.h>

const struct source *const sources[VT_SRC_END] = {
    [VT_SRC_REFAULT] = &source_refault,
    [VT_SRC_DIRTY] = &source_dirty,
    [VT_SRC_SAMPLE] = &source_sample,
};

bool source_available(const struct vm *vm, enum vt_source id, const char **reason)
{
    bool can = vm->can_sources & (1u << id);

    *reason = can ? NULL : vm->no_source[id];
    return can;
}

static void absorb(struct vm *vm, const struct vt_obs_list *list)
{
    for (guint32 i = 0; i < list->count; i++) {
        const struct vt_obs *o = &list->obs[i];

        if (o->granule < vm->ledger.n && o->source < VT_SRC_END && o->tier < vm->daemon->tiers->n &&
            vm->ledger.tier[o->granule] != LEDGER_NONE)
            sources[o->source]->absorb(vm, o);
    }
}

static void take_end(struct vm *vm, const struct vt_harvest_end *m)
{
    double seconds = m->interval_ms / 1000.0;

    for (int s = 0; s < VT_SRC_END; s++) {
        guint64 was = vm->stats.source_events[s];

        if (seconds > 0 && m->events[s] >= was)
            vm->stats.source_rate[s] += 0.2 * ((double)(m->events[s] - was) / seconds -
                                               vm->stats.source_rate[s]);
        vm->stats.source_events[s] = m->events[s];
        vm->stats.source_cpu_ns[s] = m->cpu_ns[s];
    }
}

int sources_harvest(struct vm *vm, guint32 budget_us, struct vt_err *err)
{
    int rc;

    wire_start(&vm->out, VT_HARVEST, ++vm->seq, sizeof(vm->out.harvest));
    vm->out.harvest.sources = vm->sources;
    vm->out.harvest.budget_us = budget_us;
    rc = vm_send(vm, err);
    while (!rc) {
        rc = vm_receive(vm, LINK_MS, err);
        if (rc)
            return rc;
        if (vm->in.h.seq != vm->seq)
            return vt_fail(err, EPROTO, "%s out of turn", wire_type_name(vm->in.h.type));
        if (vm->in.h.type == VT_HARVEST_END) {
            take_end(vm, &vm->in.harvest_end);
            return 0;
        }
        if (vm->in.h.type != VT_OBS)
            return vt_fail(err, EPROTO, "%s in answer to HARVEST",
                           wire_type_name(vm->in.h.type));
        absorb(vm, &vm->in.obs);
    }
    return rc;
}
