// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest on three tiers whose hot set is interleaved, with weights that change while it works. (Pins, and cold
 * memory on several tiers: test-pins.c.)
 *
 * timeout: 200
 *
 * The guest has 256 MiB under TCG and granules of 2 MiB. Shares and moved bytes are the daemon's counters,
 * and what the files hold.
 */
#include "rig.h"

#define RAM      (256 * MIB)
#define BOOT     120.0
#define ANSWER   60.0

/* Interleaved all of it, so that nothing but weights moves anything. */
#define CONFIG \
    "[tier cxl0]\nweight=2\n[tier cxl1]\nweight=1\n" \
    "[vm default]\nquota=%s\nrate=512M\n"

static void start(struct rig *rig, const char *quota, const char *rest)
{
    g_autofree char *path = lab_path(rig->lab, "vmtierd.conf");
    g_autofree char *text = g_strdup_printf(CONFIG "%s", quota, rest);
    g_autofree char *plugin = NULL;

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    rig_start_daemon(rig, NULL);
    plugin = daemon_plugin(rig->daemon, "vm");
    rig->vm = vm_start(rig->lab, "vm", &(struct vm_options){
        .ram = "256M", .append = "vmt.foot=160M vmt.hot=32M", .plugin = plugin });
    g_free(guest_expect(rig->vm->guest, "VMT READY", BOOT));
    rig_wait_state(rig, "tiering");
}

static gint64 granules(struct rig *rig, guint tier)
{
    g_autofree char *path = g_strdup_printf("tiers.%u.granules", tier);

    return rig_daemon_int(rig, path);
}

static gint64 hot(struct rig *rig, guint tier)
{
    g_autofree char *path = g_strdup_printf("interleave.tiers.%u.granules", tier);

    return rig_daemon_int(rig, path);
}

/* As the daemon counts, and as its files and QEMU's part have it. */
static void check_account(struct rig *rig)
{
    static const char *const files[] = { "vmtier-cxl0:", "vmtier-cxl1:" };

    for (guint t = 0; t < 2; t++) {
        g_autofree char *ledger = g_strdup_printf("tiers.%u.ledger_bytes", t + 1);
        g_autofree char *spare = g_strdup_printf("tiers.%u.spare_bytes", t + 1);

        g_assert_cmpint((gint64)memfd_bytes(rig->vm->qemu->pid, files[t]), <=,
                        rig_daemon_int(rig, ledger) + rig_daemon_int(rig, spare));
    }
    g_assert_cmpint(rig_daemon_int(rig, "ledger_mismatches"), ==, 0);
    g_assert_cmpint(rig_daemon_int(rig, "moves.failed"), ==, 0);
}

static void check_share(gint64 part, gint64 all, double share)
{
    g_assert_cmpfloat(ABS((double)part / (double)all - share), <=, 0.02);
}

static void interleave(struct rig *rig, const char *weights)
{
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-set-interleave", "{\"vm\":\"vm\",\"weights\":\"%s\"}",
                           weights));
}

/* Waits until the hot set is where the weights want it, to the granule. */
static void settle(struct rig *rig, guint tier, gint64 target)
{
    double end = lab_deadline(ANSWER);

    while (hot(rig, tier) != target) {
        if (lab_now() > end)
            g_error("%" G_GINT64_FORMAT " granules of the hot set on tier %u, not %" G_GINT64_FORMAT,
                    hot(rig, tier), tier, target);
        lab_sleep(0.1);
    }
}

/* All memory is the hot set here: from the start as the weights say, and a change moves what it has to. */
static void test_interleave(void)
{
    g_autoptr(Rig) rig = rig_new("interleave");
    gint64 all, must, moved, bytes;

    start(rig, "100%", "interleave=dram=3 cxl0=1\n");
    all = granules(rig, 0) + granules(rig, 1) + granules(rig, 2);
    g_assert_cmpint(all, >=, (gint64)(RAM / GRANULE));
    settle(rig, 0, (3 * all + 2) / 4);
    check_share(granules(rig, 0), all, 0.75);
    check_share(granules(rig, 1), all, 0.25);
    g_assert_cmpint(granules(rig, 2), ==, 0);
    g_assert_cmpuint(guest_sweep(rig->vm->guest, 60), ==, 0);

    moved = rig_daemon_int(rig, "spread_moved_bytes");
    bytes = rig_daemon_int(rig, "moves.bytes");
    must = (granules(rig, 0) - (all + 1) / 2) * (gint64)GRANULE;
    interleave(rig, "dram=1 cxl0=1");
    settle(rig, 0, (all + 1) / 2);
    check_share(hot(rig, 0), all, 0.5);
    check_share(hot(rig, 1), all, 0.5);
    moved = rig_daemon_int(rig, "spread_moved_bytes") - moved;
    bytes = rig_daemon_int(rig, "moves.bytes") - bytes;
    g_test_message("moved %" G_GINT64_FORMAT " bytes, in all %" G_GINT64_FORMAT ", the least is %"
                   G_GINT64_FORMAT, moved, bytes, must);
    g_assert_cmpfloat((double)moved, <=, 1.05 * (double)must);
    g_assert_cmpfloat((double)bytes, <=, 1.05 * (double)must);
    g_assert_cmpuint(guest_sweep(rig->vm->guest, 60), ==, 0);
    check_account(rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tiers/interleave", test_interleave);
    return g_test_run();
}
