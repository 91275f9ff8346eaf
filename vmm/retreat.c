// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Going home: every granule back into QEMU's own file, at the offset QEMU believes it to be.
 *
 * Somebody who maps that file himself (a vhost-user device that is plugged in, a migration that
 * leaves the file to the next QEMU) sees the guest's memory only then. A slot may be used by another
 * granule; that one first goes to wherever there is room, and comes home in its turn.
 */
#include "vmm/mover.h"
#include "vmm/pool.h"
#include "vmm/run.h"

#define RUN_BYTES (8ull << 20)

static bool is_home(const struct ram_block *b, uint32_t g)
{
    return ram_tier[g] == 0 && ram_slot[g] == g - b->first;
}

/* Moves one granule that is in the way to a slot of some other tier. */
static bool clear_slot(struct ram_block *b, uint32_t slot)
{
    uint32_t owner = pool_owner(b, 0, slot);

    for (unsigned tier = 1; owner != UINT32_MAX && tier < VT_TIERS; tier++) {
        struct run r;

        run_start(&r, b, b->first + owner, tier);
        if (b->file[tier] >= 0 && run_prepare(&r, false) && run_carry_out(&r) == VT_ST_OK)
            return true;
    }
    return owner == UINT32_MAX;
}

static bool can_join(const struct ram_block *b, uint32_t g, unsigned from)
{
    return !is_home(b, g) && ram_tier[g] == from &&
           pool_owner(b, 0, g - b->first) == UINT32_MAX;
}

/* Brings the granule home, and those after it whose way is free. Returns how many that was. */
static uint32_t bring_home(struct ram_block *b, uint32_t g)
{
    uint32_t most = b->first + b->count - g, n = 1;
    struct run r;

    run_start(&r, b, g, 0);
    r.from = ram_tier[g];
    if (is_home(b, g) || !clear_slot(b, g - b->first))
        return 1;
    while (n < most && n * ram_granule() < RUN_BYTES && can_join(b, g + n, r.from))
        n++;
    r.n = n;
    if (run_prepare_exact(&r))
        run_carry_out(&r);
    return n;
}

/* The block may go whenever the lock is not held, and another one may take its entry. */
static bool still_there(const struct ram_block *b, uint32_t first)
{
    return b->used && b->first == first && b->present;
}

/* One that is lent to QEMU's own userfaultfd cannot come home now. */
static bool can_come(const struct ram_block *b, uint32_t first)
{
    return still_there(b, first) && b->watched;
}

static uint32_t retreat_block(struct ram_block *b)
{
    uint32_t first, end, left = 0;

    ram_lock();
    first = b->first;
    end = still_there(b, first) ? first + b->count : first;
    for (uint32_t g = first; g < end && can_come(b, first);) {
        g += bring_home(b, g);
        pool_trim(0, RUN_BYTES);
        ram_unlock();
        ram_give_way();
        ram_lock();
    }
    for (uint32_t g = first; g < end && still_there(b, first); g++)
        left += !is_home(b, g);
    ram_unlock();
    return left;
}

uint32_t mover_retreat(void)
{
    static const uint64_t none[VT_TIERS];
    uint32_t left = 0;

    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        left += retreat_block(b);
    mover_trim(none);
    return left;
}
