// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The way to a guest's agent: QEMU's end of the channel, a socket to which the daemon connects.
 *
 * Never waits. A connection that is lost is tried again later, less often each time.
 */
#ifndef VMTIER_AGENT_LINK_H
#define VMTIER_AGENT_LINK_H

#include "common/agent-frame.h"

#include <glib.h>

struct agent_link {
    int fd;                     /* -1: not connected */
    double next_s, wait_s;      /* when to try again, and how long to wait after that */
    struct vta_decoder in;
    guint32 seq;
    guint8 out[4 * VTA_FRAME_MAX];
    gsize out_at, out_length;
};

/*
 * Where the VM's channel may be: patterns with %n (its name), %s (its first 20 characters, as libvirt
 * has it) and %u (its UUID), separated by ':', then matched as by a shell. The first that is there, or NULL
 * with the reason.
 */
char *agent_find_channel(const char *patterns, const char *name, const char *uuid, char *reason,
                         gsize size);

/* True: connected just now. The peer has to be the process `pid`, or root's, who may have opened it for
 * QEMU. *reason is set while there is no connection. */
gboolean agent_link_connect(struct agent_link *l, const char *path, guint32 pid, double now,
                            char *reason, gsize size);
void agent_link_close(struct agent_link *l, double now);

/* Takes up to `most` bytes in; how many, or -1: the connection is lost. */
gssize agent_link_read(struct agent_link *l, void *to, gsize most);

/* Bytes that have come and were not read. */
gsize agent_link_waiting(const struct agent_link *l);

/* Puts a frame into the queue; false: it is full, the peer does not read. */
gboolean agent_link_send(struct agent_link *l, struct vta_frame *f, enum vta_type type,
                         gsize length);
/* Sends what the peer takes. False: the connection is lost. */
gboolean agent_link_flush(struct agent_link *l);

#endif
