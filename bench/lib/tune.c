// SPDX-License-Identifier: GPL-2.0-or-later
/* What the benchmark uses of the mover's interface, in one place. */
#include "bench/lib/tune.h"
#include "vmm/mover.h"

const char *const bench_step_names[BENCH_STEPS + 1] = { NULL };

void bench_tune(const struct bench_tuning *t)
{
    (void)t;
}

void bench_step_ns(guint64 ns[BENCH_STEPS])
{
    for (guint i = 0; i < BENCH_STEPS; i++)
        ns[i] = 0;
}

bool bench_move(struct vt_move_one *m, guint32 n, guint8 *status)
{
    struct mover_cost cost;

    mover_carry_out(m, n, false, &cost);
    for (guint32 i = 0; i < n; i++)
        if (m[i].status != VT_ST_OK) {
            *status = m[i].status;
            return false;
        }
    return true;
}

guint64 bench_move_some(struct vt_move_one *m, guint32 n)
{
    struct mover_cost cost;

    mover_carry_out(m, n, false, &cost);
    return cost.pages;
}

struct vt_move_one bench_toggle(const struct bench_memory *m, guint32 index)
{
    guint32 g = m->b->first + index;

    return (struct vt_move_one){ .granule = g, .tier = !ram_tier[g] };
}
