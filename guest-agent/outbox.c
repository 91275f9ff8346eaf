// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hints on their way to the host.
 *
 * A buffer of one frame's worth of ranges, times a few. A range that continues the last one of its kind
 * is joined to it at once; when a frame is full, has waited for FLUSH_MS, or is not to wait, it is clipped to
 * RAM, sorted, merged and sent, as far as credits and the host's rate allow. What finds no room is
 * dropped: the next pass says it again.
 *
 * Sorting must not put what is taken back before what was said of the same place. So the buffer has either
 * hints or what takes them back; hints that cannot be sent in time for the latter have become worthless.
 */
#include "guest-agent/agent.h"

#include <assert.h>
#include <string.h>

#define ROOM     (8 * VTA_RANGES)
#define AT_ONCE  512            /* ranges it has to have room for: the pages of a window, one by one */
#define FLUSH_MS 500

static_assert(AT_ONCE >= WINDOW / 4096 && AT_ONCE + VTA_RANGES <= ROOM, "a full frame is sent before there is no room");

struct outbox_counts outbox_counts;

static struct vta_range box[ROOM];
static size_t n_box;
static bool hurry, taking_back;
static uint32_t report = 1;
static uint64_t oldest_ms, tokens_ms, tokens;   /* of the host's rate, in thousandths of a range */

bool outbox_has_room(void)
{
    return n_box + AT_ONCE <= ROOM;
}

void outbox_clear(void)
{
    n_box = 0;
}

void outbox_hurry(void)
{
    hurry = true;
}

void outbox_new_report(void)
{
    report++;
}

static bool continues(const struct vta_range *a, const struct vta_range *b)
{
    return a->kind == b->kind && a->share == b->share && a->weight == b->weight &&
           a->gpa + a->length == b->gpa;
}

/* Makes room for the other sort; false: there is none for this one. */
static bool separate(bool takes_back)
{
    if (n_box && takes_back != taking_back) {
        hurry = true;
        outbox_flush(now_ms());
    }
    if (n_box && takes_back != taking_back) {
        outbox_counts.dropped += takes_back ? n_box : 1;
        if (!takes_back)
            return false;
        n_box = 0;
    }
    taking_back = takes_back;
    return true;
}

static void put(struct vta_range r)
{
    outbox_counts.ranges++;
    if (!separate(r.kind == VTA_NONE))
        return;
    if (n_box && continues(&box[n_box - 1], &r)) {
        box[n_box - 1].length += r.length;
        return;
    }
    if (n_box == ROOM)
        n_box = vta_ranges_merge(box, n_box);
    if (n_box == ROOM) {
        outbox_counts.dropped++;
        return;
    }
    if (!n_box)
        oldest_ms = now_ms();
    box[n_box++] = r;
}

void outbox_add(struct vta_range range)
{
    struct vta_range part;
    uint64_t at = 0, inside = 0;

    if (!vta_range_good(&range))
        return;
    while (vta_range_clip(&range, ram, ram_spans, &at, &part)) {
        inside += part.length;
        put(part);
    }
    outbox_counts.outside += inside < range.length;
}

/* Half of what the host takes, so that our clock may run a bit faster than its. */
static size_t may_send(uint64_t now)
{
    uint64_t most = session.ranges_per_s / 2 * 1000ull;

    if (now > tokens_ms) {
        tokens += (now - tokens_ms) * session.ranges_per_s / 2;
        tokens_ms = now;
    }
    if (tokens > most)
        tokens = most;
    return tokens / 1000;
}

static void send_some(size_t n, uint64_t now)
{
    static struct vta_frame f;

    f.hints = (struct vta_hints){ .report = report, .count = (uint32_t)n };
    memcpy(f.hints.range, box, n * sizeof(box[0]));
    session_send_hints(&f, now);
    memmove(box, box + n, (n_box - n) * sizeof(box[0]));
    n_box -= n;
    tokens -= n * 1000ull;
    oldest_ms = now;
}

void outbox_flush(uint64_t now)
{
    while (n_box && session_can_send(now) &&
           (hurry || n_box >= VTA_RANGES || now >= oldest_ms + FLUSH_MS)) {
        size_t most = may_send(now), n;

        n_box = vta_ranges_merge(box, n_box);
        n = n_box < VTA_RANGES ? n_box : VTA_RANGES;
        n = n < most ? n : most;
        if (!n)
            return;
        send_some(n, now);
    }
    hurry &= n_box > 0;
}
