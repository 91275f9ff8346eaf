// SPDX-License-Identifier: GPL-2.0-or-later
/* Who takes part: a file each, a row each in contenders.c. */
#ifndef VMTIER_BENCH_PLACE_CONTENDERS_H
#define VMTIER_BENCH_PLACE_CONTENDERS_H

#include "bench/place/sim.h"

extern const struct contender contender_cbx_s, contender_cbx_s5, contender_cbx_p, contender_cbx_sp,
    contender_lru_s, contender_hint_good, contender_hint_bad, contender_hint_none;
extern const struct contender contender_static, contender_limited, contender_topk, contender_age,
    contender_numab2, contender_tpp, contender_memtis, contender_hemem, contender_damon;

#endif
