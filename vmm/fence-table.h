// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Inside the fence: the table of requests in flight, and the engines that fill it.
 *
 * An engine is a way by which QEMU hands buffers to the kernel. Before the real call it enters the
 * table, adds what the call will submit and leaves; when it sees a completion it drops the request.
 */
#ifndef VMTIER_FENCE_TABLE_H
#define VMTIER_FENCE_TABLE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/*
 * Who knows when a request ends: the call itself, a completion ring, or nobody any more. A ring has
 * an owner number from FENCE_RING on; each engine has a span of them.
 */
enum fence_owner {
    FENCE_CALL,
    FENCE_NOBODY,
    FENCE_RING,
    FENCE_AIO = FENCE_RING,
    FENCE_URING = FENCE_AIO + 256,
    FENCE_PIN = FENCE_URING + 256,      /* no ring, but known by a key as well */
    FENCE_OWNERS,
};

/*
 * Everything below is called between these two. fence_leave() waits while one of the buffers added
 * since fence_enter() meets a range the mover holds, so it may let go of the table in between.
 */
void fence_enter(void);
void fence_leave(void);

/*
 * Adds a request, found again by owner and key (FENCE_CALL: by the return value). A second one with
 * the key of a request in flight joins it: both must complete before either counts as complete.
 * Returns 0 when the table is full: then everything is busy, until the request is dropped; the
 * other functions accept that 0.
 */
uint32_t fence_add(unsigned owner, uint64_t key);
void fence_add_buffer(uint32_t request, uint64_t start, uint64_t length);
void fence_add_vector(uint32_t request, const struct iovec *iov, uint64_t n);
void fence_add_everything(uint32_t request);    /* what it touches is not known */

/* One completion. One that no request is known for ends one the table had no room for, if any. */
void fence_complete(unsigned owner, uint64_t key);
void fence_complete_call(uint32_t request);

void fence_forget_key(unsigned owner, uint64_t key);    /* all joined requests at once */
void fence_forget_owner(unsigned owner);                /* all of its requests are complete */
void fence_orphan_owner(unsigned owner);                /* their completions will not be seen */
bool fence_owner_busy(unsigned owner);

/* --- the engines ---------------------------------------------------------------------------- */

struct fence_hook {
    const char *symbol;
    void *replacement;
    void **original;
    /* "": every QEMU has it. A function of QEMU: if QEMU has that, it must have this. NULL: may. */
    const char *needed_by;
};

struct fence_engine {
    const char *name;
    const struct fence_hook *hooks;
    size_t n_hooks;
    int (*check)(struct vt_err *err);   /* is the kernel's and library's ABI what we think it is? */
    void (*scan)(void);                 /* looks for completions, inside the table */
};

extern const struct fence_engine fence_aio, fence_uring, fence_sync, fence_pin;

/* Every ioctl of QEMU's, before it is done; changes no errno. */
void fence_note_ioctl(unsigned request);

#define FENCE_HOOK(symbol_, needed_by_) \
    { #symbol_, (void *)hook_##symbol_, (void **)&real_##symbol_, needed_by_ }

#endif
