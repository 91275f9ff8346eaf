// SPDX-License-Identifier: GPL-2.0-or-later
/* The `vmtier` command: its subcommands. */
#include "host/cli/cli.h"

static const struct cli_command *const commands[] = {
    &cli_status, &cli_top, &cli_quota, &cli_mode, &cli_rate, &cli_interleave, &cli_pin, &cli_heatmap,
    &cli_events, &cli_sources, &cli_attach, &cli_detach, &cli_report, &cli_record, &cli_replay,
    &cli_capacity, &cli_perf_read, &cli_domxml, &cli_hook, &cli_qmp, &cli_version, NULL,
};

int main(int argc, char **argv)
{
    return cli_run(commands, argc, argv);
}
