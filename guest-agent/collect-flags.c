// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Collector "flags": what the guest's own page reclaim thinks, as far as /proc/kpageflags tells: pages
 * that are on an active list and referenced are in use, those that are neither are not. The kernel only
 * looks when memory is short, so this is weak evidence, and it is switched off unless asked for.
 */
#include "guest-agent/agent.h"

#define REFERENCED (1ull << 2)
#define LRU        (1ull << 5)
#define ACTIVE     (1ull << 6)
#define WEIGHT     40

static void look(const struct window *w)
{
    unsigned hot = 0, cold = 0;

    for (unsigned i = 0; i < w->pages; i++) {
        uint64_t f = w->flags[i];

        hot += (f & LRU) && (f & ACTIVE) && (f & REFERENCED);
        cold += (f & LRU) && !(f & (ACTIVE | REFERENCED));
    }
    if (hot)
        outbox_add((struct vta_range){ w->gpa, w->bytes, VTA_HOT,
                                       (uint8_t)(1 + hot * (VTA_SHARE - 1) / w->pages), WEIGHT, 0, 0 });
    else if (2 * cold > w->pages)
        outbox_add((struct vta_range){ w->gpa, w->bytes, VTA_COLD,
                                       (uint8_t)(cold * VTA_SHARE / w->pages), WEIGHT, 0, 0 });
}

const struct collector collect_flags = {
    .name = "flags",
    .kind = VTA_HOT,
    .open = kpage_open,
    .look = look,
};
