// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tiering steps aside while QEMU itself needs what it stands on: userfaultfd, the RAM files, memory
 * that must stay empty. While anything holds it back, moves are refused (frozen) with its reason;
 * when the last hold is released, tiering goes on by itself.
 */
#ifndef VMTIER_LETGO_H
#define VMTIER_LETGO_H

#include "common/err.h"
#include "vmm/ram.h"

#include <stdbool.h>

/* What holds tiering back. The first one's reason is shown. */
enum letgo_why {
    LETGO_LENT,             /* QEMU has registered blocks with a userfaultfd of its own */
    LETGO_INCOMING,         /* QEMU receives this VM by postcopy: what is empty has to stay so */
    LETGO_HANDOVER,         /* a migration hands over the RAM files, not their contents */
    LETGO_END
};

/*
 * Puts a hook on ioctl(): when QEMU registers a block with a userfaultfd of its own, ours is taken
 * back first, and put there again when QEMU's is gone. Once, from qemu_plugin_install().
 */
int letgo_init(struct vt_err *err);

/*
 * `changed` is called after a hold began or a block was lent, `api` when QEMU is about to use a
 * userfaultfd: in the thread that caused it, with no lock of ours held. Once, before letgo_init().
 */
void letgo_on(void (*changed)(void), void (*api)(void));

/* Any thread. A hold that is there keeps its reason; release of one that is not does nothing. */
void letgo_hold(enum letgo_why why, const char *format, ...) __attribute__((format(printf, 2, 3)));
void letgo_release(enum letgo_why why);

/* Does anything hold tiering back? `reason` is the first one's. */
bool letgo_holds(char reason[VT_TEXT]);
bool letgo_has(enum letgo_why why);

/* Freezes tiering for somebody else's reason: now, or when all holds are gone. Any thread. */
void letgo_freeze(const char *reason);

/* Block b turned out to be under another userfaultfd: treat it as lent. Under ram_lock(). */
void letgo_lend(struct ram_block *b);

/* Tries to have lent blocks back, and releases LETGO_LENT when all are. */
void letgo_take_back(void);

#endif
