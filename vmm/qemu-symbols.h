// SPDX-License-Identifier: GPL-2.0-or-later
/* Between qemu.c, qemu-access.c and qemu-migration.c, which alone know QEMU's symbols. */
#ifndef VMTIER_QEMU_SYMBOLS_H
#define VMTIER_QEMU_SYMBOLS_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

struct qemu_symbol {
    const char *name;
    void *slot;                 /* address of the function pointer */
};

/* Finds all of a list; a missing one is NULL, or an error if it must be there. */
int qemu_find_symbols(const struct qemu_symbol *list, size_t n, bool must, struct vt_err *err);

/* A variable of QEMU's, or NULL. */
void *qemu_find_data(const char *name);

/* Called by qemu_bind(). */
void qemu_bind_migration(void);

/* enum vt_accel of QEMU's name for it. */
int qemu_accel_of(const char *name);

/* The plugin API's version; 2 and above are QEMU 8 and later. */
extern int qemu_plugin_version;

#endif
