// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What domains want, kept in files beside the control socket, in domains/UUID.xml.
 *
 * A VM attaches again the moment a restarted daemon listens, long before libvirtd has been asked. With the
 * usual quota instead of its own it would have memory moved to and fro.
 */
#include "host/libvirt-internal.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#define SUFFIX ".xml"

static char *path_of(const struct libvirt *l, const char *uuid)
{
    g_autofree char *name = g_strconcat(uuid, SUFFIX, NULL);

    return g_build_filename(l->directory, name, NULL);
}

void libvirt_save(struct libvirt *l, const struct known *known)
{
    g_autofree char *path = path_of(l, known->uuid);
    g_autoptr(GError) error = NULL;

    if (g_mkdir_with_parents(l->directory, 0700) ||
        !g_file_set_contents_full(path, known->text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
        g_warning("%s: a restarted vmtierd will not know this domain's settings: %s", path,
                  error ? error->message : g_strerror(errno));
}

void libvirt_drop_file(struct libvirt *l, const char *uuid)
{
    g_autofree char *path = path_of(l, uuid);

    g_unlink(path);
}

static void load_one(struct libvirt *l, const char *name)
{
    g_autofree char *path = g_build_filename(l->directory, name, NULL), *text = NULL;
    g_autoptr(GError) error = NULL;

    if (!g_file_get_contents(path, &text, NULL, &error) || !libvirt_learn(l, text, "file", &error)) {
        g_warning("%s: %s", path, error ? error->message : "it has no UUID");
        g_unlink(path);
    }
}

void libvirt_load(struct libvirt *l)
{
    g_autoptr(GDir) dir = g_dir_open(l->directory, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        if (g_str_has_suffix(name, SUFFIX))
            load_one(l, name);
}
