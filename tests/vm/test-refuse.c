// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices that reach guest memory in ways vmtier cannot keep coherent: a VM that has one is refused, a
 * VM that gets one later stops tiering with all of its memory back in dram, and the VM runs on in any
 * case. Those that can be had here: others want hardware or daemons. vhost-user at the start and
 * virtio-mem are in test-input.c.
 */
#include "rig.h"

#include <string.h>
#include <unistd.h>

#define ANSWER 10.0

static const char *const small[] = { "--quota", "16M", "--rate", "0", NULL };
static const struct rom_range all = { .base = 4 * MIB, .stride = 4096, .count = 15000 };

/* object and device as JSON, which both the command line and the monitor take. */
static const struct refused {
    const char *name, *object, *device, *machine, *pattern;
    bool udmabuf, qemu10;           /* wants a /dev/udmabuf: see wrapper() */
} refused[] = {
    { "ivshmem", "{\"qom-type\":\"memory-backend-memfd\",\"id\":\"m1\",\"size\":4194304,\"share\":true}",
      "{\"driver\":\"ivshmem-plain\",\"id\":\"dev7\",\"memdev\":\"m1\"}", "pc",
      "*dev7*ivshmem-plain*shares a RAM file with other VMs*", false, false },
    { "nvdimm", "{\"qom-type\":\"memory-backend-memfd\",\"id\":\"m1\",\"size\":16777216,\"share\":true}",
      "{\"driver\":\"nvdimm\",\"id\":\"dev7\",\"memdev\":\"m1\"}", "pc,nvdimm=on",
      "*dev7*nvdimm*outlives the VM*", false, false },
    { "virtio-pmem", "{\"qom-type\":\"memory-backend-memfd\",\"id\":\"m1\",\"size\":16777216,\"share\":true}",
      "{\"driver\":\"virtio-pmem-pci\",\"id\":\"dev7\",\"memdev\":\"m1\"}", "pc",
      "*dev7*virtio-pmem*outlives the VM*", false, false },
    { "virtio-gpu-blob", NULL, "{\"driver\":\"virtio-gpu-pci\",\"id\":\"dev7\",\"blob\":true}", "pc",
      "*dev7*virtio-gpu*udmabuf*", true, false },
    { "virtio-gpu-blob-qemu10", NULL,
      "{\"driver\":\"virtio-gpu-pci\",\"id\":\"dev7\",\"blob\":true}", "pc",
      "*dev7*virtio-gpu*udmabuf*", true, true },
};

/*
 * A QEMU that sees a /dev/udmabuf (it looks only whether there is one), in a mount namespace of its own.
 * NULL: may not do that.
 */
static char *wrapper(struct rig *rig, bool qemu10)
{
    g_autofree char *path = lab_path(rig->lab, "qemu");
    g_autofree char *qemu = qemu10 ? vm_qemu10() : g_strdup("qemu-system-x86_64");
    g_autofree char *script = g_strdup_printf(
        "#!/bin/sh\n"
        "exec unshare --mount sh -c 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 &&\n"
        "mknod /dev/zero c 1 5 && mknod /dev/urandom c 1 9 && mknod /dev/udmabuf c 1 3 &&\n"
        "exec %s \"$@\"' sh \"$@\"\n", qemu);

    if (geteuid() != 0)
        return NULL;
    g_file_set_contents_full(path, script, -1, G_FILE_SET_CONTENTS_NONE, 0755, NULL);
    return g_canonicalize_filename(path, NULL);
}

static bool start(struct rig *rig, const struct refused *r, const char *const *extra)
{
    g_autofree char *qemu = r->udmabuf ? wrapper(rig, r->qemu10) : NULL;

    if (r->udmabuf && !qemu) {
        g_test_skip("only root can make a /dev/udmabuf");
        return false;
    }
    rig_start_daemon(rig, small);
    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .machine = r->machine, .extra = extra,
                                           .memory = "slots=2,maxmem=1G" });
    rom_wait_alive(rig->vm, 20);
    return true;
}

static void test_from_the_start(gconstpointer data)
{
    const struct refused *r = data;
    g_autoptr(Rig) rig = rig_new("refuse");
    const char *const extra[] = { "-device", r->device, r->object ? "-object" : NULL, r->object, NULL };

    if (!start(rig, r, extra))
        return;
    rig_wait_state(rig, "refused");
    g_autoptr(JsonObject) vm = rig_status(rig);

    says(json_text(vm, "reason"), r->pattern);
    g_assert_cmpuint(rig_cxl_bytes(rig), ==, 0);
    rom_wait_alive(rig->vm, 5);
}

static void check_frozen(struct rig *rig, const char *pattern)
{
    rig_wait_state(rig, "frozen");
    g_autoptr(JsonObject) vm = rig_status(rig);

    says(json_text(vm, "reason"), pattern);
    g_assert_cmpuint(rig_cxl_bytes(rig), ==, 0);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, all, 1, 30).result, ==, 0);
    g_autofree char *error = qmp_fails(rig->vm->qmp, "x-vmtier-set", "{\"mode\":\"on\"}");

    says(error, pattern);
}

static void test_later(gconstpointer data)
{
    const struct refused *r = data;
    g_autoptr(Rig) rig = rig_new("refuse");

    if (!start(rig, r, NULL))
        return;
    rig_wait_state(rig, "tiering");
    rom_run(rig->vm, ROM_WRITE, all, 1, 30);
    g_assert_cmpuint(rig_cxl_bytes(rig), >, 0);
    if (r->object)
        json_node_unref(qmp_ok(rig->vm->qmp, "object-add", "%s", r->object));
    json_node_unref(qmp_ok(rig->vm->qmp, "device_add", "%s", r->device));
    check_frozen(rig, r->pattern);
}

/* The same devices without what is refused. */
static void test_harmless(void)
{
    static const char *const devices[] = {
        "virtio-gpu-pci", "VGA", "virtio-iommu-pci", "virtio-balloon-pci", "virtio-rng-pci",
        "virtio-net-pci,romfile=", "virtio-scsi-pci", "nvme,serial=1", "e1000,romfile=",
    };
    g_autoptr(Rig) rig = rig_new("refuse");
    g_autoptr(GPtrArray) extra = g_ptr_array_new();

    for (gsize i = 0; i < G_N_ELEMENTS(devices); i++) {
        g_ptr_array_add(extra, (gpointer)"-device");
        g_ptr_array_add(extra, (gpointer)devices[i]);
    }
    g_ptr_array_add(extra, NULL);
    rig_start_daemon(rig, small);
    rig_start_vm(rig, (struct vm_options){ .machine = "q35",
                                           .extra = (const char *const *)extra->pdata });
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "tiering");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autofree char *first = g_strdup_printf("/refuse/start/%s", refused[i].name);
        g_autofree char *later = g_strdup_printf("/refuse/later/%s", refused[i].name);

        g_test_add_data_func(first, &refused[i], test_from_the_start);
        if (!refused[i].udmabuf)        /* QEMU plugs in no such device */
            g_test_add_data_func(later, &refused[i], test_later);
    }
    g_test_add_func("/refuse/harmless", test_harmless);
    return g_test_run();
}
