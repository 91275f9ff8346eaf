// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that writes all of its memory is migrated live, under KVM's dirty logging, to a QEMU that is tiered as well,
 * while its memory goes to and fro between the nodes and our own dirty log is read, by either route: nothing is lost.
 */
#include "nested.h"

static const char config[] = "[vm default]\nquota=100%\nrate=1G\nmode=off\nsources=dirty\ngranule=256K\n";

static bool has_ended(void *vm)
{
    g_autoptr(JsonObject) o = ask(((struct vm *)vm)->qmp, "query-migrate", "{}");
    const char *status = json_object_get_string_member_with_default(o, "status", "none");

    return g_str_equal(status, "completed") || g_str_equal(status, "failed");
}

static gint64 migrate_int(struct vm *vm, const char *path)
{
    g_autoptr(JsonObject) o = ask(vm->qmp, "query-migrate", "{}");

    return json_int(o, path);
}

/* Slowly, so that the guest writes meanwhile; then as fast as it goes. */
static void limit(struct vm *vm, const char *bytes_per_s)
{
    json_node_unref(qmp_ok(vm->qmp, "migrate-set-parameters", "{\"max-bandwidth\":%s,\"downtime-limit\":5000}",
                           bytes_per_s));
}

static void read_log(struct rig *rig, const char *route)
{
    g_autoptr(JsonObject) log = nested_dirty_log(rig, 64 * MIB);
    g_autoptr(JsonObject) query = rig_query(rig);

    g_assert_cmpstr(json_text(query, "dirty.route"), ==, route);
}

static void migrate(struct rig *rig, struct vm *to, const char *route)
{
    unsigned moves = 0;

    limit(rig->vm, "12000000");
    json_node_unref(qmp_ok(to->qmp, "migrate-incoming", "{\"uri\":\"unix:/tmp/stream\"}"));
    json_node_unref(qmp_ok(rig->vm->qmp, "migrate", "{\"uri\":\"unix:/tmp/stream\"}"));
    for (const char *tier = "cxl"; moves < 4; tier = *tier == 'c' ? "dram" : "cxl", moves++) {
        g_autoptr(JsonObject) done = nested_move(rig, tier);

        g_assert_cmpint(json_int(done, "failed"), ==, 0);
        read_log(rig, route);
    }
    limit(rig->vm, "1000000000");
    g_assert_true(lab_wait(has_ended, rig->vm, TIMEOUT));
    g_assert_true(lab_wait(has_ended, to, TIMEOUT));
    g_test_message("%" G_GINT64_FORMAT " passes, %" G_GINT64_FORMAT " bytes sent", migrate_int(rig->vm,
                   "ram.dirty-sync-count"), migrate_int(rig->vm, "ram.transferred"));
}

static void test_live(gconstpointer route)
{
    static const char *const incoming[] = { "-incoming", "defer", NULL };

    g_setenv("VMTIER_TEST_DIRTY", route, TRUE);
    g_autoptr(Rig) rig = nested_rom("live", config, (struct vm_options){ 0 });
    g_autoptr(Vm) to = nested_rom_vm(rig, "to", (struct vm_options){ .extra = incoming });
    gint64 before;

    read_log(rig, route);
    nested_count(rig->vm);
    before = rig_daemon_int(rig, "moves.pages");
    migrate(rig, to, route);
    g_assert_cmpint(rig_daemon_int(rig, "moves.pages") - before, >=, NESTED_COUNTED);
    nested_check_counters(to);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/nested/migrate/kvm", "kvm", test_live);
    g_test_add_data_func("/nested/migrate/qemu", "qemu", test_live);
    return nested_run();
}
