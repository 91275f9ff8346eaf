// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory that QEMU gives back to the host: freed where it really is. */
#ifndef VMTIER_DISCARD_H
#define VMTIER_DISCARD_H

#include <stddef.h>
#include <stdint.h>

/*
 * In place of QEMU's fallocate(): 1 if the file is not guest RAM of ours, so that the call is to be
 * made as if nothing was; else what fallocate() returns, with errno. Any thread, the BQL held or not;
 * takes ram_lock(). For fence_on_punch().
 */
int discard_in_file(int fd, int mode, uint64_t offset, uint64_t length);

/*
 * In place of QEMU's mmap(MAP_FIXED) of a file: 1 if it is not over guest RAM of ours, else 0 or -1
 * with errno: nothing is to be mapped. For fence_on_map().
 */
int discard_mapped(const void *address, size_t length, int fd, uint64_t offset);

struct discard_stats {
    uint64_t calls;             /* of QEMU, for RAM */
    uint64_t bytes;             /* it asked for */
    uint64_t elsewhere;         /* bytes of these that were not where QEMU asked for them */
};
void discard_get_stats(struct discard_stats *stats);

#endif
