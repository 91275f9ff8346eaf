// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The sources that run in QEMU's part: which of them are to run, and the harvest of what they saw.
 *
 * QEMU tells totals since its part was loaded. A daemon that comes later counts what was before it as well:
 * it is the same VM.
 */
#include "host/source/source.h"
#include "host/daemon.h"
#include "host/trace-tap.h"

#include <errno.h>

int source_qemu_switch(struct vm *vm, guint32 run, struct vt_err *err)
{
    if (run == (vm->sources & SOURCES_IN_QEMU))
        return 0;
    vm->sources = run | (vm->sources & ~SOURCES_IN_QEMU);
    wire_start(&vm->out, VT_SET, ++vm->seq, sizeof(vm->out.set));
    vm->out.set.freeze = 0;
    vm->out.set.sources = run;
    vm->out.set.sample_period = vm->config.sample_period;
    vm->out.set.pad = 0;
    return vm_send(vm, err);
}

static void record(struct vm *vm, const struct vt_obs *o)
{
    const double unit = o->source == VT_SRC_SAMPLE ? vm->config.sample_period : 1;

    tap_observe(vm, o->source, o->tier, o->granule, o->events * unit, o->exposure / 1000.0);
}

static void absorb(struct vm *vm, const struct vt_obs_list *list)
{
    for (guint32 i = 0; i < list->count; i++) {
        const struct vt_obs *o = &list->obs[i];

        if (o->granule >= vm->ledger.n || o->source >= VT_SRC_END ||
            o->tier >= vm->daemon->tiers->n || vm->ledger.tier[o->granule] == LEDGER_NONE)
            continue;
        record(vm, o);
        if (sources[o->source]->absorb)
            sources[o->source]->absorb(vm, o);
        else
            source_observe(vm, o->source, o->granule, o->events, o->exposure / 1000.0);
    }
}

/* What came on top; nothing where a total went back. */
static guint64 more(guint64 now, guint64 was)
{
    return now > was ? now - was : 0;
}

static void take_end(struct vm *vm, const struct vt_harvest_end *m)
{
    for (int i = 0; i < VT_SRC_END; i++) {
        const struct source_stats *s = &vm->stats.source[i];

        source_count(vm, i, more(m->events[i], s->events), more(m->cpu_ns[i], s->cpu_ns),
                     more(m->vcpu_ns[i], s->vcpu_ns));
    }
}

int source_qemu_harvest(struct vm *vm, struct vt_err *err)
{
    int rc;

    wire_start(&vm->out, VT_HARVEST, ++vm->seq, sizeof(vm->out.harvest));
    vm->out.harvest.sources = vm->sources & SOURCES_IN_QEMU;
    vm->out.harvest.budget_us = vm->config.probe_budget_us;
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
