// SPDX-License-Identifier: GPL-2.0-or-later
/* Checks the arguments of a QMP command against its description. The sentences are QEMU's. */
#include "host/qmp.h"

static bool is_string(JsonNode *node)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING;
}

static bool is_int(JsonNode *node)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_INT64;
}

static bool is_number(JsonNode *node)
{
    return is_int(node) ||
           (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_DOUBLE);
}

static bool is_bool(JsonNode *node)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_BOOLEAN;
}

static bool is_list(JsonNode *node)
{
    return JSON_NODE_HOLDS_ARRAY(node);
}

static const struct {
    const char *name;
    bool (*holds)(JsonNode *node);
} types[] = {
    [QMP_STRING] = { "string", is_string },
    [QMP_INT] = { "integer", is_int },
    [QMP_NUMBER] = { "number", is_number },
    [QMP_BOOL] = { "boolean", is_bool },
    [QMP_LIST] = { "array", is_list },
};
G_STATIC_ASSERT(G_N_ELEMENTS(types) == QMP_TYPE_COUNT);

static const struct qmp_arg *find(const struct qmp_arg *args, const char *name)
{
    for (const struct qmp_arg *arg = args; arg && arg->name; arg++) {
        if (g_str_equal(arg->name, name)) {
            return arg;
        }
    }
    return NULL;
}

static bool none_unexpected(const struct qmp_arg *args, JsonObject *given, GError **error)
{
    JsonObjectIter iter;
    const char *name;

    json_object_iter_init_ordered(&iter, given);
    while (json_object_iter_next_ordered(&iter, &name, NULL)) {
        if (!find(args, name)) {
            g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, "Parameter '%s' is unexpected",
                        name);
            return false;
        }
    }
    return true;
}

static bool arg_fits(const struct qmp_arg *arg, JsonObject *given, GError **error)
{
    JsonNode *node = json_object_get_member(given, arg->name);

    if (!node && arg->required) {
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, "Parameter '%s' is missing",
                    arg->name);
        return false;
    }
    if (node && !types[arg->type].holds(node)) {
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC,
                    "Invalid parameter type for '%s', expected: %s", arg->name,
                    types[arg->type].name);
        return false;
    }
    return true;
}

bool qmp_args_check(const struct qmp_arg *args, JsonObject *given, GError **error)
{
    if (!none_unexpected(args, given, error)) {
        return false;
    }
    for (const struct qmp_arg *arg = args; arg && arg->name; arg++) {
        if (!arg_fits(arg, given, error)) {
            return false;
        }
    }
    return true;
}
