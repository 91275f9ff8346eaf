// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which page is visited next.
 *
 * A piece is picked, and a page of it at random. With a zipf distribution the hot set is all pieces, the
 * hottest first, and `up_to` says up to which random number each of them is meant. A scan goes over the
 * footprint's pages in order, between the visits to the hot set, and stays at each for some visits.
 */
#include "workload.h"

#include <math.h>
#include <stdlib.h>

enum { PICK_BITS = 22 };

static uint64_t *up_to;             /* by rank; of 1 << PICK_BITS */

static double weight_of(unsigned rank)
{
    return pow(rank + 1, -(double)cfg.zipf / 100);
}

void prepare_picks(void)
{
    double all = 0, sum = 0;

    if (cfg.mode != MODE_ZIPF)
        return;
    free(up_to);
    up_to = calloc(hot_count ? hot_count : 1, sizeof(*up_to));
    if (!up_to)
        give_up("the table of ranks");
    for (unsigned i = 0; i < hot_count; i++)
        all += weight_of(i);
    for (unsigned i = 0; i < hot_count; i++) {
        sum += weight_of(i);
        up_to[i] = (uint64_t)(sum / all * (1u << PICK_BITS));
    }
}

/* The first rank whose number is above it. */
static unsigned rank_of(uint64_t pick)
{
    unsigned low = 0, high = hot_count - 1;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (up_to[middle] > pick)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static size_t next_of_scan(void)
{
    static uint64_t visits;

    return visits++ / (cfg.dwell ? cfg.dwell : 1) % (pieces * (size_t)PIECE_PAGES);
}

static size_t page_of(unsigned piece, uint64_t dice)
{
    return (size_t)piece * PIECE_PAGES + (dice >> 12) % PIECE_PAGES;
}

size_t pick_page(uint64_t dice)
{
    uint64_t pick = dice >> (64 - PICK_BITS);
    bool is_hot = hot_count && (dice >> 21) % 1024 < cfg.share * 1024 / 100;

    if (cfg.mode == MODE_ZIPF && hot_count)
        return page_of(hot[rank_of(pick)], dice);
    if (is_hot)
        return page_of(hot[pick * hot_count >> PICK_BITS], dice);
    if (cfg.mode == MODE_SCAN)
        return next_of_scan();
    return page_of((unsigned)(pick * pieces >> PICK_BITS), dice);
}
