// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The agent's protocol: between vmtier-agent in a guest and vmtierd on its host.
 *
 * Transport: a virtio-serial port, VTA_PORT: a stream of bytes without an end. On the host it is a
 * socket to which the daemon connects. Either side may vanish and come back, may be older or newer
 * than the other, and may start to listen amid a frame.
 *
 * A frame is a vta_hdr and `length` bytes behind it. Integers are little-endian, whatever the guest
 * is; common/agent-frame.c turns them round. `crc` (CRC-32 as in zlib) is of the whole frame with
 * crc = 0. Who does not find a frame where one should begin looks for the next one.
 *
 *      agent                                   daemon
 *      HELLO            ---------------------> versions and features that I know
 *           <--------------------- WELCOME     the version and the features in use, limits
 *                                  or ERROR    no version that both know
 *           <--------------------- CREDIT      so many frames more may be sent
 *      HINTS xN         ---------------------> ranges of guest-physical memory; one credit each
 *           <--------------------- SHARES      how much of the guest is in which tier
 *           <--------------------- REFUSED     what was to stay in dram is too much
 *           <--------------------- ASK         send a report now (VTA_F_ASK)
 *           <--------------------- MUTE        I do not listen for a while, and why
 *           <--------------------- UNMUTE      I do again
 *      BYE              ---------------------> I go: forget what I said
 *
 * Version skew. A type that is not known is skipped, a body that is longer than known is cut, one
 * that is shorter is an error of the peer. Of the versions both know the greatest is spoken.
 *
 * A hint holds for the lifetime in WELCOME and has to be said again; what is not said again is over.
 * So a frame that is lost does no harm, and neither does an agent that ends. `report` numbers the
 * passes over memory: what a newer one says of a place replaces what an older one said.
 *
 * Nothing in a hint may ever take a byte of memory away. In particular VTA_FREE says where free memory
 * was when the agent looked, and an instant later it may be in use: the host may place it elsewhere,
 * and must copy what is there. Memory that is free and stays free is told by the guest's kernel, which
 * holds it meanwhile (virtio-balloon, free page reporting); that is what makes holes, and holes are
 * moved without being read.
 */
#ifndef VMTIER_AGENT_H
#define VMTIER_AGENT_H

#include <assert.h>
#include <stdint.h>

#define VTA_PORT        "org.vmtier.agent.0"
#define VTA_MAGIC       0x31414d56u     /* "VMA1" */
#define VTA_VERSION     1
#define VTA_VERSION_MIN 1
#define VTA_FRAME_MAX   4096            /* bytes, header included */
#define VTA_TEXT        96              /* bytes of a text, its NUL included */
#define VTA_NAME        16
#define VTA_TIERS       8
#define VTA_SHARE       255             /* all of a range; less: that part of its pages */

/* Features, as bits. */
enum { VTA_F_ASK = 1, VTA_F_SHARES = 2, VTA_F_PIN = 4, VTA_F_ALL = 7 };

enum vta_type {
    VTA_HELLO = 1, VTA_WELCOME, VTA_HINTS, VTA_CREDIT, VTA_ASK, VTA_SHARES, VTA_REFUSED, VTA_MUTE,
    VTA_UNMUTE, VTA_ERROR, VTA_BYE,
    VTA_TYPE_END
};

/* What a range is said to be. A bit number in masks. */
enum vta_kind {
    VTA_NONE,                   /* nothing: takes back what was said */
    VTA_FREE, VTA_COLD, VTA_HOT, VTA_PIN,
    VTA_KIND_END
};

struct vta_hdr {
    uint32_t magic;
    uint16_t type, length;      /* of what follows */
    uint32_t seq;               /* grows by one with each frame of a sender; not greater than the last one: another
                                   host, or the same anew */
    uint32_t crc;
};
static_assert(sizeof(struct vta_hdr) == 16, "agent: header");

struct vta_hello {
    uint16_t version, version_min;
    uint32_t features;
    uint32_t page_size;
    uint32_t pad;
    char name[VTA_TEXT];        /* "vmtier-agent 0.1, Linux 6.12" */
};
static_assert(sizeof(struct vta_hello) == 112, "agent: HELLO");

struct vta_welcome {
    uint16_t version, pad;
    uint32_t features;
    uint64_t granule;           /* bytes; hints finer than that are summed up by the host */
    uint32_t life_ms;           /* how long a hint holds */
    uint32_t ranges_per_s;      /* that the host takes; beyond it mutes */
};
static_assert(sizeof(struct vta_welcome) == 24, "agent: WELCOME");

struct vta_range {
    uint64_t gpa, length;
    uint8_t kind;               /* enum vta_kind */
    uint8_t share;              /* 1..VTA_SHARE: how much of the range it is true of */
    uint8_t weight;             /* 1..255: of hot and cold: how sure, or how much */
    uint8_t pad;
    uint32_t age_ms;            /* since it was found so */
};
static_assert(sizeof(struct vta_range) == 24, "agent: range");

struct vta_hints {
    uint32_t report;
    uint32_t count;
    struct vta_range range[];
};
static_assert(sizeof(struct vta_hints) == 8, "agent: HINTS");
#define VTA_RANGES ((VTA_FRAME_MAX - sizeof(struct vta_hdr) - sizeof(struct vta_hints)) / \
                    sizeof(struct vta_range))       /* in one frame */

struct vta_credit {
    uint32_t frames;            /* more */
    uint32_t pad;
};
static_assert(sizeof(struct vta_credit) == 8, "agent: CREDIT");

struct vta_ask {
    uint32_t kinds;             /* mask of enum vta_kind */
    uint32_t pad;
};
static_assert(sizeof(struct vta_ask) == 8, "agent: ASK");

struct vta_shares {
    uint32_t tiers;
    int32_t hit_permille;       /* accesses that dram served; -1: not known */
    uint64_t ram, quota;        /* bytes; quota: of dram */
    uint64_t pinned, pin_most;  /* bytes: by hints; that hints may pin */
    struct {
        char name[VTA_NAME];
        uint64_t bytes;
    } tier[VTA_TIERS];
};
static_assert(sizeof(struct vta_shares) == 232, "agent: SHARES");

struct vta_refused {
    uint64_t asked, most;       /* bytes of VTA_PIN: that are asked for; that are allowed */
    char text[VTA_TEXT];
};
static_assert(sizeof(struct vta_refused) == 112, "agent: REFUSED");

/* MUTE, UNMUTE (ms = 0), ERROR, BYE */
struct vta_notice {
    uint32_t code;              /* enum vta_code */
    uint32_t ms;                /* MUTE: for so long */
    char text[VTA_TEXT];
};
static_assert(sizeof(struct vta_notice) == 104, "agent: notice");

enum vta_code { VTA_OK, VTA_E_VERSION, VTA_E_RATE, VTA_E_GARBAGE, VTA_E_RANGES, VTA_E_HELLO };

#endif
