// SPDX-License-Identifier: GPL-2.0-or-later
/* The list of who takes part: see contenders.h. */
#include "bench/place/contenders.h"

const struct contender *const contenders[] = {
    &contender_static, &contender_limited, &contender_cbx_s, &contender_cbx_s5, &contender_cbx_p,
    &contender_cbx_sp, &contender_lru_s, &contender_age, &contender_numab2, &contender_tpp,
    &contender_damon, &contender_memtis, &contender_hemem, &contender_topk, &contender_hint_none,
    &contender_hint_good, &contender_hint_bad,
};
const guint n_contenders = G_N_ELEMENTS(contenders);
