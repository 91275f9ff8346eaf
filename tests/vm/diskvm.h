// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that exercises its disk directly and checks every sector (guest/disk.c), while a pusher
 * moves its RAM.
 *
 * Emulated guests stop using a disk by themselves now and then, without any plugin, too: all requests
 * are complete, and the guest has not noticed. diskvm_wait_ops() tells that from a request that did
 * not end, and a test may then begin anew, once, and say so.
 */
#ifndef VT_TEST_DISKVM_H
#define VT_TEST_DISKVM_H

#include "harness.h"
#include "pusher.h"

#define DISK_BYTES (64u << 20)
#define STALL_S    10.0             /* no read for so long is a stall */

struct diskvm_options {
    const char *aio;                /* of the drive "d0", cache=none: native, io_uring, threads */
    bool iothread, qemu10;
    bool no_plugin, no_fence;
    bool nbd;                       /* a second drive, "d1", from a qemu-nbd; the guest reads it */
    uint64_t granule;               /* default 64 KiB */
    const char *disk;               /* what the guest does: "vmt.disk=4 vmt.diskwrites=1" by default */
    const char *const *extra;       /* further arguments for QEMU, up to a NULL */
};

struct diskvm {
    struct diskvm_options options;  /* it was started with */
    struct lab *lab;
    struct pusher *pusher;          /* does not move yet; NULL without a plugin */
    struct vm *vm;
    struct child *nbd;
    char *console;                  /* without the fence: what the guest says */
};

/* A file of DISK_BYTES with every sector signed, as the guest expects it. */
char *diskvm_make_disk(struct lab *lab, const char *name);
bool diskvm_can_direct(const char *path);       /* is there O_DIRECT on this file system? */

/* False, and the test is skipped, if there is no O_DIRECT. The guest has begun when this returns. */
bool diskvm_start(struct diskvm *d, const char *name, const struct diskvm_options *options);
void diskvm_end(struct diskvm *d);              /* asserts that no move has failed */

/*
 * What the guest says of a disk, from now on: "DISK" is /dev/vda, "OTHER" /dev/vdb. Without the fence, a guest
 * that was hit counts as a bad sector.
 */
struct disk_count {
    uint64_t ops, bad;              /* reads; sectors */
};
struct disk_count diskvm_count(struct diskvm *d, const char *disk);

/* Requests to the drive "d0" that have ended, as QEMU counts them: reads and writes. */
uint64_t diskvm_requests(struct diskvm *d);

/*
 * Waits until the guest has read from the disk `more` times. DISK_STALLED: it was the guest that
 * stopped; asserts that it was not us.
 */
enum disk_state { DISK_FINE, DISK_BAD, DISK_STALLED };
enum disk_state diskvm_wait_ops(struct diskvm *d, uint64_t more);
/* Lets it go on for so long; ends early when something is wrong. */
enum disk_state diskvm_let_run(struct diskvm *d, double seconds);

#endif
