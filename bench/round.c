// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a round costs the daemon, by the size of the VM: CPU time of heat and placement, with as many
 * samples and probes as a busy guest gives, and of the history of the heat map.
 *
 *   round            build/bench/round.json and a table: 64 GiB and 4 TiB of 2 MiB granules, each policy
 *
 * Moves are decided but only noted in the ledger; sources and movers are measured elsewhere.
 */
#include "host/history.h"
#include "host/policy/policy.h"

#include <json-glib/json-glib.h>
#include <stdlib.h>
#include <time.h>

#define MOST    256
#define SAMPLES 5000u           /* per round */
#define PROBES  2500u
#define ROUND   0.25
#define ROUNDS  200

struct parts {
    double evidence, decide, history;   /* milliseconds */
};

struct bed {
    struct heat heat;
    struct ledger ledger;
    struct history history;
    gpointer state;
    const struct policy *policy;
    double now;
};

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A tenth of the granules gets nine tenths of what comes. */
static guint32 pick(const struct bed *b)
{
    guint32 all = b->heat.n, hot = all / 10;

    return (guint32)g_random_int_range(0, (gint32)(g_random_int_range(0, 10) ? hot : all)) * 7 % all;
}

static void give_evidence(struct bed *b)
{
    heat_advance(&b->heat, ROUND, (1u << HEAT_KINDS) - 1);
    for (guint32 i = 0; i < SAMPLES; i++)
        heat_add(&b->heat, HEAT_SAMPLES, pick(b), 1000, 0);
    for (guint32 i = 0; i < PROBES; i++)
        heat_add(&b->heat, HEAT_PROBES, pick(b), 8, 2);
    heat_digest(&b->heat);
}

static void decide(struct bed *b)
{
    guint32 promote[MOST], demote[MOST];
    struct plan p = { .promote = promote, .demote = demote };
    struct outlook look = { .heat = &b->heat, .ledger = &b->ledger, .dram_most = b->heat.n / 4,
                            .moves_most = MOST, .now = b->now, .move_cost_s = 1e-4, .pages = 512 };

    b->policy->plan(b->state, &look, &p);
    for (guint32 i = 0; i < p.n_demote; i++)
        ledger_put(&b->ledger, demote[i], 1);
    for (guint32 i = 0; i < p.n_promote; i++)
        ledger_put(&b->ledger, promote[i], 0);
    b->policy->carried_out(b->state, &look, &p);
}

static void run_once(struct bed *b, struct parts *took)
{
    double at[4];

    at[0] = cpu_ms();
    give_evidence(b);
    at[1] = cpu_ms();
    decide(b);
    at[2] = cpu_ms();
    history_note(&b->history, &b->heat, &b->ledger, b->now);
    at[3] = cpu_ms();
    *took = (struct parts){ at[1] - at[0], at[2] - at[1], at[3] - at[2] };
    b->now += ROUND;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct row {
    const char *policy;
    guint32 granules;
    struct parts mean;
    double median, p99;
};

static void run(struct row *r, const struct policy *policy, guint32 granules)
{
    struct bed b = { .policy = policy };
    double whole[ROUNDS];

    *r = (struct row){ .policy = policy->name, .granules = granules };
    heat_init(&b.heat);
    heat_resize(&b.heat, granules);
    heat_use_samples(&b.heat, true);
    ledger_init(&b.ledger, 2 << 20);
    ledger_resize(&b.ledger, granules);
    for (guint32 g = 0; g < granules; g++)
        ledger_put(&b.ledger, g, g < granules / 4 ? 0 : 1);
    b.state = policy->create();
    for (int i = 0; i < ROUNDS; i++) {
        struct parts took;

        run_once(&b, &took);
        r->mean.evidence += took.evidence / ROUNDS;
        r->mean.decide += took.decide / ROUNDS;
        r->mean.history += took.history / ROUNDS;
        whole[i] = took.evidence + took.decide + took.history;
    }
    qsort(whole, ROUNDS, sizeof(whole[0]), ascending);
    r->median = whole[ROUNDS / 2];
    r->p99 = whole[ROUNDS * 99 / 100];
    policy->destroy(b.state);
    heat_clear(&b.heat);
    ledger_clear(&b.ledger);
    history_clear(&b.history);
}

static void add(JsonBuilder *b, const struct row *r)
{
    const struct {
        const char *name;
        double ms;
    } values[] = {
        { "evidence_ms", r->mean.evidence }, { "decide_ms", r->mean.decide },
        { "history_ms", r->mean.history }, { "median_ms", r->median }, { "p99_ms", r->p99 },
    };

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "policy");
    json_builder_add_string_value(b, r->policy);
    json_builder_set_member_name(b, "granules");
    json_builder_add_int_value(b, r->granules);
    for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
        json_builder_set_member_name(b, values[i].name);
        json_builder_add_double_value(b, values[i].ms);
    }
    json_builder_end_object(b);
    g_print("%-8s %9u %10.3f %10.3f %10.3f %10.3f %10.3f\n", r->policy, r->granules, r->mean.evidence,
            r->mean.decide, r->mean.history, r->median, r->p99);
}

int main(void)
{
    static const struct policy *const policies[] = { &policy_cbx, &policy_lru };
    static const guint32 sizes[] = { 32768, 2097152 };
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(JsonGenerator) out = json_generator_new();
    g_autoptr(JsonNode) root = NULL;
    const char *build = g_getenv("BUILD");
    g_autofree char *path = g_strdup_printf("%s/bench/round.json", build ? build : "build");
    struct row row;

    g_print("%-8s %9s %10s %10s %10s %10s %10s  CPU ms\n", "policy", "granules", "evidence", "decide",
            "history", "median", "p99");
    json_builder_begin_array(b);
    for (gsize p = 0; p < G_N_ELEMENTS(policies); p++)
        for (gsize s = 0; s < G_N_ELEMENTS(sizes); s++) {
            run(&row, policies[p], sizes[s]);
            add(b, &row);
        }
    json_builder_end_array(b);
    json_generator_set_pretty(out, TRUE);
    root = json_builder_get_root(b);
    json_generator_set_root(out, root);
    if (!json_generator_to_file(out, path, NULL))
        return 1;
    g_print("%s\n", path);
    return 0;
}
