// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the fence costs: of a call by which a buffer goes to the kernel, in this process; and of a
 * guest's direct disk I/O.
 */
#ifndef VMTIER_BENCH_IO_H
#define VMTIER_BENCH_IO_H

#include "bench/lib/stat.h"

#define IO_ROUNDS_MOST 25

/* --- io-call.c ------------------------------------------------------------------------------ */

enum io_call { IO_PREAD, IO_AIO, IO_URING, IO_CALLS };
extern const char *const io_call_names[IO_CALLS];

struct io_call_case {
    enum io_call call;
    guint batch;                /* requests in one submission; pread: 1 */
    bool direct;                /* O_DIRECT reads of a disk; else of a file in memory */
};

struct io_call_result {
    bool ok;
    char why[200];
    struct bench_spread off_ns, on_ns;      /* CPU time of one request, hooks out and in */
    struct bench_spread extra_ns;           /* the difference, within each pair of phases */
};

/* For bench_child(): `what` is a struct io_call_case, `result` a struct io_call_result. */
void io_call_run(const void *what, void *result);

/* --- io-guest.c ----------------------------------------------------------------------------- */

/* QEMU as it comes; with the plugin, fence or none; none again, which tells the noise; with moves. */
enum io_guest { IO_STOCK, IO_BARE, IO_FENCE, IO_BARE_AGAIN, IO_MOVES, IO_MOVES_BARE, IO_GUESTS };
extern const char *const io_guest_names[IO_GUESTS];

struct io_guest_result {
    double per_s;               /* reads a second */
    double per_cpu_s;           /* reads per second of QEMU's CPU time */
    double moved_mbs;
    double hold_p50_us, hold_p99_us, hold_max_us, wait_p99_us, wait_max_us;
    double undisturbed_p50_us, undisturbed_p99_us, undisturbed_max_us; /* holds without a preemption */
    guint64 waited, submissions, deferred;
    guint stalls;               /* runs that were thrown away, as the guest stood still (diskvm.h) */
};

/* One VM, for `seconds` of measurement. */
void io_guest_run(enum io_guest kind, guint64 bytes_per_s, double seconds, struct io_guest_result *r);

#endif
