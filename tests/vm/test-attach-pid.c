// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VMs whose QEMU has no plugin, attached by their pid: where their RAM is, who is refused, how they go.
 *
 * timeout: 240
 */
#include "pidvm.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utime.h>

/* --- where is its RAM? ------------------------------------------------------------------------------ */

struct wait_tier {
    struct pidvm *n;
    gint64 granule;
};

static bool is_in_dram(void *arg)
{
    struct wait_tier *w = arg;

    return pidvm_tier_of(w->n, w->granule) == 0;
}

/* The granule of a guest-physical address, as the daemon has them; -1: none. */
static gint64 granule_of(struct pidvm *n, uint64_t gpa)
{
    g_autoptr(JsonObject) vm = rig_status(n->rig);
    JsonArray *slots = json_object_get_array_member(vm, "memslots");
    g_autoptr(JsonObject) map = ask(n->rig->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    JsonArray *ranges = json_object_get_array_member(map, "ranges");

    g_assert_cmpuint(json_array_get_length(slots), ==, json_array_get_length(ranges));
    for (guint i = 0; i < json_array_get_length(slots); i++) {
        JsonObject *slot = json_array_get_object_element(slots, i);
        uint64_t at = (uint64_t)json_int(slot, "gpa"), offset = (uint64_t)json_int(slot, "offset");

        if (gpa >= at && gpa - at < (uint64_t)json_int(slot, "size"))
            return json_int(json_array_get_object_element(ranges, i), "first") +
                   (gint64)((offset % GRANULE + gpa - at) / GRANULE);
    }
    return -1;
}

/* Writes to where QEMU itself says that the guest has this address. */
static void touch(struct vm *vm, uint64_t gpa)
{
    g_autoptr(JsonNode) said = qmp_ok(vm->qmp, "human-monitor-command",
                                      "{\"command-line\":\"gpa2hva 0x%" PRIx64 "\"}", gpa);
    const char *at = strstr(json_node_get_string(said), "is 0x");
    uint64_t was = vm->ram_at;

    g_assert_nonnull(at);
    vm->ram_at = g_ascii_strtoull(at + strlen("is "), NULL, 16) - gpa;
    vm_poke(vm, gpa, "x", 1);
    vm->ram_at = was;
}

/* A page that comes to be at this address is found in the granule that is there. */
static void check_address(struct pidvm *n, uint64_t gpa)
{
    struct wait_tier w = { n, granule_of(n, gpa) };

    g_test_message("0x%" PRIx64 " is in granule %" G_GINT64_FORMAT, gpa, w.granule);
    g_assert_cmpint(w.granule, >=, 0);
    g_assert_cmpint(pidvm_tier_of(n, w.granule), ==, 255);
    touch(n->rig->vm, gpa);
    if (!lab_wait(is_in_dram, &w, TIMEOUT))
        g_error("nothing is found at 0x%" PRIx64, gpa);
}

struct found_case {
    const char *name, *machine, *ram, *memory, *backend, *backing;
    bool ask;
    const char *extra[9];
    uint64_t bytes, at[4];
};

static const struct found_case found_cases[] = {
    { .name = "own-ram", .ram = "64M", .bytes = 64 * MIB, .backing = "private memory*",
      .at = { 10 * MIB, 62 * MIB } },
    { .name = "memfd", .ram = "64M", .backend = "memory-backend-memfd,id=ram0,size=%s,share=on",
      .bytes = 64 * MIB, .backing = "shared file*", .at = { 10 * MIB, 62 * MIB } },
    { .name = "json-object", .ram = "64M", .bytes = 64 * MIB,
      .backend = "{\"qom-type\":\"memory-backend-ram\",\"id\":\"ram0\",\"size\":67108864}",
      .at = { 10 * MIB, 62 * MIB } },
    { .name = "large-pc", .ram = "5G", .bytes = 5 * GIB,
      .at = { 10 * MIB, 3 * GIB - 4096, 4 * GIB, 6 * GIB - 4096 } },
    { .name = "large-q35", .machine = "q35", .ram = "5G", .bytes = 5 * GIB,
      .at = { 10 * MIB, 2 * GIB - 4096, 4 * GIB, 7 * GIB - 4096 } },
    { .name = "asked", .ram = "64M", .bytes = 64 * MIB, .ask = true, .at = { 10 * MIB, 62 * MIB } },
    { .name = "asked-large", .machine = "q35", .ram = "5G", .ask = true, .bytes = 5 * GIB,
      .backend = "memory-backend-memfd,id=ram0,size=%s,share=on",
      .at = { 10 * MIB, 2 * GIB - 4096, 4 * GIB, 7 * GIB - 4096 } },
    { .name = "asked-dimm", .ram = "64M", .memory = "slots=2,maxmem=8G", .ask = true,
      .extra = { "-object", "memory-backend-ram,id=m1,size=128M", "-device", "pc-dimm,memdev=m1",
                 "-object", "memory-backend-ram,id=unused,size=32M" },
      .bytes = 192 * MIB, .at = { 10 * MIB, 4 * GIB, 4 * GIB + 128 * MIB - 4096 } },
};

static void test_found(gconstpointer data)
{
    const struct found_case *c = data;
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){
        .machine = c->machine, .ram = c->ram, .memory = c->memory, .backend = c->backend,
        .extra = c->extra });

    pidvm_attach(n, c->ask);
    g_autoptr(JsonObject) vm = rig_status(n->rig);

    g_assert_cmpuint((uint64_t)json_int(vm, "ram_bytes"), ==, c->bytes);
    g_assert_cmpstr(json_text(vm, "mover"), ==, "numa");
    if (c->backing)
        says(json_text(vm, "backing"), c->backing);
    if (c->ask)
        says(json_text(vm, "qemu"), "*.*.*");
    for (gsize i = 0; i < G_N_ELEMENTS(c->at) && c->at[i]; i++)
        check_address(n, c->at[i]);
}

/* Two blocks of one size, and no monitor: refused with what to do, and then taken with a monitor. */
static void test_ambiguous(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){
        .ram = "64M", .memory = "slots=2,maxmem=8G", .extra = (const char *const[]){
            "-object", "memory-backend-ram,id=m1,size=96M", "-readconfig", "/dev/null", "-global",
            "mc146818rtc.base_year=2000", NULL } });
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)n->rig->vm->qemu->pid);

    /* A block that QEMU has been given behind the command line's back is not missed, only not known. */
    json_node_unref(qmp_ok(n->rig->vm->qmp, "object-add", "{\"qom-type\":\"memory-backend-ram\","
                           "\"id\":\"m2\",\"size\":%u}", 64u << 20));
    pidvm_try_attach(n, NULL);
    rig_wait_state(n->rig, "refused");
    g_autoptr(JsonObject) vm = rig_status(n->rig);

    says(json_text(vm, "reason"), "*2 mappings of 67108864 bytes*monitor*");
    pidvm_attach(n, true);
    g_autoptr(JsonObject) now = rig_status(n->rig);

    g_assert_cmpint(json_int(now, "ram_bytes"), ==, 64 * MIB);
    check_address(n, 20 * MIB);
}

/* --- who is taken, and how they go ------------------------------------------------------------------ */

static void refused(struct pidvm *n, const char *args, const char *reason)
{
    g_autofree char *error = qmp_fails(n->rig->daemon->qmp, "vmtier-attach", "%s", args);

    says(error, reason);
}

static void test_refused(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });
    g_autofree char *again = g_strdup_printf("{\"pid\":%d}", (int)n->rig->vm->qemu->pid);
    g_autofree char *named = g_strdup_printf("{\"pid\":%d,\"vm\":\"a b\"}", (int)n->rig->vm->qemu->pid);
    g_autofree char *self = g_strdup_printf("{\"pid\":%d}", (int)getpid());

    refused(n, self, "*is test-attach-pid, which is no QEMU*");
    refused(n, "{\"pid\":0}", "*no pid 0*");
    refused(n, "{\"pid\":4194303}", "*No such process*");
    refused(n, named, "*'a b'*letters*");
    pidvm_attach(n, false);
    refused(n, again, "*attached already, as VM 'vm'*");
    g_autofree char *error = qmp_fails(n->rig->daemon->qmp, "vmtier-detach", "{\"vm\":\"none\"}");

    says(error, "DeviceNotFound*");
}

/* Nobody reads what is there: the monitor belongs to somebody else. */
static void test_busy_monitor(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });
    struct qmp *other = qmp_open(n->monitor, n->rig->vm->qemu, TIMEOUT);

    pidvm_try_attach(n, n->monitor);
    rig_wait_state(n->rig, "refused");
    g_autoptr(JsonObject) vm = rig_status(n->rig);

    says(json_text(vm, "reason"), "*one client at a time*");
    qmp_close(other);
    pidvm_attach(n, true);
}

/* Another QEMU's monitor tells of addresses that this one does not have, or it has other RAM there. */
static void test_wrong_monitor(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });
    struct vm *other = pidvm_start_named(n, "other", (struct vm_options){ .ram = "128M" });
    g_autofree char *monitor = lab_path(n->rig->lab, "other.qmp2");

    pidvm_try_attach(n, monitor);
    rig_wait_state(n->rig, "refused");
    g_autoptr(JsonObject) vm = rig_status(n->rig);

    says(json_text(vm, "reason"), "*another QEMU's monitor*");
    vm_free(other);
}

static void test_detach(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });

    for (int i = 0; i < 3; i++) {
        pidvm_attach(n, i % 2);
        json_node_unref(qmp_ok(n->rig->daemon->qmp, "vmtier-detach", "{\"vm\":\"vm\"%s}",
                               i == 2 ? ",\"home\":true" : ""));
        pidvm_expect_gone(n, "detached*");
    }
    g_assert_true(child_alive(n->rig->vm->qemu));
    rom_run(n->rig->vm, ROM_WRITE, (struct rom_range){ 8 << 20, 4096, 256 }, 7, TIMEOUT);
}

static void test_killed(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });

    pidvm_attach(n, false);
    child_kill(n->rig->vm->qemu, SIGKILL);
    pidvm_expect_gone(n, "*has ended*");
    g_assert_true(child_alive(n->rig->daemon->process));
}

/* Starts a program as this pid; -1: that cannot be. */
static pid_t start_as(pid_t pid, char *const *argv)
{
    struct clone_args args = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1,
    };
    long child = syscall(SYS_clone3, &args, sizeof(args));

    if (child == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    return (pid_t)child;
}

/* QEMU ends while the daemon does not look, and another one gets its pid: that one is left alone. */
static void test_pid_reused(void)
{
    char *argv[] = { (char[]){ "qemu-system-x86_64" }, (char[]){ "-nodefaults" }, (char[]){ "-display" },
                     (char[]){ "none" }, (char[]){ "-S" }, (char[]){ "-m" }, (char[]){ "64M" }, NULL };
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });
    pid_t pid = n->rig->vm->qemu->pid, other;

    pidvm_attach(n, false);
    child_kill(n->rig->daemon->process, SIGSTOP);
    child_kill(n->rig->vm->qemu, SIGKILL);
    g_assert_true(child_wait(n->rig->vm->qemu, TIMEOUT));
    other = start_as(pid, argv);
    child_kill(n->rig->daemon->process, SIGCONT);
    pidvm_expect_gone(n, "*has ended*");
    if (other < 0) {
        g_test_message("only root can choose a pid: nobody else had it");
        return;
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
}

/* --- the configuration's pidfile -------------------------------------------------------------------- */

static void test_pidfile(void)
{
    g_autoptr(Pidvm) n = g_new0(struct pidvm, 1);

    n->rig = rig_new("numa");
    n->monitor = lab_path(n->rig->lab, "vm.qmp2");
    g_autofree char *pidfile = lab_path(n->rig->lab, "vm.pid");
    g_autofree char *config = lab_path(n->rig->lab, "vmtierd.conf");
    g_autofree char *full = g_canonicalize_filename(pidfile, NULL);
    g_autofree char *text = g_strdup_printf("[vm vm]\nquota=16M\npidfile=%s\n", full);

    /* Its first words are of a process that is older than the file says it can be. */
    g_assert_true(g_file_set_contents(config, text, -1, NULL));
    rig_start_daemon(n->rig, NULL);
    pidvm_start(n, (struct vm_options){ .extra = (const char *const[]){ "-pidfile", pidfile, NULL } });
    g_assert_true(daemon_wait_vm(n->rig->daemon, "vm", pidvm_is_known, NULL, TIMEOUT));
    daemon_kill(n->rig->daemon);
    daemon_restart(n->rig->daemon);
    g_assert_true(daemon_wait_vm(n->rig->daemon, "vm", pidvm_is_known, NULL, TIMEOUT));
    json_node_unref(qmp_ok(n->rig->daemon->qmp, "vmtier-detach", "{\"vm\":\"vm\"}"));
    pidvm_expect_gone(n, "detached*");
    lab_sleep(3);
    g_assert_true(pidvm_is_gone(n->rig->daemon));
}

/* A process that started after the pidfile was written is not the one it is of. */
static void test_stale_pidfile(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });
    g_autofree char *pidfile = lab_path(n->rig->lab, "vm.pid");
    g_autofree char *config = lab_path(n->rig->lab, "vmtierd.conf");
    g_autofree char *full = g_canonicalize_filename(pidfile, NULL);
    g_autofree char *text = g_strdup_printf("[vm vm]\nquota=16M\npidfile=%s\n", full);
    g_autofree char *pid = g_strdup_printf("%d\n", (int)n->rig->vm->qemu->pid);
    struct utimbuf old = { .actime = 1000000, .modtime = 1000000 };

    g_assert_true(g_file_set_contents(config, text, -1, NULL));
    g_assert_true(g_file_set_contents(pidfile, pid, -1, NULL));
    g_assert_cmpint(g_utime(pidfile, &old), ==, 0);
    daemon_kill(n->rig->daemon);
    daemon_restart(n->rig->daemon);
    lab_sleep(3);
    g_assert_true(pidvm_is_gone(n->rig->daemon));
    g_assert_cmpint(g_utime(pidfile, NULL), ==, 0);
    g_assert_true(daemon_wait_vm(n->rig->daemon, "vm", pidvm_is_known, NULL, TIMEOUT));
}

/* --- and the plugin --------------------------------------------------------------------------------- */

static void test_has_plugin(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });

    vm_free(n->rig->vm);
    n->rig->vm = rig_another_vm(n->rig, "web", (struct vm_options){ .ram = "64M" });
    g_assert_true(daemon_wait_vm(n->rig->daemon, "web", pidvm_is_known, NULL, TIMEOUT));
    g_autofree char *args = g_strdup_printf("{\"pid\":%d}", (int)n->rig->vm->qemu->pid);

    refused(n, args, "*attached already, as VM 'web'*");
    g_autofree char *error = qmp_fails(n->rig->daemon->qmp, "vmtier-detach", "{\"vm\":\"web\"}");

    says(error, "*with the plugin*");
    daemon_kill(n->rig->daemon);
    daemon_restart(n->rig->daemon);
    /* Before or after it is back. */
    g_autofree char *early = qmp_fails(n->rig->daemon->qmp, "vmtier-attach", "%s", args);

    g_assert_true(g_pattern_match_simple("*has the plugin loaded*", early) ||
                  g_pattern_match_simple("*attached already*", early));
}

static bool by_plugin(JsonObject *vm, void *unused)
{
    (void)unused;
    return !strcmp(json_text(vm, "mover"), "remap") && !strcmp(json_text(vm, "state"), "tiering");
}

/* Under another name the plugin is not seen; it takes over when it connects. */
static void test_switch_over(void)
{
    g_autoptr(Pidvm) n = pidvm_new((struct vm_options){ .ram = "64M" });
    g_autofree char *plugin = lab_built("vmtier-qemu.so"), *other = lab_path(n->rig->lab, "other.so");
    g_autofree char *later = lab_path(n->rig->lab, "later.sock");
    g_autofree char *options = g_strdup_printf("%s,socket=%s,vm=web", other, later);
    g_autoptr(GFile) from = g_file_new_for_path(plugin), to = g_file_new_for_path(other);

    g_assert_true(g_file_copy(from, to, G_FILE_COPY_NONE, NULL, NULL, NULL, NULL));
    vm_free(n->rig->vm);
    pidvm_start(n, (struct vm_options){
        .plugin = options, .backend = "memory-backend-memfd,id=ram0,size=%s,share=on" });
    pidvm_attach(n, false);
    g_assert_cmpint(symlink("vmm.sock", later), ==, 0);
    if (!daemon_wait_vm(n->rig->daemon, "web", by_plugin, NULL, TIMEOUT))
        g_error("the plugin did not take over");
    g_assert_true(pidvm_is_gone(n->rig->daemon));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(found_cases); i++) {
        g_autofree char *path = g_strconcat("/attach-pid/found/", found_cases[i].name, NULL);

        g_test_add_data_func(path, &found_cases[i], test_found);
    }
    g_test_add_func("/attach-pid/ambiguous", test_ambiguous);
    g_test_add_func("/attach-pid/refused", test_refused);
    g_test_add_func("/attach-pid/busy-monitor", test_busy_monitor);
    g_test_add_func("/attach-pid/wrong-monitor", test_wrong_monitor);
    g_test_add_func("/attach-pid/detach", test_detach);
    g_test_add_func("/attach-pid/killed", test_killed);
    g_test_add_func("/attach-pid/pid-reused", test_pid_reused);
    g_test_add_func("/attach-pid/pidfile", test_pidfile);
    g_test_add_func("/attach-pid/stale-pidfile", test_stale_pidfile);
    g_test_add_func("/attach-pid/has-plugin", test_has_plugin);
    g_test_add_func("/attach-pid/switch-over", test_switch_over);
    return g_test_run();
}
