// SPDX-License-Identifier: GPL-2.0-or-later
/* Members of the daemon's JSON, forgiving: see json.h. */
#include "host/cli/json.h"

/* The member if it is a value of the type, else NULL. */
static JsonNode *value(JsonObject *object, const char *name, GType type)
{
    JsonNode *node = object ? json_object_get_member(object, name) : NULL;

    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type ? node : NULL;
}

gint64 js_int(JsonObject *object, const char *name)
{
    JsonNode *node = value(object, name, G_TYPE_INT64);

    return node ? json_node_get_int(node) : 0;
}

bool js_has_num(JsonObject *object, const char *name)
{
    return value(object, name, G_TYPE_DOUBLE) || value(object, name, G_TYPE_INT64);
}

double js_num(JsonObject *object, const char *name)
{
    JsonNode *node = value(object, name, G_TYPE_DOUBLE);

    return node ? json_node_get_double(node) : (double)js_int(object, name);
}

bool js_bool(JsonObject *object, const char *name)
{
    JsonNode *node = value(object, name, G_TYPE_BOOLEAN);

    return node && json_node_get_boolean(node);
}

const char *js_str(JsonObject *object, const char *name)
{
    JsonNode *node = value(object, name, G_TYPE_STRING);

    return node ? json_node_get_string(node) : NULL;
}

JsonObject *js_obj(JsonObject *object, const char *name)
{
    JsonNode *node = object ? json_object_get_member(object, name) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonArray *js_arr(JsonObject *object, const char *name)
{
    JsonNode *node = object ? json_object_get_member(object, name) : NULL;

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

guint js_len(JsonArray *array)
{
    return array ? json_array_get_length(array) : 0;
}

JsonObject *js_at(JsonArray *array, guint index)
{
    JsonNode *node = json_array_get_element(array, index);

    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}
