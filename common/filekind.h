// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What kind of memory a file is: which file system, pages of which size, and whether 2 MiB pages can
 * be had in it. Asked of the kernel, by both sides, of the files they are given.
 */
#ifndef VMTIER_FILEKIND_H
#define VMTIER_FILEKIND_H

#include "vmtier/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct filekind {
    uint8_t kind;               /* enum vt_kind */
    uint8_t thp;                /* enum vt_thp; of shmem only */
    uint32_t page_size;         /* smallest page of the file */
    long magic;                 /* of the file system, statfs() */
    dev_t device;
    mode_t mode;
};

/*
 * Looks at an open file: 0, or a negative errno. Leaves `thp` unknown: finding that out reads /proc
 * and is a call of its own, so that this one may be made under a lock.
 */
int filekind_look(int fd, struct filekind *k);
void filekind_find_thp(struct filekind *k);

/*
 * Is it certain that this file never gets huge pages, so that writing to it is as good as touching it?
 * false where that cannot be told, as of a tmpfs that is mounted nowhere, or not in our view.
 */
bool filekind_is_small(int fd);

/* The same from the texts of mountinfo and of shmem_enabled (either may be NULL), for tests. */
enum vt_thp filekind_parse_thp(const struct filekind *k, const char *mountinfo,
                               const char *shmem_enabled);

/* "tmpfs", "ext4", "device-dax"...; "0x1234" for one that has no name here, in `buffer`. */
const char *filekind_fs(const struct filekind *k, char buffer[24]);

/* "hugetlb, pages of 2 MiB", "tmpfs, huge=advise", "memfd". */
void filekind_text(const struct filekind *k, char *text, size_t size);

const char *filekind_thp_name(unsigned thp);

#endif
