// SPDX-License-Identifier: GPL-2.0-or-later
/* The host's tiers, and the files that are a VM's memory on them. */
#ifndef VMTIER_TIER_H
#define VMTIER_TIER_H

#include "host/config.h"

struct tier {
    char name[16];
    char *nodes;                /* libnuma node string; NULL: wherever the kernel likes */
    struct bitmask *mask;       /* the same, parsed; NULL likewise */
    bool emulated;              /* it is no slower memory: there is none on this host */
    char *reason;               /* why emulated, or NULL */
};

struct tiers {
    guint n;
    struct tier tier[VT_TIERS];
};

/*
 * Takes the configuration; a tier without nodes= gets them: dram the nodes that have CPUs, the
 * second tier those that have memory only. Fails on nodes that do not exist.
 */
struct tiers *tiers_new(const struct config *config, GError **error);
void tiers_free(struct tiers *tiers);

/*
 * Makes the file that holds a block of a VM on a tier: a memfd of `length` bytes with pages of
 * `page_size`, bound to the tier's nodes. Returns the descriptor or -1.
 */
int tier_make_file(const struct tier *tier, const char *vm, const char *block, guint64 length,
                   guint32 page_size, GError **error);

/* Bytes the file really has, from its allocated blocks; 0 if that cannot be told. */
guint64 tier_file_bytes(int fd);

#endif
