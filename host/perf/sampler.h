// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Samples of what a process' vCPU threads do.
 *
 * An event per thread, each with a ring; where the kernel has no such events per thread (IBS before 6.2), one
 * per CPU, and samples of other processes are left out. vCPU threads are known by their names, "CPU 0/KVM",
 * which QEMU gives them with -name debug-threads=on (libvirt always does); without any, all threads are
 * sampled. New threads are looked for once a second.
 *
 * The pace. What is promised is samples per second, all threads together, as each one costs an interrupt. The
 * period that makes this rate follows from what was seen since the last time: at once where samples were too
 * many, by and by where they were too few.
 */
#ifndef VMTIER_PERF_SAMPLER_H
#define VMTIER_PERF_SAMPLER_H

#include "common/err.h"
#include "host/perf/event.h"
#include "host/perf/ring.h"

#include <sys/types.h>

struct sampler;

/* `rate`: samples per second. NULL with *err, which says what would help. */
struct sampler *sampler_new(const struct event *event, pid_t pid, double rate, struct vt_err *err);
void sampler_free(struct sampler *s);

/*
 * Takes the samples that there are, for about `budget_us` of CPU time, and keeps the pace. 0 or a negative
 * errno. Each sample stands for `period` events.
 */
int sampler_read(struct sampler *s, guint32 budget_us, ring_take take, gpointer opaque, struct vt_err *err);

struct sampler_stats {
    struct perf_counts counts;
    guint64 others;             /* samples of other processes */
    guint threads, cpus;        /* what is sampled: one of them is 0 */
    guint64 period;
    double rate;                /* samples per second, lately */
};
void sampler_stats(const struct sampler *s, struct sampler_stats *stats);

/* The threads of a process to sample: those of vCPUs, or all. For tests. */
GArray *sampler_threads(pid_t pid);

/* The period that makes `rate` of the events seen in `dt` seconds. For tests. */
guint64 sampler_next_period(const struct event *event, guint64 period, double rate, double events, double dt);

#endif
