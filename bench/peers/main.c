// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * peers run LOAD SCALE DIR SYSTEM...  in L1: runs, whose results go to DIR/SYSTEM.json; SCALE: of the load's seconds
 * peers tell DIR                      on the host: DIR/report.json, peers.png, table.md from DIR/raw/LOAD/SYSTEM.json
 * peers loads | systems               their names
 */
#include "peers.h"

#include <string.h>

static int usage(void)
{
    g_printerr("usage: peers run LOAD SCALE DIR SYSTEM... | tell DIR | loads | systems\n");
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
    double scale = g_ascii_strtod(args[1], NULL);

    for (char **system = args + 3; *system; system++)
        if (!peers_system(*system))
            return usage();
    return load && scale > 0 ? peers_run(load, scale, args[2], args + 3) : usage();
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (argc == 2 && (!strcmp(what, "loads") || !strcmp(what, "systems")))
        return names(what);
    if (argc >= 6 && !strcmp(what, "run")) {
        g_test_init(&argc, &argv, NULL);        /* the harness asks whether a test has failed */
        return run(argv + 2);
    }
    if (argc == 3 && !strcmp(what, "tell"))
        return peers_tell(argv[2]);
    return usage();
}
