// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Collector "free": pages that the buddy allocator has, and those that were given to a balloon. What the host
 * can place by itself, a granule, is looked at by itself; it is worth a hint when half of it is free. It may
 * be in use again when the host hears of it; that is why a hint only says what is to leave dram first
 * (vmtier/agent.h).
 */
#include "guest-agent/agent.h"

#define FREE_FLAGS (1ull << 10 /* BUDDY */ | 1ull << 23 /* OFFLINE: of a balloon */)

static void look_at(const uint64_t *flags, unsigned pages, uint64_t gpa, uint64_t bytes)
{
    unsigned n = 0;

    for (unsigned i = 0; i < pages; i++)
        n += (flags[i] & FREE_FLAGS) != 0;
    if (n && 2 * n >= pages)
        outbox_add((struct vta_range){ gpa, bytes, VTA_FREE, (uint8_t)(n * VTA_SHARE / pages), 255, 0, 0 });
}

/* Of a window that is only sampled nothing is known of its parts. */
static void look(const struct window *w)
{
    uint64_t at = 0, granule = session.granule, n;

    if (w->pages != w->bytes / PAGE || granule < PAGE || granule >= WINDOW) {
        look_at(w->flags, w->pages, w->gpa, w->bytes);
        return;
    }
    for (; at < w->bytes; at += n) {
        n = granule - (w->gpa + at) % granule;
        n = n < w->bytes - at ? n : w->bytes - at;
        look_at(w->flags + at / PAGE, (unsigned)(n / PAGE), w->gpa + at, n);
    }
}

const struct collector collect_free = {
    .name = "free",
    .kind = VTA_FREE,
    .open = kpage_open,
    .look = look,
};
