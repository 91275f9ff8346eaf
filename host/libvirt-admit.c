// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * May a domain start that would rather not start than go without what it asks for? May a machine that runs
 * have what its metadata ask for now? What is promised to whom is in sharing-promise.c.
 */
#include "host/libvirt-internal.h"
#include "host/sharing.h"

#include <string.h>

#define BACK_S 60               /* by when VMs that run have attached to a daemon that was started again */

static guint64 promise(struct libvirt *l, const struct known *k)
{
    struct vm_config config = libvirt_config(l, k, k->name);

    return sharing_promise(l->daemon, &config, k->memory);
}

/*
 * Is it about to start? One without the plugin never comes to us; and one that only a file of ours speaks of, some
 * time after we have been started, ended while nobody was there to be told: its VM would have come back.
 */
static bool is_to_come(const struct libvirt *l, const struct known *k)
{
    gint64 age = g_get_monotonic_time() - l->daemon->started_us;

    return k->plugin && (strcmp(k->from, "file") || age < BACK_S * G_USEC_PER_SEC);
}

guint64 libvirt_promised(struct daemon *d, const char *but)
{
    GHashTableIter iter;
    guint64 sum = 0;
    gpointer k;

    if (!d->libvirt)
        return 0;
    g_hash_table_iter_init(&iter, d->libvirt->domains);
    while (g_hash_table_iter_next(&iter, NULL, &k)) {
        const struct known *known = k;

        if (is_to_come(d->libvirt, known) && g_strcmp0(known->uuid, but) && !libvirt_vm(d->libvirt, known))
            sum += promise(d->libvirt, known);
    }
    return sum;
}

char *libvirt_admit(struct libvirt *l, const struct known *known)
{
    if (known->problem)
        return g_strdup(known->problem);
    if (!known->plugin)
        return g_strdup("QEMU is not given vmtier's plugin: run `vmtier domxml DOMAIN --define`");
    if (l->daemon->userfault < 0)
        return g_strdup(l->daemon->no_userfault);
    return sharing_refusal(l->daemon, NULL, known->uuid, promise(l, known));
}

char *libvirt_overdraws(struct libvirt *l, const struct known *known, const struct tiering *asked)
{
    struct vm *vm = libvirt_vm(l, known);
    struct known as_asked = *known;
    guint64 ram, has, wants;

    if (!vm || !l->daemon->pool)
        return NULL;
    as_asked.tiering = *asked;
    g_mutex_lock(&vm->lock);
    ram = vm->shown.ram_bytes;
    has = vm_guarantee(vm, &vm->want, ram);
    g_mutex_unlock(&vm->lock);
    as_asked.memory = ram;
    wants = promise(l, &as_asked);
    return wants > has && asked->mode == VM_ON ? sharing_refusal(l->daemon, vm, vm->uuid, wants) : NULL;
}
