// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How long things took, for percentiles: a histogram by powers of two, and the longest.
 *
 * Any thread notes, any thread reads, without a lock: each counter is right, and a reader that comes
 * between two of them sees one time more or less. A percentile is an estimate: times count as spread
 * evenly within their power of two.
 */
#ifndef VMTIER_FENCE_TIME_H
#define VMTIER_FENCE_TIME_H

#include <stdatomic.h>
#include <stdint.h>

struct fence_times {
    _Atomic uint64_t n[32];         /* [i]: 2^i ns to twice that; the last one: and longer */
    _Atomic uint64_t longest;
};

void fence_times_note(struct fence_times *times, uint64_t ns);
uint64_t fence_times_count(struct fence_times *times);

/* The time that this share of them (0 to 1) did not exceed; 0 if there were none. */
uint64_t fence_times_quantile(struct fence_times *times, double share);

#endif
