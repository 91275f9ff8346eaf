// SPDX-License-Identifier: GPL-2.0-or-later
/* See peer.h. */
#include "peer.h"

#include <unistd.h>

struct sockaddr_un peer_address(struct rig *rig)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    g_autofree char *path = lab_path(rig->lab, "vmm.sock");

    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    return a;
}

void peer_send_raw(int fd, const struct wire_msg *m, size_t length)
{
    g_assert_cmpint(send(fd, m->bytes, length, MSG_NOSIGNAL), ==, (gssize)length);
}

void peer_send(int fd, const struct wire_msg *m)
{
    struct vt_err err;

    if (wire_send(fd, m, PEER_MS, &err))
        g_test_message("%s", err.text);     /* it may have hung up on us already */
}

void peer_say_a_byte(int fd, struct wire_msg *m)
{
    peer_send_raw(fd, m, 1);
}

void peer_say_too_much(int fd, struct wire_msg *m)
{
    static char large[VT_WIRE_MAX + 1];

    (void)m;
    g_assert_cmpint(send(fd, large, sizeof(large), MSG_NOSIGNAL), >, 0);
}

void peer_say_ready(int fd, struct wire_msg *m)
{
    wire_start(m, VT_READY, 0, sizeof(struct vt_ready));
    peer_send(fd, m);
}
