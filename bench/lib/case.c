// SPDX-License-Identifier: GPL-2.0-or-later
/* What the kinds of cases share. */
#include "bench/lib/move.h"

bool bench_case_open(const struct bench_case *c, guint64 size, struct bench_memory *m, char *why)
{
    const struct bench_tuning t = {
        .run_bytes = MAX(c->run_bytes, c->granule), .threads = c->threads,
        .keep = c->keep ? size : 0,
    };
    struct vt_err err = { 0 };

    if (bench_memory_open(m, c->backing, c->granule, size, &err)) {
        g_strlcpy(why, err.text, 200);
        return false;
    }
    bench_tune(&t);
    return true;
}
