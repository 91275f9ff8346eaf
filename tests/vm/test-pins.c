// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM on three tiers with ranges pinned to each of them, by the configuration and by an operator: they get there
 * and stay whatever their heat, what is refused is named and changes nothing, and what is cold is on the slower
 * tiers by their weights. The daemon is killed meanwhile.
 *
 * The guest is the test ROM, in 64 MiB, with granules of 2 MiB and a quota of 16 MiB.
 */
#include "rig.h"

#define ANSWER 40.0

#define CONFIG \
    "[tier cxl0]\nweight=2\n[tier cxl1]\nweight=1\n" \
    "[vm default]\nquota=16M\nrate=512M\n" \
    "[vm vm]\npin=dram 0x2000000 4M; cxl1 0x400000 4M\n"

static const struct rom_range all = { .base = MIB, .stride = 4096, .count = 63 * 256 };
static const struct rom_range pinned_and_more = { .base = 4 * MIB, .stride = 4096, .count = 8 * 256 };
static const struct rom_range the_rest = { .base = 12 * MIB, .stride = 4096, .count = 52 * 256 };

static void start(struct rig *rig)
{
    g_autofree char *path = lab_path(rig->lab, "vmtierd.conf");

    g_assert_true(g_file_set_contents(path, CONFIG, -1, NULL));
    rig_start_daemon(rig, NULL);
    rig_start_vm(rig, (struct vm_options){ 0 });
    rom_wait_alive(rig->vm, ANSWER);
    rig_wait_state(rig, "tiering");
    rom_run(rig->vm, ROM_WRITE, all, 7, ANSWER);
}

static guint pins(struct rig *rig)
{
    g_autoptr(JsonObject) vm = rig_status(rig);

    return json_array_get_length(json_object_get_array_member(vm, "pins"));
}

static void check_configured(struct rig *rig)
{
    rig_wait_int(rig, "pins.0.arrived", 2, ANSWER);
    rig_wait_int(rig, "pins.1.arrived", 2, ANSWER);
}

static void check_contents(struct rig *rig, struct rom_range range, uint32_t first)
{
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, range, first, ANSWER).result, ==, 0);
}

static void pin(struct rig *rig, const char *args)
{
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-pin", "%s", args));
}

static void refused(struct rig *rig, const char *command, const char *args, const char *why)
{
    g_autofree char *error = qmp_fails(rig->daemon->qmp, command, "%s", args);
    guint before = pins(rig);

    says(error, why);
    g_assert_cmpuint(pins(rig), ==, before);
}

static void check_refusals(struct rig *rig)
{
    refused(rig, "vmtier-pin", "{\"vm\":\"vm\",\"tier\":\"nvme\",\"gpa\":0,\"size\":2097152}",
            "*vm: there is no tier 'nvme'; there are dram, cxl0, cxl1");
    refused(rig, "vmtier-pin", "{\"vm\":\"vm\",\"tier\":\"dram\",\"gpa\":14680064,\"size\":4096}",
            "*vm: 0xe00000, 4096 bytes: these are no whole granules of 2097152");
    refused(rig, "vmtier-pin", "{\"vm\":\"vm\",\"tier\":\"dram\",\"gpa\":67108864,\"size\":2097152}",
            "*vm: there is no tiered RAM at 0x4000000*");
    refused(rig, "vmtier-pin", "{\"vm\":\"vm\",\"tier\":\"cxl0\",\"gpa\":6291456,\"size\":4194304}",
            "*vm: the pin at 0x600000 overlaps the one at 0x400000");
    refused(rig, "vmtier-pin", "{\"vm\":\"vm\",\"tier\":\"dram\",\"gpa\":14680064,\"size\":14680064}",
            "*18874368 bytes would be pinned to dram, and the quota is 16777216*");
    refused(rig, "vmtier-unpin", "{\"vm\":\"vm\",\"gpa\":6291456}", "*no pin begins at 0x600000");
    refused(rig, "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":2097152}", "*less than what is pinned to dram*");
}

/* What is pinned to cxl1 is hot now, as is what comes behind it; what is pinned to dram is not. */
static void check_hot_stays(struct rig *rig)
{
    rom_give(rig->vm, ROM_SPIN, pinned_and_more, 0);
    for (double end = lab_now() + 4; lab_now() < end; lab_sleep(.2)) {
        g_assert_cmpint(rig_daemon_int(rig, "pins.1.arrived"), ==, 2);
        g_assert_cmpint(rig_daemon_int(rig, "pins.0.arrived"), ==, 2);
        g_assert_cmpint(rig_daemon_int(rig, "tiers.0.granules"), <=, 8);
    }
    rom_stop_spin(rig->vm, ANSWER);
}

/* Without what is pinned there, two thirds of what is cold are on cxl0, give or take what is evenly spread. */
static void check_cold(struct rig *rig)
{
    gint64 on[3];

    g_assert_true(rig_reaches(rig, "tiers.0.granules", 8, ANSWER));
    for (guint t = 0; t < 3; t++) {
        g_autofree char *path = g_strdup_printf("tiers.%u.granules", t);

        on[t] = rig_daemon_int(rig, path);
    }
    g_test_message("granules: %d, %d, %d", (int)on[0], (int)on[1], (int)on[2]);
    on[2] -= 2;
    g_assert_cmpint(ABS(on[1] * 3 - (on[1] + on[2]) * 2), <=, 3 * 2);
}

static void test_pins(void)
{
    g_autoptr(Rig) rig = rig_new("pins");

    start(rig);
    check_configured(rig);
    check_contents(rig, all, 7);
    check_cold(rig);
    pin(rig, "{\"vm\":\"vm\",\"tier\":\"cxl0\",\"gpa\":12582912,\"size\":2097152}");
    rig_wait_int(rig, "pins.2.arrived", 1, ANSWER);
    check_refusals(rig);
    check_hot_stays(rig);
    daemon_kill(rig->daemon);
    check_contents(rig, the_rest, 7 + 11 * 256);
    daemon_restart(rig->daemon);
    rig_wait_state(rig, "tiering");
    check_configured(rig);
    g_assert_cmpuint(pins(rig), ==, 2);         /* an operator's do not outlive the daemon */
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-unpin", "{\"vm\":\"vm\",\"gpa\":4194304}"));
    g_assert_cmpuint(pins(rig), ==, 1);
    g_assert_cmpint(rig_daemon_int(rig, "ledger_mismatches"), ==, 0);
    g_assert_cmpint(rig_daemon_int(rig, "moves.failed"), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pins/three-tiers", test_pins);
    return g_test_run();
}
