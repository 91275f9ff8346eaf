// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the guest does: tests/vm/guest's workload with a footprint of 96 MiB in pieces of 2 MiB, a hot set of
 * 20 MiB in it, or redis with 70,000 values of 1000 bytes.
 *
 * Which page gets which share of the accesses follows from the workload's own rules. redis tells no addresses:
 * each value begins with its number, so they are looked for in the guest's memory at the end. The client draws a key by
 * floor(n ^ u), zipf with exponent 1, and the share is of the accesses to values alone.
 */
#include "peers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEYS      70000
#define ZIPF      0.99
#define FOOTPRINT "vmt.foot=96M vmt.hot=20M vmt.writes=30 vmt.seed=7 "
#define KEY_MARK  "value:"

const struct peers_load peers_loads[] = {
    { .name = "stable", .title = "hot set that stays", .words = FOOTPRINT "vmt.share=95",
      .kind = LOAD_HOT, .share = 0.95, .seconds = 20 },
    { .name = "zipf", .title = "zipf .99 over 2 MiB pieces", .words = FOOTPRINT "vmt.mode=zipf",
      .kind = LOAD_ZIPF, .seconds = 20 },
    { .name = "shift", .title = "hot set that jumps once", .words = FOOTPRINT "vmt.share=95",
      .kind = LOAD_HOT, .share = 0.95, .seconds = 40, .shifts = { 12 } },
    { .name = "zigzag", .title = "two hot sets by turns", .words = FOOTPRINT "vmt.share=95 vmt.mode=zigzag",
      .kind = LOAD_HOT, .share = 0.95, .seconds = 32, .shifts = { 10, 18, 25 } },
    { .name = "scan", .title = "hot set and a scan", .words = FOOTPRINT "vmt.share=80 vmt.mode=scan",
      .kind = LOAD_SCAN, .share = 0.80, .seconds = 20 },
    { .name = "uniform", .title = "all memory alike", .words = FOOTPRINT "vmt.mode=uniform",
      .kind = LOAD_UNIFORM, .seconds = 20 },
    { .name = "redis", .title = "redis, zipf 1 over keys", .words = "rdinit=/peers-init",
      .kind = LOAD_KEYS, .seconds = 20 },
};
const guint peers_n_loads = G_N_ELEMENTS(peers_loads);

const struct peers_load *peers_load(const char *name)
{
    for (guint i = 0; i < peers_n_loads; i++)
        if (g_str_equal(peers_loads[i].name, name))
            return &peers_loads[i];
    return NULL;
}

/* --- the footprint -------------------------------------------------------------------------------------- */

static unsigned add_line(GArray *to, const char *line, unsigned *of)
{
    const char *at = strstr(line, "gpa=");
    unsigned part = 0;
    int n = 0;
    unsigned long long gpa, length;

    if (sscanf(line, "VMT PIECES part=%u/%u", &part, of) != 2 || !at)
        g_error("the guest says '%s'", line);
    for (at += 4; sscanf(at, "%llx:%llx %n", &gpa, &length, &n) == 2; at += n) {
        struct extent e = { gpa, length };

        g_array_append_val(to, e);
    }
    return part;
}

GArray *load_pieces(const struct peers_load *load, struct guest *guest)
{
    GArray *pieces = g_array_new(FALSE, FALSE, sizeof(struct extent));
    unsigned part = 0, of = 1;

    if (load->kind == LOAD_KEYS)
        return pieces;
    guest_command(guest, "pieces");
    while (part < of) {
        g_autofree char *line = guest_expect(guest, "VMT PIECES", PATIENCE);

        part = add_line(pieces, line, &of);
    }
    return pieces;
}

/* --- shares --------------------------------------------------------------------------------------------- */

/* Spreads `share` over the pages of an extent that are looked at; one that is scattered has no address. */
static void spread(double *weights, guint n, const struct extent *e, double share)
{
    guint first = (guint)(e->gpa / PEERS_PAGE / LOOK_STEP), count = (guint)(e->length / PEERS_PAGE / LOOK_STEP);

    if (e->gpa >= PEERS_RAM)
        return;
    for (guint i = first; i < first + count && i < n; i++)
        weights[i] += share / count;
}

static void spread_all(double *weights, guint n, const GArray *extents, double share)
{
    for (guint i = 0; i < extents->len; i++)
        spread(weights, n, &g_array_index(extents, struct extent, i), share / extents->len);
}

static void spread_zipf(double *weights, guint n, const GArray *ranked)
{
    for (guint i = 0; i < ranked->len; i++)
        spread(weights, n, &g_array_index(ranked, struct extent, i), pow(i + 1, -ZIPF));
}

static double *norm(double *weights, guint n)
{
    double sum = 0;

    for (guint i = 0; i < n; i++)
        sum += weights[i];
    for (guint i = 0; i < n && sum > 0; i++)
        weights[i] /= sum;
    return weights;
}

double *load_weights(const struct peers_load *load, const GArray *pieces, const GArray *hot, guint n)
{
    double *weights = g_new0(double, n);

    if (load->kind == LOAD_ZIPF) {
        spread_zipf(weights, n, hot);
    } else if (load->kind != LOAD_KEYS) {
        spread_all(weights, n, pieces, 1 - load->share);
        if (hot)
            spread_all(weights, n, hot, load->share);
    }
    return norm(weights, n);
}

/* --- keys ----------------------------------------------------------------------------------------------- */

static double key_share(unsigned long key)
{
    return key < KEYS ? log((double)(key + 2) / (double)(key + 1)) : 0;
}

static double page_share(const char *page)
{
    const char *at = page, *end = page + PEERS_PAGE - 16;
    double share = 0;

    while (at < end && (at = memmem(at, (size_t)(end - at), KEY_MARK, strlen(KEY_MARK)))) {
        at += strlen(KEY_MARK);
        if (g_ascii_isdigit(*at))
            share += key_share(strtoul(at, NULL, 10));
    }
    return share;
}

double *load_key_weights(struct vm *vm, guint n)
{
    double *weights = g_new0(double, n);
    char page[PEERS_PAGE + 1];

    page[PEERS_PAGE] = 0;
    for (guint i = 0; i < n; i++) {
        vm_peek(vm, (uint64_t)i * LOOK_STEP * PEERS_PAGE, page, PEERS_PAGE);
        weights[i] = page_share(page);
    }
    return norm(weights, n);
}
