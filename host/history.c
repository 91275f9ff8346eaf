// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Heat map history: see history.h.
 *
 * A cell's heat is on a log scale of its column: 255 is the hottest row of that moment, each factor
 * of two below it takes 16 off, so what is 2^16 times colder is 0. Its tier is the share of the
 * row's granules in dram, 255 for all.
 */
#include "host/history.h"

#include <math.h>
#include <string.h>

void history_clear(struct history *h)
{
    g_free(h->heat);
    g_free(h->tier);
    *h = (struct history){ 0 };
}

static void restart(struct history *h, guint32 granules)
{
    history_clear(h);
    h->row_granules = (granules + HISTORY_ROWS - 1) / HISTORY_ROWS;
    h->rows = (granules + h->row_granules - 1) / h->row_granules;
    h->heat = g_malloc0((gsize)h->rows * HISTORY_COLUMNS);
    h->tier = g_malloc0((gsize)h->rows * HISTORY_COLUMNS);
}

static guint8 *next_column(struct history *h, guint32 *column)
{
    if (h->columns == HISTORY_COLUMNS) {
        h->head = (h->head + 1) % HISTORY_COLUMNS;
        h->start_unix += HISTORY_PERIOD;
        h->columns--;
    }
    if (!h->columns)
        h->start_unix = (double)g_get_real_time() / 1e6;
    *column = (h->head + h->columns++) % HISTORY_COLUMNS;
    return h->heat + (gsize)*column * h->rows;
}

/* Mean rate of a row, and its share in dram. */
static double look_at_row(const struct history *h, const struct heat *heat,
                          const struct ledger *ledger, guint32 row, guint8 *tier)
{
    guint32 first = row * h->row_granules, end = MIN(first + h->row_granules, ledger->n);
    guint32 n = 0, dram = 0;
    double sum = 0;

    for (guint32 g = first; g < end; g++) {
        if (ledger->tier[g] == LEDGER_NONE)
            continue;
        n++;
        dram += ledger->tier[g] == 0;
        sum += heat_rate(heat, g).rate;
    }
    *tier = n ? (guint8)(dram * 255 / n) : 0;
    return n ? sum / n : 0;
}

static void add_column(struct history *h, const struct heat *heat, const struct ledger *ledger)
{
    float rate[HISTORY_ROWS];
    double most = 0;
    guint32 column;
    guint8 *cells = next_column(h, &column);

    for (guint32 r = 0; r < h->rows; r++) {
        rate[r] = (float)look_at_row(h, heat, ledger, r, &h->tier[(gsize)column * h->rows + r]);
        most = MAX(most, rate[r]);
    }
    for (guint32 r = 0; r < h->rows; r++) {
        double scaled = rate[r] > 0 ? 255 + 16 * log2(rate[r] / most) : 0;

        cells[r] = (guint8)CLAMP(scaled, 0, 255);
    }
}

/* Rounds come late now and then. Columns have to keep up with the time all the same, as a column's
 * place is all that tells its time; so a round may add several, alike, or make up for the last one. */
void history_note(struct history *h, const struct heat *heat, const struct ledger *ledger,
                  double now)
{
    if (!ledger->n || now < h->due)
        return;
    if (h->rows * h->row_granules < ledger->n || !h->rows)
        restart(h, ledger->n);
    h->due = h->columns ? MAX(h->due, now - HISTORY_COLUMNS * HISTORY_PERIOD) : now;
    while (h->due <= now) {
        add_column(h, heat, ledger);
        h->due += HISTORY_PERIOD;
    }
}

guint8 *history_unroll(const struct history *h, const guint8 *ring)
{
    guint8 *out = g_malloc((gsize)h->rows * MAX(h->columns, 1));

    for (guint32 c = 0; c < h->columns; c++)
        memcpy(out + (gsize)c * h->rows,
               ring + (gsize)((h->head + c) % HISTORY_COLUMNS) * h->rows, h->rows);
    return out;
}
