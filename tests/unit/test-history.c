// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the heat map's history: columns in order, also once the ring is full, scaled by their
 * hottest row, with each row's share of DRAM.
 *
 * timeout: 30
 */
#include "host/history.h"

struct state {
    struct heat heat;
    struct ledger ledger;
    struct history history;
    double now;
};

static struct state make(guint32 granules)
{
    struct state s = { 0 };

    heat_init(&s.heat);
    ledger_init(&s.ledger, 2 << 20);
    heat_resize(&s.heat, granules);
    ledger_resize(&s.ledger, granules);
    for (guint32 g = 0; g < granules; g++)
        ledger_put(&s.ledger, g, 1);
    return s;
}

static void clear(struct state *s)
{
    heat_clear(&s->heat);
    ledger_clear(&s->ledger);
    history_clear(&s->history);
}

static void set_rate(struct state *s, guint32 granule, float rate)
{
    s->heat.touched[granule] = rate;
    s->heat.armed[granule] = 1;
}

static void note(struct state *s)
{
    history_note(&s->history, &s->heat, &s->ledger, s->now);
    s->now += HISTORY_PERIOD;
}

static void test_scale(void)
{
    struct state s = make(4);

    set_rate(&s, 0, 1024);
    set_rate(&s, 1, 512);
    set_rate(&s, 2, 1);
    ledger_put(&s.ledger, 0, 0);
    note(&s);
    g_autofree guint8 *heat = history_unroll(&s.history, s.history.heat);
    g_autofree guint8 *tier = history_unroll(&s.history, s.history.tier);

    g_assert_cmpuint(s.history.columns, ==, 1);
    g_assert_cmpmem(heat, 4, ((guint8[]){ 255, 239, 95, 0 }), 4);
    g_assert_cmpmem(tier, 4, ((guint8[]){ 255, 0, 0, 0 }), 4);
    clear(&s);
}

static void test_all_cold(void)
{
    struct state s = make(3);

    note(&s);
    g_autofree guint8 *heat = history_unroll(&s.history, s.history.heat);

    g_assert_cmpmem(heat, 3, ((guint8[]){ 0, 0, 0 }), 3);
    clear(&s);
}

/* Neighbours share a row when there are many; the last row may have fewer. */
static void test_rows(void)
{
    struct state s = make(HISTORY_ROWS * 3 - 1);

    for (guint32 g = 0; g < 3; g++)
        set_rate(&s, g, g == 0 ? 30 : 0);
    ledger_put(&s.ledger, 1, 0);
    ledger_put(&s.ledger, HISTORY_ROWS * 3 - 3, LEDGER_NONE);
    ledger_put(&s.ledger, HISTORY_ROWS * 3 - 2, 0);
    note(&s);
    g_autofree guint8 *tier = history_unroll(&s.history, s.history.tier);

    g_assert_cmpuint(s.history.rows, ==, HISTORY_ROWS);
    g_assert_cmpuint(s.history.row_granules, ==, 3);
    g_assert_cmpuint(tier[0], ==, 85);
    g_assert_cmpuint(tier[HISTORY_ROWS - 1], ==, 255);
    clear(&s);
}

/* Two notes within a period are one column. */
static void test_period(void)
{
    struct state s = make(2);

    for (int i = 0; i < 40; i++) {
        history_note(&s.history, &s.heat, &s.ledger, s.now);
        s.now += HISTORY_PERIOD / 4;
    }
    g_assert_cmpuint(s.history.columns, ==, 10);
    clear(&s);
}

/* Column i's DRAM row moves by one each time, so order shows; the oldest columns go first. */
static void test_ring(void)
{
    enum { ROWS = 7, EXTRA = 100 };
    struct state s = make(ROWS);

    for (guint32 i = 0; i < HISTORY_COLUMNS + EXTRA; i++) {
        ledger_put(&s.ledger, i % ROWS, 0);
        note(&s);
        ledger_put(&s.ledger, i % ROWS, 1);
    }
    g_autofree guint8 *tier = history_unroll(&s.history, s.history.tier);

    g_assert_cmpuint(s.history.columns, ==, HISTORY_COLUMNS);
    for (guint32 c = 0; c < HISTORY_COLUMNS; c++)
        for (guint32 r = 0; r < ROWS; r++)
            g_assert_cmpuint(tier[c * ROWS + r], ==, (c + EXTRA) % ROWS == r ? 255 : 0);
    clear(&s);
}

/* The start follows the oldest column. */
static void test_start(void)
{
    struct state s = make(1);

    note(&s);
    double start = s.history.start_unix;

    for (int i = 0; i < HISTORY_COLUMNS + 9; i++)
        note(&s);
    g_assert_cmpfloat_with_epsilon(s.history.start_unix, start + 10 * HISTORY_PERIOD, 1e-6);
    clear(&s);
}

/* More memory: it starts anew, with room for all rows. */
static void test_grow(void)
{
    struct state s = make(10);

    note(&s);
    note(&s);
    ledger_resize(&s.ledger, 5000);
    heat_resize(&s.heat, 5000);
    ledger_put(&s.ledger, 4999, 0);
    note(&s);
    g_autofree guint8 *tier = history_unroll(&s.history, s.history.tier);

    g_assert_cmpuint(s.history.columns, ==, 1);
    g_assert_cmpuint(s.history.rows * s.history.row_granules, >=, 5000);
    g_assert_cmpuint(tier[4999 / s.history.row_granules], ==, 255);
    clear(&s);
}

static void test_empty(void)
{
    struct state s = make(0);

    note(&s);
    g_autofree guint8 *none = history_unroll(&s.history, s.history.heat);

    g_assert_cmpuint(s.history.columns, ==, 0);
    clear(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/history/scale", test_scale);
    g_test_add_func("/history/all-cold", test_all_cold);
    g_test_add_func("/history/rows", test_rows);
    g_test_add_func("/history/period", test_period);
    g_test_add_func("/history/ring", test_ring);
    g_test_add_func("/history/start", test_start);
    g_test_add_func("/history/grow", test_grow);
    g_test_add_func("/history/empty", test_empty);
    return g_test_run();
}
