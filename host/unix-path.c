// SPDX-License-Identifier: GPL-2.0-or-later
/* See unix-path.h. */
#include "host/unix-path.h"
#include "host/error.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* 0 when somebody listens, else what connect(2) says. */
static int probe(const char *path, int type)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int status;

    if (fd < 0)
        return errno;
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    status = connect(fd, (struct sockaddr *)&address, sizeof(address)) ? errno : 0;
    close(fd);
    return status == EAGAIN ? 0 : status;       /* EAGAIN: its queue is full, so it exists */
}

static bool fail(GError **error, const char *what, const char *path, int code, const char *why)
{
    g_set_error(error, VMT_ERROR, code, "%s %s: %s", what, path, why);
    return false;
}

bool unix_path_clear(const char *what, const char *path, int type, GError **error)
{
    struct stat st;
    int status;

    if (lstat(path, &st))
        return errno == ENOENT || fail(error, what, path, errno, g_strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return fail(error, what, path, EEXIST,
                    "the file exists and is not a socket; give another path");
    status = probe(path, type);
    if (status == 0)
        return fail(error, what, path, EADDRINUSE,
                    "another vmtierd listens there; stop it or give another path");
    if (status != ECONNREFUSED)
        return fail(error, what, path, status, g_strerror(status));
    return unlink(path) == 0 || fail(error, what, path, errno, g_strerror(errno));
}
