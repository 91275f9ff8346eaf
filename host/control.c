// SPDX-License-Identifier: GPL-2.0-or-later
/* The daemon's QMP commands. They run in the main thread and never wait for a VM. */
#include "host/daemon.h"
#include "host/size.h"

struct vm *daemon_vm_arg(JsonObject *args, struct daemon *d, GError **error)
{
    const char *name = json_object_get_string_member(args, "vm");
    struct vm *vm = daemon_find_vm(d, name);

    if (!vm)
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_DEVICE_NOT_FOUND, "VM '%s' not found",
                    name);
    return vm;
}

void daemon_tell_text(struct daemon *d, const char *event, const char *vm, const char *key, const char *text)
{
    JsonObject *data = json_object_new();

    json_object_set_string_member(data, "vm", vm);
    if (text)
        json_object_set_string_member(data, key, text);
    daemon_tell(d, event, data);
}

/* --- queries ------------------------------------------------------------------------------------------- */

static JsonNode *query_status(JsonObject *args, gpointer opaque, GError **error)
{
    (void)args;
    (void)error;
    return view_status(opaque);
}

static JsonNode *query_vms(JsonObject *args, gpointer opaque, GError **error)
{
    struct daemon *d = opaque;
    JsonArray *list;
    JsonNode *node;
    struct vm *one = NULL;

    if (json_object_has_member(args, "vm")) {
        one = daemon_vm_arg(args, d, error);
        if (!one)
            return NULL;
    }
    list = json_array_new();
    for (guint i = 0; i < d->vms->len; i++) {
        struct vm *vm = g_ptr_array_index(d->vms, i);

        if (!one || one == vm)
            json_array_add_element(list, view_vm(vm));
    }
    node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, list);
    return node;
}

static JsonNode *query_heatmap(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = daemon_vm_arg(args, opaque, error);

    return vm ? view_heatmap(vm) : NULL;
}

static JsonNode *query_samples(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = daemon_vm_arg(args, opaque, error);

    return vm ? view_samples(vm) : NULL;
}

/* --- settings -------------------------------------------------------------------------------------------- */

#define REFUSE(error, ...) \
    (g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, __VA_ARGS__), NULL)

static JsonNode *set_mode(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = daemon_vm_arg(args, opaque, error);
    enum vm_mode mode;

    if (!vm || !vm_mode_parse(json_object_get_string_member(args, "mode"), &mode, error))
        return NULL;
    g_mutex_lock(&vm->lock);
    vm->want.mode = mode;
    g_mutex_unlock(&vm->lock);
    daemon_tell_text(vm->daemon, "VMTIER_MODE_CHANGED", vm->name, "mode", vm_mode_name(mode));
    return NULL;
}

static JsonNode *set_rate(JsonObject *args, gpointer opaque, GError **error)
{
    gint64 rate = json_object_get_int_member(args, "bytes_per_s");
    struct vm *vm = daemon_vm_arg(args, opaque, error);
    JsonObject *data;

    if (!vm)
        return NULL;
    if (rate < 0)
        return REFUSE(error, "%s: a rate of %" G_GINT64_FORMAT " bytes per second", vm->name, rate);
    g_mutex_lock(&vm->lock);
    vm->want.rate = (guint64)rate;
    g_mutex_unlock(&vm->lock);
    data = json_object_new();
    json_object_set_string_member(data, "vm", vm->name);
    json_object_set_int_member(data, "bytes_per_s", rate);
    daemon_tell(vm->daemon, "VMTIER_RATE_CHANGED", data);
    return NULL;
}

/* --- the table ---------------------------------------------------------------------------------------------- */

static const struct qmp_arg one_vm[] = { { "vm", QMP_STRING, true }, { 0 } };
static const struct qmp_arg maybe_vm[] = { { "vm", QMP_STRING, false }, { 0 } };
static const struct qmp_arg mode_args[] = {
    { "vm", QMP_STRING, true }, { "mode", QMP_STRING, true }, { 0 },
};
static const struct qmp_arg rate_args[] = {
    { "vm", QMP_STRING, true }, { "bytes_per_s", QMP_INT, true }, { 0 },
};

const struct qmp_command control_commands[] = {
    { "query-vmtier-status", NULL, query_status },
    { "query-vmtier-vms", maybe_vm, query_vms },
    { "query-vmtier-heatmap", one_vm, query_heatmap },
    { "query-vmtier-samples", one_vm, query_samples },
    { "vmtier-set-mode", mode_args, set_mode },
    { "vmtier-set-rate", rate_args, set_rate },
    { 0 },
};
