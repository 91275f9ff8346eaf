// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier version`: of this command, and of the daemon if one runs. */
#include "common/version.h"
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"

static void print_json(JsonNode *daemon)
{
    g_autoptr(JsonObject) object = json_object_new();
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);

    json_object_set_string_member(object, "vmtier", VMTIER_VERSION);
    json_object_set_member(object, "vmtierd",
                           daemon ? json_node_copy(daemon) : json_node_new(JSON_NODE_NULL));
    cli_print_json(node);
}

static void print_text(JsonNode *daemon, const GError *why_not)
{
    JsonObject *version = daemon && JSON_NODE_HOLDS_OBJECT(daemon) ? json_node_get_object(daemon) : NULL;
    g_autofree char *package = fmt_safe(js_str(version, "package"));

    g_print("vmtier " VMTIER_VERSION "\n");
    g_print("daemon: %s\n", why_not ? why_not->message : package);
}

/* It is no error that no daemon runs: the command still has a version. */
static bool run_version(struct cli *cli, char **args, GError **error)
{
    g_autoptr(GError) inner = NULL;
    g_autoptr(Client) client = cli_connect(cli, &inner);
    g_autoptr(JsonNode) daemon = client ? client_call(client, "query-version", NULL, &inner) : NULL;

    (void)args;
    if (inner && !g_error_matches(inner, CLI_ERROR, CLI_NO_DAEMON)) {
        g_propagate_error(error, g_steal_pointer(&inner));
        return false;
    }
    if (cli->json) {
        print_json(daemon);
    } else {
        print_text(daemon, inner);
    }
    return true;
}

const struct cli_command cli_version = {
    .name = "version",
    .usage = "",
    .summary = "the version of this command and of the daemon",
    .details = "Prints the version of vmtier, and of the daemon if one answers.",
    .run = run_version,
};
