// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMM link: messages between the part in QEMU (vmm/) and the daemon (host/).
 *
 * Transport: AF_UNIX, SOCK_SEQPACKET. One datagram is one message: a vt_hdr, then the body that
 * belongs to its type, then for some types an array. File descriptors travel as SCM_RIGHTS with the
 * message that names them. Both ends run on one host, so integers are in host byte order; `magic`
 * catches a peer of another byte order or no vmtier peer at all.
 *
 * Life of a link
 *
 *      VMM                                     daemon
 *      HELLO            ---------------------> who I am (peer credentials are checked as well)
 *           <--------------------- WELCOME     granule, tiers; fd: /dev/userfaultfd
 *                                  or REFUSE   and the reason
 *      BLOCK xN         ---------------------> each tiered RAM block; fds: its tier files
 *      BACKING xN       ---------------------> what kind of memory each block is
 *      SLOTS xN         ---------------------> memslots over those blocks
 *      PLACEMENT xN     ---------------------> which tier every granule is in: the truth
 *      LAYOUT_END       --------------------->
 *           <--------------------- TIER_FILE   for each block and tier the VMM has no file for
 *           <--------------------- MOVE ...    the initial placement
 *           <--------------------- READY       the guest may start
 *      then rounds:
 *           <--------------------- HARVEST     give me observations, spend at most this much
 *      OBS xN, HARVEST_END -----------------> sources report
 *           <--------------------- MOVE        carry these out
 *      MOVED            --------------------->
 *      and at any time
 *      BLOCK ... LAYOUT_END ----------------> the layout changed (hot-plug); generation grows
 *      BLOCK_GONE, FROZEN   ----------------> tiering of the VM has stopped in the VMM
 *      BACKING xN           ----------------> what its page table was found to look like
 *           <--------------------- SET         freeze or thaw, switch sources
 *           <--------------------- REFUSE      this VM cannot be tiered here, and the reason
 *
 * The daemon asks one thing at a time and waits for the end message with the same `seq`; what the
 * VMM says unasked has seq 0. Each side checks every length, index and count it is told.
 *
 * Granules are numbered over the VM's RAM: block b owns granules [first, first + count), its last
 * one may be shorter than the granule size.
 */
#ifndef VMTIER_WIRE_H
#define VMTIER_WIRE_H

#include <assert.h>
#include <stdint.h>

#define VT_WIRE_MAGIC   0x31544d56u  /* "VMT1" */
#define VT_WIRE_VERSION 3
#define VT_WIRE_MAX     (64 * 1024)  /* bytes of the longest message, header included */

#define VT_TIERS        8            /* tiers a host may have; tier 0 is dram */
#define VT_BLOCKS       64           /* tiered RAM blocks of one VM */
#define VT_SLOTS_MAX    256          /* memslots over them */
#define VT_NAME         64           /* bytes of a name, its NUL included */
#define VT_TEXT         256          /* bytes of a reason, its NUL included */
#define VT_HINT         640          /* bytes of an advice, its NUL included */
#define VT_GRANULES_MAX (1u << 22)   /* granules of one VM: 8 TiB at 2 MiB */
#define VT_GRANULE_MIN  4096u
#define VT_GRANULE_MAX  (1ull << 30)

enum vt_type {
    VT_HELLO = 1, VT_WELCOME, VT_REFUSE,
    VT_BLOCK, VT_BLOCK_GONE, VT_SLOTS, VT_PLACEMENT, VT_LAYOUT_END,
    VT_TIER_FILE, VT_READY,
    VT_HARVEST, VT_OBS, VT_HARVEST_END,
    VT_MOVE, VT_MOVED,
    VT_SET, VT_FROZEN,
    VT_BACKING,
    VT_TYPE_END
};

enum vt_accel { VT_ACCEL_OTHER, VT_ACCEL_TCG, VT_ACCEL_KVM, VT_ACCEL_END };

/* Where an observation comes from; a bit number in masks. */
enum vt_source { VT_SRC_REFAULT, VT_SRC_DIRTY, VT_SRC_SAMPLE, VT_SRC_END };

/* How one granule's move ended. Anything but OK leaves the granule where it was. */
enum vt_status {
    VT_ST_OK,           /* it is in the tier that was asked for */
    VT_ST_BUSY,         /* a DMA is in flight into it: try again later */
    VT_ST_NOMEM,        /* the tier has no memory left */
    VT_ST_AGAIN,        /* the kernel asked to retry */
    VT_ST_LIMIT,        /* vm.max_map_count is near */
    VT_ST_FROZEN,       /* tiering of this VM is frozen */
    VT_ST_INVALID,      /* no such granule or tier */
    VT_ST_ERROR,        /* a call failed; the text of FROZEN or the VM's log says which */
    VT_ST_END
};

/* What a file of RAM is, and whether 2 MiB pages can be had in it (tmpfs: huge=). */
enum vt_kind { VT_KIND_NONE, VT_KIND_MEMFD, VT_KIND_TMPFS, VT_KIND_HUGETLB, VT_KIND_OTHER,
               VT_KIND_END };
enum vt_thp { VT_THP_UNKNOWN, VT_THP_NEVER, VT_THP_ADVISE, VT_THP_WITHIN_SIZE, VT_THP_ALWAYS,
              VT_THP_END };

struct vt_hdr {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t length;    /* of the whole message */
    uint32_t seq;       /* of the request this belongs to; 0: unasked */
};
static_assert(sizeof(struct vt_hdr) == 16, "wire: header");

struct vt_hello {
    struct vt_hdr h;
    uint32_t pid;
    uint32_t accel;             /* enum vt_accel */
    uint32_t page_size;
    uint32_t sources;           /* mask of sources that can run */
    uint16_t qemu_major, qemu_minor, qemu_micro, pad;
    uint64_t granule;           /* bytes, if a daemon has set it before; 0: not yet */
    uint8_t  uuid[16];          /* zero: the VM has none */
    char     name[VT_NAME];
    char     no_source[VT_SRC_END][VT_NAME]; /* why a source cannot run, for those not in the mask */
};
static_assert(sizeof(struct vt_hello) == 16 + 16 + 16 + 16 + 64 + 3 * 64, "wire: hello");

struct vt_welcome {             /* fd: /dev/userfaultfd, where the daemon could open it */
    struct vt_hdr h;
    uint64_t granule;           /* bytes, a power of two; HELLO's, if that had one */
    uint32_t tiers;
    uint32_t sources;           /* mask of sources to run */
    uint32_t sample_period;     /* one access in so many */
    uint32_t pad;
    char     tier[VT_TIERS][16];
};
static_assert(sizeof(struct vt_welcome) == 16 + 24 + 128, "wire: welcome");

struct vt_text {                /* REFUSE, FROZEN */
    struct vt_hdr h;
    uint32_t code;              /* an errno value, or 0; FROZEN with code 0 and no text: thawed */
    uint32_t pad;
    char     text[VT_TEXT];
};
static_assert(sizeof(struct vt_text) == 16 + 8 + 256, "wire: text");

struct vt_block {               /* fds: the files of the tiers in `files`, lowest tier first */
    struct vt_hdr h;
    uint64_t length;            /* bytes */
    uint64_t host;              /* where it is mapped in QEMU; 0: not told */
    uint32_t id;                /* < VT_BLOCKS */
    uint32_t first, count;      /* granules */
    uint32_t page_size;         /* of the backing */
    uint32_t files;             /* mask of tiers; bit 0 is always set */
    uint32_t fresh;             /* 1: the guest has not used it yet */
    uint64_t base[VT_TIERS];    /* where in each file the block's area begins */
    char     name[VT_NAME];
};
static_assert(sizeof(struct vt_block) == 16 + 40 + 64 + 64, "wire: block");

struct vt_block_gone {
    struct vt_hdr h;
    uint32_t id, pad;
};
static_assert(sizeof(struct vt_block_gone) == 24, "wire: block gone");

struct vt_slot {
    uint64_t gpa, length, offset; /* offset within the block */
    uint32_t block, pad;
};
static_assert(sizeof(struct vt_slot) == 32, "wire: slot");

struct vt_slots {
    struct vt_hdr h;
    uint32_t count, more;       /* more: another SLOTS message continues the list */
    struct vt_slot slot[];
};
static_assert(sizeof(struct vt_slots) == 24, "wire: slots");

struct vt_placement {
    struct vt_hdr h;
    uint32_t first, count;
    uint8_t  tier[];
};
static_assert(sizeof(struct vt_placement) == 24, "wire: placement");

struct vt_layout_end {
    struct vt_hdr h;
    uint32_t generation, pad;
};
static_assert(sizeof(struct vt_layout_end) == 24, "wire: layout end");

struct vt_tier_file {           /* fd: the file */
    struct vt_hdr h;
    uint32_t block, tier;
    uint64_t offset;            /* where in the file the block's area begins */
};
static_assert(sizeof(struct vt_tier_file) == 32, "wire: tier file");

struct vt_ready {
    struct vt_hdr h;
};
static_assert(sizeof(struct vt_ready) == 16, "wire: ready");

struct vt_harvest {
    struct vt_hdr h;
    uint32_t sources;           /* mask: harvest these */
    uint32_t budget_us;         /* CPU time the refault scan may take */
};
static_assert(sizeof(struct vt_harvest) == 24, "wire: harvest");

/*
 * One granule as one source saw it since its last report.
 *   refault: events = 4 KiB pages touched, exposure = armed page-milliseconds
 *   dirty:   events = 4 KiB pages written, exposure = milliseconds since the last harvest
 *   sample:  events = sampled accesses served from `tier`, exposure = 0
 */
struct vt_obs {
    uint32_t granule;
    uint8_t  source, tier;
    uint16_t pad;
    uint32_t events, exposure;
};
static_assert(sizeof(struct vt_obs) == 16, "wire: observation");

struct vt_obs_list {
    struct vt_hdr h;
    uint32_t count, pad;
    struct vt_obs obs[];
};
static_assert(sizeof(struct vt_obs_list) == 24, "wire: observations");

struct vt_harvest_end {
    struct vt_hdr h;
    uint32_t interval_ms;               /* since the last harvest */
    uint32_t generation;
    uint64_t cpu_ns[VT_SRC_END];        /* spent by each source since attach */
    uint64_t events[VT_SRC_END];        /* seen by each source since attach */
    uint64_t vcpu_ns[VT_SRC_END];       /* estimate of what each cost the guest since attach */
};
static_assert(sizeof(struct vt_harvest_end) == 16 + 8 + 72, "wire: harvest end");

struct vt_move_one {
    uint32_t granule;
    uint8_t  tier;              /* MOVE: where to; MOVED: where it is now */
    uint8_t  status;            /* MOVED: enum vt_status */
    uint16_t pad;
};
static_assert(sizeof(struct vt_move_one) == 8, "wire: one move");

struct vt_move_list {           /* MOVE, MOVED: same order, same count */
    struct vt_hdr h;
    uint32_t count;
    uint32_t fresh;             /* MOVE: initial placement, memory the guest has not touched */
    uint64_t cpu_ns, pages;     /* MOVED: what it cost, 4 KiB pages copied */
    uint64_t rate;              /* MOVE: bytes per second, spread evenly; 0: at once */
    /*
     * Memory in a tier's files that belongs to no granule, for the next moves to go to. MOVE: how much
     * may be left when these are done; MOVED: how much there is.
     */
    uint64_t spare[VT_TIERS];
    struct vt_move_one move[];
};
static_assert(sizeof(struct vt_move_list) == 48 + 8 * VT_TIERS, "wire: moves");

struct vt_set {
    struct vt_hdr h;
    uint32_t freeze;            /* 0: move what I ask for, 1: refuse moves */
    uint32_t sources;           /* mask */
    uint32_t sample_period, pad;
};
static_assert(sizeof(struct vt_set) == 32, "wire: set");

/*
 * A block's memory as it was found: the file of each tier, and how much of the block is in the guest's
 * page table now, by entries of which size. A look at it all takes a while; `passes` counts them.
 */
struct vt_backing_tier {
    uint64_t mapped, huge;      /* bytes; of those, by entries of 2 MiB and more */
    uint32_t page_size;         /* smallest page of the file */
    uint8_t  kind, thp;         /* enum vt_kind, enum vt_thp */
    uint16_t pad;
};
static_assert(sizeof(struct vt_backing_tier) == 24, "wire: backing of a tier");

struct vt_backing {
    struct vt_hdr h;
    uint32_t block;
    uint32_t align;             /* the host address is a multiple of 1 << align */
    uint32_t passes, pad;       /* 0: `mapped` and `huge` are not known yet */
    struct vt_backing_tier tier[VT_TIERS];
    char     hint[VT_HINT];     /* what to do for larger pages; empty: nothing */
};
static_assert(sizeof(struct vt_backing) == 16 + 16 + 8 * 24 + VT_HINT, "wire: backing");

static_assert(sizeof(((struct vt_hello *)0)->no_source) / VT_NAME == VT_SRC_END, "wire: sources");

#endif
