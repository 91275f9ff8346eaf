// SPDX-License-Identifier: GPL-2.0-or-later
/* What of this process's memory is mapped right now, from /proc/self/pagemap. Any thread. */
#ifndef VMTIER_PAGEMAP_H
#define VMTIER_PAGEMAP_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Once, before the others; they say "no" or an error without it. */
int pagemap_init(struct vt_err *err);

/*
 * How much of some ranges is mapped, looked at in one pass: they are in order of address and do not
 * overlap, and what lies between them costs time, too. 0, or a negative errno.
 *
 * A kernel before Linux 6.7 does not tell huge mappings apart, and of a range above 64 KiB only the
 * first page is looked at there.
 */
struct pagemap_range {
    uint8_t *start;
    uint64_t length;
    uint64_t bytes;             /* out: mapped */
    bool huge;                  /* out: by entries of 2 MiB and more */
};
int pagemap_look(struct pagemap_range *range, unsigned n);
bool pagemap_tells_huge(void);

/* For tests: from now on as on a kernel before Linux 6.7. */
void pagemap_forget_scan(void);

/*
 * The first stretches of a range that are mapped, each with PAGE_IS_HUGE in its categories if it is by
 * entries of 2 MiB and more. Returns how many, at most `room`; *end is where the look ended, past
 * which there may be more. Or a negative errno.
 */
struct page_region;
int pagemap_find(const uint8_t *start, uint64_t length, struct page_region *region, unsigned room,
                 const uint8_t **end);

/* Is all of a range mapped? Stops at the first page that is not. false if the kernel cannot tell. */
bool pagemap_is_full(const uint8_t *start, uint64_t length);

/* Is a good part of a range mapped, an eighth at least? true if the kernel cannot tell. */
bool pagemap_is_used(const uint8_t *start, uint64_t length);

#endif
