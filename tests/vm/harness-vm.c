// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QEMU for the tests: the test guest (Debian's kernel, our initramfs) or a ROM, RAM in a memfd.
 */
#include "harness.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT 20.0
#define DEFAULT_BACKEND "memory-backend-memfd,id=ram0,size=%s,share=on"

static const char *or_default(const char *value, const char *fallback)
{
    return value ? value : fallback;
}

char *vm_qemu10(void)
{
    char *path = lab_built("cache/qemu10/qemu-system-x86_64");

    if (access(path, X_OK) < 0)
        g_error("%s is missing: run tests/vm/fetch-qemu10.sh", path);
    return path;
}

bool vm_kvm_usable(void)
{
    return access("/dev/kvm", R_OK | W_OK) == 0;
}

/* --- the command line ----------------------------------------------------------------------- */

static void add(GPtrArray *argv, const char *option, char *value)
{
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, value);
}

/* Replaces the one %s of a test's own -object, whose format the compiler cannot check. */
static char *backend_of(const struct vm_options *o, const char *ram)
{
    g_auto(GStrv) parts = g_strsplit(or_default(o->backend, DEFAULT_BACKEND), "%s", 2);

    return g_strjoinv(ram, parts);
}

static void add_machine(GPtrArray *argv, const struct vm_options *o)
{
    const char *ram = or_default(o->ram, "1G");

    g_ptr_array_add(argv, g_strdup("-nodefaults"));
    g_ptr_array_add(argv, g_strdup("-no-user-config"));
    add(argv, "-display", g_strdup("none"));
    add(argv, "-accel", g_strdup(or_default(o->accel, "tcg,thread=single")));
    add(argv, "-m", o->memory ? g_strconcat(ram, ",", o->memory, NULL) : g_strdup(ram));
    if (o->backend && !o->backend[0]) {
        add(argv, "-machine", g_strdup(or_default(o->machine, "q35")));
        return;
    }
    add(argv, "-machine", g_strconcat(or_default(o->machine, "q35"), ",memory-backend=ram0", NULL));
    add(argv, "-object", backend_of(o, ram));
}

static void require_file(const char *path, const char *script)
{
    if (access(path, R_OK) < 0)
        g_error("%s is missing: run tests/vm/%s", path, script);
}

static void add_guest(GPtrArray *argv, struct vm *vm, const struct vm_options *o,
                      const char *console)
{
    g_autofree char *kernel = lab_built("cache/kernel/vmlinuz");
    g_autofree char *initrd = lab_built("cache/initrd.cpio");

    require_file(kernel, "fetch-kernel.sh");
    require_file(initrd, "mk-initrd.sh");
    add(argv, "-kernel", g_steal_pointer(&kernel));
    add(argv, "-initrd", g_steal_pointer(&initrd));
    add(argv, "-append", g_strconcat(GUEST_CMDLINE " ", o->append, NULL));
    add(argv, "-serial", g_strconcat("file:", console, NULL));
    add(argv, "-chardev", g_strdup_printf("socket,id=vmt,path=%s,server=on,wait=off",
                                          vm->port_path));
    add(argv, "-serial", g_strdup("chardev:vmt"));
}

static void add_rest(GPtrArray *argv, struct vm *vm, const struct vm_options *o)
{
    add(argv, "-qmp", g_strdup_printf("unix:%s,server=on,wait=off", vm->qmp_path));
    if (o->plugin)
        add(argv, "-plugin", g_strdup(o->plugin));
    for (const char *const *arg = o->extra; arg && *arg; arg++)
        g_ptr_array_add(argv, g_strdup(*arg));
    g_ptr_array_add(argv, NULL);
}

static char *named(struct lab *lab, const char *name, const char *suffix)
{
    g_autofree char *file = g_strconcat(name, suffix, NULL);

    return lab_path(lab, file);
}

/* --- start and end -------------------------------------------------------------------------- */

struct vm *vm_spawn(struct lab *lab, const char *name, const struct vm_options *o)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *console = named(lab, name, ".console");
    struct vm *vm = g_new0(struct vm, 1);

    vm->qmp_path = named(lab, name, ".qmp");
    if (!o->rom)
        vm->port_path = named(lab, name, ".port");
    g_ptr_array_add(argv, g_strdup(or_default(o->qemu, "qemu-system-x86_64")));
    add_machine(argv, o);
    if (o->rom)
        add(argv, "-bios", g_strdup(o->rom));
    else
        add_guest(argv, vm, o, console);
    add_rest(argv, vm, o);
    vm->qemu = child_start(lab, name, (const char *const *)argv->pdata);
    lab_watch_log(console);
    return vm;
}

/* Where QEMU itself has RAM's first byte: the plugin maps the same files a second time. */
static uint64_t ram_at(struct vm *vm)
{
    g_autoptr(JsonNode) said = qmp_ok(vm->qmp, "human-monitor-command",
                                      "{\"command-line\":\"gpa2hva 0\"}");
    const char *at = strstr(json_node_get_string(said), "is 0x");

    return at ? g_ascii_strtoull(at + strlen("is "), NULL, 16) : 0;
}

void vm_connect(struct vm *vm)
{
    if (vm->port_path)
        vm->guest = guest_open(vm->port_path, vm->qemu, CONNECT_TIMEOUT);
    vm->qmp = qmp_open(vm->qmp_path, vm->qemu, CONNECT_TIMEOUT);
    vm->ram_at = ram_at(vm);
}

struct vm *vm_start(struct lab *lab, const char *name, const struct vm_options *o)
{
    struct vm *vm = vm_spawn(lab, name, o);

    vm_connect(vm);
    return vm;
}

struct balloon {
    struct vm *vm;
    uint64_t bytes;
};

static uint64_t balloon_actual(struct vm *vm)
{
    g_autoptr(JsonNode) node = qmp_ok(vm->qmp, "query-balloon", NULL);

    return (uint64_t)json_object_get_int_member(json_node_get_object(node), "actual");
}

static bool balloon_is(void *arg)
{
    const struct balloon *b = arg;

    return balloon_actual(b->vm) == b->bytes;
}

void vm_set_balloon(struct vm *vm, uint64_t bytes)
{
    struct balloon b = { vm, bytes };

    json_node_unref(qmp_ok(vm->qmp, "balloon", "{\"value\":%" PRIu64 "}", bytes));
    if (!lab_wait(balloon_is, &b, 90))
        g_error("the guest's balloon leaves it %u MiB, and is to leave it %u MiB", (unsigned)(balloon_actual(vm) >> 20),
                (unsigned)(bytes >> 20));
}

void vm_free(struct vm *vm)
{
    child_free(vm->qemu);
    if (vm->qmp)
        qmp_close(vm->qmp);
    if (vm->guest)
        guest_close(vm->guest);
    g_free(vm->qmp_path);
    g_free(vm->port_path);
    g_free(vm);
}
