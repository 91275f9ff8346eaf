// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier rate`: how fast a VM's memory may be moved. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"

#include <string.h>

static void say(const char *vm, gint64 bytes_per_s)
{
    g_autofree char *name = fmt_safe(vm), *rate = fmt_size(bytes_per_s);

    if (bytes_per_s) {
        g_print("%s: moves up to %s/s\n", name, rate);
    } else {
        g_print("%s: moves nothing for now (rate 0)\n", name);
    }
}

static bool show(struct cli *cli, Client *client, const char *name, GError **error)
{
    g_autoptr(JsonObject) vm = cli_fetch_vm(client, name, error);
    g_autoptr(JsonNode) node = vm ? json_node_init_object(json_node_alloc(), vm) : NULL;

    if (vm && cli->json) {
        cli_print_json(node);
    } else if (vm) {
        say(name, js_int(vm, "rate_bytes_per_s"));
    }
    return vm;
}

static bool set(struct cli *cli, Client *client, const char *name, gint64 rate, GError **error)
{
    g_autoptr(JsonNode) reply = cli_set(client, "vmtier-set-rate", name, "bytes_per_s",
                                        json_node_init_int(json_node_alloc(), rate), error);

    if (reply && cli->json) {
        cli_print_json(reply);
    } else if (reply) {
        say(name, rate);
    }
    return reply;
}

static bool run_rate(struct cli *cli, char **args, GError **error)
{
    g_autofree char *size = g_strdup(args[1]);
    g_autoptr(Client) client = NULL;
    gint64 rate = 0;

    if (size && g_str_has_suffix(size, "/s")) {
        size[strlen(size) - 2] = '\0';
    }
    if (size && !fmt_parse_size(size, &rate, error)) {
        return false;
    }
    client = cli_connect(cli, error);
    if (!client) {
        return false;
    }
    return size ? set(cli, client, args[0], rate, error) : show(cli, client, args[0], error);
}

const struct cli_command cli_rate = {
    .name = "rate",
    .usage = "VM [SIZE]",
    .summary = "show or set how fast a VM's memory may be moved",
    .details = "SIZE is bytes per second, or with K, M, G or T (powers of 1024). 0 stops moves for now.\n\n"
               "  vmtier rate web1 256M",
    .min_args = 1,
    .max_args = 2,
    .run = run_rate,
};
