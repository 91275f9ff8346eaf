// SPDX-License-Identifier: GPL-2.0-or-later
/* Time in nanoseconds and milliseconds. */
#ifndef VMTIER_CLOCK_H
#define VMTIER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CPU time of the calling thread. */
static inline uint64_t cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* Wraps after 49 days; only differences mean something. */
static inline uint32_t clock_ms(void)
{
    return (uint32_t)(clock_ns(CLOCK_MONOTONIC) / 1000000u);
}

#endif
