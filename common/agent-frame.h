// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Frames of the agent's protocol (include/vmtier/agent.h) out of a stream of bytes and into it. For
 * both sides; plain C, allocates nothing.
 */
#ifndef VMTIER_AGENT_FRAME_H
#define VMTIER_AGENT_FRAME_H

#include "vmtier/agent.h"

#include <stdbool.h>
#include <stddef.h>

struct vta_frame {
    struct vta_hdr h;
    union {
        struct vta_hello hello;
        struct vta_welcome welcome;
        struct vta_hints hints;
        struct vta_credit credit;
        struct vta_ask ask;
        struct vta_shares shares;
        struct vta_refused refused;
        struct vta_notice notice;
        uint8_t body[VTA_FRAME_MAX - sizeof(struct vta_hdr)];
    };
};
static_assert(sizeof(struct vta_frame) == VTA_FRAME_MAX, "agent: a frame is what it may be at most");

struct vta_decoder {
    uint8_t bytes[VTA_FRAME_MAX];
    size_t have;
    uint64_t fed, summed;       /* bytes ever taken in; over which a CRC was made */
    /* what was wrong: */
    uint64_t garbage;           /* bytes that were skipped */
    uint64_t bad;               /* frames whose CRC or shape is wrong */
    uint64_t unknown;           /* frames of a type that is not known */
};

/* What the type is called. Never NULL. */
const char *vta_type_name(unsigned type);
const char *vta_kind_name(unsigned kind);

/* Forgets a half frame, as after a new connection; keeps the counts. */
void vta_restart(struct vta_decoder *d);

/* Takes in as much as there is room for; how much that was. None if a frame waits to be taken. Who keeps no rest
 * has to read no more than there is room for. */
size_t vta_room(const struct vta_decoder *d);
__attribute__((warn_unused_result)) size_t vta_feed(struct vta_decoder *d, const void *data, size_t n);

/*
 * The next whole frame, in this machine's byte order: its lengths and counts are right, its strings
 * end, and what an older peer did not send is refused. False: there is none yet.
 */
bool vta_next(struct vta_decoder *d, struct vta_frame *f);

/* Makes `f` what goes over the wire, its body `length` bytes long; returns the bytes to be sent. */
size_t vta_seal(struct vta_frame *f, enum vta_type type, uint32_t seq, size_t length);

/* Turns the body of a frame from little-endian to big-endian or back; the count tells how many ranges. */
void vta_turn(uint16_t type, uint8_t *body, size_t length);

#endif
