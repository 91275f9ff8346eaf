// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A migration that sends guest memory without copying it (multifd with zero-copy-send) is noticed, and
 * the guest arrives whole, most of its memory having been on the other tier. One that copies is not.
 */
#include "rig.h"

#include <unistd.h>

#define MIGRATE_S 60.0

static const char *const arguments[] = { "--quota", "16M", "--rate", "1G", NULL };
static const struct rom_range all = { .base = 4 * MIB, .stride = 4096, .count = 15000 };

static const struct zero_case {
    const char *name;
    bool qemu10, zero_copy;
} cases[] = {
    { "sent", false, true }, { "sent-qemu10", true, true }, { "copied", false, false },
};

static void set_capability(struct vm *vm, const char *name)
{
    json_node_unref(qmp_ok(vm->qmp, "migrate-set-capabilities",
                           "{\"capabilities\":[{\"capability\":\"%s\",\"state\":true}]}", name));
}

static bool has_completed(void *vm)
{
    g_autoptr(JsonObject) o = ask(((struct vm *)vm)->qmp, "query-migrate", "{}");
    const char *status = json_object_get_string_member_with_default(o, "status", "");

    if (g_strcmp0(status, "failed") == 0)
        g_error("migration: %s", json_object_get_string_member_with_default(o, "error-desc", "?"));
    return g_strcmp0(status, "completed") == 0;
}

static struct vm *start_target(struct rig *rig, const char *qemu)
{
    g_autofree char *rom = lab_built("tests/rom.bin");
    const char *const extra[] = { "-incoming", "defer", NULL };
    struct vm *vm = vm_start(rig->lab, "target", &(struct vm_options){
        .qemu = qemu, .rom = rom, .ram = "64M", .machine = "pc", .extra = extra });

    set_capability(vm, "multifd");
    json_node_unref(qmp_ok(vm->qmp, "migrate-incoming", "{\"uri\":\"tcp:127.0.0.1:0\"}"));
    return vm;
}

static bool is_noticed(struct rig *rig)
{
    g_autoptr(JsonObject) all_of_it = rig_query(rig);

    return json_flag(all_of_it, "fence.zero-copy");
}

static void migrate(struct rig *rig, struct vm *target, bool zero_copy)
{
    g_autoptr(JsonObject) o = ask(target->qmp, "query-migrate", "{}");
    g_autofree char *uri = g_strdup_printf("tcp:127.0.0.1:%s", json_text(o, "socket-address.0.port"));

    set_capability(rig->vm, "multifd");
    if (zero_copy)
        set_capability(rig->vm, "zero-copy-send");
    json_node_unref(qmp_ok(rig->vm->qmp, "migrate", "{\"uri\":\"%s\"}", uri));
    g_assert_true(lab_wait(has_completed, rig->vm, MIGRATE_S));
    g_assert_true(lab_wait(has_completed, target, MIGRATE_S));
}

static void test_migration(gconstpointer data)
{
    const struct zero_case *c = data;
    g_autoptr(Rig) rig = rig_new("zerocopy");
    g_autofree char *qemu = c->qemu10 ? vm_qemu10() : NULL;

    if (c->zero_copy && geteuid() != 0) {
        g_test_skip("only root may lock that much memory");
        return;
    }
    rig_start_daemon(rig, arguments);
    rig_start_vm(rig, (struct vm_options){ .qemu = qemu });
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "tiering");
    rom_run(rig->vm, ROM_WRITE, all, 1, 30);
    g_assert_false(is_noticed(rig));
    g_autoptr(Vm) target = start_target(rig, qemu);

    migrate(rig, target, c->zero_copy);
    g_assert_cmpint(is_noticed(rig), ==, c->zero_copy);
    g_assert_cmpuint(rom_run(target, ROM_CHECK, all, 1, 30).result, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/zerocopy/%s", cases[i].name);

        g_test_add_data_func(path, &cases[i], test_migration);
    }
    return g_test_run();
}
