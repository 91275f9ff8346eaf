// SPDX-License-Identifier: GPL-2.0-or-later
/* See rig.h. */
#include "rig.h"

#include <string.h>

#define STATE_TIMEOUT 15.0

/* --- rigs ----------------------------------------------------------------------------------- */

struct rig *rig_new(const char *name) {
    struct rig *rig = g_new0(struct rig, 1);

    rig->lab = lab_new(name);
    return rig;
}

void rig_free(struct rig *rig)
{
    if (rig->vm)
        vm_free(rig->vm);
    if (rig->daemon)
        daemon_free(rig->daemon);
    lab_free(rig->lab);
    g_free(rig);
}

void rig_start_daemon(struct rig *rig, const char *const *args)
{
    rig->daemon = daemon_start(rig->lab, args);
}

/* The socket is where the rig's daemon will be, if it is not there yet. */
char *rig_plugin(struct rig *rig, const char *rest)
{
    g_autofree char *plugin = lab_built("vmtier-qemu.so");
    g_autofree char *socket = lab_path(rig->lab, "vmm.sock");

    return g_strdup_printf("%s,socket=%s,%s", plugin, socket, rest);
}

static void fill_in(struct vm_options *o)
{
    static char *rom;

    if (!rom)
        rom = lab_built("tests/rom.bin");
    o->rom = rom;
    o->ram = o->ram ? o->ram : "64M";
    o->machine = o->machine ? o->machine : "pc";
}

struct vm *rig_another_vm(struct rig *rig, const char *name, struct vm_options options) {
    g_autofree char *id = g_strconcat("vm=", name, NULL);
    g_autofree char *plugin = rig_plugin(rig, id);

    fill_in(&options);
    if (!options.plugin)
        options.plugin = plugin;
    return vm_start(rig->lab, name, &options);
}

void rig_start_vm(struct rig *rig, struct vm_options options)
{
    rig->vm = rig_another_vm(rig, "vm", options);
}

/* --- JSON ----------------------------------------------------------------------------------- */

static JsonNode *step_into(JsonNode *node, const char *name)
{
    if (node && JSON_NODE_HOLDS_OBJECT(node))
        return json_object_get_member(json_node_get_object(node), name);
    if (!node || !JSON_NODE_HOLDS_ARRAY(node))
        return NULL;
    guint64 i = g_ascii_strtoull(name, NULL, 10);
    JsonArray *array = json_node_get_array(node);

    return i < json_array_get_length(array) ? json_array_get_element(array, (guint)i) : NULL;
}

JsonNode *json_at(JsonObject *from, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, ".", -1);
    JsonNode *node = json_object_get_member(from, names[0]);

    for (char **name = names + 1; *name; name++)
        node = step_into(node, *name);
    return node;
}

/* There, and of the type. */
static JsonNode *want(JsonObject *from, const char *path, GType type)
{
    JsonNode *node = json_at(from, path);

    if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != type) {
        g_autoptr(JsonNode) all = json_node_init_object(json_node_alloc(), from);
        g_autofree char *text = json_to_string(all, FALSE);

        g_error("%s is not there or no %s: %s", path, g_type_name(type), text);
    }
    return node;
}

gint64 json_int(JsonObject *from, const char *path)
{
    return json_node_get_int(want(from, path, G_TYPE_INT64));
}

const char *json_text(JsonObject *from, const char *path)
{
    return json_node_get_string(want(from, path, G_TYPE_STRING));
}

bool json_flag(JsonObject *from, const char *path)
{
    return json_node_get_boolean(want(from, path, G_TYPE_BOOLEAN));
}

/* --- asking --------------------------------------------------------------------------------- */

JsonObject *ask(struct qmp *qmp, const char *command, const char *args)
{
    g_autoptr(JsonNode) node = qmp_ok(qmp, command, "%s", args);

    g_assert_true(JSON_NODE_HOLDS_OBJECT(node));
    return json_object_ref(json_node_get_object(node));
}

JsonObject *rig_query(struct rig *rig)
{
    return ask(rig->vm->qmp, "x-vmtier-query", "{}");
}

JsonObject *rig_status(struct rig *rig)
{
    JsonObject *vm = daemon_vm(rig->daemon, "vm");

    g_assert_nonnull(vm);
    return vm;
}

gint64 rig_daemon_int(struct rig *rig, const char *path)
{
    g_autoptr(JsonObject) vm = rig_status(rig);

    return json_int(vm, path);
}

void rig_set_mode(struct rig *rig, const char *mode)
{
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-set-mode", "{\"vm\":\"vm\",\"mode\":\"%s\"}", mode));
}

JsonObject *rig_order(struct rig *rig, const char *tier, const char *more, double timeout)
{
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-move", "{\"vm\":\"vm\",\"tier\":\"%s\"%s}", tier, more));
    JsonObject *event = qmp_wait_event(rig->daemon->qmp, "VMTIER_MOVED", timeout);

    g_assert_nonnull(event);
    return event;
}

bool rig_daemon_flag(struct rig *rig, const char *path)
{
    g_autoptr(JsonObject) vm = rig_status(rig);

    return json_flag(vm, path);
}

struct bounds {
    const char *path;
    gint64 low, high;
};

static bool within(JsonObject *vm, void *arg)
{
    const struct bounds *b = arg;
    gint64 value = json_int(vm, b->path);

    return value >= b->low && value <= b->high;
}

void rig_wait_int(struct rig *rig, const char *path, gint64 wanted, double timeout)
{
    struct bounds b = { path, wanted, wanted };

    if (!daemon_wait_vm(rig->daemon, "vm", within, &b, timeout))
        g_error("%s is not %" G_GINT64_FORMAT " after %.0f s but %" G_GINT64_FORMAT, path, wanted,
                timeout, rig_daemon_int(rig, path));
}

bool rig_reaches(struct rig *rig, const char *path, gint64 least, double timeout)
{
    struct bounds b = { path, least, G_MAXINT64 };

    return daemon_wait_vm(rig->daemon, "vm", within, &b, timeout);
}

bool rig_falls_to(struct rig *rig, const char *path, gint64 most, double timeout)
{
    struct bounds b = { path, G_MININT64, most };

    return daemon_wait_vm(rig->daemon, "vm", within, &b, timeout);
}

void rig_wait_state(struct rig *rig, const char *state)
{
    daemon_wait_vm_state(rig->daemon, "vm", state, STATE_TIMEOUT);
}

void rig_move(struct rig *rig, uint64_t offset, uint64_t length, const char *tier)
{
    g_autofree char *args = g_strdup_printf(
        "{\"block\":\"ram0\",\"offset\":%" PRIu64 ",\"length\":%" PRIu64 ",\"tier\":\"%s\"}",
        offset, length, tier);
    g_autoptr(JsonObject) result = ask(rig->vm->qmp, "x-vmtier-move", args);

    if (json_int(result, "failed"))
        g_error("x-vmtier-move %s: %s", args, json_text(result, "status"));
    g_assert_cmpint(json_int(result, "moved"), >, 0);
}

void says(const char *error, const char *pattern)
{
    if (!g_pattern_match_simple(pattern, error))
        g_error("'%s' does not look like '%s'", error, pattern);
}

struct log_wait {
    struct child *child;
    const char *text;
};

static bool has_said(void *arg)
{
    const struct log_wait *w = arg;
    g_autofree char *output = child_output(w->child);

    return strstr(output, w->text) != NULL;
}

bool log_says(struct child *child, const char *text, double timeout)
{
    struct log_wait w = { child, text };

    return lab_wait(has_said, &w, timeout);
}

uint64_t rig_dram_bytes(struct rig *rig)
{
    return memfd_bytes(rig->vm->qemu->pid, "memory-backend-memfd");
}

uint64_t rig_cxl_bytes(struct rig *rig)
{
    return memfd_bytes(rig->vm->qemu->pid, "vmtier-cxl:vm:ram0");
}
