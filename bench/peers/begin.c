// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is on node 0 when a system begins. What has to be moved is counted, so all begin alike, although each boot
 * of the guest has its footprint at other addresses: every fifth of its pieces is there (in each boot they are used
 * alike), then what is none of them, from the lowest address on; and other pieces only if there is still room.
 */
#include "peers.h"

#include <string.h>

#define PAGES       ((guint)(PEERS_RAM / PEERS_PAGE))
#define GRANULES    ((guint)(PEERS_RAM / PEERS_GRANULE))
#define PER_GRANULE (PAGES / GRANULES)
#define EVERY       5u

enum turn { FIRST, THEN, LAST, TURNS };

static void give_turn(guint8 *turn, const struct extent *e, guint8 to)
{
    for (uint64_t g = e->gpa / PEERS_GRANULE; g < GRANULES && g * PEERS_GRANULE < e->gpa + e->length; g++)
        turn[g] = MIN(turn[g] == THEN ? LAST : turn[g], to);
}

static void find_turns(const GArray *pieces, guint8 *turn)
{
    memset(turn, THEN, GRANULES);
    for (guint i = 0; i < pieces->len; i++)
        give_turn(turn, &g_array_index(pieces, struct extent, i), i % EVERY ? LAST : FIRST);
}

/* --- pages ---------------------------------------------------------------------------------------------- */

/* First what has to go to node 1, so that there is room for what comes from there. */
static void move_to(struct vm *vm, const int *now, const int *nodes)
{
    g_autofree int *away = g_new0(int, PAGES), *status = g_new0(int, PAGES);

    for (guint i = 0; i < PAGES; i++)
        away[i] = nodes[i] || now[i] < 0 ? nodes[i] : now[i];
    look_nodes(vm, PEERS_PAGE, PAGES, away, status);
    look_nodes(vm, PEERS_PAGE, PAGES, nodes, status);
}

void begin_pages(struct vm *vm, const GArray *pieces, uint64_t bytes)
{
    g_autofree int *nodes = g_new0(int, PAGES), *now = g_new0(int, PAGES);
    guint8 turn[GRANULES];
    uint64_t left = bytes / PEERS_PAGE;

    find_turns(pieces, turn);
    look_nodes(vm, PEERS_PAGE, PAGES, NULL, now);
    for (guint t = 0; t < TURNS; t++)
        for (guint i = 0; i < PAGES; i++) {
            if (turn[i / PER_GRANULE] != t)
                continue;
            nodes[i] = !left;
            left -= left && now[i] >= 0;
        }
    move_to(vm, now, nodes);
}

/* --- granules ------------------------------------------------------------------------------------------- */

static void order(struct rig *rig, const char *tier, const char *ranges)
{
    g_autofree char *more = g_strdup_printf(",\"ranges\":[%s]", ranges);
    g_autoptr(JsonObject) event = rig_order(rig, tier, more, PATIENCE);

    if (json_int(event, "data.failed"))
        g_error("the guest's memory could not be moved to %s", tier);
}

void begin_granules(struct rig *rig, const GArray *pieces)
{
    g_autoptr(GString) dram = g_string_new(NULL), cxl = g_string_new(NULL);
    uint64_t left = PEERS_DRAM / PEERS_GRANULE;
    guint8 turn[GRANULES];

    find_turns(pieces, turn);
    for (guint t = 0; t < TURNS; t++)
        for (guint g = 0; g < GRANULES; g++) {
            GString *to = left ? dram : cxl;

            if (turn[g] != t)
                continue;
            g_string_append_printf(to, "%s{\"first\":%u,\"count\":1}", to->len ? "," : "", g);
            left -= left > 0;
        }
    order(rig, "cxl", cxl->str);
    order(rig, "dram", dram->str);
}
