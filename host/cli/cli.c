// SPDX-License-Identifier: GPL-2.0-or-later
/* The frame of the `vmtier` command: options, help, exit codes. See cli.h. */
#include "host/cli/cli.h"

#include "host/cli/json.h"
#include "common/version.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SOCKET "/run/vmtier/qmp.sock"
#define DEFAULT_TIMEOUT_S 10

static gboolean want_help;

static const char common_help[] =
    "  --socket PATH     the daemon's QMP socket ($VMTIER_SOCKET, " DEFAULT_SOCKET ")\n"
    "  --timeout S       seconds to wait for each answer (10)\n"
    "  --json            print what the daemon says as JSON\n"
    "  -h, --help        this text\n";

GQuark cli_error_quark(void)
{
    return g_quark_from_static_string("vmtier-cli-error");
}

Client *cli_connect(const struct cli *cli, GError **error)
{
    const char *environment = g_getenv("VMTIER_SOCKET");
    const char *usual = environment && *environment ? environment : DEFAULT_SOCKET;

    return client_open(cli->socket ? cli->socket : usual, cli->timeout_s, error);
}

void cli_print_json(JsonNode *node)
{
    g_autofree char *text = json_to_string(node, TRUE);

    g_print("%s\n", text);
}

JsonArray *cli_fetch_vms(Client *client, const char *vm, GError **error)
{
    JsonObject *args = json_object_new();
    g_autoptr(JsonNode) reply = NULL;

    if (vm) {
        json_object_set_string_member(args, "vm", vm);
    }
    reply = client_call(client, "query-vmtier-vms", args, error);
    if (reply && !JSON_NODE_HOLDS_ARRAY(reply)) {
        g_set_error_literal(error, CLI_ERROR, CLI_REFUSED, "query-vmtier-vms returned no array");
        return NULL;
    }
    return reply ? json_node_dup_array(reply) : NULL;
}

JsonObject *cli_fetch_vm(Client *client, const char *vm, GError **error)
{
    g_autoptr(JsonArray) vms = cli_fetch_vms(client, vm, error);
    JsonObject *found = js_len(vms) > 0 ? js_at(vms, 0) : NULL;

    if (vms && !found) {
        g_set_error(error, CLI_ERROR, CLI_NO_VM, "no VM \"%s\"; `vmtier status` lists them", vm);
    }
    return found ? json_object_ref(found) : NULL;
}

JsonNode *cli_set(Client *client, const char *command, const char *vm, const char *key,
                  JsonNode *value, GError **error)
{
    JsonObject *args = json_object_new();

    json_object_set_string_member(args, "vm", vm);
    json_object_set_member(args, key, value);
    return client_call(client, command, args, error);
}

static const struct cli_command *find(const struct cli_command *const *commands, const char *name)
{
    for (; name && *commands; commands++) {
        if (g_str_equal((*commands)->name, name)) {
            return *commands;
        }
    }
    return NULL;
}

static void print_main_help(const struct cli_command *const *commands)
{
    g_print("vmtier " VMTIER_VERSION ": keeps the hot memory of virtual machines in DRAM, "
            "the rest on CXL\n\nUsage: vmtier [OPTIONS] COMMAND ...\n\nCommands\n");
    for (; *commands; commands++) {
        g_autofree char *call = g_strdup_printf("%s %s", (*commands)->name, (*commands)->usage);

        g_print("  %-28s %s\n", call, (*commands)->summary);
    }
    g_print("\nOptions\n%s\n`vmtier COMMAND --help` says more; so does man vmtier.\n"
            "Exit codes: 0 done, 1 refused, 2 usage, 3 no daemon, 4 no such VM.\n", common_help);
}

static void print_help(const struct cli_command *command)
{
    g_print("Usage: vmtier %s %s\n\n%s\n\nOptions\n%s", command->name, command->usage,
            command->details, common_help);
}

static bool usage_error(GError **error, const struct cli_command *command, const char *what)
{
    g_set_error(error, CLI_ERROR, CLI_USAGE, "%s\nUsage: vmtier %s %s", what,
                command ? command->name : "COMMAND", command ? command->usage : "...");
    return false;
}

/* Takes the options out of *args (whose first element is a name). */
static bool parse_options(struct cli *cli, const GOptionEntry *own, bool all, char ***args,
                          GError **error)
{
    const GOptionEntry common[] = {
        { "socket", 0, 0, G_OPTION_ARG_FILENAME, &cli->socket, NULL, NULL },
        { "timeout", 0, 0, G_OPTION_ARG_INT, &cli->timeout_s, NULL, NULL },
        { "json", 0, 0, G_OPTION_ARG_NONE, &cli->json, NULL, NULL },
        { "help", 'h', 0, G_OPTION_ARG_NONE, &want_help, NULL, NULL },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_strict_posix(context, !all);
    g_option_context_add_main_entries(context, common, NULL);
    if (own) {
        g_option_context_add_main_entries(context, own, NULL);
    }
    return g_option_context_parse_strv(context, args, error);
}

static void remove_first(char **args)
{
    g_free(args[0]);
    memmove(args, args + 1, g_strv_length(args + 1) * sizeof(*args) + sizeof(*args));
}

/* Drops the "--" that ends the options, which GOption leaves in where what follows starts with '-'. */
static void remove_end_of_options(char **args)
{
    for (; *args; args++) {
        if (g_str_equal(*args, "--")) {
            remove_first(args);
            return;
        }
    }
}

static bool check_arguments(struct cli *cli, const struct cli_command *command, char **rest,
                            GError **error)
{
    unsigned given = g_strv_length(rest);

    if (cli->timeout_s < 1 || cli->timeout_s > 3600) {
        return usage_error(error, command, "--timeout takes 1 to 3600 seconds");
    }
    if (given < command->min_args) {
        return usage_error(error, command, "an argument is missing");
    }
    return given <= command->max_args || usage_error(error, command, "too many arguments");
}

static bool run_command(struct cli *cli, const struct cli_command *command, char ***args,
                        GError **error)
{
    g_autoptr(GError) inner = NULL;

    if (!parse_options(cli, command->options, true, args, &inner)) {
        return usage_error(error, command, inner->message);
    }
    if (want_help) {
        print_help(command);
        return true;
    }
    remove_end_of_options(*args);
    return check_arguments(cli, command, *args + 1, error) && command->run(cli, *args + 1, error);
}

/* Takes *args apart: options, then the name of a subcommand, then what is its. */
static bool run(struct cli *cli, const struct cli_command *const *commands, char ***args,
                GError **error)
{
    g_autoptr(GError) inner = NULL;
    const struct cli_command *command;
    g_autofree char *what = NULL;

    if (!parse_options(cli, NULL, false, args, &inner)) {
        return usage_error(error, NULL, inner->message);
    }
    if (want_help) {
        print_main_help(commands);
        return true;
    }
    command = find(commands, (*args)[1]);
    if (!command) {
        what = (*args)[1] ? g_strdup_printf("unknown command \"%s\"; try vmtier --help", (*args)[1])
                          : g_strdup("a command is missing; try vmtier --help");
        return usage_error(error, NULL, what);
    }
    remove_first(*args);
    return run_command(cli, command, args, error);
}

int cli_run(const struct cli_command *const *commands, int argc, char **argv)
{
    g_auto(GStrv) args = g_new0(char *, argc + 1);
    g_autoptr(GError) error = NULL;
    struct cli cli = { .timeout_s = DEFAULT_TIMEOUT_S };

    setlocale(LC_ALL, "");
    for (int i = 0; i < argc; i++) {
        args[i] = g_strdup(argv[i]);
    }
    run(&cli, commands, &args, &error);
    g_free(cli.socket);
    if (error) {
        g_printerr("vmtier: %s\n", error->message);
        return error->domain == CLI_ERROR ? error->code : CLI_REFUSED;
    }
    return CLI_OK;
}
