// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier detach`: lets go of a VM that `vmtier attach` took on. */
#include "host/cli/cli.h"
#include "host/cli/format.h"

#define POLL_US 100000

static gboolean home_option;

/* Waits until the daemon does not know it any more. */
static bool await(struct cli *cli, Client *client, const char *name, GError **error)
{
    gint64 until = g_get_monotonic_time() + cli->timeout_s * G_USEC_PER_SEC;
    g_autofree char *safe = fmt_safe(name);

    while (g_get_monotonic_time() < until) {
        g_autoptr(GError) inner = NULL;
        g_autoptr(JsonObject) vm = cli_fetch_vm(client, name, &inner);

        if (g_error_matches(inner, CLI_ERROR, CLI_NO_VM)) {
            if (!cli->json) {
                g_print("%s: detached\n", safe);
            }
            return true;
        }
        if (!vm) {
            g_propagate_error(error, g_steal_pointer(&inner));
            return false;
        }
        g_usleep(POLL_US);
    }
    g_print("%s: is being detached\n", safe);
    return true;
}

static bool run_detach(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = cli_connect(cli, error);
    g_autoptr(JsonNode) reply = NULL;

    if (!client) {
        return false;
    }
    reply = cli_set(client, "vmtier-detach", args[0], "home",
                    json_node_init_boolean(json_node_alloc(), home_option), error);
    if (reply && cli->json) {
        cli_print_json(reply);
    }
    return reply && await(cli, client, args[0], error);
}

static const GOptionEntry options[] = {
    { "home", 0, 0, G_OPTION_ARG_NONE, &home_option, NULL, NULL },
    { 0 },
};

const struct cli_command cli_detach = {
    .name = "detach",
    .usage = "VM [--home]",
    .summary = "let go of a VM that was taken on with attach",
    .details = "  --home   bring its memory back to DRAM first, over its quota if need be\n\n"
               "Without --home its memory stays where it is.",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_detach,
};
