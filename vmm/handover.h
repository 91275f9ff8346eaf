// SPDX-License-Identifier: GPL-2.0-or-later
/* Watches QEMU's migrations for what placement cannot go along with, and holds tiering back meanwhile. */
#ifndef VMTIER_HANDOVER_H
#define VMTIER_HANDOVER_H

#include "common/err.h"

#include <stdbool.h>

/* Before letgo_init(), from qemu_plugin_install(). */
void handover_init(void);

/* Machine complete, link_info filled in. BQL. */
int handover_start(struct vt_err *err);

/*
 * May this VM's RAM be tiered yet? -EBUSY with the reason if its contents are on their way or reached
 * by RDMA; the link is notified when that has changed. BQL.
 */
int handover_check(struct vt_err *err);

/* Is it only the end of an incoming migration that tiering waits for? */
bool handover_waits(void);

#endif
