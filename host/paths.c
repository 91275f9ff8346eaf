// SPDX-License-Identifier: GPL-2.0-or-later
/* Where things are: see paths.h. */
#include "host/paths.h"

#include <glib.h>

#ifndef VMTIER_LIBDIR
#define VMTIER_LIBDIR "/usr/local/lib/vmtier"
#endif

static char *beside(const char *program, const char *directory, const char *name)
{
    g_autofree char *own = g_path_get_dirname(program);
    g_autofree char *path = g_build_filename(own, directory, name, NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS) ? g_canonicalize_filename(path, NULL) : NULL;
}

char *paths_library(const char *name)
{
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
    char *path = program ? beside(program, ".", name) : NULL;

    if (!path && program)
        path = beside(program, "../lib/vmtier", name);
    return path ? path : g_build_filename(VMTIER_LIBDIR, name, NULL);
}
