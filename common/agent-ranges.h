// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Lists of hinted ranges: clipped to what is RAM, sorted, without overlaps. For both sides; plain C.
 */
#ifndef VMTIER_AGENT_RANGES_H
#define VMTIER_AGENT_RANGES_H

#include "vmtier/agent.h"

#include <stddef.h>

struct vta_span {
    uint64_t start, end;
};

/* Is it a hint at all: a kind that is known, a length, an end that does not wrap, a share? */
int vta_range_good(const struct vta_range *r);

/*
 * Sorts r[0..n) by kind and address, joins what overlaps or touches and says the same, and lets the
 * one that begins first have what two say differently. Returns how many are left; what is not good is
 * not among them. Every byte that a good one of a kind named is still named once by that kind.
 */
size_t vta_ranges_merge(struct vta_range *r, size_t n);

/*
 * Cuts *r to the part of it that lies in `ram` (sorted, disjoint) from *at on; *at is where to go on
 * for the next part. 0: there is none left.
 */
int vta_range_clip(const struct vta_range *r, const struct vta_span *ram, size_t n, uint64_t *at,
                   struct vta_range *part);

#endif
