// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Wrong input from users: options of the plugin, RAM and devices that cannot be tiered, quotas,
 * the daemon's flags, files and control socket. Each is answered with an error that names the cause, and
 * VM and daemon go on, or do not start where they must not.
 *
 * timeout: 150
 */
#include "rig.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER 10.0

static const char *const small[] = { "--quota", "16M", "--rate", "0", NULL };

/* --- the plugin's options ------------------------------------------------------------------- */

/* QEMU ends by itself, with an error that looks like this. */
static void refuses_to_start(struct rig *rig, const char *rest, struct vm_options o,
                             const char *pattern)
{
    g_autofree char *rom = lab_built("tests/rom.bin");
    g_autofree char *plugin = rig_plugin(rig, rest);

    o.rom = rom;
    o.ram = "64M";
    o.machine = "pc";
    o.plugin = plugin;
    g_autoptr(Vm) vm = vm_spawn(rig->lab, "refused", &o);

    g_assert_true(child_wait(vm->qemu, 20));
    g_autofree char *said = child_output(vm->qemu);

    g_assert_true(WIFEXITED(vm->qemu->status));
    g_assert_cmpint(WEXITSTATUS(vm->qemu->status), ==, 1);
    says(said, pattern);
    unlink(vm->qemu->log);
}

static void test_options(void)
{
    g_autoptr(Rig) rig = rig_new("options");
    g_autofree char *name = g_strnfill(64, 'x'), *long_name = g_strconcat("vm=", name, NULL);
    g_autofree char *path = g_strnfill(120, 'y'), *long_path = g_strconcat("socket=/", path, NULL);
    const struct vm_options o = { 0 };

    refuses_to_start(rig, "quota=1G", o, "*unknown option 'quota': there are socket=PATH*");
    refuses_to_start(rig, "required=perhaps", o, "*required=perhaps: it is on or off*");
    refuses_to_start(rig, long_name, o, "*vm= must have 1 to 63 characters*");
    refuses_to_start(rig, long_path, o, "*socket= must have 1 to 107 characters*");
    refuses_to_start(rig, "required=on", o, "*no vmtierd at *vmm.sock: No such file*");
}

static void test_no_socket_option(void)
{
    g_autoptr(Rig) rig = rig_new("no-socket");
    g_autofree char *plugin = lab_built("vmtier-qemu.so"), *rom = lab_built("tests/rom.bin");
    g_autoptr(Vm) vm = vm_spawn(rig->lab, "vm", &(struct vm_options){
        .rom = rom, .ram = "64M", .plugin = plugin });

    g_assert_true(child_wait(vm->qemu, 20));
    g_assert_cmpint(WEXITSTATUS(vm->qemu->status), ==, 1);
    g_assert_true(log_says(vm->qemu, "socket=PATH is missing", 0));
}

/* The VM does not wait for the daemon, and is attached when it comes. */
static void test_late_daemon(void)
{
    g_autoptr(Rig) rig = rig_new("late");

    rig_start_vm(rig, (struct vm_options){ 0 });
    rom_wait_alive(rig->vm, 20);
    g_assert_true(log_says(rig->vm->qemu, "vmm.sock: No such file or directory; the VM goes on",
                           5));
    rig_start_daemon(rig, small);
    rig_wait_state(rig, "tiering");
    g_assert_cmpint(rig_daemon_int(rig, "ram_bytes"), ==, 64 * MIB);
}

/* --- RAM ------------------------------------------------------------------------------------ */

static const struct {
    const char *name, *backend, *why;
} private_ram[] = {
    { "share-off", "memory-backend-memfd,id=ram0,size=%s,share=off",
      "RAM block 'ram0' is private (share=off)" },
    { "anonymous", "memory-backend-ram,id=ram0,size=%s",
      "RAM block 'ram0' is private (anonymous memory)" },
    { "no-backend", "", "RAM block 'pc.ram' is private (anonymous memory)" },
};

/* Untiered, with the reason in QEMU's log and in the daemon; with required=on not at all. */
static void test_private_ram(gconstpointer data)
{
    const gsize i = GPOINTER_TO_SIZE(data);
    const struct vm_options o = { .backend = private_ram[i].backend };
    g_autofree char *pattern = g_strdup_printf("*required=on*%s: start QEMU with *",
                                               private_ram[i].why);
    g_autoptr(Rig) rig = rig_new("private");

    rig_start_daemon(rig, small);
    rig_start_vm(rig, o);
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "refused");
    g_autoptr(JsonObject) vm = rig_status(rig), query = rig_query(rig);

    g_assert_nonnull(strstr(json_text(vm, "reason"), private_ram[i].why));
    g_assert_nonnull(strstr(json_text(vm, "reason"), "share=on -machine memory-backend=ram0"));
    g_assert_cmpstr(json_text(query, "reason"), ==, json_text(vm, "reason"));
    refuses_to_start(rig, "vm=other,required=on", o, pattern);
    rig_wait_state(rig, "refused");
}

/* --- vhost-user ----------------------------------------------------------------------------- */

enum { GET_FEATURES = 1, GET_PROTOCOL_FEATURES = 15, GET_MAX_MEM_SLOTS = 36, REPLY = 1 | 4 };

struct vhost_header {
    uint32_t request, flags, size;
};

/* It takes more memory slots than the eight of old, which this machine's RAM does not fit. */
static uint64_t vhost_answer(uint32_t request)
{
    switch (request) {
    case GET_FEATURES:
        return 1ull << 32 | 1ull << 30;     /* version 1; it has protocol features */
    case GET_PROTOCOL_FEATURES:
        return 1ull << 15;                  /* it can be asked for its number of slots */
    case GET_MAX_MEM_SLOTS:
        return 32;
    default:
        return 0;
    }
}

/* A back-end that says it has features, and hears the rest in silence. */
static gpointer serve_vhost(gpointer listener)
{
    char rest[4096];
    uint64_t answer;
    struct vhost_header h;
    int fd = accept(GPOINTER_TO_INT(listener), NULL, NULL);

    while (recv(fd, &h, sizeof(h), MSG_WAITALL) == sizeof(h)) {
        if (h.size && recv(fd, rest, MIN(h.size, sizeof(rest)), MSG_WAITALL) <= 0)
            break;
        answer = vhost_answer(h.request);
        if (!answer)
            continue;
        h = (struct vhost_header){ h.request, REPLY, sizeof(answer) };
        send(fd, &h, sizeof(h), MSG_NOSIGNAL);
        send(fd, &answer, sizeof(answer), MSG_NOSIGNAL);
    }
    close(fd);
    return NULL;
}

static int listen_at(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&a, sizeof(a)), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static void test_vhost_user(void)
{
    g_autoptr(Rig) rig = rig_new("vhost-user");
    g_autofree char *path = lab_path(rig->lab, "vhost.sock");
    g_autofree char *chardev = g_strdup_printf("socket,id=c0,path=%s", path);
    int listener = listen_at(path);
    GThread *server = g_thread_new("vhost", serve_vhost, GINT_TO_POINTER(listener));
    const char *const extra[] = {
        "-chardev", chardev, "-netdev", "vhost-user,id=net7,chardev=c0", "-device",
        "virtio-net-pci,netdev=net7,romfile=", NULL,
    };

    rig_start_daemon(rig, small);
    rig_start_vm(rig, (struct vm_options){ .extra = extra });
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "refused");
    g_autoptr(JsonObject) vm = rig_status(rig);

    says(json_text(vm, "reason"), "*net7*vhost-user*maps the RAM file itself*");
    g_assert_cmpuint(rig_cxl_bytes(rig), ==, 0);
    vm_free(g_steal_pointer(&rig->vm));
    g_thread_join(server);
    close(listener);
}

static void test_vhost_user_later(void)
{
    g_autoptr(Rig) rig = rig_new("vhost-later");
    g_autofree char *path = lab_path(rig->lab, "vhost.sock");
    g_autofree char *chardev = g_strdup_printf("socket,id=c0,path=%s", path);
    int listener = listen_at(path);
    GThread *server = g_thread_new("vhost", serve_vhost, GINT_TO_POINTER(listener));
    const char *const extra[] = { "-chardev", chardev, NULL };

    rig_start_daemon(rig, small);
    rig_start_vm(rig, (struct vm_options){ .extra = extra });
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "tiering");
    json_node_unref(qmp_ok(rig->vm->qmp, "netdev_add", "{\"type\":\"vhost-user\",\"id\":\"net7\","
                           "\"chardev\":\"c0\"}"));
    rig_wait_state(rig, "frozen");
    g_autoptr(JsonObject) vm = rig_status(rig);

    says(json_text(vm, "reason"), "*net7*vhost-user*maps the RAM file itself*");
    g_assert_cmpuint(rig_cxl_bytes(rig), ==, 0);
    vm_free(g_steal_pointer(&rig->vm));
    g_thread_join(server);
    close(listener);
}

/* A device that comes later: tiering stops, all memory is back in dram, the VM goes on. */
static void test_hot_plug(void)
{
    static const struct rom_range all = { .base = 4 * MIB, .stride = 4096, .count = 15000 };
    g_autoptr(Rig) rig = rig_new("hot-plug");

    rig_start_daemon(rig, small);
    rig_start_vm(rig, (struct vm_options){ .memory = "slots=2,maxmem=1G" });
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "tiering");
    rom_run(rig->vm, ROM_WRITE, all, 1, 30);
    g_assert_cmpuint(rig_cxl_bytes(rig), >, 0);
    json_node_unref(qmp_ok(rig->vm->qmp, "object-add", "{\"qom-type\":\"memory-backend-memfd\","
                           "\"id\":\"m1\",\"size\":%u,\"share\":true}", 16u << 20));
    json_node_unref(qmp_ok(rig->vm->qmp, "device_add", "{\"driver\":\"ivshmem-plain\","
                           "\"id\":\"shm9\",\"memdev\":\"m1\"}"));
    rig_wait_state(rig, "frozen");
    g_autoptr(JsonObject) event = qmp_wait_event(rig->vm->qmp, "X_VMTIER_FROZEN", ANSWER);
    g_autoptr(JsonObject) vm = rig_status(rig);

    g_assert_nonnull(event);
    says(json_text(vm, "reason"), "*shm9*ivshmem*");
    says(json_text(event, "data.reason"), "*shm9*ivshmem*");
    g_assert_cmpuint(rig_cxl_bytes(rig), ==, 0);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, all, 1, 30).result, ==, 0);
    g_autofree char *error = qmp_fails(rig->vm->qmp, "x-vmtier-set", "{\"mode\":\"on\"}");

    says(error, "*stays frozen*shm9*");
}

/* --- two VMs of one name -------------------------------------------------------------------- */

static void test_same_name(void)
{
    g_autoptr(Rig) rig = rig_new("same-name");
    g_autofree char *plugin = rig_plugin(rig, "vm=vm");

    rig_start_daemon(rig, small);
    rig_start_vm(rig, (struct vm_options){ 0 });
    rig_wait_state(rig, "tiering");
    g_autoptr(Vm) second = rig_another_vm(rig, "second", (struct vm_options){ .plugin = plugin });

    rom_wait_alive(second, 20);
    g_assert_true(log_says(second->qemu, "a VM 'vm' is attached already: give this one another vm=",
                           ANSWER));
    g_assert_cmpint(rig_daemon_int(rig, "pid"), ==, rig->vm->qemu->pid);
    /* The name is free again when the first one goes. */
    vm_free(g_steal_pointer(&rig->vm));
    rig_wait_int(rig, "pid", second->qemu->pid, ANSWER);
    rig_wait_state(rig, "tiering");
}

/* --- the control socket --------------------------------------------------------------------- */

static const struct {
    const char *command, *args, *error;
} commands[] = {
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":0}", "*quota of 0 bytes*needs some dram*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":-4096}", "*quota of -4096 bytes*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":1048576}", "*less than one granule*2097152*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":67108865}", "*above the VM's RAM*67108864*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":\"16M\"}", "GenericError: *'max'*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":1.5e7}", "GenericError: *'max'*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\"}", "GenericError: *'max'*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"weight\":0}", "*weight of 0: it is 1 to 10000*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"min\":-1}", "*guarantee of -1 bytes*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"min\":4194304}", "*nothing can be guaranteed*dram=*" },
    { "vmtier-set-quota", "{\"max\":16777216}", "GenericError: *'vm'*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":16777216,\"most\":1}", "GenericError: *'most'*" },
    { "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":16777216,\"min\":16777217}", "*guarantee of 16777217*" },
    { "vmtier-set-quota", "{\"vm\":\"who\",\"max\":16777216}", "DeviceNotFound: *'who'*" },
    { "vmtier-set-mode", "{\"vm\":\"vm\",\"mode\":\"fast\"}", "*'fast'*on, observe or off" },
    { "vmtier-set-rate", "{\"vm\":\"vm\",\"bytes_per_s\":-1}", "*rate of -1*" },
    { "query-vmtier-vms", "{\"vm\":\"who\"}", "DeviceNotFound: *'who'*" },
    { "query-vmtier-heatmap", "{}", "GenericError: *'vm'*" },
    { "query-vmtier-weather", "{}", "CommandNotFound: *query-vmtier-weather*" },
    { "quit", "{}", "CommandNotFound: *" },
};

static void check_commands(struct rig *rig)
{
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *error = qmp_fails(rig->daemon->qmp, commands[i].command, "%s",
                                           commands[i].args);

        says(error, commands[i].error);
    }
}

static void check_malformed(struct rig *rig)
{
    static const char *const lines[] = {
        "{\"execute\":", "]", "{\"execute\":1}", "{}", "[]", "17", "{\"execute\":\"query-version\"",
        "{\"execute\":\"query-version\",\"arguments\":[]}", "{\"run\":\"query-version\"}", "\"\\u0",
        "\xff\xfe",
        "{\"execute\":\"vmtier-set-rate\",\"arguments\":{\"bytes_per_s\":99999999999999999999}}",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(JsonObject) reply = qmp_raw(rig->daemon->qmp, lines[i], 5);

        if (!reply || !json_object_has_member(reply, "error"))
            g_error("no error to: %s", lines[i]);
        g_assert_cmpstr(json_text(reply, "error.class"), ==, "GenericError");
    }
    json_node_unref(qmp_ok(rig->daemon->qmp, "query-version", NULL));
}

static void test_control(void)
{
    g_autoptr(Rig) rig = rig_new("control");

    rig_start_daemon(rig, small);
    rig_start_vm(rig, (struct vm_options){ 0 });
    rig_wait_state(rig, "tiering");
    check_commands(rig);
    check_malformed(rig);
    g_assert_cmpint(rig_daemon_int(rig, "quota.max_bytes"), ==, 16 * MIB);
    rig_wait_state(rig, "tiering");
}

/* --- the daemon's start --------------------------------------------------------------------- */

/* Exit code 2 and one line that looks like this. */
static void daemon_refuses(struct lab *lab, const char *const *args, const char *pattern)
{
    g_autofree char *program = lab_built("vmtierd"), *log = NULL;
    g_autofree char *qmp = lab_path(lab, "q.sock"), *vmm = lab_path(lab, "v.sock");
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    char *own[] = { program, "--qmp-socket", qmp, "--vmm-socket", vmm };

    for (gsize i = 0; i < G_N_ELEMENTS(own); i++)
        g_ptr_array_add(argv, own[i]);
    for (; *args; args++)
        g_ptr_array_add(argv, (gpointer)(gsize)*args);
    g_ptr_array_add(argv, NULL);
    struct child *child = child_start(lab, "refused", (const char *const *)argv->pdata);

    if (!child_wait(child, 10))
        g_error("vmtierd started, and was to say %s", pattern);
    g_autofree char *said = child_output(child);

    says(g_strchomp(said), pattern);
    g_assert_null(strchr(said, '\n'));
    g_assert_true(WIFEXITED(child->status));
    g_assert_cmpint(WEXITSTATUS(child->status), ==, 2);
    unlink(child->log);
    child_free(child);
}

static const struct {
    const char *flag, *value, *error;
} flags[] = {
    { "--quota", "0", "vmtierd: quota: *'0'*needs some dram*" },
    { "--quota", "1M", "vmtierd: *quota of 1048576 bytes: less than one granule*" },
    { "--quota", "lots", "vmtierd: quota: *'lots' is no size*" },
    { "--quota", "120%", "vmtierd: quota: *'120%'*up to 100%*" },
    { "--mode", "fast", "vmtierd: mode: *'fast'*on, observe or off" },
    { "--rate", "-5", "vmtierd: rate: '-5' is no size*" },
    { "--granule", "3M", "vmtierd: granule: *'3M': a power of two*" },
    { "--log-level", "loud", "vmtierd: log level 'loud'*" },
    { "--config", "/nowhere/x.conf", "vmtierd: /nowhere/x.conf: *" },
    { "--qota", "1G", "vmtierd: Unknown option --qota" },
    { "nonsense", NULL, "vmtierd: unexpected argument 'nonsense'" },
    { "--vmm-socket", "/proc/nowhere/x.sock", "vmtierd: /proc/nowhere: *" },
};

static const struct {
    const char *text, *error;
} files[] = {
    { "[daemon]\ncolour=red\n", "vmtierd: *x.conf: [daemon]: unknown key 'colour'" },
    { "[vms]\n", "vmtierd: *x.conf: [vms]: unknown group" },
    { "[vm default]\nquota=0\n", "vmtierd: *x.conf: [vm default]: quota: *needs some dram*" },
    { "[vm default]\nmode=fast\n", "vmtierd: *x.conf: [vm default]: mode: *'fast'*" },
    { "[tier dram]\nnodes=77\n", "vmtierd: tier dram: nodes=77: no such nodes on this host" },
    { "[tier cxl]\nnodes=x\n", "vmtierd: tier cxl: nodes=x: no such nodes on this host" },
    { "[tier cxl]\nsize=1G\n", "vmtierd: *x.conf: [tier cxl]: unknown key 'size'*" },
    { "garbage\n", "vmtierd: *x.conf: *" },
};

static void test_daemon_start(void)
{
    g_autoptr(Rig) rig = rig_new("daemon");
    g_autofree char *file = lab_path(rig->lab, "x.conf"), *none = lab_path(rig->lab, "none.conf");

    g_assert_true(g_file_set_contents(none, "", -1, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(flags); i++)
        daemon_refuses(rig->lab, (const char *const[]){ "--config", none, flags[i].flag,
                                                        flags[i].value, NULL }, flags[i].error);
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_assert_true(g_file_set_contents(file, files[i].text, -1, NULL));
        daemon_refuses(rig->lab, (const char *const[]){ "--config", file, NULL }, files[i].error);
    }
}

/* A second daemon leaves the first one's sockets alone. */
static void test_second_daemon(void)
{
    g_autoptr(Rig) rig = rig_new("second");

    rig_start_daemon(rig, small);
    daemon_refuses(rig->lab, (const char *const[]){ "--vmm-socket", rig->daemon->vmm_socket, NULL },
                   "vmtierd: *vmm.sock: another vmtierd listens there*");
    daemon_refuses(rig->lab, (const char *const[]){ "--qmp-socket", rig->daemon->qmp_socket, NULL },
                   "vmtierd: *qmp.sock: *");
    rig_start_vm(rig, (struct vm_options){ 0 });
    rig_wait_state(rig, "tiering");
}

/* A quota above the VM's RAM can only be told when the VM is there: it is then all of it. */
static void test_large_quota(void)
{
    static const char *const large[] = { "--quota", "1G", NULL };
    g_autoptr(Rig) rig = rig_new("large");

    rig_start_daemon(rig, large);
    rig_start_vm(rig, (struct vm_options){ 0 });
    rig_wait_state(rig, "tiering");
    g_assert_cmpint(rig_daemon_int(rig, "quota.max_bytes"), ==, 64 * MIB);
    g_assert_cmpint(rig_daemon_int(rig, "tiers.0.ledger_bytes"), ==, 64 * MIB);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/input/plugin/options", test_options);
    g_test_add_func("/input/plugin/no-socket-option", test_no_socket_option);
    g_test_add_func("/input/plugin/late-daemon", test_late_daemon);
    for (gsize i = 0; i < G_N_ELEMENTS(private_ram); i++) {
        g_autofree char *path = g_strconcat("/input/ram/", private_ram[i].name, NULL);

        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_private_ram);
    }
    g_test_add_func("/input/device/vhost-user", test_vhost_user);
    g_test_add_func("/input/device/vhost-user-later", test_vhost_user_later);
    g_test_add_func("/input/device/hot-plug", test_hot_plug);
    g_test_add_func("/input/same-name", test_same_name);
    g_test_add_func("/input/control", test_control);
    g_test_add_func("/input/daemon/start", test_daemon_start);
    g_test_add_func("/input/daemon/second", test_second_daemon);
    g_test_add_func("/input/daemon/large-quota", test_large_quota);
    return g_test_run();
}
