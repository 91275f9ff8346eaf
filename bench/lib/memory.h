// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory of this process that the plugin's mover can move, on each kind of backing. */
#ifndef VMTIER_BENCH_MEMORY_H
#define VMTIER_BENCH_MEMORY_H

#include "common/err.h"
#include "vmm/ram.h"

#include <glib.h>

enum bench_backing { BENCH_4K, BENCH_THP, BENCH_HUGETLB, BENCH_BACKINGS };
extern const char *const bench_backing_names[BENCH_BACKINGS];

struct bench_memory {
    enum bench_backing backing;
    guint64 size;
    uint8_t *host;
    struct ram_block *b;
    guint64 huge_bytes;         /* of `host`, mapped by huge pages when it was opened */
};

/*
 * One block of `size` bytes with files for tiers 0 and 1, everything populated in tier 0 and watched.
 * Granule size and userfaultfd context belong to a process, so this is for a child (bench_child())
 * and happens once in it. -1 with *err if the backing cannot be had.
 */
int bench_memory_open(struct bench_memory *m, enum bench_backing backing, guint64 granule,
                      guint64 size, struct vt_err *err);

/*
 * The same for `times` as much memory as there is in the file: it is mapped so often, one behind the
 * other, each with page tables of its own. For what looks at page tables alone; nothing of it can move.
 */
int bench_memory_open_wide(struct bench_memory *m, enum bench_backing backing, guint64 granule,
                           guint64 file_size, guint times, struct vt_err *err);

/* Another file of the same backing, mapped and populated, that no mover knows. NULL: none left. */
uint8_t *bench_memory_more(const struct bench_memory *m, guint64 size);

/* What of the `size` bytes from `at` is mapped by huge pages: from smaps. */
guint64 bench_huge_mapped(const uint8_t *at, guint64 size);

/* Maps all of it again at the guest's address, as a guest would by touching it. */
void bench_memory_touch(const struct bench_memory *m);

#endif
