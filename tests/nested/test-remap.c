// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest under KVM whose memory is remapped between the files of two tiers while it writes all of it: every page is
 * on the node of the tier that the ledger says, and none is bad.
 */
#include "nested.h"

#define RAM      (64 * MIB)
#define MOVES    20000          /* pages */
#define QUOTA    (16 * MIB)
#define GRANULES (RAM / (256 * KIB))

/* Granules are small so that a message's worth of moves does not take long, however slow the machine is. */
static const char still[] = "[vm default]\nquota=100%\nrate=1G\nmode=off\nsources=report\ngranule=256K\n";
static const char slow[] = "[vm default]\nquota=100%\nrate=8M\nmode=off\nsources=report\ngranule=256K\n";
static const char tiering[] = "[vm default]\nquota=16M\nrate=256M\nsources=report\ngranule=256K\n";
static const struct rom_range all = { .base = MIB, .stride = 4096, .count = NESTED_COUNTED };

static void check_end(struct rig *rig)
{
    nested_check_counters(rig->vm);
    g_test_message("%" G_GINT64_FORMAT " pages moved", rig_daemon_int(rig, "moves.pages"));
    g_assert_cmpint(rig_daemon_int(rig, "moves.failed"), ==, 0);
    g_assert_cmpint(rig_daemon_int(rig, "ledger_mismatches"), ==, 0);
}

/* The guest has been everywhere since, so all is mapped, and numa_maps tells of it. */
static struct nested_pages look(struct rig *rig)
{
    nested_wait_counted(rig->vm, 2);
    return nested_check_ledger(rig, RAM);
}

/* All there is has gone to this tier's node. */
static void move_all(struct rig *rig, const char *tier, unsigned node)
{
    g_autoptr(JsonObject) done = nested_move(rig, tier);
    struct nested_pages pages;

    g_assert_cmpint(json_int(done, "failed"), ==, 0);
    pages = look(rig);
    g_assert_cmpuint(pages.on[node], >=, NESTED_COUNTED);
    g_assert_cmpuint(pages.on[!node], ==, 0);
}

static void test_moves(void)
{
    g_autoptr(Rig) rig = nested_rom("remap", still, (struct vm_options){ 0 });

    nested_count(rig->vm);
    do {
        move_all(rig, "cxl", 1);
        move_all(rig, "dram", 0);
    } while (rig_daemon_int(rig, "moves.pages") < MOVES);
    check_end(rig);
}

/* --- here and there ----------------------------------------------------------------------------------- */

/* Sends stretches of some granules to a tier, and notes where they have to be. */
static void scatter(struct rig *rig, GRand *rand, gint64 *wanted)
{
    const gint64 tier = g_rand_int_range(rand, 0, 2);
    g_autoptr(GString) ranges = g_string_new(NULL);

    for (guint at = (guint)g_rand_int_range(rand, 0, 8); at < GRANULES; at += (guint)g_rand_int_range(rand, 1, 12)) {
        guint n = MIN((guint)g_rand_int_range(rand, 1, 12), (guint)GRANULES - at);

        g_string_append_printf(ranges, "%s{\"first\":%u,\"count\":%u}", ranges->len ? "," : "", at, n);
        for (; n; n--)
            wanted[at++] = tier;
    }
    nested_move_ranges(rig, tier ? "cxl" : "dram", ranges->str);
}

static void check_ledger_is(struct rig *rig, const gint64 *wanted)
{
    g_autoptr(JsonObject) map = ask(rig->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    JsonArray *tier = json_object_get_array_member(map, "tier");

    for (guint g = 0; g < GRANULES; g++)
        g_assert_cmpint(json_array_get_int_element(tier, g), ==, wanted[g]);
}

static void test_scattered(void)
{
    g_autoptr(Rig) rig = nested_rom("scattered", still, (struct vm_options){ 0 });
    GRand *rand = g_rand_new_with_seed(7);
    gint64 wanted[GRANULES] = { 0 };

    nested_count(rig->vm);
    while (rig_daemon_int(rig, "moves.pages") < MOVES)
        scatter(rig, rand, wanted);
    g_rand_free(rand);
    check_ledger_is(rig, wanted);
    g_assert_cmpuint(look(rig).on[1], >, 0);
    check_end(rig);
}

/* --- a daemon that dies ----------------------------------------------------------------------------------- */

/* In the midst of an order. Whatever the mover was at then, the next daemon learns from QEMU where everything is. */
static void kill_under_way(struct rig *rig, const char *tier)
{
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-move", "{\"vm\":\"vm\",\"tier\":\"%s\"}", tier));
    g_assert_true(rig_reaches(rig, "moves.pages", 1024, TIMEOUT));
    g_test_message("killed after %" G_GINT64_FORMAT " pages", rig_daemon_int(rig, "moves.pages"));
    daemon_kill(rig->daemon);
    g_assert_nonnull(qmp_wait_event(rig->vm->qmp, "X_VMTIER_DETACHED", TIMEOUT));
    daemon_restart(rig->daemon);
    nested_wait_known(rig);
}

static void test_killed(void)
{
    g_autoptr(Rig) rig = nested_rom("killed", slow, (struct vm_options){ 0 });

    nested_count(rig->vm);
    kill_under_way(rig, "cxl");
    g_assert_cmpuint(look(rig).on[1], >=, 1024);
    kill_under_way(rig, "dram");
    look(rig);
    check_end(rig);
}

/* --- a quota -------------------------------------------------------------------------------------------- */

/* What a guest touches first is made on the node of its tier, though its processors are on node 0. */
static void test_quota(void)
{
    g_autoptr(Rig) rig = nested_rom("quota", tiering, (struct vm_options){ 0 });
    struct nested_pages pages;

    rom_run(rig->vm, ROM_WRITE, all, 3, TIMEOUT);
    rig_set_mode(rig, "off");
    nested_wait_rounds(rig, 2);
    pages = nested_check_ledger(rig, RAM);
    g_assert_cmpuint(pages.on[0], <=, QUOTA / 4096);
    g_assert_cmpuint(pages.on[1], >=, NESTED_COUNTED - QUOTA / 4096);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, all, 3, TIMEOUT).result, ==, 0);

    rig_set_mode(rig, "on");
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":%llu}", QUOTA / 2));
    g_assert_true(rig_falls_to(rig, "tiers.0.file_bytes", QUOTA / 2, TIMEOUT));
    rig_set_mode(rig, "off");
    nested_wait_rounds(rig, 2);
    pages = nested_check_ledger(rig, RAM);
    g_assert_cmpuint(pages.on[0], <=, QUOTA / 2 / 4096);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, all, 3, TIMEOUT).result, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nested/remap/moves", test_moves);
    g_test_add_func("/nested/remap/scattered", test_scattered);
    g_test_add_func("/nested/remap/daemon-killed", test_killed);
    g_test_add_func("/nested/remap/quota", test_quota);
    return nested_run();
}
