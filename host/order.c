// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Moves that an operator asks for.
 *
 * The command (order-command.c) only leaves the order with the VM, in `vm->order`, under its lock; a VM
 * has one at a time. From then on it is the worker's, who carries it out in parts, one in each round, at
 * the VM's rate and within its quota, whatever the mode; takes it away when it is done, and tells by an
 * event how it went.
 */
#include "host/order.h"
#include "host/daemon.h"
#include "host/mover/mover.h"

#define PART_MOST   256         /* granules in one round */

void order_free(struct vm_order *o)
{
    if (!o)
        return;
    g_array_unref(o->ranges);
    g_free(o);
}

/* --- on a worker ---------------------------------------------------------------------------------------- */

static void finish(struct vm *vm, struct vm_order *o, const char *reason)
{
    JsonObject *data = json_object_new();

    g_mutex_lock(&vm->lock);
    vm->order = NULL;
    g_mutex_unlock(&vm->lock);
    json_object_set_string_member(data, "vm", vm->name);
    json_object_set_int_member(data, "id", o->id);
    json_object_set_string_member(data, "tier", vm->daemon->tiers->tier[o->tier].name);
    json_object_set_int_member(data, "granules", o->asked);
    json_object_set_int_member(data, "moved", o->moved);
    json_object_set_int_member(data, "busy", o->busy);
    json_object_set_int_member(data, "failed", o->failed);
    json_object_set_int_member(data, "over_quota", o->over_quota);
    if (reason)
        json_object_set_string_member(data, "reason", reason);
    g_message("%s: order %" G_GINT64_FORMAT ": %u of %u granules are in tier %s", vm->name, o->id,
              o->moved, o->asked, vm->daemon->tiers->tier[o->tier].name);
    order_free(o);
    daemon_tell(vm->daemon, "VMTIER_MOVED", data);
}

/* The next granule of the order. */
static guint32 take_one(struct vm_order *o)
{
    struct order_range *r = &g_array_index(o->ranges, struct order_range, o->at);
    guint32 granule = r->first++;

    if (!--r->count)
        o->at++;
    return granule;
}

/* Does it have to be moved? `room`: how many more may come into dram. */
static bool is_wanted(const struct vm *vm, struct vm_order *o, guint32 granule, guint32 *room)
{
    guint8 tier = vm->ledger.tier[granule];

    if (vm->mover == &mover_remap && tier == LEDGER_NONE) {
        o->failed++;
    } else if (vm->mover == &mover_remap && tier == o->tier) {
        o->moved++;
    } else if (o->tier == 0 && tier != 0 && tier != LEDGER_NONE && !*room) {
        o->over_quota++;
    } else {
        *room -= o->tier == 0 && tier != 0 && tier != LEDGER_NONE;
        return true;
    }
    return false;
}

static void count(struct vm_order *o, const struct vt_move_one *m)
{
    if (m->status == VT_ST_OK)
        o->moved++;
    else if (m->status == VT_ST_BUSY || m->status == VT_ST_AGAIN)
        o->busy++;
    else
        o->failed++;
}

static int carry_out_part(struct vm *vm, struct vm_order *o, struct vt_err *err)
{
    guint32 n = 0, most = pace_units(&vm->pace, vm->config.granule);
    guint32 quota = vm_quota_granules(vm), dram = vm->ledger.count[0];
    guint32 room = quota > dram ? quota - dram : 0;
    struct vt_move_one moves[PART_MOST];
    guint32 before;
    int rc;

    while (n < most && n < PART_MOST && o->at < o->ranges->len) {
        guint32 granule = take_one(o);

        if (is_wanted(vm, o, granule, &room))
            moves[n++] = (struct vt_move_one){ .granule = granule, .tier = o->tier };
    }
    before = o->moved;
    rc = n ? vm->mover->carry_out(vm, moves, n, false, err) : 0;
    for (guint32 i = 0; !rc && i < n; i++)
        count(o, &moves[i]);
    pace_spend(&vm->pace, (o->moved - before) * vm->config.granule);
    return rc;
}

int order_carry_out(struct vm *vm, struct vt_err *err)
{
    struct vm_order *o;
    int rc;

    g_mutex_lock(&vm->lock);
    o = vm->order;
    g_mutex_unlock(&vm->lock);
    if (!o)
        return 0;
    if (vm->stats.state == VM_FROZEN) {
        finish(vm, o, vm->stats.reason);
        return 0;
    }
    rc = carry_out_part(vm, o, err);
    if (!rc && (o->at == o->ranges->len || vm->stats.state == VM_FROZEN))
        finish(vm, o, vm->stats.state == VM_FROZEN ? vm->stats.reason : NULL);
    return rc;
}
