// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How much of a VM's memory could be on the slow tier: see trace-capacity.h.
 *
 * The fixed curve is a sum over sorted counts. Each point of the tiered one is a replay; an answer is looked
 * for between two points of the curve by halving, down to SEARCH_SHARE of the memory. Less DRAM may serve
 * more by luck, so the answer is the least that was tried beyond which all that was tried is good enough.
 */
#include "host/trace-capacity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_SHARE (1.0 / 200)

/* With k granules in dram. */
static double fixed_at(const struct capacity *c, guint32 k)
{
    const struct replay_result *w = &c->whole;

    return 1 - replay_top_sum(w->total, w->numbers, k) / w->accesses;
}

static int replay_at(struct capacity *c, guint32 k, struct capacity_point *to, struct vt_err *err)
{
    struct replay_options o = *c->options;
    struct replay_result r;
    int rc;

    o.dram = k * c->whole.header.granule;
    o.skip_s = c->whole.skip_s;
    rc = replay_run(c->path, &o, &r, err);
    if (!rc)
        *to = (struct capacity_point){ .dram = k, .fixed = fixed_at(c, k),
                                       .tiered = 1 - r.hits / r.accesses,
                                       .moved_per_s = (double)r.moved / r.seconds };
    replay_clear(&r);
    c->replays++;
    if (c->progress)
        c->progress(c->replays);
    return rc;
}

static guint32 step(const struct capacity *c, guint32 i)
{
    return MAX((guint32)((guint64)c->whole.granules * (i + 1) / CAPACITY_STEPS), 1);
}

/* Granules are counted by their numbers: those that are in no block have no accesses. */
static int look_at_all(struct capacity *c, struct vt_err *err)
{
    struct replay_options o = *c->options;
    int rc;

    o.dram = G_MAXUINT64;
    rc = replay_run(c->path, &o, &c->whole, err);
    if (!rc && !(c->whole.accesses > 0))
        return vt_fail(err, ENODATA, "%s: no source in it samples accesses, so nobody knows how many "
                       "there are: record a VM with the source sample or ibs", c->path);
    return rc;
}

int capacity_measure(struct capacity *c, struct vt_err *err)
{
    int rc = look_at_all(c, err);

    for (guint32 i = 0; i < CAPACITY_STEPS && !rc; i++)
        rc = replay_at(c, step(c, i), &c->curve[i], err);
    return rc;
}

static struct capacity_point least_fixed(const struct capacity *c, double slow)
{
    guint32 low = 0, high = c->whole.granules;

    while (low < high) {
        const guint32 k = low + (high - low) / 2;

        if (fixed_at(c, k) <= slow)
            high = k;
        else
            low = k + 1;
    }
    return (struct capacity_point){ .dram = high, .fixed = fixed_at(c, high) };
}

static int least_tiered(struct capacity *c, double slow, struct capacity_point *best, struct vt_err *err)
{
    const guint32 fine = MAX((guint32)(c->whole.granules * SEARCH_SHARE), 1);
    guint32 low = 0, i = CAPACITY_STEPS;
    int rc = 0;

    while (i > 0 && c->curve[i - 1].tiered <= slow)
        i--;
    if (i == CAPACITY_STEPS)                    /* not even all of it: cannot be, but in doubt all */
        i--;
    *best = c->curve[i];
    low = i ? c->curve[i - 1].dram : 0;
    while (best->dram - low > fine && !rc) {
        struct capacity_point p;

        rc = replay_at(c, low + (best->dram - low) / 2, &p, err);
        if (!rc && p.tiered <= slow)
            *best = p;
        else if (!rc)
            low = p.dram;
    }
    return rc;
}

int capacity_answer(struct capacity *c, double slow, struct capacity_answer *answer, struct vt_err *err)
{
    answer->slow = slow;
    answer->fixed = least_fixed(c, slow);
    return least_tiered(c, slow, &answer->tiered, err);
}

void capacity_clear(struct capacity *c)
{
    replay_clear(&c->whole);
}
