// SPDX-License-Identifier: GPL-2.0-or-later
/* Which pages a shmem file is made of. */
#ifndef VMTIER_PAGES_H
#define VMTIER_PAGES_H

#include <stdbool.h>

/*
 * Is it certain that this file never gets huge pages, so that writing to it is as good as touching it?
 * false where that cannot be told.
 */
bool pages_are_small(int fd);

#endif
