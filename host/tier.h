// SPDX-License-Identifier: GPL-2.0-or-later
/* The host's tiers, and the files that are a VM's memory on them. */
#ifndef VMTIER_TIER_H
#define VMTIER_TIER_H

#include "host/config.h"

struct tier_area;

struct tier {
    char name[16];
    char *nodes;                /* libnuma node string; NULL: wherever the kernel likes */
    struct bitmask *mask;       /* the same, parsed; NULL likewise */
    bool emulated;              /* it is no slower memory: there is none on this host */
    char *reason;               /* why emulated, or NULL */
    char *path;                 /* where its files are; NULL: in memory of their own */
    struct tier_area *area;     /* if that is a file which all VMs share; else NULL */
};

struct tiers {
    guint n;
    struct tier tier[VT_TIERS];
    struct tier_mount *huge;    /* a tmpfs of our own with 2 MiB pages; NULL: there is none */
    char *no_huge;              /* why */
};

/*
 * Takes the configuration; a tier without nodes= gets them: dram the nodes that have CPUs, a slower
 * tier, if there is but one, those that have memory only. Fails on nodes that do not exist, and on a path= that no
 * RAM can be in.
 */
struct tiers *tiers_new(const struct config *config, GError **error);
void tiers_free(struct tiers *tiers);

/* Bytes of memory that the tier's nodes have, in use or not; all of the host's if it is bound to none. */
guint64 tier_memory(const struct tier *tier);

/*
 * Makes the file that holds a block of a VM on a tier, with pages like those of the block's file in
 * dram, bound to the tier's nodes: a descriptor, and where in the file the block's area begins. What
 * had to be done differently, and why, is in `note`.
 */
struct tier_want {
    const char *vm, *block;
    guint64 length, granule;
    guint32 page_size;
    bool huge;                  /* dram's is on a tmpfs that gives 2 MiB pages */
};
struct tier_got {
    int fd;
    guint64 base;
    char note[VT_TEXT];
};
bool tier_make_file(const struct tiers *tiers, guint tier, const struct tier_want *want,
                    struct tier_got *got, GError **error);

/*
 * How many bytes a block's area in a file really has; 0 if that cannot be told. The file of one block
 * alone says so at once; an area of a larger file has to be walked, so that is not done each time:
 * `use` is the block's own, and its `fresh` says whether this time it was.
 */
struct tier_use {
    guint64 bytes;
    gint64 counted_us, cost_us;
    bool fresh;
};
guint64 tier_count_bytes(int fd, guint64 base, guint64 length, struct tier_use *use);

/* --- tier-file.c ------------------------------------------------------------------------------------- */

/*
 * A tmpfs with 2 MiB pages: what is mounted at a directory, if that is one; else one of our own, mounted
 * nowhere, for which CAP_SYS_ADMIN is needed. NULL: it cannot be had.
 */
#define TIER_HUGE_DIR "/run/vmtier-huge"
struct tier_mount *tier_mount_new(const char *directory, GError **error);
void tier_mount_free(struct tier_mount *mount);

/* A file without a name on that tmpfs, in a directory, or in memory. -1 with the error. */
int tier_file_in_mount(const struct tier_mount *mount, const char *name, GError **error);
int tier_file_in_directory(const char *path, const char *name, guint32 page_size, GError **error);
int tier_file_in_memory(const char *name, guint32 page_size, GError **error);

/* Can RAM be in this directory or file? */
struct filekind;
bool tier_check_path(const char *path, GError **error);
/* The same for what was found: `dax` the name and node of a DAX device, or NULL. */
bool tier_judge_path(const char *path, const struct filekind *kind, const char *dax, int node,
                     GError **error);

#endif
