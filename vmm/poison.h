// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory errors of the host. The kernel takes a page that it has found bad out of all mappings, and who
 * touches it gets a SIGBUS: the mover's copy would end QEMU for a page that the guest may never want again.
 * So each page is asked for first (MADV_POPULATE_READ says EHWPOISON), unless it is known to be mapped;
 * what is known so is void once there was an error.
 */
#ifndef VMTIER_POISON_H
#define VMTIER_POISON_H

#include <stdbool.h>

/* Has the kernel found bad memory since the last time it was asked? Asks once a second. Under ram_lock(). */
bool poison_is_new(void);

/* For tests: another file than /proc/meminfo, and looks at once. */
void poison_ask(const char *path);

#endif
