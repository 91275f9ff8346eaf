// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Migrations that hand over the RAM files instead of their contents, and what else does not go with
 * tiering and is refused by name.
 *
 * timeout: 150
 */
#include "migrate.h"
#include "rig.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RAM (64 * MIB)

static const struct rom_range counters = { .base = 16 * MIB, .stride = 4096, .count = 8192 };
static const char config[] = "[vm default]\nquota=32M\nrate=0\ngranule=64K\nsources=refault\n";
static const char *const incoming[] = { "-incoming", "defer", "-S", NULL };

static char *qemu_of(const char *label)
{
    return strcmp(label, "10.0") == 0 ? vm_qemu10() : NULL;
}

static struct rig *start_daemon(const char *name)
{
    struct rig *rig = rig_new(name);
    g_autofree char *file = lab_path(rig->lab, "vmtierd.conf");

    g_assert_true(g_file_set_contents(file, config, -1, NULL));
    rig_start_daemon(rig, NULL);
    return rig;
}

static const char *accel(void)
{
    return vm_kvm_usable() ? "kvm" : "tcg,thread=single";
}

/* --- what is where -------------------------------------------------------------------------- */

static bool is_home(void *vm)
{
    g_autoptr(JsonObject) o = ask(((struct vm *)vm)->qmp, "x-vmtier-query", "{}");

    return json_int(o, "blocks.0.tiers.cxl") == 0;
}

static char *state_of(struct vm *vm, const char *member)
{
    g_autoptr(JsonObject) o = ask(vm->qmp, "x-vmtier-query", "{}");

    return g_strdup(json_text(o, member));
}

static void guest_begin(struct vm *vm)
{
    rom_wait_alive(vm, 20);
    rom_run(vm, ROM_WRITE, counters, 0, 30);
    rom_give(vm, ROM_SPIN, counters, 0);
}

static void guest_check(struct vm *vm)
{
    json_node_unref(qmp_ok(vm->qmp, "cont", NULL));
    rom_stop_spin(vm, 30);
    uint32_t rounds = rom_mailbox(vm).rounds;
    struct rom_mailbox box = rom_run(vm, ROM_CHECK, counters, rounds, 30);

    g_test_message("%s: %u rounds, %u counters wrong", vm->qemu->name, rounds, box.result);
    g_assert_cmpuint(rounds, >, 0);
    g_assert_cmpuint(box.result, ==, 0);
}

static void scatter(struct rig *rig)
{
    for (unsigned i = 0; i < 16; i++)
        rig_move(rig, i * 4 * MIB, 3 * MIB, i % 2 ? "cxl" : "dram");
}

/* Everything is brought home and stays there; who wants to move it is told why it cannot be. */
static void check_handed_over(struct rig *rig, const char *setting)
{
    g_autofree char *wanted = g_strdup_printf("*%s is set*", setting);
    g_autoptr(JsonObject) event = qmp_wait_event(rig->vm->qmp, "X_VMTIER_FROZEN", 10);

    g_assert_nonnull(event);
    says(json_text(event, "data.reason"), wanted);
    g_assert_true(lab_wait(is_home, rig->vm, 10));
    rig_wait_state(rig, "frozen");
    g_autofree char *error = qmp_fails(rig->vm->qmp, "x-vmtier-set", "{\"mode\":\"on\"}");

    says(error, wanted);
    g_autoptr(JsonObject) moved = ask(rig->vm->qmp, "x-vmtier-move",
                                      "{\"block\":\"ram0\",\"offset\":0,\"length\":65536,"
                                      "\"tier\":\"cxl\"}");

    g_assert_cmpstr(json_text(moved, "status"), ==, "frozen");
}

static void set_shared(struct vm *vm, bool on)
{
    json_node_unref(qmp_ok(vm->qmp, "migrate-set-capabilities", "{\"capabilities\":[{\"capability\":"
                           "\"x-ignore-shared\",\"state\":%s}]}", on ? "true" : "false"));
}

/* --- x-ignore-shared ------------------------------------------------------------------------ */

static char *named_backend(char **file)
{
    *file = g_strdup_printf("/dev/shm/vmtier-test-%d", (int)getpid());
    unlink(*file);
    return g_strdup_printf("memory-backend-file,id=ram0,size=%%s,share=on,mem-path=%s", *file);
}

/* The next QEMU opens the file while the first one still runs: it must not touch a byte of it. */
static void check_receiver(struct rig *rig, struct vm *to, const char *state)
{
    g_autofree char *uri = g_strdup_printf("exec:cat %s", state);
    g_autofree char *reason = NULL;

    daemon_wait_vm_state(rig->daemon, "to", "refused", 10);
    reason = state_of(to, "reason");
    says(reason, "*has contents*another QEMU may be using it*");
    set_shared(to, true);
    migrate_to_file(rig->vm, state);
    migration_wait(rig->vm);
    json_node_unref(qmp_ok(to->qmp, "migrate-incoming", "{\"uri\":\"%s\"}", uri));
    migration_wait(to);
    guest_check(to);
    daemon_wait_vm_state(rig->daemon, "to", "frozen", 10);
    set_shared(to, false);
    daemon_wait_vm_state(rig->daemon, "to", "tiering", 10);
}

static void test_shared(const char *label)
{
    g_autofree char *qemu = qemu_of(label), *file = NULL, *backend = named_backend(&file);
    g_autoptr(Rig) rig = start_daemon("shared");
    g_autofree char *state = lab_path(rig->lab, "state");

    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel(), .backend = backend });
    rig_wait_state(rig, "tiering");
    guest_begin(rig->vm);
    scatter(rig);
    g_assert_false(is_home(rig->vm));
    set_shared(rig->vm, true);
    check_handed_over(rig, "x-ignore-shared");
    g_autoptr(Vm) to = rig_another_vm(rig, "to", (struct vm_options){
        .qemu = qemu, .accel = accel(), .backend = backend, .extra = incoming });

    unlink(file);
    check_receiver(rig, to, state);
    set_shared(rig->vm, false);
    rig_wait_state(rig, "tiering");
}

/* Too much is away to wait for, so a migration at once fails and says why; or it is home already. */
static void check_at_once(struct vm *vm)
{
    g_autofree char *status = migration_status(vm);
    g_autoptr(JsonNode) node = qmp_ok(vm->qmp, "query-migrate", NULL);
    JsonObject *o = json_node_get_object(node);

    if (strcmp(status, "completed") == 0) {
        g_test_message("it was home already");
        return;
    }
    g_assert_true(log_says(vm->qemu, "They are being brought there: start the migration again", 5));
    if (json_object_has_member(o, "error-desc"))
        says(json_text(o, "error-desc"), "vmtier: *x-ignore-shared*MiB of this VM are elsewhere*");
    else
        g_assert_cmpstr(status, ==, "cancelled");       /* 7.2 shows no error of those */
}

static bool migration_ended(void *vm)
{
    g_autofree char *status = migration_status(vm);

    return strcmp(status, "completed") == 0 || strcmp(status, "failed") == 0 ||
           strcmp(status, "cancelled") == 0;
}

static void test_at_once(const char *label)
{
    g_autofree char *qemu = qemu_of(label), *file = NULL, *backend = named_backend(&file);
    g_autoptr(Rig) rig = start_daemon("at-once");
    g_autofree char *state = lab_path(rig->lab, "state");

    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel(), .backend = backend,
                                           .ram = "512M" });
    unlink(file);
    rig_wait_state(rig, "tiering");
    rom_wait_alive(rig->vm, 20);
    set_shared(rig->vm, true);
    migrate_to_file(rig->vm, state);
    g_assert_true(lab_wait(migration_ended, rig->vm, 20));
    check_at_once(rig->vm);
    g_assert_true(lab_wait(is_home, rig->vm, 10));
    json_node_unref(qmp_ok(rig->vm->qmp, "cont", NULL));
    lab_sleep(0.3);
    migrate_to_file(rig->vm, state);
    migration_wait(rig->vm);
}

/* --- cpr ------------------------------------------------------------------------------------ */

static void set_mode(struct vm *vm, const char *mode)
{
    json_node_unref(qmp_ok(vm->qmp, "migrate-set-parameters", "{\"mode\":\"%s\"}", mode));
}

/* The new QEMU gets the very descriptors of the old one's RAM. */
static struct vm *start_cpr(struct rig *rig, const char *label, const char *main, const char *cpr)
{
    g_autofree char *uri = g_strdup_printf("unix:%s", main), *plugin = rig_plugin(rig, "vm=to");
    g_autofree char *channel = g_strdup_printf(
        "{\"channel-type\":\"cpr\",\"addr\":{\"transport\":\"socket\",\"type\":\"unix\","
        "\"path\":\"%s\"}}", cpr);
    const char *const extra[] = { "-machine", "aux-ram-share=on", "-incoming", uri, "-incoming", channel,
                                  "-S", NULL };
    g_autofree char *rom = lab_built("tests/rom.bin"), *qemu = qemu_of(label);

    return vm_spawn(rig->lab, "to", &(struct vm_options){
        .qemu = qemu, .accel = accel(), .ram = "64M", .machine = "pc", .rom = rom, .plugin = plugin,
        .extra = extra });
}

static bool is_socket(void *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void test_cpr_transfer(const char *label)
{
    static const char *const shared[] = { "-machine", "aux-ram-share=on", NULL };
    g_autofree char *qemu = qemu_of(label);
    g_autoptr(Rig) rig = start_daemon("cpr");
    g_autofree char *main = lab_path(rig->lab, "main"), *cpr = lab_path(rig->lab, "cpr");

    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel(), .extra = shared });
    rig_wait_state(rig, "tiering");
    guest_begin(rig->vm);
    scatter(rig);
    set_mode(rig->vm, "cpr-transfer");
    check_handed_over(rig, "cpr-transfer");
    g_autoptr(Vm) to = start_cpr(rig, label, main, cpr);

    g_assert_true(lab_wait(is_socket, cpr, 10));
    json_node_unref(qmp_ok(rig->vm->qmp, "migrate", "{\"channels\":["
        "{\"channel-type\":\"main\",\"addr\":{\"transport\":\"socket\",\"type\":\"unix\","
        "\"path\":\"%s\"}},"
        "{\"channel-type\":\"cpr\",\"addr\":{\"transport\":\"socket\",\"type\":\"unix\","
        "\"path\":\"%s\"}}]}", main, cpr));
    vm_connect(to);
    migration_wait(rig->vm);
    migration_wait(to);
    guest_check(to);
    daemon_wait_vm_state(rig->daemon, "to", "tiering", 10);
}

static void test_cpr_reboot(const char *label)
{
    g_autofree char *qemu = qemu_of(label), *file = NULL, *backend = named_backend(&file);
    g_autoptr(Rig) rig = start_daemon("reboot");
    g_autofree char *state = lab_path(rig->lab, "state");
    g_autofree char *uri = g_strdup_printf("exec:cat %s", state);

    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel(), .backend = backend });
    rig_wait_state(rig, "tiering");
    guest_begin(rig->vm);
    scatter(rig);
    set_mode(rig->vm, "cpr-reboot");
    check_handed_over(rig, "cpr-reboot");
    set_shared(rig->vm, true);
    migrate_to_file(rig->vm, state);
    migration_wait(rig->vm);
    g_autoptr(Vm) to = rig_another_vm(rig, "to", (struct vm_options){
        .qemu = qemu, .accel = accel(), .backend = backend, .extra = incoming });

    unlink(file);
    set_mode(to, "cpr-reboot");
    set_shared(to, true);
    json_node_unref(qmp_ok(to->qmp, "migrate-incoming", "{\"uri\":\"%s\"}", uri));
    migration_wait(to);
    guest_check(to);
    set_shared(to, false);
    set_mode(to, "normal");
    daemon_wait_vm_state(rig->daemon, "to", "tiering", 10);
}

/* --- userfaultfd ---------------------------------------------------------------------------- */

static void check_lent(struct rig *rig)
{
    g_autoptr(JsonObject) event = qmp_wait_event(rig->vm->qmp, "X_VMTIER_FROZEN", 10);

    g_assert_nonnull(event);
    says(json_text(event, "data.reason"), "*userfaultfd on block *");
    rig_wait_state(rig, "frozen");
    g_autofree char *error = qmp_fails(rig->vm->qmp, "x-vmtier-set", "{\"mode\":\"on\"}");

    says(error, "*stays frozen: *userfaultfd*");
}

static void snapshot_slowly(struct rig *rig, unsigned seconds)
{
    g_autofree char *uri = g_strdup_printf("exec:sleep %u; cat >/dev/null", seconds);

    migrate_to(rig->vm, uri);
}

/* A daemon that comes while QEMU needs userfaultfd waits like the one that was there before. */
static void test_lent(const char *label)
{
    g_autofree char *qemu = qemu_of(label);
    g_autoptr(Rig) rig = start_daemon("lent");

    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel() });
    rig_wait_state(rig, "tiering");
    guest_begin(rig->vm);
    scatter(rig);
    migration_enable(rig->vm, "background-snapshot");
    snapshot_slowly(rig, 3);
    check_lent(rig);
    daemon_kill(rig->daemon);
    daemon_restart(rig->daemon);
    rig_wait_state(rig, "frozen");
    migration_wait(rig->vm);
    rig_wait_state(rig, "tiering");
    g_assert_nonnull(qmp_wait_event(rig->vm->qmp, "X_VMTIER_THAWED", 10));
    rig_move(rig, 0, RAM, "dram");
    /* What an operator freezes meanwhile stays frozen. */
    snapshot_slowly(rig, 1);
    check_lent(rig);
    json_node_unref(qmp_ok(rig->vm->qmp, "x-vmtier-set", "{\"mode\":\"frozen\"}"));
    migration_wait(rig->vm);
    g_assert_nonnull(qmp_wait_event(rig->vm->qmp, "X_VMTIER_THAWED", 10));
    g_autofree char *reason = state_of(rig->vm, "reason");

    g_assert_cmpstr(reason, ==, "frozen through x-vmtier-set");
    json_node_unref(qmp_ok(rig->vm->qmp, "x-vmtier-set", "{\"mode\":\"on\"}"));
    rig_wait_state(rig, "tiering");
    guest_check(rig->vm);
}

/* The kernel refuses userfaultfd to one block: it is left out, the other one is tiered. */
static void test_left_out(const char *label)
{
    static const char *const extra[] = { "-object", "memory-backend-memfd,id=m0,size=32M,share=on",
                                         "-device", "pc-dimm,id=d0,memdev=m0", NULL };
    g_autofree char *qemu = qemu_of(label);
    g_autoptr(Rig) rig = start_daemon("left-out");

    g_setenv("VMTIER_TEST_FAULT", "watch=EINVAL:2", TRUE);
    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel(), .ram = "64M",
                                           .memory = "slots=2,maxmem=1G", .extra = extra });
    g_unsetenv("VMTIER_TEST_FAULT");
    rig_wait_state(rig, "tiering");
    g_assert_true(log_says(rig->vm->qemu, "block m0: UFFDIO_REGISTER: Invalid argument: this block is "
                           "left out", 5));
    g_assert_cmpint(rig_daemon_int(rig, "ram_bytes"), ==, RAM);
    guest_begin(rig->vm);
    scatter(rig);
    guest_check(rig->vm);
    rig_wait_state(rig, "tiering");
    g_assert_cmpint(rig_daemon_int(rig, "ram_bytes"), ==, RAM);
}

/* --- what is refused ------------------------------------------------------------------------ */

static void test_locked(const char *label)
{
    static const char *const locked[] = { "-overcommit", "mem-lock=on", NULL };
    g_autofree char *qemu = qemu_of(label), *reason = NULL;
    g_autoptr(Rig) rig = start_daemon("locked");

    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel(), .extra = locked });
    rig_wait_state(rig, "refused");
    reason = state_of(rig->vm, "reason");
    says(reason, "*-overcommit mem-lock *start QEMU without it*");
    rom_wait_alive(rig->vm, 20);
}

/* RDMA pins RAM. QEMU itself refuses it, as somebody may take pages away: that is us. */
static void test_rdma(const char *label)
{
    g_autofree char *qemu = qemu_of(label);
    g_autoptr(Rig) rig = start_daemon("rdma");

    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel() });
    rig_wait_state(rig, "tiering");
    g_autofree char *error = qmp_fails(rig->vm->qmp, "migrate", "{\"uri\":\"rdma:127.0.0.1:4711\"}");

    g_test_message("%s", error);
    if (!strstr(error, "unknown migration protocol"))   /* built without */
        says(error, "*cannot disable RAM discard*");
    rig_wait_state(rig, "tiering");
}

/* --- hot-plug ------------------------------------------------------------------------------- */

static const char dimm[] = "{\"driver\":\"pc-dimm\",\"id\":\"d0\",\"memdev\":\"m0\"}";

static gint64 ram_bytes(struct rig *rig)
{
    return rig_daemon_int(rig, "ram_bytes");
}

static bool has_grown(void *rig)
{
    return ram_bytes(rig) == (gint64)(2 * RAM);
}

/* QEMU plugs nothing in while it migrates; what is plugged in afterwards is tiered. */
static void test_hotplug(const char *label)
{
    g_autofree char *qemu = qemu_of(label);
    g_autoptr(Rig) rig = start_daemon("plug");
    g_autofree char *state = lab_path(rig->lab, "state");

    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = accel(),
                                           .ram = "64M", .memory = "slots=2,maxmem=1G" });
    rig_wait_state(rig, "tiering");
    guest_begin(rig->vm);
    json_node_unref(qmp_ok(rig->vm->qmp, "object-add", "{\"qom-type\":\"memory-backend-memfd\","
                           "\"id\":\"m0\",\"size\":%" PRIu64 ",\"share\":true}", (uint64_t)RAM));
    migration_set_limits(rig->vm, 10 * MIB, 1);
    migrate_to_file(rig->vm, state);
    g_autofree char *error = qmp_fails(rig->vm->qmp, "device_add", "%s", dimm);

    says(error, "*not allowed while migrating*");
    json_node_unref(qmp_ok(rig->vm->qmp, "migrate_cancel", NULL));
    migration_wait_for(rig->vm, "cancelled");
    json_node_unref(qmp_ok(rig->vm->qmp, "device_add", "%s", dimm));
    g_assert_true(lab_wait(has_grown, rig, 10));
    rig_wait_state(rig, "tiering");
    guest_check(rig->vm);
}

/* --- the list of tests ---------------------------------------------------------------------- */

struct test {
    const char *label, *name;
    void (*run)(const char *label);
};

static const struct test tests[] = {
    { "7.2", "shared", test_shared },     { "10.0", "shared", test_shared },
    { "7.2", "at-once", test_at_once },   { "10.0", "at-once", test_at_once },
    { "10.0", "cpr-transfer", test_cpr_transfer },
    { "10.0", "cpr-reboot", test_cpr_reboot },
    { "7.2", "lent", test_lent },         { "10.0", "lent", test_lent },
    { "7.2", "left-out", test_left_out }, { "10.0", "left-out", test_left_out },
    { "7.2", "locked", test_locked },     { "10.0", "locked", test_locked },
    { "7.2", "rdma", test_rdma },         { "10.0", "rdma", test_rdma },
    { "7.2", "hotplug", test_hotplug },   { "10.0", "hotplug", test_hotplug },
};

static void run(gconstpointer data)
{
    const struct test *t = data;

    t->run(t->label);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("/handover/%s/%s", tests[i].label, tests[i].name);

        g_test_add_data_func(path, &tests[i], run);
    }
    return g_test_run();
}
