// SPDX-License-Identifier: GPL-2.0-or-later
/* What the daemon, and tests, ask of the source "damon" besides. */
#ifndef VMTIER_SOURCE_DAMON_H
#define VMTIER_SOURCE_DAMON_H

struct config;

/* The daemon starts: gives back what one that died has left. */
void damon_recover(const struct config *config);

/* Where DAMON is, and where what is ours is recorded. NULL: the kernel's; beside the daemon's socket. */
void damon_set_paths(const char *root, const char *record);

#endif
