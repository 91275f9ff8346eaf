// SPDX-License-Identifier: GPL-2.0-or-later
/* See fence-time.h. */
#include "vmm/fence-time.h"

#define POWERS 32u

static unsigned power_of(uint64_t ns)
{
    unsigned i = 63u - (unsigned)__builtin_clzll(ns | 1);

    return i < POWERS ? i : POWERS - 1;
}

static uint64_t load(_Atomic uint64_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

void fence_times_note(struct fence_times *times, uint64_t ns)
{
    uint64_t longest = load(&times->longest);

    atomic_fetch_add_explicit(&times->n[power_of(ns)], 1, memory_order_relaxed);
    while (ns > longest &&
           !atomic_compare_exchange_weak_explicit(&times->longest, &longest, ns,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

uint64_t fence_times_count(struct fence_times *times)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < POWERS; i++)
        n += load(&times->n[i]);
    return n;
}

uint64_t fence_times_quantile(struct fence_times *times, double share)
{
    double left = share * (double)fence_times_count(times);
    uint64_t longest = load(&times->longest);

    for (unsigned i = 0; i < POWERS; i++) {
        double here = (double)load(&times->n[i]);

        if (here > 0 && left <= here) {
            uint64_t ns = (1ull << i) + (uint64_t)(left / here * (double)(1ull << i));

            return ns < longest ? ns : longest;
        }
        left -= here;
    }
    return longest;
}
