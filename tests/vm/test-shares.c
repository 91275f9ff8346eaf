// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Three VMs with different heat that share 40 MiB of dram, against the best split there is; then two of them change
 * places. How good the split is, how long it takes, and how still it is then.
 *
 * Only with VMTIER_SHARES_LONG=1, as it takes minutes and an emulated guest's speed is this machine's mood: the
 * same is shown without VMs in tests/unit/test-arbiter-split.c.
 *
 * The guests are test ROMs of 64 MiB, each of which reads and writes 8, 16 or 28 MiB all over, again and again. How
 * many accesses that is they count themselves; how many of them dram serves is sampled. The best split is
 * searched for with their counts.
 *
 * timeout: 600
 */
#include "rig.h"

#define VMS     3u
#define POOL    (40 * MIB)
#define LEAST   (8 * MIB)
#define RAM     (64 * MIB)
#define LEARN   45.0            /* seconds for heat and for the arbiter */
#define MINUTE  60.0
#define SETTLE  10.0            /* rounds of the arbiter, which has one a second */
#define ANSWER  60.0

static const char *const names[VMS] = { "a", "b", "c" };

struct world {
    struct rig *rig;
    bool fair;
    struct vm *vm[VMS];
    uint64_t work[VMS];         /* bytes each works on */
    gint64 quota[VMS];          /* as seen last */
    gint64 given;               /* bytes, since set to 0 */
    double changed;             /* when */
};

static struct rom_range range_of(uint64_t bytes)
{
    return (struct rom_range){ .base = 4 * MIB, .stride = 4096, .count = (uint32_t)(bytes / 4096) };
}

/* --- looking ------------------------------------------------------------------------------------------------- */

static void look(struct world *w)
{
    gint64 held = 0;

    for (guint v = 0; v < VMS; v++) {
        g_autoptr(JsonObject) vm = daemon_vm(w->rig->daemon, names[v]);
        gint64 quota = json_int(vm, "quota.now_bytes");

        g_assert_cmpint(quota, >=, LEAST);
        held += json_int(vm, "tiers.0.file_bytes");
        if (quota != w->quota[v])
            w->changed = lab_now();
        w->given += MAX(quota - w->quota[v], 0);
        w->quota[v] = quota;
    }
    g_assert_cmpint(held, <=, POOL + GRANULE);
}

static void look_for(struct world *w, double seconds)
{
    for (double end = lab_now() + seconds; lab_now() < end; lab_sleep(.25))
        look(w);
}

static double hits_of(struct world *w, guint v)
{
    g_autoptr(JsonObject) vm = daemon_vm(w->rig->daemon, names[v]);
    JsonNode *ratio = json_at(vm, "dram_hit.ratio");

    return ratio && JSON_NODE_HOLDS_VALUE(ratio) ? json_node_get_double(ratio) : 0;
}

/* Accesses per second, over a while. */
static void measure(struct world *w, double *accesses)
{
    uint32_t before[VMS];
    double start = lab_now();

    for (guint v = 0; v < VMS; v++)
        before[v] = rom_mailbox(w->vm[v]).rounds;
    look_for(w, 3);
    for (guint v = 0; v < VMS; v++) {
        uint64_t pages = w->work[v] / 4096;

        accesses[v] = (double)(rom_mailbox(w->vm[v]).rounds - before[v]) * (double)pages / (lab_now() - start);
    }
}

static double value_of(const struct world *w, const double *served, const double *accesses)
{
    double hits = 0, all = 0, worst = 1;

    for (guint v = 0; v < VMS; v++) {
        hits += served[v] * accesses[v];
        all += accesses[v];
        worst = MIN(worst, served[v]);
    }
    return w->fair ? worst : hits / all;
}

static double best_split(const struct world *w, const double *accesses)
{
    double best = 0;

    for (uint64_t a = LEAST; a + 2 * LEAST <= POOL; a += GRANULE)
        for (uint64_t b = LEAST; a + b + LEAST <= POOL; b += GRANULE) {
            const uint64_t split[VMS] = { a, b, POOL - a - b };
            double served[VMS];

            for (guint v = 0; v < VMS; v++)
                served[v] = MIN((double)split[v] / (double)w->work[v], 1);
            best = MAX(best, value_of(w, served, accesses));
        }
    return best;
}

static void judge(struct world *w, const char *when)
{
    double start = lab_now(), served[VMS], accesses[VMS], settled, value, best;

    w->changed = start;
    look_for(w, LEARN);
    settled = w->changed - start;
    w->given = 0;
    look_for(w, MINUTE);
    measure(w, accesses);
    for (guint v = 0; v < VMS; v++)
        served[v] = hits_of(w, v);
    value = value_of(w, served, accesses);
    best = best_split(w, accesses);
    g_test_message("%s: dram serves %.2f %.2f %.2f of %.0f %.0f %.0f accesses/s: %.3f, at best %.3f: %.3f of it; "
                   "quotas %d %d %d MiB after %.0f s; in the minute after %d KiB moved", when, served[0], served[1],
                   served[2], accesses[0], accesses[1], accesses[2], value, best, value / best,
                   (int)(w->quota[0] >> 20), (int)(w->quota[1] >> 20), (int)(w->quota[2] >> 20), settled,
                   (int)(w->given >> 10));
    g_assert_cmpfloat(value, >=, (w->fair ? .95 : .97) * best);
    g_assert_cmpfloat(settled, <=, SETTLE + 1);         /* and one until it is seen */
    g_assert_cmpint(w->given, <, POOL / 100);
}

/* --- the story ------------------------------------------------------------------------------------------------ */

static void start_daemon(struct world *w, const char *sharing)
{
    g_autofree char *path = lab_path(w->rig->lab, "vmtierd.conf");
    g_autofree char *text = g_strdup_printf("[host]\ndram=40M\nsharing=%s\n[vm default]\nquota=100%%\n"
                                            "quota-min=8M\nrate=256M\n", sharing);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    rig_start_daemon(w->rig, NULL);
}

static void give_work(struct world *w, guint v, uint64_t bytes)
{
    w->work[v] = bytes;
    rom_give(w->vm[v], ROM_SPIN, range_of(bytes), 0);
}

static bool has_floor(JsonObject *vm, void *unused)
{
    (void)unused;
    return g_str_equal(json_text(vm, "state"), "tiering") && json_int(vm, "quota.now_bytes") >= (gint64)LEAST;
}

static void start_vms(struct world *w)
{
    static const uint64_t work[VMS] = { 8 * MIB, 16 * MIB, 28 * MIB };

    for (guint v = 0; v < VMS; v++) {
        w->vm[v] = rig_another_vm(w->rig, names[v], (struct vm_options){ 0 });
        rom_wait_alive(w->vm[v], ANSWER);
        g_assert_true(daemon_wait_vm(w->rig->daemon, names[v], has_floor, NULL, ANSWER));
        rom_run(w->vm[v], ROM_WRITE, range_of(RAM - 4 * MIB), 7, ANSWER);
    }
    for (guint v = 0; v < VMS; v++)
        give_work(w, v, work[v]);
}

static void test_shares(gconstpointer sharing)
{
    struct world w = { .fair = g_str_equal(sharing, "fair") };

    if (!g_getenv("VMTIER_SHARES_LONG")) {
        g_test_skip("minutes: only with VMTIER_SHARES_LONG=1");
        return;
    }
    w.rig = rig_new("shares");
    start_daemon(&w, sharing);
    start_vms(&w);
    judge(&w, "three come");
    rom_stop_spin(w.vm[0], ANSWER);
    rom_stop_spin(w.vm[2], ANSWER);
    give_work(&w, 0, 28 * MIB);
    give_work(&w, 2, 8 * MIB);
    judge(&w, "two change places");
    for (unsigned v = 0; v < G_N_ELEMENTS(w.vm); v++)
        vm_free(w.vm[v]);
    rig_free(w.rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/shares/throughput", "throughput", test_shares);
    g_test_add_data_func("/shares/fair", "fair", test_shares);
    return g_test_run();
}
