// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ledger: which tier each granule of a VM is in. It follows what the VMM says (PLACEMENT at
 * attach, MOVED afterwards), is the daemon's only truth about placement, and is compared with the
 * files every round.
 */
#ifndef VMTIER_LEDGER_H
#define VMTIER_LEDGER_H

#include "vmtier/wire.h"

#include <glib.h>
#include <stdbool.h>

#define LEDGER_NONE 255         /* a number no granule of a present block has */

struct ledger {
    guint32 n;
    guint8 *tier;               /* [n]; LEDGER_NONE where there is no granule */
    guint64 granule;            /* bytes */
    guint32 count[VT_TIERS];
};

void ledger_init(struct ledger *ledger, guint64 granule);
void ledger_clear(struct ledger *ledger);

/* Makes room for granules [0, n); new ones are LEDGER_NONE. */
void ledger_resize(struct ledger *ledger, guint32 n);

/* Puts a granule where it is; LEDGER_NONE takes it out. */
void ledger_put(struct ledger *ledger, guint32 granule, guint8 tier);

static inline guint64 ledger_bytes(const struct ledger *ledger, unsigned tier)
{
    return ledger->count[tier] * ledger->granule;
}

#endif
