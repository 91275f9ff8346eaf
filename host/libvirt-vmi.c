// SPDX-License-Identifier: GPL-2.0-or-later
/* KubeVirt: what a virtual machine instance (VMI) asks for by annotations, for `vmtier domxml --kubevirt`. */
#include "host/libvirt-domxml.h"

#include "host/error.h"
#include "host/qmp-json.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define PREFIX "vmtier.org/"

static const struct {
    const char *name;
    size_t at;                  /* in struct domxml_options */
} annotations[] = {
    { "mode", offsetof(struct domxml_options, mode) },
    { "dram-min", offsetof(struct domxml_options, min) },
    { "dram-max", offsetof(struct domxml_options, max) },
    { "dram-weight", offsetof(struct domxml_options, weight) },
    { "granule", offsetof(struct domxml_options, granule) },
    { "plugin", offsetof(struct domxml_options, plugin) },
    { "socket", offsetof(struct domxml_options, socket) },
};

static bool take(struct domxml_options *options, const char *name, const char *value, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(annotations); i++)
        if (!strcmp(name, annotations[i].name)) {
            const char **to = (void *)((char *)options + annotations[i].at);

            *to = g_intern_string(value);
            return true;
        }
    if (!strcmp(name, "required") && (!strcmp(value, "true") || !strcmp(value, "false"))) {
        options->required = !strcmp(value, "true");
        return true;
    }
    g_set_error(error, VMT_ERROR, EINVAL, "the VMI's annotation " PREFIX "%.60s: '%.60s': there are mode, "
                "dram-min, dram-max, dram-weight, granule, required (true or false), plugin and socket",
                name, value);
    return false;
}

static JsonObject *object_in(JsonObject *object, const char *key)
{
    JsonNode *node = object ? json_object_get_member(object, key) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

bool domxml_vmi_options(const char *json, struct domxml_options *options, GError **error)
{
    g_autoptr(JsonNode) vmi = qmp_json_parse(json, strlen(json), error);
    JsonObject *all;
    g_autoptr(GList) keys = NULL;

    if (!vmi) {
        g_prefix_error(error, "the VMI: ");
        return false;
    }
    all = JSON_NODE_HOLDS_OBJECT(vmi) ? object_in(json_node_get_object(vmi), "metadata") : NULL;
    all = object_in(all, "annotations");
    keys = all ? json_object_get_members(all) : NULL;
    for (GList *k = keys; k; k = k->next) {
        const char *key = k->data;
        JsonNode *value = json_object_get_member(all, key);

        if (g_str_has_prefix(key, PREFIX) &&
            !take(options, key + strlen(PREFIX),
                  JSON_NODE_HOLDS_VALUE(value) && json_node_get_value_type(value) == G_TYPE_STRING
                  ? json_node_get_string(value) : "(no string)", error))
            return false;
    }
    return true;
}
