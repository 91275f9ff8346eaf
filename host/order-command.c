// SPDX-License-Identifier: GPL-2.0-or-later
/* The command vmtier-move: reads an order and leaves it with its VM. Runs in the main thread. */
#include "host/daemon.h"
#include "host/order.h"

#include <string.h>

#define RANGES_MOST 4096

#define FAIL(error, ...) (g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, __VA_ARGS__), false)

static bool read_int(JsonObject *o, const char *key, guint32 *value)
{
    JsonNode *node = json_object_get_member(o, key);
    gint64 n;

    if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64)
        return false;
    n = json_node_get_int(node);
    *value = (guint32)n;
    return n >= 0 && n <= G_MAXUINT32;
}

static bool read_range(JsonNode *node, guint32 granules, struct vm_order *o, GError **error)
{
    JsonObject *from = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    struct order_range r;

    if (!from || json_object_get_size(from) != 2 || !read_int(from, "first", &r.first) ||
        !read_int(from, "count", &r.count))
        return FAIL(error, "ranges: an element is no {\"first\": N, \"count\": N}");
    if (!r.count || r.first >= granules || r.count > granules - r.first)
        return FAIL(error, "ranges: granules %u + %u, but there are %u", r.first, r.count, granules);
    if (r.count > VT_GRANULES_MAX - o->asked)
        return FAIL(error, "ranges: more than %u granules", VT_GRANULES_MAX);
    g_array_append_val(o->ranges, r);
    o->asked += r.count;
    return true;
}

static bool read_ranges(JsonObject *args, guint32 granules, struct vm_order *o, GError **error)
{
    const struct order_range all = { 0, granules };
    JsonArray *list;

    if (!granules)
        return FAIL(error, "the VM's memory is not known yet");
    if (!json_object_has_member(args, "ranges")) {
        g_array_append_val(o->ranges, all);
        o->asked = granules;
        return true;
    }
    list = json_object_get_array_member(args, "ranges");
    if (!json_array_get_length(list) || json_array_get_length(list) > RANGES_MOST)
        return FAIL(error, "ranges: 1 to %d of them", RANGES_MOST);
    for (guint i = 0; i < json_array_get_length(list); i++)
        if (!read_range(json_array_get_element(list, i), granules, o, error))
            return false;
    return true;
}

static bool read_tier(JsonObject *args, const struct tiers *tiers, struct vm_order *o, GError **error)
{
    const char *name = json_object_get_string_member(args, "tier");

    for (guint t = 0; t < tiers->n; t++)
        if (!strcmp(tiers->tier[t].name, name)) {
            o->tier = (guint8)t;
            return true;
        }
    return FAIL(error, "there is no tier '%s'", name);
}

/* Leaves it with the VM. */
static bool leave(struct vm *vm, struct vm_order *o, GError **error)
{
    bool free_to_take;

    g_mutex_lock(&vm->lock);
    free_to_take = !vm->order;
    if (free_to_take)
        vm->order = o;
    g_mutex_unlock(&vm->lock);
    return free_to_take || FAIL(error, "%s: moves that were asked for before are under way: wait for "
                                "VMTIER_MOVED", vm->name);
}

static JsonNode *order_move(JsonObject *args, gpointer opaque, GError **error)
{
    static gint64 last_id;
    struct daemon *d = opaque;
    struct vm *vm = daemon_vm_arg(args, d, error);
    struct vm_order *o;
    JsonObject *reply;
    JsonNode *node;
    guint32 granules;

    if (!vm)
        return NULL;
    g_mutex_lock(&vm->lock);
    granules = vm->shown.rounds ? vm->ledger.n : 0;
    g_mutex_unlock(&vm->lock);
    o = g_new0(struct vm_order, 1);
    o->ranges = g_array_new(FALSE, FALSE, sizeof(struct order_range));
    o->id = last_id + 1;
    if (!read_tier(args, d->tiers, o, error) || !read_ranges(args, granules, o, error) ||
        !leave(vm, o, error)) {
        order_free(o);
        return NULL;
    }
    reply = json_object_new();
    json_object_set_int_member(reply, "id", ++last_id);
    node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, reply);
    return node;
}

static const struct qmp_arg move_args[] = {
    { "vm", QMP_STRING, true }, { "tier", QMP_STRING, true }, { "ranges", QMP_LIST, false }, { 0 },
};

const struct qmp_command order_commands[] = {
    { "vmtier-move", move_args, order_move },
    { 0 },
};
