// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier quota`: how much DRAM a VM may have. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"

#include <string.h>

static char *min_option;
static gint weight_option;

static gint64 quota_of(JsonObject *vm, const char *member)
{
    return js_int(js_obj(vm, "quota"), member);
}

static void show(struct cli *cli, JsonObject *vm)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), vm);
    g_autofree char *name = fmt_safe(js_str(vm, "name")), *ram = fmt_size(js_int(vm, "ram_bytes"));
    g_autofree char *max = fmt_size(quota_of(vm, "max_bytes"));
    g_autofree char *min = fmt_size(quota_of(vm, "min_bytes"));
    g_autofree char *now = fmt_size(quota_of(vm, "now_bytes"));

    if (cli->json) {
        cli_print_json(node);
    } else {
        g_print("%s: quota %s of %s, %s now; %s guaranteed, weight %" G_GINT64_FORMAT "\n", name, max,
                ram, now, min, quota_of(vm, "weight"));
    }
}

static bool add_size(JsonObject *args, const char *member, const char *text, JsonObject *vm,
                     GError **error)
{
    gint64 bytes = 0;

    if (text && strcmp(text, "0") != 0 &&
        !fmt_parse_quota(text, js_int(vm, "ram_bytes"), js_int(vm, "granule_bytes"), &bytes, error)) {
        return false;
    }
    if (text) {
        json_object_set_int_member(args, member, bytes);
    }
    return true;
}

static bool set(struct cli *cli, Client *client, JsonObject *vm, const char *max, GError **error)
{
    g_autofree char *name = fmt_safe(js_str(vm, "name"));
    g_autofree char *before = fmt_size(quota_of(vm, "max_bytes"));
    g_autoptr(JsonObject) args = json_object_new();
    g_autoptr(JsonNode) reply = NULL;

    json_object_set_string_member(args, "vm", js_str(vm, "name"));
    if (!add_size(args, "max", max, vm, error) || !add_size(args, "min", min_option, vm, error)) {
        return false;
    }
    if (weight_option) {
        json_object_set_int_member(args, "weight", weight_option);
    }
    reply = client_call(client, "vmtier-set-quota", json_object_ref(args), error);
    if (reply && cli->json) {
        cli_print_json(reply);
    } else if (reply && max) {
        g_autofree char *now = fmt_size(js_int(args, "max"));

        g_print("%s: quota %s, was %s\n", name, now, before);
    } else if (reply) {
        g_print("%s: changed\n", name);
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
    if (args[1] || min_option || weight_option) {
        return set(cli, client, vm, args[1], error);
    }
    show(cli, vm);
    return true;
}

static const GOptionEntry options[] = {
    { "min", 0, 0, G_OPTION_ARG_STRING, &min_option, NULL, NULL },
    { "weight", 0, 0, G_OPTION_ARG_INT, &weight_option, NULL, NULL },
    { 0 },
};

const struct cli_command cli_quota = {
    .name = "quota",
    .usage = "VM [SIZE|PCT%] [--min SIZE|PCT%] [--weight N]",
    .summary = "show or set how much DRAM a VM may have",
    .details = "SIZE is in bytes or with K, M, G or T (powers of 1024); PCT% is a share of the VM's RAM,\n"
               "rounded down to whole granules. The quota is hard: what is above a lowered one is moved\n"
               "out, at the VM's rate limit.\n\n"
               "  --min SIZE     what it keeps in any case where VMs share the host's DRAM (0: nothing)\n"
               "  --weight N     how much it counts there; 100 is usual\n\n"
               "  vmtier quota web1 512M\n  vmtier quota web1 25%",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .run = run_quota,
};
