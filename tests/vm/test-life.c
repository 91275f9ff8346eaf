// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What happens in a VM's life while it is tiered: it is stopped, reset, saved, migrated, killed, and
 * its memory grows and shrinks. The contents stay right, the quota holds, the daemon goes on and
 * knows where everything is.
 *
 * The tests that need no machine of their own share one, in an order that leaves it usable.
 *
 * timeout: 400
 */
#include "migrate.h"
#include "tiered.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define GUEST "vmt.foot=240M vmt.hot=64M"
#define RAM_BYTES (512 * MIB)
#define QUOTA "128M"

/* --- a machine that several tests share ----------------------------------------------------- */

static struct tiered *shared;
static char *disk;

static void make_disk(void)
{
    const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", disk, "64M", NULL };
    g_autoptr(GError) error = NULL;
    int status;

    if (!g_spawn_sync(NULL, (char **)(gpointer)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                      NULL, &status, &error))
        g_error("qemu-img: %s", error->message);
    g_assert_cmpint(status, ==, 0);
}

static void start_shared(const char *qemu)
{
    g_autofree char *build = lab_built("tests/run");
    g_autofree char *drive = NULL;
    const char *extra[] = { "-drive", NULL, "-device", "virtio-blk-pci,drive=disk", NULL };

    g_mkdir_with_parents(build, 0755);
    disk = g_strdup_printf("%s/life-%d.qcow2", build, (int)getpid());
    drive = g_strdup_printf("if=none,id=disk,format=qcow2,file=%s", disk);
    extra[1] = drive;
    make_disk();
    shared = tiered_new(&(struct tiered_options){ .lab = "life", .qemu = qemu, .ram = "512M",
                                                  .append = GUEST, .quota = QUOTA, .extra = extra });
}

static void end_shared(void)
{
    tiered_free(shared);
    shared = NULL;
    unlink(disk);
    g_clear_pointer(&disk, g_free);
}

static const char *const names[] = { "7.2", "10.0" };

static char *qemu_of(gconstpointer version)
{
    return version == names[1] ? vm_qemu10() : NULL;
}

/* The first test of a machine starts it. Quiet from now on. */
static struct tiered *machine(gconstpointer version)
{
    g_autofree char *qemu = qemu_of(version);

    if (!shared)
        start_shared(qemu);
    tiered_guest_gap(shared->vm);
    guest_reset_gap(shared->vm->guest);
    return shared;
}

static void wait_ready(struct vm *vm)
{
    g_free(guest_expect(vm->guest, "VMT READY", BOOT_TIMEOUT));
}

/* --- stop, reset, reboot -------------------------------------------------------------------- */

static void test_stop(gconstpointer version)
{
    struct tiered *t = machine(version);
    struct stir *stir = stir_start(t);

    json_node_unref(qmp_ok(t->vm->qmp, "stop", NULL));
    lab_sleep(1.5);
    stir_end(stir);
    tiered_check(t, 5);
    json_node_unref(qmp_ok(t->vm->qmp, "cont", NULL));
    g_free(guest_beat(t->vm->guest, 5));
    tiered_guest_gap(t->vm);
    guest_reset_gap(t->vm->guest);
    tiered_check_guest(t->vm);
    tiered_check(t, 5);
}

/* Moves go on while the machine is reset. */
static void test_reset(gconstpointer version)
{
    struct tiered *t = machine(version);
    struct stir *stir = stir_start(t);

    json_node_unref(qmp_ok(t->vm->qmp, "system_reset", NULL));
    wait_ready(t->vm);
    stir_end(stir);
    guest_reset_gap(t->vm->guest);
    tiered_check_guest(t->vm);
    tiered_check(t, 5);
}

static void test_reboot(gconstpointer version)
{
    struct tiered *t = machine(version);
    struct stir *stir = stir_start(t);

    guest_command(t->vm->guest, "reboot");
    wait_ready(t->vm);
    stir_end(stir);
    guest_reset_gap(t->vm->guest);
    tiered_check_guest(t->vm);
    tiered_check(t, 5);
}

/* --- savevm, loadvm ------------------------------------------------------------------------- */

/* savevm has no plain QMP command; it says nothing if all went well. */
static void monitor(struct vm *vm, const char *line)
{
    g_autoptr(JsonNode) said = qmp_ok(vm->qmp, "human-monitor-command",
                                      "{\"command-line\":\"%s\"}", line);

    g_assert_cmpstr(json_node_get_string(said), ==, "");
}

/* What lies where moves on between saving and loading, so little is in the tier it was saved from. */
static void test_savevm(gconstpointer version)
{
    struct tiered *t = machine(version);
    g_autofree char *before = guest_beat(t->vm->guest, 5);
    unsigned phase = (unsigned)guest_number(before, "phase");

    monitor(t->vm, "savevm one");
    g_free(guest_beat(t->vm->guest, 10));
    g_array_unref(guest_shift(t->vm->guest, 10));
    struct stir *stir = stir_start(t);

    lab_sleep(1);
    /* Each flushes all translated code, with accesses being sampled: more than once, as 7.2 crashes
     * only now and then if its left-over pointers are not dealt with. */
    for (int i = 0; i < 5; i++) {
        monitor(t->vm, "loadvm one");
        g_free(guest_beat(t->vm->guest, 10));
    }
    g_autofree char *after = guest_beat(t->vm->guest, 10);

    g_assert_cmpuint(guest_number(after, "phase"), ==, phase);
    stir_end(stir);
    g_assert_cmpuint(guest_sweep(t->vm->guest, 60), ==, 0);
    tiered_check(t, 5);
}

/* --- QEMU is killed ------------------------------------------------------------------------- */

static bool vm_left(void *daemon)
{
    g_autoptr(JsonObject) vm = daemon_vm(daemon, "vm");

    return !vm && memfd_count(((struct vt_daemon *)daemon)->process->pid, "") == 0;
}

static void test_killed(gconstpointer version)
{
    struct tiered *t = machine(version);
    g_autofree char *qemu = qemu_of(version);

    g_assert_cmpuint(memfd_count(t->daemon->process->pid, ""), ==, 2);
    watch_end(t->watch);
    child_kill(t->vm->qemu, SIGKILL);
    double start = lab_now();

    g_assert_true(lab_wait(vm_left, t->daemon, 2));
    g_test_message("forgotten after %.2f s", lab_now() - start);
    vm_free(t->vm);
    t->vm = tiered_vm(t, "vm", &(struct tiered_options){ .qemu = qemu, .ram = "512M",
                                                         .append = GUEST });
    t->watch = watch_start(t->vm->qemu->pid, t->quota);
    wait_ready(t->vm);
    tiered_check(t, 5);
    tiered_check_guest(t->vm);
    end_shared();
}

/* --- migration ------------------------------------------------------------------------------ */

/* The one that is left takes the source's place. */
static void replace_vm(struct tiered *t, struct vm *with, struct watch *watch)
{
    watch_end(t->watch);
    vm_free(t->vm);
    t->vm = with;
    t->watch = watch;
    t->name = "target";
}

/*
 * The guest stands still: a running guest's migration is not exact under TCG, with or without us, as
 * stores of emulated code race with QEMU's own clearing of its dirty log.
 */
static void test_migrate(gconstpointer version)
{
    g_autofree char *qemu = qemu_of(version);
    struct tiered_options o = { .lab = "migrate", .qemu = qemu, .ram = "512M", .append = GUEST,
                                .quota = QUOTA };
    g_autoptr(Tiered) t = tiered_new(&o);
    g_autofree char *file = lab_path(t->lab, "state");
    g_autofree char *from = g_strdup_printf("exec:cat %s", file);
    const char *const incoming[] = { "-incoming", from, "-S", NULL };
    struct stir *stir = stir_start(t);

    json_node_unref(qmp_ok(t->vm->qmp, "stop", NULL));
    migration_set_limits(t->vm, 100 * MIB, 300);
    migrate_to_file(t->vm, file);
    migration_wait(t->vm);
    stir_end(stir);
    tiered_check(t, 5);
    o.extra = incoming;
    struct vm *target = tiered_vm(t, "target", &o);
    struct watch *watch = watch_start(target->qemu->pid, t->quota);

    migration_wait(target);
    g_assert_cmpuint(differing_pages(t->vm, target, RAM_BYTES), ==, 0);
    replace_vm(t, target, watch);
    tiered_check(t, 5);
    json_node_unref(qmp_ok(target->qmp, "cont", NULL));
    g_free(guest_beat(target->guest, 10));
    g_assert_cmpuint(guest_sweep(target->guest, 60), ==, 0);
    tiered_check(t, 5);
}

#define ROM_RAM (64 * MIB)

static struct vm *start_rom(struct tiered *t, const char *name, const char *const *extra)
{
    g_autofree char *rom = lab_built("tests/rom.bin");
    g_autofree char *plugin = daemon_plugin(t->daemon, name);

    return vm_start(t->lab, name, &(struct vm_options){
        .rom = rom, .accel = "kvm", .ram = "64M", .machine = "pc", .plugin = plugin,
        .extra = extra });
}

static bool is_dirtying(void *vm)
{
    return migration_rounds(vm) >= 4;
}

/* The guest writes to half of its RAM all the time, and only later may migration come to its end. */
static void migrate_live(struct tiered *t, const char *file)
{
    static const struct rom_range range = { .base = 16 * MIB, .stride = 4096, .count = 8192 };

    rom_wait_alive(t->vm, 20);
    rom_give(t->vm, ROM_SPIN, range, 0);
    migration_set_limits(t->vm, 100 * MIB, 20);
    migrate_to_file(t->vm, file);
    g_assert_true(lab_wait(is_dirtying, t->vm, 30));
    migration_set_limits(t->vm, 100 * MIB, 3000);
    migration_wait(t->vm);
    g_test_message("%" PRIi64 " rounds", migration_rounds(t->vm));
}

/* KVM's dirty log is exact, so every page has to arrive although it moves and is written meanwhile. */
static void test_migrate_live(void)
{
    static const char *const arguments[] = { "--quota", "16M", "--rate", "1G", NULL };

    if (!vm_kvm_usable()) {
        g_test_skip("/dev/kvm cannot be opened");
        return;
    }
    g_autoptr(Lab) lab = lab_new("live");
    g_autoptr(Daemon) daemon = daemon_start(lab, arguments);
    g_autofree char *monitor = lab_path(lab, "monitor");
    g_autofree char *server = g_strdup_printf("unix:%s,server=on,wait=off", monitor);
    g_autofree char *file = lab_path(lab, "state");
    g_autofree char *from = g_strdup_printf("exec:cat %s", file);
    const char *const second[] = { "-qmp", server, NULL }, *const incoming[] = { "-incoming", from,
                                                                                 "-S", NULL };
    struct tiered t = { .lab = lab, .daemon = daemon, .name = "vm", .monitor = monitor };
    g_autoptr(Vm) source = t.vm = start_rom(&t, "vm", second);
    struct stir *stir = stir_start(&t);

    migrate_live(&t, file);
    stir_end(stir);
    g_assert_cmpuint(tiered_pages(source), >, 2000);
    g_autoptr(Vm) target = start_rom(&t, "target", incoming);

    migration_wait(target);
    g_assert_cmpuint(differing_pages(source, target, ROM_RAM), ==, 0);
}

/* --- memory is plugged in and out ----------------------------------------------------------- */

static void plug(struct vm *vm, const char *id, uint64_t bytes)
{
    json_node_unref(qmp_ok(vm->qmp, "object-add", "{\"qom-type\":\"memory-backend-memfd\","
                           "\"id\":\"mem-%s\",\"size\":%" PRIu64 ",\"share\":true}", id, bytes));
    json_node_unref(qmp_ok(vm->qmp, "device_add", "{\"driver\":\"pc-dimm\",\"id\":\"%s\","
                           "\"memdev\":\"mem-%s\"}", id, id));
}

static bool has_ram(JsonObject *vm, void *bytes)
{
    return json_object_get_int_member(vm, "ram_bytes") == *(gint64 *)bytes;
}

static uint64_t seen_ram(struct tiered *t)
{
    g_autoptr(JsonObject) vm = daemon_vm(t->daemon, t->name);

    return vm ? (uint64_t)json_object_get_int_member(vm, "ram_bytes") : 0;
}

static void wait_ram(struct tiered *t, uint64_t bytes)
{
    gint64 wanted = (gint64)bytes;

    if (!daemon_wait_vm(t->daemon, t->name, has_ram, &wanted, 5))
        g_error("the daemon does not see %" PRIu64 " bytes of RAM but %" PRIu64, bytes, seen_ram(t));
}

static bool shows_slot(JsonObject *vm, const char *block)
{
    JsonArray *slots = json_object_get_array_member(vm, "memslots");

    for (guint i = 0; i < json_array_get_length(slots); i++) {
        JsonObject *slot = json_array_get_object_element(slots, i);

        if (strstr(json_object_get_string_member(slot, "block"), block))
            return true;
    }
    return false;
}

static bool knows_block(struct tiered *t, const char *block)
{
    g_autoptr(JsonObject) vm = daemon_vm(t->daemon, t->name);

    return shows_slot(vm, block);
}

/* RAM and d0 have a file on each tier; of what was unplugged there is none. */
static bool files_gone(void *tiered)
{
    struct tiered *t = tiered;

    return memfd_count(t->vm->qemu->pid, "") == 4 &&
           memfd_count(t->daemon->process->pid, "") == 4;
}

/* The guest may refuse; that is its right, and then there is nothing to see here. */
static void unplug(struct tiered *t, const char *id)
{
    g_autoptr(JsonObject) event = NULL;

    json_node_unref(qmp_ok(t->vm->qmp, "device_del", "{\"id\":\"%s\"}", id));
    event = qmp_wait_event(t->vm->qmp, "DEVICE_DELETED", 10);
    if (!event) {
        g_test_message("the guest does not give %s back", id);
        return;
    }
    json_node_unref(qmp_ok(t->vm->qmp, "object-del", "{\"id\":\"mem-%s\"}", id));
    wait_ram(t, 2 * RAM_BYTES);
    g_assert_false(knows_block(t, id));
    g_assert_true(lab_wait(files_gone, t, 5));
    tiered_check(t, 5);
    g_test_message("%s was unplugged", id);
}

static bool surplus_is_on_cxl(void *data)
{
    struct tiered *t = data;

    return tiered_granules(t->vm, "cxl") >= (2 * RAM_BYTES - t->quota) / (2 * MIB);
}

static void test_hotplug(void)
{
    g_autoptr(Tiered) t = tiered_new(&(struct tiered_options){
        .lab = "hotplug", .ram = "512M", .memory = "slots=2,maxmem=2G", .append = GUEST,
        .quota = QUOTA });
    struct stir *stir = stir_start(t);

    plug(t->vm, "d0", RAM_BYTES);
    wait_ram(t, 2 * RAM_BYTES);
    g_assert_true(knows_block(t, "mem-d0"));
    stir_end(stir);
    tiered_check(t, 5);
    g_assert_true(lab_wait(surplus_is_on_cxl, t, 2));
    plug(t->vm, "d1", RAM_BYTES / 4);
    wait_ram(t, 2 * RAM_BYTES + RAM_BYTES / 4);
    unplug(t, "d1");
    guest_command(t->vm->guest, "grow 440M");
    g_autofree char *grew = guest_expect(t->vm->guest, "VMT GREW", 30);

    g_assert_cmpuint(guest_number(grew, "pieces"), ==, 240);
    stir = stir_start(t);
    g_assert_cmpuint(guest_sweep(t->vm->guest, 60), ==, 0);
    stir_end(stir);
    tiered_check(t, 5);
}

/* --- balloon -------------------------------------------------------------------------------- */

/* What the guest gives back is given back where it is: most of it on CXL. */
static void test_balloon(void)
{
    static const char *const balloon[] = { "-device", "virtio-balloon-pci", NULL };
    g_autoptr(Tiered) t = tiered_new(&(struct tiered_options){
        .lab = "balloon", .ram = "512M", .append = "vmt.foot=400M vmt.hot=64M", .quota = "256M",
        .extra = balloon });
    pid_t qemu = t->vm->qemu->pid;
    uint64_t before = memfd_bytes(qemu, "vmtier-cxl") + memfd_bytes(qemu, "memory-backend");

    g_assert_cmpuint(memfd_bytes(qemu, "vmtier-cxl"), >, 128 * MIB);
    guest_command(t->vm->guest, "free 300M");
    g_free(guest_expect(t->vm->guest, "VMT FREED", 10));
    struct stir *stir = stir_start(t);

    vm_set_balloon(t->vm, RAM_BYTES - 280 * MIB);
    stir_end(stir);
    tiered_check(t, 5);
    uint64_t after = memfd_bytes(qemu, "vmtier-cxl") + memfd_bytes(qemu, "memory-backend");

    g_test_message("%u MiB before, %u MiB after", (unsigned)(before >> 20), (unsigned)(after >> 20));
    g_assert_cmpuint(after + 240 * MIB, <=, before);
    vm_set_balloon(t->vm, RAM_BYTES);
    guest_command(t->vm->guest, "grow 300M");
    g_free(guest_expect(t->vm->guest, "VMT GREW", 30));
    guest_reset_gap(t->vm->guest);
    tiered_check_guest(t->vm);
    tiered_check(t, 5);
}

/* -------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    GTestDataFunc run;
} everywhere[] = {
    { "stop", test_stop },     { "reset", test_reset },   { "reboot", test_reboot },
    { "savevm", test_savevm }, { "killed", test_killed }, { "migrate", test_migrate },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize v = 0; v < G_N_ELEMENTS(names); v++)
        for (gsize i = 0; i < G_N_ELEMENTS(everywhere); i++) {
            g_autofree char *path = g_strdup_printf("/life/%s/%s", names[v], everywhere[i].name);

            g_test_add_data_func(path, names[v], everywhere[i].run);
        }
    g_test_add_func("/life/migrate-live", test_migrate_live);
    g_test_add_func("/life/hotplug", test_hotplug);
    g_test_add_func("/life/balloon", test_balloon);
    int status = g_test_run();

    if (shared)
        end_shared();
    return status;
}
