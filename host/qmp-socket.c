// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The listening socket of the QMP server, and who may talk to it.
 *
 * A socket file that is left over from a daemon that died is replaced; one that somebody listens on
 * is not. The file gets mode 0600 at birth (bind(2) takes the mode of the socket's own inode, which
 * needs no umask games in a program with threads) and 0660 once it listens.
 */
#include "host/qmp-internal.h"
#include "host/unix-path.h"

#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool fail(GError **error, const char *path, const char *why)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "QMP socket %s: %s", path, why);
    return false;
}

static bool bind_and_listen(GSocket *socket, const char *path, GError **error)
{
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);

    if (fchmod(g_socket_get_fd(socket), 0600)) {
        return fail(error, path, g_strerror(errno));
    }
    if (!unix_path_clear("QMP socket", path, SOCK_STREAM, error)) {
        return false;
    }
    if (!g_socket_bind(socket, address, FALSE, error) || !g_socket_listen(socket, error)) {
        g_prefix_error(error, "QMP socket %s: ", path);
        return false;
    }
    return chmod(path, 0660) == 0 || fail(error, path, g_strerror(errno));
}

GSocket *qmp_socket_listen(const char *path, GError **error)
{
    g_autoptr(GSocket) socket = NULL;

    if (!*path || strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        fail(error, path, "a unix socket's path has 1 to 107 bytes");
        return NULL;
    }
    socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT,
                          error);
    if (!socket || !bind_and_listen(socket, path, error)) {
        return NULL;
    }
    return g_steal_pointer(&socket);
}

/* Whether the peer was in the group when it connected. */
static bool in_group(int fd, gid_t own, gid_t wanted)
{
    gid_t groups[NGROUPS_MAX];
    socklen_t size = sizeof(groups);

    if (own == wanted) {
        return true;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size)) {
        return false;
    }
    for (gsize i = 0; i < size / sizeof(groups[0]); i++) {
        if (groups[i] == wanted) {
            return true;
        }
    }
    return false;
}

/* The kernel has checked the file's mode at connect(2). It is looked at again, so that a file that
 * somebody made writable for all still admits no strangers. */
static bool admitted_by_file(int fd, const char *path, gid_t gid)
{
    struct stat st;

    return stat(path, &st) == 0 && (st.st_mode & S_IWGRP) && in_group(fd, gid, st.st_gid);
}

bool qmp_socket_may_use(GSocket *client, const char *path, struct qmp_peer *peer, GError **error)
{
    struct ucred cred;
    socklen_t size = sizeof(cred);
    int fd = g_socket_get_fd(client);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size)) {
        return fail(error, path, g_strerror(errno));
    }
    *peer = (struct qmp_peer) { cred.pid, cred.uid, cred.gid };
    if (cred.uid == 0 || cred.uid == geteuid() || admitted_by_file(fd, path, cred.gid)) {
        return true;
    }
    g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC,
                "user %u may not control this daemon; join the group of %s", cred.uid, path);
    return false;
}
