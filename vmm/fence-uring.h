// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The structure of liburing 2.x, of which QEMU has one per ring.
 *
 * It is public: inline functions of liburing's header use it, so it is part of QEMU's binary, and
 * the library's ABI (liburing.so.2) keeps it. Declared here so that building needs no liburing.
 * Only what all 2.x fill in is named or used: kring_mask, not the ring_mask of 2.3.
 */
#ifndef VMTIER_FENCE_URING_H
#define VMTIER_FENCE_URING_H

#include <assert.h>
#include <linux/io_uring.h>
#include <stddef.h>

struct io_uring_sq {
    unsigned *khead, *ktail, *kring_mask, *kring_entries, *kflags, *kdropped, *array;
    struct io_uring_sqe *sqes;
    unsigned sqe_head, sqe_tail;
    size_t ring_sz;
    void *ring_ptr;
    unsigned unused[4];
};

struct io_uring_cq {
    unsigned *khead, *ktail, *kring_mask, *kring_entries, *kflags, *koverflow;
    struct io_uring_cqe *cqes;
    size_t ring_sz;
    void *ring_ptr;
    unsigned unused[4];
};

struct io_uring {
    struct io_uring_sq sq;
    struct io_uring_cq cq;
    unsigned flags;
    int ring_fd;
    unsigned features, unused[3];
};

static_assert(offsetof(struct io_uring_sq, sqes) == 56, "liburing ABI");
static_assert(offsetof(struct io_uring_sq, sqe_head) == 64, "liburing ABI");
static_assert(sizeof(struct io_uring_sq) == 104, "liburing ABI");
static_assert(offsetof(struct io_uring_cq, cqes) == 48, "liburing ABI");
static_assert(sizeof(struct io_uring_cq) == 88, "liburing ABI");
static_assert(offsetof(struct io_uring, flags) == 192, "liburing ABI");
static_assert(sizeof(struct io_uring) == 216, "liburing ABI");
static_assert(sizeof(struct io_uring_sqe) == 64, "kernel ABI");
static_assert(offsetof(struct io_uring_sqe, addr) == 16, "kernel ABI");
static_assert(offsetof(struct io_uring_sqe, user_data) == 32, "kernel ABI");
static_assert(offsetof(struct io_uring_cqe, user_data) == 0, "kernel ABI");
static_assert(sizeof(struct io_uring_cqe) == 16, "kernel ABI");

#endif
