// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier mode`: whether a VM is tiered, watched or left alone. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"

static void show(struct cli *cli, JsonObject *vm)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), vm);
    g_autofree char *name = fmt_safe(js_str(vm, "name")), *mode = fmt_safe(js_str(vm, "mode"));
    g_autofree char *state = fmt_safe(js_str(vm, "state"));

    if (cli->json) {
        cli_print_json(node);
    } else {
        g_print("%s: mode %s, state %s\n", name, mode, state);
    }
}

static bool set(struct cli *cli, Client *client, const char *vm, const char *mode, GError **error)
{
    g_autofree char *name = fmt_safe(vm);
    g_autoptr(JsonNode) reply = cli_set(client, "vmtier-set-mode", vm, "mode",
                                        json_node_init_string(json_node_alloc(), mode), error);

    if (reply && cli->json) {
        cli_print_json(reply);
    } else if (reply) {
        g_print("%s: mode %s\n", name, mode);
    }
    return reply;
}

static bool run_mode(struct cli *cli, char **args, GError **error)
{
    static const char *const modes[] = { "on", "observe", "off", NULL };
    g_autoptr(Client) client = NULL;
    g_autoptr(JsonObject) vm = NULL;

    if (args[1] && !g_strv_contains(modes, args[1])) {
        g_set_error(error, CLI_ERROR, CLI_USAGE, "\"%s\" is not a mode; take on, observe or off",
                    args[1]);
        return false;
    }
    client = cli_connect(cli, error);
    if (client && args[1]) {
        return set(cli, client, args[0], args[1], error);
    }
    vm = client ? cli_fetch_vm(client, args[0], error) : NULL;
    if (vm) {
        show(cli, vm);
    }
    return vm;
}

const struct cli_command cli_mode = {
    .name = "mode",
    .usage = "VM [on|observe|off]",
    .summary = "show or set whether a VM is tiered",
    .details = "  on        find hot and cold memory, and move it\n"
               "  observe   find and plan, but move nothing\n"
               "  off       leave the VM alone; its memory stays where it is",
    .min_args = 1,
    .max_args = 2,
    .run = run_mode,
};
