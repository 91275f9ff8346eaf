// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier qmp`: any command of the daemon, as is. */
#include "host/cli/cli.h"

static bool parse_args(const char *text, JsonObject **args, GError **error)
{
    g_autoptr(GError) inner = NULL;
    g_autoptr(JsonNode) node = text ? json_from_string(text, &inner) : NULL;

    if (!text) {
        return true;
    }
    if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
        g_set_error(error, CLI_ERROR, CLI_USAGE, "the arguments are not a JSON object: %s",
                    inner ? inner->message : text);
        return false;
    }
    *args = json_node_dup_object(node);
    return true;
}

static bool run_qmp(struct cli *cli, char **args, GError **error)
{
    JsonObject *given = NULL;
    g_autoptr(Client) client = NULL;
    g_autoptr(JsonNode) reply = NULL;

    if (!parse_args(args[1], &given, error)) {
        return false;
    }
    client = cli_connect(cli, error);
    if (!client) {
        g_clear_pointer(&given, json_object_unref);
        return false;
    }
    reply = client_call(client, args[0], given, error);
    if (reply) {
        cli_print_json(reply);
    }
    return reply;
}

const struct cli_command cli_qmp = {
    .name = "qmp",
    .usage = "CMD [JSON-ARGS]",
    .summary = "give the daemon any QMP command",
    .details = "Prints what the command returns. `vmtier qmp query-commands` lists the commands;\n"
               "man vmtier-qmp describes them.\n\n"
               "  vmtier qmp vmtier-set-quota '{\"vm\": \"web1\", \"max\": 268435456}'",
    .min_args = 1,
    .max_args = 2,
    .run = run_qmp,
};
