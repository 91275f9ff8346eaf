// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier interleave`: how a VM's hot memory is spread over the tiers. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"
#include "host/cli/view.h"

static void show(struct cli *cli, JsonObject *vm)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), vm);
    g_autofree char *name = fmt_safe(js_str(vm, "name")), *text = view_interleave(vm);

    if (cli->json) {
        cli_print_json(node);
    } else {
        g_print("%s: interleave %s\n", name, text ? text : "off: what is hot is in dram");
    }
}

static bool set(struct cli *cli, Client *client, const char *vm, const char *weights, GError **error)
{
    g_autofree char *name = fmt_safe(vm);
    g_autoptr(JsonNode) reply = cli_set(client, "vmtier-set-interleave", vm, "weights",
                                        json_node_init_string(json_node_alloc(), weights), error);

    if (reply && cli->json) {
        cli_print_json(reply);
    } else if (reply) {
        g_print("%s: interleave %s\n", name, weights);
    }
    return reply;
}

static bool run_interleave(struct cli *cli, char **args, GError **error)
{
    g_autofree char *weights = g_strjoinv(" ", args + 1);
    g_autoptr(Client) client = cli_connect(cli, error);
    g_autoptr(JsonObject) vm = NULL;

    if (client && args[1]) {
        return set(cli, client, args[0], weights, error);
    }
    vm = client ? cli_fetch_vm(client, args[0], error) : NULL;
    if (vm) {
        show(cli, vm);
    }
    return vm;
}

const struct cli_command cli_interleave = {
    .name = "interleave",
    .usage = "VM [TIER=WEIGHT... | off]",
    .summary = "show or set how a VM's hot memory is spread over tiers",
    .details = "For memory that wants more bandwidth than DRAM alone has: with dram=3 cxl=1 a quarter of the\n"
               "hot set, which is as large as the quota, is on cxl. Which granules these are follows from\n"
               "their addresses. A change moves the least there is to move, at the VM's rate.\n\n"
               "  vmtier interleave web1 dram=3 cxl=1\n  vmtier interleave web1 off",
    .min_args = 1,
    .max_args = 9,
    .run = run_interleave,
};
