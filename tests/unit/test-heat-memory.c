// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit test of how much memory the daemon takes for each granule, all told: heat, ledger, and whatever a
 * policy keeps or needs while it plans. Every allocation of this program is counted, at its peak.
 *
 * timeout: 60
 */
#include "host/policy/policy.h"

#include <malloc.h>
#include <stdlib.h>

#define GRANULES 32768u         /* 64 GiB of 2 MiB */
#define MOST     256
#define BYTES    32             /* per granule, at most */

static gsize used, peak;

/* A sanitizer has its own malloc(), and its own idea of how large things are. */
#ifdef __SANITIZE_ADDRESS__
#define COUNTED false
#else
#define COUNTED true

/* glibc's own, under the names that let it be replaced. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static void *count(void *p)
{
    used += p ? malloc_usable_size(p) : 0;
    peak = MAX(peak, used);
    return p;
}

void *malloc(size_t n)
{
    return count(__libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    return count(__libc_calloc(n, size));
}

void *realloc(void *p, size_t n)
{
    used -= p ? malloc_usable_size(p) : 0;
    return count(__libc_realloc(p, n));
}

void free(void *p)
{
    used -= p ? malloc_usable_size(p) : 0;
    __libc_free(p);
}
#endif

static void run_round(struct heat *heat, struct ledger *ledger, const struct policy *policy,
                      gpointer state, double now)
{
    guint32 promote[MOST], demote[MOST];
    struct plan p = { .promote = promote, .demote = demote };
    struct outlook look = { .heat = heat, .ledger = ledger, .dram_most = GRANULES / 4,
                            .moves_most = MOST, .now = now, .move_cost_s = 1e-4, .pages = 512 };

    heat_advance(heat, 0.25, (1u << HEAT_KINDS) - 1);
    for (int i = 0; i < 20000; i++)
        heat_add(heat, HEAT_SAMPLES, (guint32)g_random_int_range(0, 4000) * 7, 1000, 0);
    policy->plan(state, &look, &p);
    for (guint32 i = 0; i < p.n_demote; i++)
        ledger_put(ledger, p.demote[i], 1);
    for (guint32 i = 0; i < p.n_promote; i++)
        ledger_put(ledger, p.promote[i], 0);
    policy->carried_out(state, &look, &p);
}

static void check(gconstpointer data)
{
    const struct policy *policy = data;
    struct heat heat;
    struct ledger ledger;
    gsize before = used;
    gpointer state;

    peak = used;
    heat_init(&heat);
    ledger_init(&ledger, 2 << 20);
    heat_resize(&heat, GRANULES);
    heat_use_samples(&heat, true);
    ledger_resize(&ledger, GRANULES);
    for (guint32 g = 0; g < GRANULES; g++)
        ledger_put(&ledger, g, g < GRANULES / 4 ? 0 : 1);
    state = policy->create();
    for (int i = 0; i < 100; i++)
        run_round(&heat, &ledger, policy, state, i * 0.25);
    g_test_message("%s: %.2f bytes per granule", policy->name, (double)(peak - before) / GRANULES);
    g_assert_cmpuint(peak - before, <=, GRANULES * BYTES);
    g_assert_true(!COUNTED || peak - before >= GRANULES * (HEAT_BYTES + 1));
    policy->destroy(state);
    heat_clear(&heat);
    ledger_clear(&ledger);
    g_assert_cmpuint(used, ==, before);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/heat/memory/cbx", &policy_cbx, check);
    g_test_add_data_func("/heat/memory/lru", &policy_lru, check);
    return g_test_run();
}
