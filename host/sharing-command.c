// SPDX-License-Identifier: GPL-2.0-or-later
/* vmtier-set-quota: how much dram a VM may have, is guaranteed, and how much it counts. */
#include "host/daemon.h"
#include "host/sharing.h"

#define REFUSE(error, ...) \
    (g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, __VA_ARGS__), false)

static bool check_max(struct vm *vm, gint64 max, guint64 ram, guint64 pinned, GError **error)
{
    const char *what = NULL;

    if (max <= 0)
        what = "a VM needs some dram; use mode off to leave it alone";
    else if (max < (gint64)vm->config.granule)
        what = "less than one granule";
    else if (ram && (guint64)max > ram)
        what = "above the VM's RAM";
    else if ((guint64)max < pinned)
        what = "less than what is pinned to dram";
    return !what || REFUSE(error, "%s: a quota of %" G_GINT64_FORMAT " bytes: %s (granules of %"
                           G_GUINT64_FORMAT " bytes, RAM of %" G_GUINT64_FORMAT ")", vm->name, max,
                           what, vm->config.granule, ram);
}

/* Is there room for this guarantee, beside those of the others? */
static bool check_min(struct daemon *d, struct vm *vm, gint64 min, guint64 max, GError **error)
{
    g_autofree char *refusal = NULL;

    if (min < 0 || (guint64)min > max)
        return REFUSE(error, "%s: a guarantee of %" G_GINT64_FORMAT " bytes: it is 0 up to the quota of %"
                      G_GUINT64_FORMAT, vm->name, min, max);
    if (!min)
        return true;
    if (!d->pool)
        return REFUSE(error, "%s: nothing can be guaranteed without [host] dram= (or reserve=) in "
                      "vmtierd.conf", vm->name);
    refusal = sharing_refusal(d, vm, vm->uuid, (guint64)min);
    return !refusal || REFUSE(error, "%s: %s", vm->name, refusal);
}

static bool check_arguments(struct vm *vm, JsonObject *args, gint64 weight, GError **error)
{
    if (json_object_get_size(args) < 2)
        return REFUSE(error, "%s: say 'max', 'min' or 'weight'", vm->name);
    return (weight >= 1 && weight <= VM_WEIGHT_MOST) ||
           REFUSE(error, "%s: a weight of %" G_GINT64_FORMAT ": it is 1 to %u, and %u is usual", vm->name,
                  weight, VM_WEIGHT_MOST, VM_WEIGHT);
}

static void tell(struct vm *vm)
{
    JsonObject *data = json_object_new();

    g_mutex_lock(&vm->lock);
    json_object_set_string_member(data, "vm", vm->name);
    json_object_set_int_member(data, "max_bytes", (gint64)vm_limit(vm, &vm->want, vm->shown.ram_bytes));
    json_object_set_int_member(data, "min_bytes",
                               (gint64)vm_guarantee(vm, &vm->want, vm->shown.ram_bytes));
    json_object_set_int_member(data, "weight", vm->want.weight);
    g_mutex_unlock(&vm->lock);
    daemon_tell(vm->daemon, "VMTIER_QUOTA_CHANGED", data);
}

static gint64 int_or(JsonObject *args, const char *name, gint64 otherwise)
{
    return json_object_get_int_member_with_default(args, name, otherwise);
}

static JsonNode *set_quota(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = daemon_vm_arg(args, opaque, error);
    struct vm_settings now;
    guint64 ram;
    gint64 max, min, weight;

    if (!vm)
        return NULL;
    g_mutex_lock(&vm->lock);
    now = vm->want;
    ram = vm->shown.ram_bytes;
    g_mutex_unlock(&vm->lock);
    max = int_or(args, "max", (gint64)vm_limit(vm, &now, ram));
    min = int_or(args, "min", MIN((gint64)vm_guarantee(vm, &now, ram), max));
    weight = int_or(args, "weight", now.weight);
    if (!check_arguments(vm, args, weight, error) || !check_max(vm, max, ram, pins_bytes(&now.pins, 0), error) ||
        !check_min(opaque, vm, min, (guint64)max, error))
        return NULL;
    g_mutex_lock(&vm->lock);
    if (json_object_has_member(args, "max"))
        vm->want.quota_bytes = (guint64)max;
    if (json_object_has_member(args, "min"))
        vm->want.min = (struct quota){ .bytes = (guint64)min };
    vm->want.weight = (guint)weight;
    g_mutex_unlock(&vm->lock);
    tell(vm);
    return NULL;
}

static const struct qmp_arg quota_args[] = {
    { "vm", QMP_STRING, true }, { "max", QMP_INT, false }, { "min", QMP_INT, false },
    { "weight", QMP_INT, false }, { 0 },
};

const struct qmp_command sharing_commands[] = {
    { "vmtier-set-quota", quota_args, set_quota },
    { 0 },
};
