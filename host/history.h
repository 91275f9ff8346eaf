// SPDX-License-Identifier: GPL-2.0-or-later
/* The recent past of a VM's heat and placement, coarse enough to keep and to draw. */
#ifndef VMTIER_HISTORY_H
#define VMTIER_HISTORY_H

#include "host/heat.h"
#include "host/ledger.h"

#define HISTORY_ROWS    512     /* most rows: neighbouring granules share one */
#define HISTORY_COLUMNS 1200    /* then the oldest goes */
#define HISTORY_PERIOD  0.5     /* seconds per column */

struct history {
    guint32 rows, row_granules, columns;
    guint32 head;               /* the oldest column */
    double start_unix;          /* of the oldest column */
    double due;                 /* seconds of the VM's clock */
    guint8 *heat, *tier;        /* [HISTORY_COLUMNS][rows]; a ring of columns */
};

void history_clear(struct history *h);

/* Adds a column if one is due at `now`. Starts anew when the number of granules changes. */
void history_note(struct history *h, const struct heat *heat, const struct ledger *ledger,
                  double now);

/* Columns in order, as bytes; g_free() it. */
guint8 *history_unroll(const struct history *h, const guint8 *ring);

#endif
