// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two guests under KVM share less of node 0 than they may have: it goes to the one that works, by the
 * kernel's account, and the two together never have more than there is.
 */
#include "nested.h"

#define RAM   (64 * MIB)
#define POOL  (40 * MIB)

static const char config[] = "[host]\ndram=40M\n[vm default]\nquota=100%\nquota-min=8M\nrate=256M\nsources=refault\n";

/* What a ROM spins over: 28 MiB from 4 MiB on, a word in each page. */
static const struct rom_range work = { .base = 4 * MIB, .stride = 4096, .count = 28 * 256 };
static const struct rom_range all = { .base = MIB, .stride = 4096, .count = 63 * 256 };

struct pair {
    struct rig *rig;
    struct vm *favoured;
};

/* In one answer: what one gives between two questions, the other may have at the second. */
static gint64 files_of_both(struct rig *rig)
{
    g_autoptr(JsonNode) answer = qmp_ok(rig->daemon->qmp, "query-vmtier-vms", NULL);
    JsonArray *vms = json_node_get_array(answer);
    gint64 sum = 0;

    g_assert_cmpuint(json_array_get_length(vms), ==, 2);
    for (guint i = 0; i < 2; i++)
        sum += json_int(json_array_get_object_element(vms, i), "tiers.0.file_bytes");
    return sum;
}

static uint64_t dram_of(struct vm *vm)
{
    return nested_numa_maps(vm, RAM).on[0] * 4096;
}

/* One more granule is lent to the guest that comes second. */
static bool favoured_has_most(void *opaque)
{
    struct pair *p = opaque;

    g_assert_cmpint(files_of_both(p->rig), <=, POOL + GRANULE);
    return dram_of(p->favoured) >= 24 * MIB;
}

static struct vm *start(struct rig *rig, const char *name)
{
    struct vm *vm = nested_rom_vm(rig, name, (struct vm_options){ 0 });

    rom_wait_alive(vm, TIMEOUT);
    daemon_wait_vm_state(rig->daemon, name, "tiering", TIMEOUT);
    return vm;
}

static bool has_guarantee(JsonObject *vm, void *unused)
{
    (void)unused;
    return json_int(vm, "quota.now_bytes") >= (gint64)(8 * MIB);
}

static void test_follows_work(void)
{
    g_autoptr(Rig) rig = nested_daemon("sharing", config);
    g_autoptr(Vm) a = start(rig, "a"), b = start(rig, "b");
    struct pair p = { rig, b };

    g_assert_true(daemon_wait_vm(rig->daemon, "a", has_guarantee, NULL, TIMEOUT));
    g_assert_true(daemon_wait_vm(rig->daemon, "b", has_guarantee, NULL, TIMEOUT));
    rom_run(a, ROM_WRITE, all, 7, TIMEOUT);
    rom_run(b, ROM_WRITE, all, 7, TIMEOUT);
    rom_give(b, ROM_SPIN, work, 0);
    g_assert_true(lab_wait(favoured_has_most, &p, TIMEOUT));
    rom_stop_spin(b, TIMEOUT);
    g_assert_cmpuint(rom_run(a, ROM_CHECK, all, 7, TIMEOUT).result, ==, 0);
    rom_give(a, ROM_SPIN, work, 0);
    p.favoured = a;
    g_assert_true(lab_wait(favoured_has_most, &p, TIMEOUT));
    rom_stop_spin(a, TIMEOUT);
    g_test_message("node 0: a has %" PRIu64 " bytes, b %" PRIu64, dram_of(a), dram_of(b));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nested/sharing/follows-work", test_follows_work);
    return nested_run();
}
