// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier pin`: ranges of a VM's memory that stay on a tier. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"
#include "host/cli/view.h"
#include "host/pin.h"

static char *remove_option;

static void show(struct cli *cli, JsonObject *vm)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), vm);
    g_autofree char *name = fmt_safe(js_str(vm, "name"));
    JsonArray *pins = js_arr(vm, "pins");

    if (cli->json) {
        cli_print_json(node);
    } else if (!js_len(pins)) {
        g_print("%s: nothing is pinned\n", name);
    }
    for (guint i = 0; i < js_len(pins) && !cli->json; i++) {
        g_autofree char *text = view_pin(js_at(pins, i));

        g_print("%s\n", text);
    }
}

static bool call(struct cli *cli, Client *client, const char *command, JsonObject *args /* take */,
                 const char *done, GError **error)
{
    g_autofree char *name = fmt_safe(js_str(args, "vm"));
    g_autoptr(JsonNode) reply = client_call(client, command, args, error);

    if (reply && cli->json) {
        cli_print_json(reply);
    } else if (reply) {
        g_print("%s: %s\n", name, done);
    }
    return reply;
}

static bool read_address(const char *text, guint64 *gpa, GError **error)
{
    if (pin_parse_address(text, gpa, NULL)) {
        return true;
    }
    g_set_error(error, CLI_ERROR, CLI_USAGE, "\"%s\" is no guest-physical address, like 0x40000000", text);
    return false;
}

static bool take_away(struct cli *cli, Client *client, const char *vm, GError **error)
{
    JsonObject *args;
    guint64 gpa;

    if (!read_address(remove_option, &gpa, error)) {
        return false;
    }
    args = json_object_new();
    json_object_set_string_member(args, "vm", vm);
    json_object_set_int_member(args, "gpa", (gint64)gpa);
    return call(cli, client, "vmtier-unpin", args, "not pinned any more", error);
}

static bool add(struct cli *cli, Client *client, char **given, GError **error)
{
    JsonObject *args;
    gint64 size;
    guint64 gpa;

    if (!read_address(given[2], &gpa, error) || !fmt_parse_size(given[3], &size, error)) {
        return false;
    }
    args = json_object_new();
    json_object_set_string_member(args, "vm", given[0]);
    json_object_set_string_member(args, "tier", given[1]);
    json_object_set_int_member(args, "gpa", (gint64)gpa);
    json_object_set_int_member(args, "size", size);
    return call(cli, client, "vmtier-pin", args, "pinned", error);
}

static bool run_pin(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = NULL;
    g_autoptr(JsonObject) vm = NULL;
    guint n = g_strv_length(args);

    if ((n != 1 && n != 4) || (remove_option && n != 1)) {
        g_set_error(error, CLI_ERROR, CLI_USAGE, "a pin is TIER GPA SIZE\nUsage: vmtier pin VM [TIER GPA SIZE] "
                    "[--remove GPA]");
        return false;
    }
    client = cli_connect(cli, error);
    if (client && remove_option) {
        return take_away(cli, client, args[0], error);
    }
    if (client && n == 4) {
        return add(cli, client, args, error);
    }
    vm = client ? cli_fetch_vm(client, args[0], error) : NULL;
    if (vm) {
        show(cli, vm);
    }
    return vm;
}

static const GOptionEntry options[] = {
    { "remove", 0, 0, G_OPTION_ARG_STRING, &remove_option, NULL, NULL },
    { 0 },
};

const struct cli_command cli_pin = {
    .name = "pin",
    .usage = "VM [TIER GPA SIZE] [--remove GPA]",
    .summary = "show, add or remove ranges of a VM's memory that stay on a tier",
    .details = "GPA is a guest-physical address, like 0x40000000; it and SIZE are of whole granules. What is\n"
               "pinned to dram counts against the quota, is guaranteed where VMs share the host's DRAM, and\n"
               "is refused beyond it.\n\n"
               "  --remove GPA   the pin that begins there; its memory is placed by its heat again\n\n"
               "  vmtier pin web1 dram 0x40000000 64M\n  vmtier pin web1 --remove 0x40000000",
    .options = options,
    .min_args = 1,
    .max_args = 4,
    .run = run_pin,
};
