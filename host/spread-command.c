// SPDX-License-Identifier: GPL-2.0-or-later
/* vmtier-set-interleave, vmtier-pin, vmtier-unpin: where an operator wants memory to be. */
#include "host/daemon.h"
#include "host/sharing.h"

#define HEX "0x%" G_GINT64_MODIFIER "x"
#define REFUSE(error, ...) \
    (g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, __VA_ARGS__), false)

static void tell(struct vm *vm, const char *event, const char *key, const char *text)
{
    g_message("%s: %s: %s", vm->name, event, text);
    daemon_tell_text(vm->daemon, event, vm->name, key, text);
}

/* --- interleave ------------------------------------------------------------------------------------------ */

static JsonNode *set_interleave(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = daemon_vm_arg(args, opaque, error);
    g_autofree char *text = NULL;
    struct weights weights;

    if (!vm)
        return NULL;
    if (!weights_parse(json_object_get_string_member(args, "weights"), vm->config.tier_name, &weights,
                       error)) {
        g_prefix_error(error, "%s: weights: ", vm->name);
        return NULL;
    }
    g_mutex_lock(&vm->lock);
    vm->want.interleave = weights;
    g_mutex_unlock(&vm->lock);
    text = weights_format(&weights, vm->config.tier_name);
    tell(vm, "VMTIER_INTERLEAVE_CHANGED", "weights", text);
    return NULL;
}

/* --- pins -------------------------------------------------------------------------------------------------- */

/* Is there RAM at this address, as far as the last round showed? Under vm->lock. */
static bool has_ram(const struct vm *vm, guint64 gpa)
{
    for (guint32 i = 0; i < vm->shown.n_slots; i++) {
        const struct vt_slot *s = &vm->shown.slot[i];

        if (gpa >= s->gpa && gpa - s->gpa < s->length)
            return true;
    }
    return false;
}

static bool check_range(const struct vm *vm, const struct pin *pin, GError **error)
{
    const guint64 granule = vm->config.granule;

    if ((pin->gpa | pin->size) % granule)
        return REFUSE(error, "%s: " HEX ", %" G_GUINT64_FORMAT " bytes: these are no whole granules of %"
                      G_GUINT64_FORMAT, vm->name, pin->gpa, pin->size, granule);
    if (pin->size > vm->shown.ram_bytes)
        return REFUSE(error, "%s: a pin of %" G_GUINT64_FORMAT " bytes, and the VM has %" G_GUINT64_FORMAT
                      " of RAM", vm->name, pin->size, vm->shown.ram_bytes);
    for (guint64 at = pin->gpa; at < pin->gpa + pin->size; at += granule)
        if (!has_ram(vm, at))
            return REFUSE(error, "%s: there is no tiered RAM at " HEX "; query-vmtier-vms shows the memslots",
                          vm->name, at);
    return true;
}

/* Pins to dram are of the quota, and guaranteed where VMs share the host's dram. */
static bool check_dram(struct daemon *d, struct vm *vm, const struct vm_settings *want, guint64 ram,
                       GError **error)
{
    guint64 pinned = pins_bytes(&want->pins, 0), most = vm_limit(vm, want, ram);
    g_autofree char *refusal = NULL;

    if (pinned > most)
        return REFUSE(error, "%s: %" G_GUINT64_FORMAT " bytes would be pinned to dram, and the quota is %"
                      G_GUINT64_FORMAT ": raise it with `vmtier quota`, or take other pins away", vm->name,
                      pinned, most);
    if (!d->pool)
        return true;
    refusal = sharing_refusal(d, vm, vm->uuid, vm_guarantee(vm, want, ram));
    return !refusal || REFUSE(error, "%s: pins: %s", vm->name, refusal);
}

static bool add_pin(struct daemon *d, struct vm *vm, const struct pin *pin, GError **error)
{
    struct vm_settings want;
    guint64 ram;
    bool ok;

    g_mutex_lock(&vm->lock);
    want = vm->want;
    ram = vm->shown.ram_bytes;
    ok = pins_add(&want.pins, pin, error);
    if (!ok)
        g_prefix_error(error, "%s: ", vm->name);
    ok = ok && check_range(vm, pin, error);
    g_mutex_unlock(&vm->lock);
    if (!ok || (pin->tier == 0 && !check_dram(d, vm, &want, ram, error)))
        return false;
    g_mutex_lock(&vm->lock);
    vm->want.pins = want.pins;
    g_mutex_unlock(&vm->lock);
    return true;
}

static JsonNode *pin_range(JsonObject *args, gpointer opaque, GError **error)
{
    struct daemon *d = opaque;
    struct vm *vm = daemon_vm_arg(args, d, error);
    gint64 gpa = json_object_get_int_member(args, "gpa"), size = json_object_get_int_member(args, "size");
    struct pin pin = { .gpa = (guint64)gpa, .size = (guint64)size };
    g_autofree char *text = NULL;
    int tier = vm ? tier_number(json_object_get_string_member(args, "tier"), vm->config.tier_name, error) : -1;

    if (tier < 0) {
        if (vm)
            g_prefix_error(error, "%s: ", vm->name);
        return NULL;
    }
    if (gpa < 0 || size <= 0) {
        (void)REFUSE(error, "%s: gpa %" G_GINT64_FORMAT ", size %" G_GINT64_FORMAT ": a pin has both",
                     vm->name, gpa, size);
        return NULL;
    }
    pin.tier = (guint8)tier;
    if (!add_pin(d, vm, &pin, error))
        return NULL;
    text = pin_format(&pin, vm->config.tier_name);
    tell(vm, "VMTIER_PINNED", "pin", text);
    return NULL;
}

static JsonNode *unpin(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = daemon_vm_arg(args, opaque, error);
    gint64 gpa = json_object_get_int_member(args, "gpa");
    g_autofree char *text = g_strdup_printf(HEX, gpa);
    bool ok;

    if (!vm)
        return NULL;
    g_mutex_lock(&vm->lock);
    ok = pins_remove(&vm->want.pins, (guint64)gpa, error);
    g_mutex_unlock(&vm->lock);
    if (ok)
        tell(vm, "VMTIER_UNPINNED", "gpa", text);
    else
        g_prefix_error(error, "%s: ", vm->name);
    return NULL;
}

static const struct qmp_arg interleave_args[] = {
    { "vm", QMP_STRING, true }, { "weights", QMP_STRING, true }, { 0 },
};
static const struct qmp_arg pin_args[] = {
    { "vm", QMP_STRING, true }, { "tier", QMP_STRING, true }, { "gpa", QMP_INT, true },
    { "size", QMP_INT, true }, { 0 },
};
static const struct qmp_arg unpin_args[] = { { "vm", QMP_STRING, true }, { "gpa", QMP_INT, true }, { 0 } };

const struct qmp_command spread_commands[] = {
    { "vmtier-set-interleave", interleave_args, set_interleave },
    { "vmtier-pin", pin_args, pin_range },
    { "vmtier-unpin", unpin_args, unpin },
    { 0 },
};
