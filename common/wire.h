// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sending, receiving and checking messages of the VMM link (include/vmtier/wire.h).
 *
 * wire_check() is the one place that decides whether bytes from the peer are a message; whoever
 * receives through wire_recv() may trust lengths, counts and NUL-terminated strings, and must still
 * check indexes against what it knows (granules, blocks, tiers).
 */
#ifndef VMTIER_COMMON_WIRE_H
#define VMTIER_COMMON_WIRE_H

#include "common/err.h"
#include "vmtier/wire.h"

#include <stddef.h>

#define WIRE_FDS VT_TIERS       /* descriptors one message can carry */

struct wire_msg {
    union {
        struct vt_hdr h;
        struct vt_hello hello;
        struct vt_welcome welcome;
        struct vt_text text;
        struct vt_block block;
        struct vt_block_gone block_gone;
        struct vt_slots slots;
        struct vt_placement placement;
        struct vt_layout_end layout_end;
        struct vt_tier_file tier_file;
        struct vt_harvest harvest;
        struct vt_obs_list obs;
        struct vt_harvest_end harvest_end;
        struct vt_move_list move;
        struct vt_set set;
        struct vt_backing backing;
        unsigned char bytes[VT_WIRE_MAX];
    };
    int fd[WIRE_FDS];
    int n_fds;
};

/* Name of a message type, a source, a status: for logs and JSON. Never NULL. */
const char *wire_type_name(unsigned type);
const char *wire_source_name(unsigned source);
const char *wire_status_name(unsigned status);

/* Sets up the header of a message of `length` bytes. */
void wire_start(struct wire_msg *msg, enum vt_type type, uint32_t seq, size_t length);

/* Is what lies in msg->bytes, `got` bytes long, a valid message? 0 or -EPROTO with the reason. */
int wire_check(const struct wire_msg *msg, size_t got, struct vt_err *err);

/* Sends msg with its descriptors. Blocks up to timeout_ms. 0, or a negative errno. */
int wire_send(int fd, const struct wire_msg *msg, int timeout_ms, struct vt_err *err);

/*
 * Receives one checked message. Descriptors in it belong to the caller, who takes them with
 * wire_take_fd() or drops them with wire_drop_fds().
 * 0; -EAGAIN: nothing within timeout_ms; -ECONNRESET: the peer is gone; -EPROTO: it spoke nonsense.
 */
int wire_recv(int fd, struct wire_msg *msg, int timeout_ms, struct vt_err *err);

/* The i-th descriptor, now the caller's, or -1. */
int wire_take_fd(struct wire_msg *msg, int i);
void wire_drop_fds(struct wire_msg *msg);

/* How many array elements of `size` bytes fit behind a body of `body` bytes. */
static inline uint32_t wire_room(size_t body, size_t size)
{
    return (uint32_t)((VT_WIRE_MAX - body) / size);
}

#endif
