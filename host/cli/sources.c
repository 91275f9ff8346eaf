// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier sources`: where observations of a VM's memory come from. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"
#include "host/cli/view.h"

static JsonNode *sources_of(JsonObject *vm)
{
    JsonNode *sources = vm ? json_object_get_member(vm, "sources") : NULL;

    return sources ? json_node_copy(sources) : json_node_new(JSON_NODE_NULL);
}

/* [{"name": VM, "sources": [...]}] */
static void print_json(JsonArray *vms)
{
    g_autoptr(JsonArray) list = json_array_new();
    g_autoptr(JsonNode) node = json_node_init_array(json_node_alloc(), list);

    for (guint i = 0; i < js_len(vms); i++) {
        JsonObject *entry = json_object_new();

        json_object_set_string_member(entry, "name", js_str(js_at(vms, i), "name"));
        json_object_set_member(entry, "sources", sources_of(js_at(vms, i)));
        json_array_add_object_element(list, entry);
    }
    cli_print_json(node);
}

static void print_text(JsonArray *vms)
{
    for (guint i = 0; i < js_len(vms); i++) {
        g_autofree char *name = fmt_safe(js_str(js_at(vms, i), "name"));
        g_autoptr(GString) text = g_string_new(NULL);

        view_sources(js_arr(js_at(vms, i), "sources"), text);
        g_print("%s\n%s", name, text->str);
    }
    if (js_len(vms) == 0) {
        g_print("No VM is attached.\n");
    }
}

static bool run_sources(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = cli_connect(cli, error);
    g_autoptr(JsonArray) vms = client ? cli_fetch_vms(client, args[0], error) : NULL;

    if (vms && cli->json) {
        print_json(vms);
    } else if (vms) {
        print_text(vms);
    }
    return vms;
}

const struct cli_command cli_sources = {
    .name = "sources",
    .usage = "[VM]",
    .summary = "where observations come from, and why some do not",
    .details = "Lists the sources of observations of each VM, or of one: whether each can be used here,\n"
               "what it has said, what it costs, whether it decides where memory goes (PLACES) or only\n"
               "measures, and for one that is unavailable why, and how to enable it.",
    .max_args = 1,
    .run = run_sources,
};
