// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier quota`: how much DRAM a VM may have. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"

static gint64 quota_of(JsonObject *vm)
{
    return js_int(js_obj(vm, "quota"), "max_bytes");
}

static void show(struct cli *cli, JsonObject *vm)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), vm);
    g_autofree char *name = fmt_safe(js_str(vm, "name")), *quota = fmt_size(quota_of(vm));
    g_autofree char *ram = fmt_size(js_int(vm, "ram_bytes"));

    if (cli->json) {
        cli_print_json(node);
    } else {
        g_print("%s: quota %s of %s\n", name, quota, ram);
    }
}

static bool set(struct cli *cli, Client *client, JsonObject *vm, const char *text, GError **error)
{
    g_autofree char *name = fmt_safe(js_str(vm, "name")), *before = fmt_size(quota_of(vm));
    g_autofree char *now = NULL;
    g_autoptr(JsonNode) reply = NULL;
    gint64 max;

    if (!fmt_parse_quota(text, js_int(vm, "ram_bytes"), js_int(vm, "granule_bytes"), &max, error)) {
        return false;
    }
    reply = cli_set(client, "vmtier-set-quota", js_str(vm, "name"), "max",
                    json_node_init_int(json_node_alloc(), max), error);
    now = fmt_size(max);
    if (reply && cli->json) {
        cli_print_json(reply);
    } else if (reply) {
        g_print("%s: quota %s, was %s\n", name, now, before);
    }
    return reply;
}

static bool run_quota(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = cli_connect(cli, error);
    g_autoptr(JsonObject) vm = client ? cli_fetch_vm(client, args[0], error) : NULL;

    if (!vm) {
        return false;
    }
    if (args[1]) {
        return set(cli, client, vm, args[1], error);
    }
    show(cli, vm);
    return true;
}

const struct cli_command cli_quota = {
    .name = "quota",
    .usage = "VM [SIZE|PCT%]",
    .summary = "show or set how much DRAM a VM may have",
    .details = "SIZE is in bytes or with K, M, G or T (powers of 1024); PCT% is a share of the VM's RAM,\n"
               "rounded down to whole granules. The quota is hard: what is above a lowered one is moved\n"
               "out, at the VM's rate limit.\n\n"
               "  vmtier quota web1 512M\n  vmtier quota web1 25%",
    .min_args = 1,
    .max_args = 2,
    .run = run_quota,
};
