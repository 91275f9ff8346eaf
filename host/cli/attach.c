// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier attach`: takes on a VM whose QEMU runs without the plugin. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"

#define POLL_US 100000

static char *name_option, *qmp_option;

static void say(struct cli *cli, JsonObject *vm)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), vm);
    g_autofree char *name = fmt_safe(js_str(vm, "name")), *ram = fmt_size(js_int(vm, "ram_bytes"));
    g_autofree char *state = fmt_safe(js_str(vm, "state")), *reason = fmt_safe(js_str(vm, "reason"));

    if (cli->json) {
        cli_print_json(node);
        return;
    }
    g_print("%s: attached, %s, state %s\n", name, ram, state);
    if (js_str(vm, "reason")) {
        g_print("%s: %s\n", name, reason);
    }
}

/* Waits until its memory has been found. */
static bool await(struct cli *cli, Client *client, const char *name, GError **error)
{
    gint64 until = g_get_monotonic_time() + cli->timeout_s * G_USEC_PER_SEC;

    while (true) {
        g_autoptr(JsonObject) vm = cli_fetch_vm(client, name, error);
        const char *state = vm ? js_str(vm, "state") : NULL;

        if (!vm) {
            g_prefix_error(error, "attached, and gone again; `vmtier events` says why: ");
            return false;
        }
        if (g_strcmp0(state, "refused") == 0) {
            g_set_error(error, CLI_ERROR, CLI_REFUSED, "%s: %s", name, js_str(vm, "reason"));
            return false;
        }
        if (g_strcmp0(state, "attaching") != 0 || g_get_monotonic_time() > until) {
            say(cli, vm);
            return true;
        }
        g_usleep(POLL_US);
    }
}

static bool run_attach(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = NULL;
    g_autoptr(JsonNode) reply = NULL;
    JsonObject *command;
    guint64 pid;

    if (!g_ascii_string_to_unsigned(args[0], 10, 1, G_MAXINT32, &pid, NULL)) {
        g_set_error(error, CLI_ERROR, CLI_USAGE, "\"%s\" is not a pid", args[0]);
        return false;
    }
    client = cli_connect(cli, error);
    if (!client) {
        return false;
    }
    command = json_object_new();
    json_object_set_int_member(command, "pid", (gint64)pid);
    if (name_option) {
        json_object_set_string_member(command, "vm", name_option);
    }
    if (qmp_option) {       /* the daemon's directory is another one */
        g_autofree char *path = g_canonicalize_filename(qmp_option, NULL);

        json_object_set_string_member(command, "qmp", path);
    }
    reply = client_call(client, "vmtier-attach", command, error);
    if (!reply) {
        return false;
    }
    return await(cli, client, js_str(json_node_get_object(reply), "vm"), error);
}

static const GOptionEntry options[] = {
    { "name", 'n', 0, G_OPTION_ARG_STRING, &name_option, NULL, NULL },
    { "qmp", 'q', 0, G_OPTION_ARG_FILENAME, &qmp_option, NULL, NULL },
    { 0 },
};

const struct cli_command cli_attach = {
    .name = "attach",
    .usage = "PID [-n NAME] [-q PATH]",
    .summary = "take on a VM whose QEMU has no plugin",
    .details = "  -n, --name NAME   what to call it; else what -name of its QEMU says\n"
               "  -q, --qmp PATH    a QMP socket of its QEMU, to ask where its RAM is; without one\n"
               "                    that is found by the command line and the sizes of mappings\n\n"
               "The kernel then moves its pages between the tiers' NUMA nodes; pages that are pinned\n"
               "or in use for I/O stay, and are tried again. What a VM without the plugin cannot have:\n"
               "sources that run in QEMU, and memory placed before the guest first touches it.",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_attach,
};
