// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * May a domain start that would rather not start than go without what it asks for?
 *
 * What it is promised is min of <dram>, or max where there is no min. The promises of all VMs that are
 * attached or about to be must fit the dram that the arbiter divides, or the memory of dram's nodes.
 */
#include "host/libvirt-internal.h"
#include "host/size.h"

static guint64 promised(const struct tiering *t, guint64 ram)
{
    guint64 min = quota_in_bytes(&t->min, ram);

    return min ? min : quota_in_bytes(&t->max, ram);
}

static guint64 capacity(const struct daemon *d)
{
    return d->pool ? d->pool : tier_memory(&d->tiers->tier[0]);
}

/* VMs of no domain that we know: their quota is their promise. */
static guint64 promised_elsewhere(struct libvirt *l)
{
    guint64 sum = 0;

    for (guint i = 0; i < l->daemon->vms->len; i++) {
        struct vm *vm = g_ptr_array_index(l->daemon->vms, i);

        if (g_atomic_int_get(&vm->gone) || libvirt_known(l, vm->uuid, vm->name))
            continue;
        g_mutex_lock(&vm->lock);
        sum += vm_quota(vm, &vm->want, vm->shown.ram_bytes);
        g_mutex_unlock(&vm->lock);
    }
    return sum;
}

static guint64 promised_to_others(struct libvirt *l, const struct known *self)
{
    guint64 sum = promised_elsewhere(l);
    GHashTableIter iter;
    gpointer other;

    g_hash_table_iter_init(&iter, l->domains);
    while (g_hash_table_iter_next(&iter, NULL, &other))
        if (other != self)
            sum += promised(&((struct known *)other)->tiering, ((struct known *)other)->memory);
    return sum;
}

char *libvirt_admit(struct libvirt *l, const struct known *known)
{
    guint64 want = promised(&known->tiering, known->memory), all = capacity(l->daemon);
    guint64 given = promised_to_others(l, known);
    g_autofree char *w = size_format(want), *g = size_format(given), *a = size_format(all);

    if (known->problem)
        return g_strdup(known->problem);
    if (!known->plugin)
        return g_strdup("QEMU is not given vmtier's plugin: run `vmtier domxml DOMAIN --define`");
    if (l->daemon->userfault < 0)
        return g_strdup(l->daemon->no_userfault);
    if (want <= all && given <= all - want)
        return g_strdup("");
    return g_strdup_printf("%s of dram cannot be promised: other VMs have been promised %s of %s", w, g, a);
}
