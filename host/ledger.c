// SPDX-License-Identifier: GPL-2.0-or-later
/* The ledger: see ledger.h. */
#include "host/ledger.h"
#include "common/fault.h"

#include <string.h>

void ledger_init(struct ledger *ledger, guint64 granule)
{
    *ledger = (struct ledger){ .granule = granule };
}

void ledger_clear(struct ledger *ledger)
{
    g_free(ledger->tier);
    ledger_init(ledger, ledger->granule);
}

void ledger_resize(struct ledger *ledger, guint32 n)
{
    if (n <= ledger->n)
        return;
    ledger->tier = g_realloc(ledger->tier, n);
    memset(ledger->tier + ledger->n, LEDGER_NONE, n - ledger->n);
    ledger->n = n;
}

void ledger_put(struct ledger *ledger, guint32 granule, guint8 tier)
{
    guint8 *at = &ledger->tier[granule];

    (void)fault_at(FAULT_LEDGER_BEFORE);
    if (*at != LEDGER_NONE)
        ledger->count[*at]--;
    *at = tier;
    if (tier != LEDGER_NONE)
        ledger->count[tier]++;
    (void)fault_at(FAULT_LEDGER_AFTER);
}
