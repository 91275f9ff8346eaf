// SPDX-License-Identifier: GPL-2.0-or-later
/* What the benchmark uses of the mover's interface, in one place. */
#include "bench/lib/tune.h"

void bench_tune(const struct bench_tuning *t)
{
    const struct mover_tuning tuning = {
        .run_bytes = t->run_bytes, .threads = t->threads, .keep = { t->keep, t->keep },
    };

    mover_set_tuning(&tuning);
}

void bench_step_ns(guint64 ns[MOVER_STEPS])
{
    struct mover_stats stats;

    mover_get_stats(&stats);
    for (guint i = 0; i < MOVER_STEPS; i++)
        ns[i] = stats.step_ns[i];
}

bool bench_move(struct vt_move_one *m, guint32 n, guint8 *status)
{
    bench_move_some(m, n);
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

    mover_carry_out(m, n, 0, &cost);
    return cost.pages;
}

struct vt_move_one bench_toggle(const struct bench_memory *m, guint32 index)
{
    guint32 g = m->b->first + index;

    return (struct vt_move_one){ .granule = g, .tier = !ram_tier[g] };
}
