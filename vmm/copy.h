// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copying memory as fast as it goes: with stores that do not pass through the caches, and with
 * several threads where the user wants to spend them.
 */
#ifndef VMTIER_COPY_H
#define VMTIER_COPY_H

#include <stdbool.h>
#include <stdint.h>

#define COPY_THREADS 8          /* at most, the caller included */

struct copy_part {
    uint8_t *to;
    const uint8_t *from;
    uint64_t length;            /* whole pages */
    bool cached;                /* the destination is in the caches, as it was just made */
};

/*
 * Copies all parts; they do not overlap. Returns the CPU time that threads other than the caller spent
 * on it. Only one caller at a time. Neither allocates nor waits for anything but its own threads.
 */
uint64_t copy_parts(const struct copy_part *parts, unsigned n, bool past_caches);

/* How many threads copy, the caller included: 1 to COPY_THREADS. Not while a copy is under way. */
void copy_set_threads(unsigned n);

#endif
