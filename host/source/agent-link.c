// SPDX-License-Identifier: GPL-2.0-or-later
/* The way to a guest's agent: see agent-link.h. */
#include "host/source/agent-link.h"

#include <errno.h>
#include <glob.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_FIRST 1.0          /* seconds */
#define WAIT_MOST  30.0
#define SHORT_NAME 20

/* --- where it is ------------------------------------------------------------------------------------ */

/* The name's characters mean nothing to glob(3): vm_name_is_good(). */
static char *fill_in(const char *pattern, const char *name, const char *uuid)
{
    GString *s = g_string_new(NULL);

    for (const char *p = pattern; *p; p++) {
        if (*p != '%' || !p[1]) {
            g_string_append_c(s, *p);
            continue;
        }
        p++;
        if (*p == 'n')
            g_string_append(s, name);
        else if (*p == 's')
            g_string_append_len(s, name, (gssize)MIN(strlen(name), SHORT_NAME));
        else if (*p == 'u')
            g_string_append(s, uuid ? uuid : "-");
        else
            g_string_append_c(s, *p);
    }
    return g_string_free(s, FALSE);
}

char *agent_find_channel(const char *patterns, const char *name, const char *uuid, char *reason,
                         gsize size)
{
    g_auto(GStrv) all = g_strsplit(patterns, ":", -1);
    char *found = NULL;

    if (!strcmp(name, ".") || !strcmp(name, "..")) {
        g_strlcpy(reason, "a VM of that name can have no channel", size);
        return NULL;
    }
    for (char **p = all; *p && !found; p++) {
        g_autofree char *path = fill_in(*p, name, uuid);
        glob_t g;

        if (!glob(path, 0, NULL, &g) && g.gl_pathc)
            found = g_strdup(g.gl_pathv[0]);
        globfree(&g);
    }
    if (!found)
        g_snprintf(reason, (gulong)size, "no socket is at %s: the VM has no channel " VTA_PORT,
                   patterns);
    return found;
}

/* --- the connection --------------------------------------------------------------------------------- */

static gboolean is_qemu(int fd, guint32 pid, char *reason, gsize size)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length)) {
        g_snprintf(reason, (gulong)size, "SO_PEERCRED: %s", g_strerror(errno));
        return FALSE;
    }
    if ((guint32)peer.pid == pid || peer.uid == 0)
        return TRUE;
    g_snprintf(reason, (gulong)size, "the channel is process %d's, the VM is %u", (int)peer.pid, pid);
    return FALSE;
}

static void wait_longer(struct agent_link *l, double now)
{
    l->wait_s = CLAMP(2 * l->wait_s, WAIT_FIRST, WAIT_MOST);
    l->next_s = now + l->wait_s;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path))
        errno = ENAMETOOLONG;
    else if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
        return fd;
    close(fd);
    return -1;
}

gboolean agent_link_connect(struct agent_link *l, const char *path, guint32 pid, double now,
                            char *reason, gsize size)
{
    int fd;

    if (l->fd >= 0 || now < l->next_s)
        return FALSE;
    fd = connect_to(path);
    if (fd < 0)
        g_snprintf(reason, (gulong)size, "%s: %s", path, g_strerror(errno));
    if (fd < 0 || !is_qemu(fd, pid, reason, size)) {
        wait_longer(l, now);
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    l->fd = fd;
    l->seq = 0;
    l->out_length = l->out_at = 0;
    vta_restart(&l->in);
    return TRUE;
}

void agent_link_close(struct agent_link *l, double now)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    wait_longer(l, now);
}

gssize agent_link_read(struct agent_link *l, void *to, gsize most)
{
    gssize n = recv(l->fd, to, most, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return n > 0 ? n : -1;
}

gsize agent_link_waiting(const struct agent_link *l)
{
    int n = 0;

    return ioctl(l->fd, FIONREAD, &n) || n < 0 ? 0 : (gsize)n;
}

gboolean agent_link_send(struct agent_link *l, struct vta_frame *f, enum vta_type type,
                         gsize length)
{
    if (l->out_at) {
        memmove(l->out, l->out + l->out_at, l->out_length - l->out_at);
        l->out_length -= l->out_at;
        l->out_at = 0;
    }
    if (sizeof(f->h) + length > sizeof(l->out) - l->out_length)
        return FALSE;
    length = vta_seal(f, type, ++l->seq, length);
    memcpy(l->out + l->out_length, f, length);
    l->out_length += length;
    return TRUE;
}

gboolean agent_link_flush(struct agent_link *l)
{
    while (l->out_at < l->out_length) {
        gssize n = send(l->fd, l->out + l->out_at, l->out_length - l->out_at,
                        MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return TRUE;
        if (n < 0)
            return FALSE;
        l->out_at += (gsize)n;
    }
    l->out_at = l->out_length = 0;
    return TRUE;
}
