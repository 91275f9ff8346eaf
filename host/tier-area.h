// SPDX-License-Identifier: GPL-2.0-or-later
/* A file that all VMs share as a tier: each block gets a piece of it. */
#ifndef VMTIER_TIER_AREA_H
#define VMTIER_TIER_AREA_H

#include <glib.h>
#include <stdbool.h>

struct tier_area;

/* Opens the file, and gives back what nobody has any more, now and from time to time. */
struct tier_area *tier_area_new(const char *path, GError **error);
void tier_area_free(struct tier_area *area);

/*
 * A piece of the file of which nobody has a part, all holes, at a multiple of `align`: the first that
 * fits. Returns a descriptor through which it is held (tier-area.c says how), or -1.
 */
int tier_area_take(struct tier_area *area, guint64 length, guint64 align, guint64 *offset,
                   GError **error);

/* Bytes of the file, of those that nobody has, and of the longest piece among these. */
struct tier_room {
    guint64 size, unused, longest;
};
struct tier_room tier_area_room(struct tier_area *area);

/* Punches what nobody has; returns the bytes that were freed. It is done once a second anyway. */
guint64 tier_area_sweep(struct tier_area *area);

#endif
