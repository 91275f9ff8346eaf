// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier status`: the daemon, its tiers and its VMs, or all about one VM. */
#include "host/cli/cli.h"
#include "host/cli/json.h"
#include "host/cli/view.h"

static bool status_of_vm(struct cli *cli, Client *client, const char *name, GError **error)
{
    g_autoptr(JsonObject) vm = cli_fetch_vm(client, name, error);
    g_autoptr(JsonNode) node = NULL;
    g_autoptr(GString) text = g_string_new(NULL);

    if (!vm) {
        return false;
    }
    if (cli->json) {
        node = json_node_init_object(json_node_alloc(), vm);
        cli_print_json(node);
        return true;
    }
    view_vm(vm, text);
    g_print("%s", text->str);
    return true;
}

static bool status_of_all(struct cli *cli, Client *client, GError **error)
{
    g_autoptr(JsonNode) reply = client_call(client, "query-vmtier-status", NULL, error);
    g_autoptr(GString) text = g_string_new(NULL);
    JsonObject *status;

    if (!reply || cli->json) {
        if (reply) {
            cli_print_json(reply);
        }
        return reply;
    }
    status = JSON_NODE_HOLDS_OBJECT(reply) ? json_node_get_object(reply) : NULL;
    view_daemon(status, text);
    g_string_append_c(text, '\n');
    view_vms(js_arr(status, "vms"), text);
    g_print("%s", text->str);
    return true;
}

static bool run_status(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = cli_connect(cli, error);

    if (!client) {
        return false;
    }
    return args[0] ? status_of_vm(cli, client, args[0], error) : status_of_all(cli, client, error);
}

const struct cli_command cli_status = {
    .name = "status",
    .usage = "[VM]",
    .summary = "the daemon, its tiers and VMs, or all about one VM",
    .details = "Shows the daemon, the bytes in each tier and one line for each VM; with VM, everything\n"
               "about that VM. HIT is the share of sampled memory accesses that DRAM served; where\n"
               "nothing samples them it is \"-\" and the reason is given. Bytes are those allocated in\n"
               "the tiers' files, not what the daemon believes.",
    .max_args = 1,
    .run = run_status,
};
