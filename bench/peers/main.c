// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * peers run LOAD SYSTEM SCALE FILE    in L1: one run, whose result goes to FILE; SCALE: of the load's seconds
 * peers tell DIR                      on the host: DIR/report.json, peers.png, table.md from DIR/raw/LOAD/SYSTEM.json
 * peers loads | systems               their names
 */
#include "peers.h"

#include <string.h>

static int usage(void)
{
    g_printerr("usage: peers run LOAD SYSTEM SCALE FILE | tell DIR | loads | systems\n");
    return 2;
}

static int names(const char *what)
{
    for (guint i = 0; !strcmp(what, "loads") && i < peers_n_loads; i++)
        g_print("%s\n", peers_loads[i].name);
    for (guint i = 0; !strcmp(what, "systems") && i < peers_n_systems; i++)
        g_print("%s\n", peers_systems[i].name);
    return 0;
}

static int run(char **args)
{
    const struct peers_load *load = peers_load(args[0]);
    const struct peers_system *system = peers_system(args[1]);
    double scale = g_ascii_strtod(args[2], NULL);

    if (!load || !system || scale <= 0)
        return usage();
    return peers_run(load, system, scale, args[3]);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (argc == 2 && (!strcmp(what, "loads") || !strcmp(what, "systems")))
        return names(what);
    if (argc == 6 && !strcmp(what, "run")) {
        g_test_init(&argc, &argv, NULL);        /* the harness asks whether a test has failed */
        return run(argv + 2);
    }
    if (argc == 3 && !strcmp(what, "tell"))
        return peers_tell(argv[2]);
    return usage();
}
