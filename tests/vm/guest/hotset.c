// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which pieces the footprint has, and which of them are hot.
 *
 * Hot pieces are a random scatter without neighbours, only taken from those that are one aligned
 * 2 MiB extent of guest-physical memory, so that `VMT HOT` can name them exactly. A new hot set
 * avoids the old one as long as there are other pieces; a zigzag goes back to it. With a zipf distribution all
 * pieces are in the set, the hottest first.
 */
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXTENTS_PER_LINE = 7 };

atomic_uint phase;
unsigned pieces, *hot, hot_count;

static unsigned max_pieces;
static unsigned *old_hot, *shuffled;        /* work space of choose_hot() */

static unsigned add_pieces(unsigned want)
{
    unsigned from = pieces, to = want > max_pieces - pieces ? max_pieces : pieces + want;

    for (; pieces < to; pieces++)
        fill_piece(pieces);
    return to - from;
}

/* There is room to grow to twice the size the footprint starts with. */
void make_footprint(void)
{
    unsigned first = (unsigned)(cfg.foot / PIECE);

    max_pieces = first * 2;
    hot = calloc(max_pieces, sizeof(*hot));
    old_hot = calloc(max_pieces, sizeof(*old_hot));
    shuffled = calloc(max_pieces, sizeof(*shuffled));
    if (!first || !hot || !old_hot || !shuffled)
        give_up("vmt.foot");
    reserve_pages(max_pieces);
    add_pieces(first);
}

unsigned huge_pieces(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < pieces; i++)
        n += piece_gpa(i) != NO_GPA;
    return n;
}

static bool contains(const unsigned *set, unsigned n, unsigned piece)
{
    for (unsigned i = 0; i < n; i++)
        if (set[i] == piece)
            return true;
    return false;
}

/* Each pass asks for less: new and apart from each other; not of the old set; any. */
static void choose_pass(int pass, unsigned want, unsigned old_count)
{
    for (unsigned i = 0; i < pieces && hot_count < want; i++) {
        unsigned p = shuffled[i];
        bool neighbour = contains(hot, hot_count, p + 1) || contains(hot, hot_count, p - 1);

        if (contains(hot, hot_count, p) || piece_gpa(p) == NO_GPA)
            continue;
        if (pass < 2 && contains(old_hot, old_count, p))
            continue;
        if (pass < 1 && neighbour)
            continue;
        hot[hot_count++] = p;
    }
}

static void shuffle(unsigned *order, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        order[i] = i;
    for (unsigned i = n; i > 1; i--) {
        unsigned j = (unsigned)((next_random() >> 32) * i >> 32), t = order[i - 1];

        order[i - 1] = order[j];
        order[j] = t;
    }
}

/* A line's worth at a time, "what part=I/OF gpa=START:LENGTH ...". */
static void print_extents(const char *what, const unsigned *set, unsigned count)
{
    unsigned lines = (count + EXTENTS_PER_LINE - 1) / EXTENTS_PER_LINE;

    for (unsigned part = 0; part < lines; part++) {
        char text[224];
        unsigned first = part * EXTENTS_PER_LINE;
        int n = snprintf(text, sizeof(text), "VMT %s part=%u/%u gpa=", what, part + 1, lines);

        for (unsigned i = first; i < count && i < first + EXTENTS_PER_LINE; i++)
            n += snprintf(text + n, sizeof(text) - (size_t)n, "0x%llx:0x%zx ",
                          (unsigned long long)piece_gpa(set ? set[i] : i), PIECE);
        say("%.*s", n - 1, text);
    }
}

void print_hot(uint64_t unused)
{
    char what[32];

    (void)unused;
    snprintf(what, sizeof(what), "HOT phase=%u", atomic_load(&phase));
    print_extents(what, hot, hot_count);
}

void print_pieces(uint64_t unused)
{
    (void)unused;
    print_extents("PIECES", NULL, pieces);
}

static bool swap_sets(unsigned old_count)
{
    unsigned *other = hot;

    if (cfg.mode != MODE_ZIGZAG || atomic_load(&phase) < 2)
        return false;
    hot = old_hot;
    old_hot = other;
    hot_count = old_count;
    return true;
}

static void choose_other_set(void)
{
    bool all = cfg.mode == MODE_ZIPF;
    unsigned want = all ? pieces : (unsigned)(cfg.hot / PIECE), old_count = hot_count;

    memcpy(old_hot, hot, hot_count * sizeof(*hot));
    shuffle(shuffled, pieces);
    hot_count = 0;
    for (int pass = all ? 2 : 0; pass < 3; pass++)
        choose_pass(pass, want, old_count);
}

void choose_hot(uint64_t unused)
{
    (void)unused;
    if (cfg.mode >= MODE_UNIFORM)
        return;
    if (!swap_sets(hot_count))
        choose_other_set();
    prepare_picks();
    atomic_fetch_add(&phase, 1);
    print_hot(0);
}

/* Gives back the footprint's end; a hot set that reached into it is chosen anew. */
void release(uint64_t bytes)
{
    unsigned n = (unsigned)((bytes + PIECE - 1) / PIECE);
    bool hot_gone = false;

    n = n < pieces ? n : pieces - 1;
    pieces -= n;
    drop_pieces(pieces, n);
    for (unsigned i = 0; i < hot_count; i++)
        hot_gone |= hot[i] >= pieces;
    if (hot_gone)
        choose_hot(0);
    say("VMT FREED bytes=%zu pieces=%u", n * PIECE, pieces);
}

void grow(uint64_t bytes)
{
    unsigned n = add_pieces((unsigned)((bytes + PIECE - 1) / PIECE));

    say("VMT GREW bytes=%zu pieces=%u", n * PIECE, pieces);
}
