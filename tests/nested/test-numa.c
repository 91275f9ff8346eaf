// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest under KVM whose QEMU has no plugin, attached by its pid: the kernel moves its pages, each is on the node
 * that the ledger says and the census counts it there, and none that the guest writes meanwhile is bad.
 */
#include "nested.h"

#define RAM   (64 * MIB)
#define MOVES 20000             /* pages */

static const char still[] = "[vm default]\nquota=100%\nrate=1G\nmode=off\nsources=report\n";
static const char tiering[] = "[vm default]\nquota=16M\nrate=256M\nsources=report\n";

/* A QEMU as it comes: its RAM is its own memory, that the kernel may have in large pages. */
static struct rig *start(const char *config)
{
    struct rig *rig;
    const char *const options[] = { "-qmp", "unix:/tmp/numa.qmp2,server=on,wait=off", NULL };

    rig = nested_rom("numa", config, (struct vm_options){ .backend = "", .plugin = "", .extra = options });
    nested_count(rig->vm);
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-attach", "{\"pid\":%d,\"vm\":\"vm\",\"qmp\":"
                           "\"/tmp/numa.qmp2\"}", (int)rig->vm->qemu->pid));
    nested_wait_known(rig);
    return rig;
}

/* The census takes a part of the memory in each round. */
static bool census_is_right(void *opaque)
{
    struct rig *rig = opaque;
    struct nested_pages maps = nested_numa_maps(rig->vm, RAM);

    return rig_daemon_int(rig, "tiers.0.file_bytes") == (gint64)maps.on[0] * 4096 &&
           rig_daemon_int(rig, "tiers.1.file_bytes") == (gint64)maps.on[1] * 4096;
}

static void check_census(struct rig *rig)
{
    json_node_unref(qmp_ok(rig->vm->qmp, "stop", NULL));
    bool right = lab_wait(census_is_right, rig, TIMEOUT);
    struct nested_pages maps = nested_numa_maps(rig->vm, RAM);

    json_node_unref(qmp_ok(rig->vm->qmp, "cont", NULL));
    g_test_message("node 0: %" PRIu64 " pages, census %" G_GINT64_FORMAT "; node 1: %" PRIu64 ", %"
                   G_GINT64_FORMAT, maps.on[0], rig_daemon_int(rig, "tiers.0.file_bytes") / 4096, maps.on[1],
                   rig_daemon_int(rig, "tiers.1.file_bytes") / 4096);
    g_assert_true(right);
}

static void test_moves(void)
{
    g_autoptr(Rig) rig = start(still);

    check_census(rig);
    do {
        g_autoptr(JsonObject) out = nested_move(rig, "cxl");

        g_assert_cmpint(json_int(out, "failed"), ==, 0);
        check_census(rig);
        g_assert_cmpuint(nested_check_ledger(rig, RAM).on[1], >=, NESTED_COUNTED);
        g_autoptr(JsonObject) back = nested_move(rig, "dram");

        g_assert_cmpint(json_int(back, "failed"), ==, 0);
        check_census(rig);
        g_assert_cmpuint(nested_check_ledger(rig, RAM).on[0], >=, NESTED_COUNTED);
    } while (rig_daemon_int(rig, "moves.pages") < MOVES);
    nested_check_counters(rig->vm);
    g_test_message("%" G_GINT64_FORMAT " pages moved", rig_daemon_int(rig, "moves.pages"));
}

static void test_quota(void)
{
    g_autoptr(Rig) rig = start(tiering);

    g_assert_true(rig_falls_to(rig, "tiers.0.file_bytes", 16 * MIB, TIMEOUT));
    g_assert_cmpuint(nested_numa_maps(rig->vm, RAM).on[1], >=, NESTED_COUNTED - 16 * MIB / 4096);
    nested_check_counters(rig->vm);
    rig_set_mode(rig, "off");
    nested_wait_rounds(rig, 2);
    check_census(rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nested/numa/moves", test_moves);
    g_test_add_func("/nested/numa/quota", test_quota);
    return nested_run();
}
