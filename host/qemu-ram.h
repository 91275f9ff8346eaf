// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a QEMU without the plugin has its guest's RAM: which ranges of its address space, and which
 * guest-physical addresses they are.
 *
 * Its monitor knows exactly (qemu-monitor.c). Without one, its command line tells how much RAM there
 * is and its mappings where something of that size lies (qemu-cmdline.c); what is not certain then is
 * refused. Neither is believed further than its mappings go: a QEMU that lies can only have its own
 * memory moved.
 */
#ifndef VMTIER_QEMU_RAM_H
#define VMTIER_QEMU_RAM_H

#include "host/process.h"
#include "vmtier/wire.h"

struct qemu_ram_block {
    char name[VT_NAME];
    guint64 at, length;         /* in QEMU's address space */
};

struct qemu_ram {
    struct qemu_ram_block block[VT_BLOCKS];
    guint32 n_blocks;
    struct vt_slot slot[VT_BLOCKS]; /* may be none: not known */
    guint32 n_slots;
    char version[32];           /* of QEMU; "": not known */
};

/* The name that -name gives, or NULL. */
char *qemu_cmdline_name(const GPtrArray *argv);

/* Whether the plugin is loaded: then it will connect, and nothing is to be done by pid. */
bool qemu_has_plugin(const GArray *maps);

bool qemu_ram_from_cmdline(struct qemu_ram *ram, const GPtrArray *argv, const GArray *maps,
                           GError **error);
bool qemu_ram_from_monitor(struct qemu_ram *ram, const char *path, const GArray *maps,
                           GError **error);

/* Guest-physical ranges of blocks, from the text of "info mtree -f". `take` is told each range. */
void qemu_parse_mtree(const char *text, void (*take)(const char *block, guint64 gpa, guint64 length,
                                                     guint64 offset, gpointer opaque),
                      gpointer opaque);

/* Adds a range; one that goes on where the last one ended becomes part of it. */
void qemu_ram_add_slot(struct qemu_ram *ram, guint32 block, guint64 gpa, guint64 length,
                       guint64 offset);

#endif
