// SPDX-License-Identifier: GPL-2.0-or-later
/* Loads vmtier-libvirt.so: see libvirt-module.h. */
#include "host/libvirt-module.h"

#include "host/error.h"
#include "host/paths.h"

#include <errno.h>
#include <gmodule.h>

#define FILE_NAME "vmtier-libvirt.so"

const struct libvirt_module *libvirt_module(GError **error)
{
    static const struct libvirt_module *module;
    g_autofree char *path = paths_library(FILE_NAME);
    gpointer symbol = NULL;
    GModule *file;

    if (module)
        return module;
    file = g_module_open(path, G_MODULE_BIND_LOCAL);
    if (!file || !g_module_symbol(file, "vmtier_libvirt", &symbol)) {
        g_set_error(error, VMT_ERROR, ENOENT, "%s: install libvirt's client library, and what was built "
                    "with it", g_module_error());
        return NULL;
    }
    if (((const struct libvirt_module *)symbol)->version != LIBVIRT_MODULE_VERSION) {
        g_set_error(error, VMT_ERROR, EPROTO, "%s is of another version of vmtier", path);
        return NULL;
    }
    g_module_make_resident(file);       /* libvirt has threads, and no end */
    module = symbol;
    return module;
}
