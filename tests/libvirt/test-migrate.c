// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Live migration from one libvirtd to another, each with a vmtierd of its own, as on two hosts.
 *
 * timeout: 150
 */
#include "tests/libvirt/lv.h"

#include <string.h>

#define VM "mover"
#define MIB (1024 * 1024ull)
#define BOOT 90.0
#define SETTLE 30.0

struct host {
    struct lab *lab;
    struct lv *lv;
    struct vt_daemon *daemon;
};

static bool host_start(struct host *h, const char *name)
{
    const char *arguments[] = { "--vmm-group", "kvm", "--libvirt", NULL, "--rate", "256M", NULL };

    h->lab = lab_new(name);
    h->lv = lv_start(h->lab, name);
    if (!h->lv)
        return false;
    arguments[3] = h->lv->uri;
    h->daemon = daemon_start(h->lab, arguments);
    return true;
}

static void host_end(struct host *h)
{
    g_clear_pointer(&h->lv, lv_free);
    g_clear_pointer(&h->daemon, daemon_free);
    g_clear_pointer(&h->lab, lab_free);
}

static bool is_gone(void *daemon)
{
    g_autoptr(JsonObject) vm = daemon_vm(daemon, VM);

    return !vm;
}

static uint64_t number(JsonObject *vm, const char *object, const char *name)
{
    return (uint64_t)json_object_get_int_member(json_object_get_object_member(vm, object), name);
}

static bool has_quota(JsonObject *vm, void *quota)
{
    JsonObject *dram = json_array_get_object_element(json_object_get_array_member(vm, "tiers"), 0);
    int64_t bytes = json_object_get_int_member(dram, "file_bytes");

    return number(vm, "quota", "max_bytes") == *(uint64_t *)quota && bytes > 0 &&
           (uint64_t)bytes <= *(uint64_t *)quota;
}

static void assert_tiered(struct host *h, struct guest *guest, uint64_t quota)
{
    daemon_wait_vm_state(h->daemon, VM, "tiering", SETTLE);
    g_assert_true(daemon_wait_vm(h->daemon, VM, has_quota, &quota, SETTLE));
    g_free(guest_beat(guest, SETTLE));
    g_assert_cmpuint(guest_sweep(guest, SETTLE), ==, 0);
}

static void migrate(struct host *from, struct host *to)
{
    g_autofree char *socket = lv_inside(to->lab, "q/migration");

    g_free(lv_domain(to->lab, VM, ""));         /* for its directory */
    g_free(lv_virsh(from->lv, "migrate " VM " --live --p2p --persistent --undefinesource --desturi '%s' "
                    "--migrateuri 'unix://%s'", to->lv->uri, socket));
}

static void test_migrate(void)
{
    struct host a = { 0 }, b = { 0 };
    struct guest *guest;

    if (!host_start(&a, "ha") || !host_start(&b, "hb")) {
        g_test_skip("there is no libvirtd");
        return;
    }
    g_autofree char *xml = lv_domain(a.lab, VM, "vmt.foot=64M vmt.hot=16M");

    lv_define(a.lv, VM, xml, "--max 64M");
    g_free(lv_virsh(a.lv, "start " VM));
    guest = lv_guest(a.lab, VM, SETTLE);
    g_free(guest_expect(guest, "VMT READY", BOOT));
    assert_tiered(&a, guest, 64 * MIB);
    migrate(&a, &b);
    guest_close(guest);
    guest = lv_guest(b.lab, VM, SETTLE);
    assert_tiered(&b, guest, 64 * MIB);
    g_assert_true(lab_wait(is_gone, a.daemon, SETTLE));
    lv_assert_state(b.lv, VM, "running");
    g_free(lv_virsh(b.lv, "destroy " VM));
    guest_close(guest);
    host_end(&a);
    host_end(&b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libvirt/migrate", test_migrate);
    return g_test_run();
}
