// SPDX-License-Identifier: GPL-2.0-or-later
/* What the parts of the plugin share: its options, its freeze switch, its export mark. */
#ifndef VMTIER_PLUGIN_H
#define VMTIER_PLUGIN_H

#include "vmtier/wire.h"

#include <stdbool.h>
#include <stdint.h>

#define VMTIER_EXPORT __attribute__((visibility("default")))

struct options {
    char socket[108];           /* of the daemon; as long as a unix socket path may be */
    char id[64];                /* vm=: what the daemon calls this VM; empty: QEMU's own name */
    bool required;              /* no daemon or no usable RAM: do not start the VM */
};

extern struct options plugin_options;
extern uint64_t plugin_id;      /* QEMU's handle of this plugin */

/* Why a source cannot run here; empty where it can. */
extern char plugin_no_source[VT_SRC_END][VT_NAME];

/* Checks the devices again; freezes tiering and brings all pages to dram if one is in the way. BQL. */
bool plugin_check_devices(void);

/* Has the main loop do so soon. Any thread. Not all that can be plugged in shows in the layout. */
void plugin_look_at_devices(void);

#endif
