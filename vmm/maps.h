// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guard of vm.max_map_count. Granules that are not where their neighbours are cost a mapping
 * each, and at the limit even mapping the old file back fails: moves stop well before it.
 */
#ifndef VMTIER_MAPS_H
#define VMTIER_MAPS_H

#include <stdbool.h>
#include <stdint.h>

/* Is there room for this many more mappings? Counts them as taken if so. Under ram_lock(). */
bool maps_take(uint32_t n);

/* Are mappings getting scarce, so that what merges is to be preferred? */
bool maps_scarce(void);

#endif
