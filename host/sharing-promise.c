// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What of the host's dram is promised to whom, and whether there is room for one more promise.
 *
 * There is one notion of it, for an operator who raises a guarantee, for a domain that changes its metadata,
 * and for one that is to start. A VM has been promised its guarantee. If it has none, that is nothing where the
 * arbiter divides a pool: it may have a lot, which is taken back when others need it. Where there is no pool
 * nobody takes anything from anyone, so then it is its quota. A VM that does not take part keeps what it
 * holds. A domain that libvirt is about to start counts from the moment when it was admitted.
 */
#include "host/daemon.h"
#include "host/libvirt.h"
#include "host/sharing.h"
#include "host/size.h"

static guint64 promised_to(const struct daemon *d, struct vm *vm)
{
    const struct vm_stats *now = &vm->shown;
    guint64 bytes;

    g_mutex_lock(&vm->lock);
    if (!sharing_takes_part(vm))
        bytes = MAX(now->file_bytes[0], now->ledger_bytes[0]);
    else if (d->pool || vm_guarantee(vm, &vm->want, now->ram_bytes))
        bytes = vm_guarantee(vm, &vm->want, now->ram_bytes);
    else
        bytes = vm_limit(vm, &vm->want, now->ram_bytes);
    g_mutex_unlock(&vm->lock);
    return bytes;
}

static guint64 promised_to_others(struct daemon *d, const struct vm *but, const char *uuid)
{
    guint64 sum = libvirt_promised(d, uuid);

    for (guint i = 0; i < d->vms->len; i++) {
        struct vm *vm = g_ptr_array_index(d->vms, i);

        if (vm != but && !g_atomic_int_get(&vm->gone))
            sum += promised_to(d, vm);
    }
    return sum;
}

/* What vm_guarantee() will be, once it runs. */
guint64 sharing_promise(const struct daemon *d, const struct vm_config *config, guint64 ram)
{
    guint64 bytes = MAX(quota_in_bytes(&config->min, ram), pins_bytes(&config->pins, 0));
    guint64 most = quota_in_bytes(&config->quota, ram);

    if (ram && config->mode != VM_ON)
        return ram;
    if (most && (bytes > most || (!bytes && !d->pool)))
        bytes = most;
    return ram ? MIN(bytes, ram) : bytes;
}

char *sharing_refusal(struct daemon *d, const struct vm *vm, const char *uuid, guint64 bytes)
{
    guint64 all = d->pool ? d->pool : tier_memory(&d->tiers->tier[0]);
    guint64 others = promised_to_others(d, vm, uuid), left = all > others ? all - others : 0;
    g_autofree char *want = size_format(bytes), *has = size_format(all), *rest = size_format(left);

    if (bytes <= left)
        return NULL;
    return g_strdup_printf("%s of dram cannot be promised: of the host's %s, %s are not promised to others",
                           want, has, rest);
}
