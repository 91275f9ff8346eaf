// SPDX-License-Identifier: GPL-2.0-or-later
/* The path of a socket that is to be listened on. */
#ifndef VMTIER_UNIX_PATH_H
#define VMTIER_UNIX_PATH_H

#include <glib.h>
#include <stdbool.h>

/*
 * Makes way for a new socket file: removes a socket nobody listens on any more. false, and an error
 * that begins with `what` and the path, if somebody does, or if the file is something else. `type`:
 * SOCK_STREAM or SOCK_SEQPACKET. Never waits.
 */
bool unix_path_clear(const char *what, const char *path, int type, GError **error);

#endif
