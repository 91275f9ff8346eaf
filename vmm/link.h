// SPDX-License-Identifier: GPL-2.0-or-later
/* The link to the daemon, from QEMU's side: a thread of its own. */
#ifndef VMTIER_LINK_H
#define VMTIER_LINK_H

#include "common/err.h"
#include "common/wire.h"

#include <stdbool.h>

/* Is a daemon there? Connects and closes. */
int link_probe(struct vt_err *err);

/*
 * Starts the link thread and waits, serving bql_call(), until the first placement is done, the
 * daemon refuses, or timeout_ms have passed. Main thread, machine complete. Returns 0 when attached.
 */
int link_start(int timeout_ms, struct vt_err *err);

/* The layout changed, or tiering froze: tell the daemon. Any thread. */
void link_notify(void);

/* Says what went wrong at attach, for good: tiering of this VM is refused. */
struct link_status {
    bool connected, attached;
    unsigned connects;
    char error[256];            /* of the last attempt; empty when attached */
};
void link_get_status(struct link_status *status);

/* Sources the daemon switched on; mask of enum vt_source. */
uint32_t link_sources(void);

/* Tiers as the daemon named them: the name of one ("" if there is none), the number of a name or -1. */
const char *link_tier_name(unsigned tier);
int link_tier_number(const char *name);

/* --- the messages (link-send.c, link-layout.c) ------------------------------------------------ */

#define LINK_SEND_MS 5000       /* a daemon that does not read for so long is gone */

/* Each sends on fd; 0 or a negative errno with *err. */
int link_send_hello(int fd, struct vt_err *err);
int link_send_layout(int fd, struct vt_err *err);
int link_send_backings(int fd, struct vt_err *err);
int link_send_frozen(int fd, int code, const char *text, struct vt_err *err);
int link_send_harvest(int fd, const struct wire_msg *request, struct vt_err *err);
int link_send_moved(int fd, const struct wire_msg *request, struct vt_err *err);

/* What qemu_get_info() said, kept by link_start(). */
extern const struct qemu_info *const link_info;

#endif
