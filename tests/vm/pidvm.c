// SPDX-License-Identifier: GPL-2.0-or-later
/* See pidvm.h. */
#include "pidvm.h"

#include <string.h>

struct vm *pidvm_start_named(struct pidvm *n, const char *name, struct vm_options options)
{
    static char *rom;
    g_autofree char *file = g_strconcat(name, ".qmp2", NULL), *path = lab_path(n->rig->lab, file);
    g_autofree char *monitor = g_strdup_printf("unix:%s,server=on,wait=off", path);
    struct vm *vm;
    g_autoptr(GPtrArray) extra = g_ptr_array_new();

    if (!rom)
        rom = lab_built("tests/rom.bin");
    g_ptr_array_add(extra, (gpointer)"-qmp");
    g_ptr_array_add(extra, monitor);
    for (const char *const *arg = options.extra; arg && *arg; arg++)
        g_ptr_array_add(extra, (gpointer)*arg);
    g_ptr_array_add(extra, NULL);
    options.extra = (const char *const *)extra->pdata;
    options.rom = rom;
    options.ram = options.ram ? options.ram : "64M";
    options.machine = options.machine ? options.machine : "pc";
    options.backend = options.backend ? options.backend : "";
    vm = vm_start(n->rig->lab, name, &options);
    rom_wait_alive(vm, TIMEOUT);
    return vm;
}

void pidvm_start(struct pidvm *n, struct vm_options options)
{
    n->rig->vm = pidvm_start_named(n, "vm", options);
}

struct pidvm *pidvm_new(struct vm_options options)
{
    static const char *const args[] = { "--quota", "16M", "--rate", "1G", NULL };
    struct pidvm *n = g_new0(struct pidvm, 1);

    n->rig = rig_new("numa");
    n->monitor = lab_path(n->rig->lab, "vm.qmp2");
    rig_start_daemon(n->rig, args);
    pidvm_start(n, options);
    return n;
}

void pidvm_free(struct pidvm *n)
{
    rig_free(n->rig);
    g_free(n->monitor);
    g_free(n);
}

bool pidvm_is_known(JsonObject *vm, void *unused)
{
    const char *state = json_text(vm, "state");

    (void)unused;
    return strcmp(state, "attaching") != 0 && json_int(vm, "rounds") > 0;
}

/* The daemon's directory is another one, usually. `monitor` may be NULL. */
void pidvm_try_attach(struct pidvm *n, const char *monitor)
{
    g_autofree char *path = monitor ? g_canonicalize_filename(monitor, NULL) : NULL;
    g_autofree char *qmp = path ? g_strdup_printf(",\"qmp\":\"%s\"", path) : g_strdup("");

    json_node_unref(qmp_ok(n->rig->daemon->qmp, "vmtier-attach", "{\"pid\":%d,\"vm\":\"vm\"%s}",
                           (int)n->rig->vm->qemu->pid, qmp));
}

void pidvm_attach(struct pidvm *n, bool ask)
{
    pidvm_try_attach(n, ask ? n->monitor : NULL);
    if (!daemon_wait_vm(n->rig->daemon, "vm", pidvm_is_known, NULL, TIMEOUT)) {
        g_autoptr(JsonObject) vm = daemon_vm(n->rig->daemon, "vm");

        g_error("not attached: %s", vm ? json_text(vm, "state") : "gone");
    }
}

bool pidvm_is_gone(void *daemon)
{
    g_autoptr(JsonObject) vm = daemon_vm(daemon, "vm");

    return !vm;
}

void pidvm_expect_gone(struct pidvm *n, const char *reason)
{
    g_autoptr(JsonObject) event = qmp_wait_event(n->rig->daemon->qmp, "VMTIER_VM_DETACHED", TIMEOUT);

    g_assert_nonnull(event);
    says(json_text(event, "data.reason"), reason);
    g_assert_true(lab_wait(pidvm_is_gone, n->rig->daemon, TIMEOUT));
}

gint64 pidvm_tier_of(struct pidvm *n, gint64 granule)
{
    g_autoptr(JsonObject) map = ask(n->rig->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    g_autofree char *path = g_strdup_printf("tier.%" G_GINT64_FORMAT, granule);

    return json_int(map, path);
}
