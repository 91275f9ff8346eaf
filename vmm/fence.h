// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The DMA fence: keeps the mover off memory into which a DMA is in flight.
 *
 * Write protection does not stop a DMA: the kernel pinned the page when QEMU submitted the request,
 * and the data lands in the old page after it was copied. So the calls by which QEMU hands buffers
 * to the kernel are hooked (got.c), what is in flight is kept in a table, and the mover asks here.
 */
#ifndef VMTIER_FENCE_H
#define VMTIER_FENCE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Installs the hooks. Once, from qemu_plugin_install(): requests that are in flight by then are not
 * seen, which is right only while the guest has no memory yet. Fails, with nothing hooked, if this
 * QEMU hands buffers to the kernel in a way that cannot be seen.
 */
int fence_init(struct vt_err *err);

/*
 * Shuts the fence around [host, host + length): returns true when no DMA is in flight into it, and
 * then none starts into it until fence_release(). Returns false, with nothing held, when one is.
 * Hold it for half a millisecond at most: submissions into the range wait. Any thread; not
 * recursive; release it in the same thread. A submitting thread may hold QEMU's big lock while it
 * waits, so the holder must not take that; it holds nothing that the memory itself depends on.
 */
bool fence_hold(const uint8_t *host, uint64_t length);
void fence_release(void);

/* Whether fence_hold() would fail now. For a look before work that a DMA would make useless. */
bool fence_busy(const uint8_t *host, uint64_t length);

/*
 * Whether the kernel has ever been asked to send guest memory without copying it: from then on it may
 * read a page long after the call, and nothing tells until when. A page that was moved away keeps what
 * it had for such a reader only if nobody else writes to it: give it back, do not use it again.
 *
 * Ask after the other file is mapped: a sender that pinned the old page has said so before it did.
 */
bool fence_zero_copy(void);

struct fence_stats {
    uint64_t submissions;       /* requests with buffers handed to the kernel */
    uint64_t in_flight;         /* such requests now, as far as completions were looked for */
    uint64_t refused;           /* fence_hold() and fence_busy() calls that met a DMA */
    uint64_t waited;            /* submissions that met a held range */
    uint64_t overflows;         /* requests the table had no room for: everything counts as busy */
    uint64_t unseen;            /* of those in flight, requests that keep everything busy now */
    uint64_t holds;             /* ranges held and released */
    uint64_t hold_p50_ns, hold_p99_ns, hold_max_ns;     /* how long */
    /* The same of holds in which the holder was not preempted, of one in eight: what is not the scheduler's. */
    uint64_t undisturbed, undisturbed_p50_ns, undisturbed_p99_ns, undisturbed_max_ns;
    uint64_t wait_p99_ns, wait_max_ns;                  /* how long the submissions waited that did */
};
void fence_get_stats(struct fence_stats *stats);

/* How long this share (0 to 1) of the ranges were held at most; an estimate, see fence-time.h. */
uint64_t fence_hold_ns(double share);

/*
 * A block driver vmtier's hooks do not cover, by the driver's name ("rbd", "iscsi", ...): why, or
 * NULL if it is covered.
 */
const char *fence_refuses(const char *driver);

/*
 * fn is asked before each fallocate() of QEMU (balloon, free page reporting, virtio-mem; disks, too),
 * in the thread that makes it, with no lock of the fence held. 1: not fn's business, the call goes on;
 * else fn has done it, and this is what fallocate() returns, with errno. Offset and length are as
 * QEMU gave them, sign and all. vmtier's own calls do not come here. Set once, by the owner of the
 * tier files.
 */
void fence_on_punch(int (*fn)(int fd, int mode, uint64_t offset, uint64_t length));

/*
 * The same for mmap() of a file with MAP_FIXED. 0: QEMU gets its address, and nothing is mapped.
 */
void fence_on_map(int (*fn)(const void *address, size_t length, int fd, uint64_t offset));

#endif
