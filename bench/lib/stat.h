// SPDX-License-Identifier: GPL-2.0-or-later
/* Medians, percentiles and the time a thread had to wait for a processor. */
#ifndef VMTIER_BENCH_STAT_H
#define VMTIER_BENCH_STAT_H

#include <glib.h>
#include <stdbool.h>

struct bench_spread {
    guint n;
    double median, low, high;   /* the smallest and the largest */
    double q1, q3, p99;
};

/* Sorts v. All 0 without values. */
struct bench_spread bench_spread(double *v, guint n);

/* A file descriptor of the calling thread's schedstat, and the ns it has waited in the run queue. */
int bench_delay_open(void);
guint64 bench_delay_ns(int fd);

/* Waits without sleeping. */
void bench_spin_ns(guint64 ns);

/* Puts the calling thread on the processor; false if there is none of that number. */
bool bench_pin(guint cpu);

guint bench_random(guint64 *state);

#endif
