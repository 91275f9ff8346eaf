// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The frame of the `vmtier` command: subcommands, their options, exit codes.
 *
 * A subcommand is a row: what it takes and a function that says what went wrong in a GError. The code
 * of an error of the domain CLI_ERROR is the exit code.
 */
#ifndef VMTIER_CLI_CLI_H
#define VMTIER_CLI_CLI_H

#include "host/cli/client.h"

#include <json-glib/json-glib.h>
#include <stdbool.h>

#define CLI_ERROR (cli_error_quark())
GQuark cli_error_quark(void);

enum cli_error {
    CLI_OK,
    CLI_REFUSED,        /* the daemon refused, or a local file could not be written */
    CLI_USAGE,
    CLI_NO_DAEMON,
    CLI_NO_VM,
};

struct cli {
    char *socket;                       /* NULL: as the environment says, or the usual one */
    gboolean json;
    int timeout_s;
};

struct cli_command {
    const char *name, *summary;
    const char *usage;                  /* the arguments, for the first line of --help */
    const char *details;                /* the rest of --help */
    const GOptionEntry *options;        /* besides those that every subcommand has; may be NULL */
    unsigned min_args, max_args;
    bool (*run)(struct cli *cli, char **args, GError **error);
};

extern const struct cli_command cli_status, cli_top, cli_quota, cli_mode, cli_rate, cli_heatmap,
    cli_interleave, cli_pin, cli_events, cli_sources, cli_attach, cli_detach, cli_report, cli_record, cli_replay,
    cli_capacity, cli_perf_read, cli_domxml, cli_hook, cli_qmp, cli_version;

/* The whole command; returns the exit code. `commands` ends with NULL. */
int cli_run(const struct cli_command *const *commands, int argc, char **argv);

/* A connection to the daemon that the options name. */
Client *cli_connect(const struct cli *cli, GError **error);

/* Prints what the daemon said, indented. */
void cli_print_json(JsonNode *node);

/* The daemon's description of one VM, or of all. */
JsonObject *cli_fetch_vm(Client *client, const char *vm, GError **error);
JsonArray *cli_fetch_vms(Client *client, const char *vm, GError **error);

/* Gives a command about a VM; `value` (taken) is its second argument `key`. */
JsonNode *cli_set(Client *client, const char *command, const char *vm, const char *key,
                  JsonNode *value, GError **error);

#endif
