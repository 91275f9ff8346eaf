// SPDX-License-Identifier: GPL-2.0-or-later
/* A RAM block of two tiers for a test of the plugin: two memfds, the first one mapped as QEMU would. */
#ifndef VT_TEST_TWO_TIERS_H
#define VT_TEST_TWO_TIERS_H

#include "vmm/ram.h"

#include <glib.h>

struct two_tiers {
    struct ram_block *b;
    int file[2];
    uint8_t *host;              /* on a 2 MiB border */
    size_t size;
};

/* `page`: 4096, or a huge page's size. `flags`: of mmap(), besides the usual ones. */
void two_tiers_set_up(struct two_tiers *f, size_t size, uint32_t page, int flags);
void two_tiers_watch(struct two_tiers *f);      /* puts it under userfaultfd, which is open */
void two_tiers_tear_down(struct two_tiers *f);

/* Bytes that a file has. */
guint64 file_allocated(int fd);

#endif
