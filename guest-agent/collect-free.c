// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Collector "free": pages that the buddy allocator has, and those that were given to a balloon. A window
 * is worth a hint when half of it is free. It may be in use again when the host hears of it; that is why
 * a hint only says what is to leave dram first (vmtier/agent.h).
 */
#include "guest-agent/agent.h"

#define FREE_FLAGS (1ull << 10 /* BUDDY */ | 1ull << 23 /* OFFLINE: of a balloon */)

static void look(const struct window *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->pages; i++)
        n += (w->flags[i] & FREE_FLAGS) != 0;
    if (n && 2 * n >= w->pages)
        outbox_add((struct vta_range){ w->gpa, w->bytes, VTA_FREE,
                                       (uint8_t)(n * VTA_SHARE / w->pages), 255, 0, 0 });
}

const struct collector collect_free = {
    .name = "free",
    .kind = VTA_FREE,
    .open = kpage_open,
    .look = look,
};
