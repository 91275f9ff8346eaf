// SPDX-License-Identifier: GPL-2.0-or-later
/* Where the source "idle" finds its files; for tests, which have others. */
#ifndef VMTIER_SOURCE_IDLE_H
#define VMTIER_SOURCE_IDLE_H

/* NULL: the kernel's. `pagemap` may hold one %u, for the pid. */
void idle_set_paths(const char *bitmap, const char *pagemap);

#endif
