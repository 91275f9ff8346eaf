// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The memory of a VM without the plugin goes from one NUMA node to another. Where there is one node that
 * is skipped; test-numa-nodes.sh runs this program in a machine that has two.
 *
 * timeout: 300
 */
#include "pidvm.h"

#include <string.h>

static bool two_nodes(void)
{
    return g_file_test("/sys/devices/system/node/node1", G_FILE_TEST_IS_DIR);
}

/* One node: it is said that and why nothing moves. */
static void one_node(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });

    rom_run(n->rig->vm, ROM_WRITE, (struct rom_range){ 8 << 20, 4096, 2048 }, 7, TIMEOUT);
    pidvm_attach(n, false);
    rig_wait_state(n->rig, "frozen");
    g_autoptr(JsonObject) vm = rig_status(n->rig);

    says(json_text(vm, "reason"), "tier cxl has no NUMA node*");
    g_assert_cmpint(json_int(vm, "tiers.0.file_bytes"), >=, 8 * MIB);
    g_assert_cmpint(json_int(vm, "tiers.1.file_bytes"), ==, 0);
    json_node_unref(qmp_ok(n->rig->daemon->qmp, "vmtier-move", "{\"vm\":\"vm\",\"tier\":\"cxl\"}"));
    g_autoptr(JsonObject) event = qmp_wait_event(n->rig->daemon->qmp, "VMTIER_MOVED", TIMEOUT);

    g_assert_nonnull(event);
    says(json_text(event, "data.reason"), "tier cxl has no NUMA node*");
    g_assert_cmpint(json_int(event, "data.moved"), ==, 0);
}

/* Bytes of the process that the kernel has on a node. */
static uint64_t node_bytes(pid_t pid, const char *node)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/numa_maps", (int)pid);
    g_autofree char *text = NULL;
    uint64_t pages = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (const char *at = text; (at = strstr(at, node)); at += strlen(node))
        pages += g_ascii_strtoull(at + strlen(node), NULL, 10);
    return pages * 4096;
}

static const struct rom_range all_of_it = { 8 << 20, 4096, 12288 };     /* 48 MiB of 64 */

/* What is above the quota goes to the slow node, whoever moves it back is asked for the quota, and the
 * guest finds what it wrote. */
static void tiering(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });
    pid_t qemu = n->rig->vm->qemu->pid;

    rom_run(n->rig->vm, ROM_WRITE, all_of_it, 7, TIMEOUT);
    pidvm_attach(n, true);
    rig_wait_state(n->rig, "tiering");
    g_assert_true(rig_falls_to(n->rig, "tiers.0.granules", 8, TIMEOUT));
    g_assert_true(rig_reaches(n->rig, "tiers.1.file_bytes", 30 * MIB, TIMEOUT));
    g_assert_cmpuint(node_bytes(qemu, " N1="), >=, 30 * MIB);
    g_assert_cmpint(rig_daemon_int(n->rig, "moves.demoted"), >=, 15);
    rom_run(n->rig->vm, ROM_ADD, all_of_it, 1, TIMEOUT);

    rig_set_mode(n->rig, "off");
    g_autoptr(JsonObject) over = rig_order(n->rig, "dram", "", TIMEOUT);

    g_assert_cmpint(json_int(over, "data.over_quota"), >, 0);
    json_node_unref(qmp_ok(n->rig->daemon->qmp, "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":%u}", 64 << 20));
    g_autoptr(JsonObject) all = rig_order(n->rig, "dram", "", TIMEOUT);

    g_assert_cmpint(json_int(all, "data.moved"), ==, json_int(all, "data.granules"));
    g_assert_true(rig_falls_to(n->rig, "tiers.1.file_bytes", 0, TIMEOUT));
    g_autoptr(JsonObject) some = rig_order(n->rig, "cxl", ",\"ranges\":[{\"first\":4,\"count\":8}]", TIMEOUT);

    g_assert_cmpint(json_int(some, "data.moved"), ==, 8);
    g_assert_cmpint(pidvm_tier_of(n, 4), ==, 1);
    g_assert_cmpint(pidvm_tier_of(n, 12), ==, 0);
    g_assert_cmpuint(rom_run(n->rig->vm, ROM_CHECK, all_of_it, 8, TIMEOUT).result, ==, 0);

    json_node_unref(qmp_ok(n->rig->daemon->qmp, "vmtier-detach", "{\"vm\":\"vm\",\"home\":true}"));
    pidvm_expect_gone(n, "detached*");
    g_assert_cmpuint(node_bytes(qemu, " N1="), <, 16 * MIB);    /* its libraries may be there */
    g_assert_cmpuint(rom_run(n->rig->vm, ROM_CHECK, all_of_it, 8, TIMEOUT).result, ==, 0);
}

/* The guest writes all the time while its memory goes to and fro. */
static void writing(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });
    const struct rom_range range = { 16 << 20, 4096, 2048 };
    struct rom_mailbox box;

    rom_run(n->rig->vm, ROM_WRITE, range, 0, TIMEOUT);
    pidvm_attach(n, true);
    rig_set_mode(n->rig, "off");
    json_node_unref(qmp_ok(n->rig->daemon->qmp, "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":%u}", 64 << 20));
    rom_give(n->rig->vm, ROM_SPIN, range, 0);
    for (int i = 0; i < 8; i++) {
        g_autoptr(JsonObject) done = rig_order(n->rig, i % 2 ? "dram" : "cxl", "", TIMEOUT);

        g_assert_cmpint(json_int(done, "data.failed"), ==, 0);
    }
    rom_stop_spin(n->rig->vm, TIMEOUT);
    box = rom_mailbox(n->rig->vm);
    g_test_message("%u rounds, %" G_GINT64_FORMAT " pages moved", box.rounds,
                   rig_daemon_int(n->rig, "moves.pages"));
    g_assert_cmpint(rig_daemon_int(n->rig, "moves.pages"), >, 8 * 2048);
    g_assert_cmpuint(rom_run(n->rig->vm, ROM_CHECK, range, box.rounds, TIMEOUT).result, ==, 0);
}

/* A lab that is made and then skipped looks like one that has failed. */
static void test_one_node(void)
{
    if (two_nodes())
        g_test_skip("this host has two NUMA nodes");
    else
        one_node();
}

static void test_two_nodes(gconstpointer data)
{
    void (*const *run)(void) = data;

    if (two_nodes())
        (*run)();
    else
        g_test_skip("this host has one NUMA node: nothing can be moved");
}

int main(int argc, char **argv)
{
    static void (*const need_two[])(void) = { tiering, writing };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/numa-move/one-node", test_one_node);
    g_test_add_data_func("/numa-move/tiering", &need_two[0], test_two_nodes);
    g_test_add_data_func("/numa-move/writing", &need_two[1], test_two_nodes);
    return g_test_run();
}
