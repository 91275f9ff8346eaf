// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Migration from one libvirtd to another, each with a vmtierd of its own, as on two hosts.
 *
 * libvirt pauses the guest while its memory goes over: with a guest that runs on, under emulation, what arrives is
 * not what was sent, plugin or not, as QEMU's own dirty log is not exact then. (With --live, half of all guests
 * hung at the destination, without the plugin as well.) Live migration is tests/vm/test-migrate.c's, under KVM.
 *
 * timeout: 240
 */
#include "tests/libvirt/lv.h"

#define VM "mover"
#define MIB (1024 * 1024ull)
#define QUOTA (64 * MIB)
#define BOOT 90.0
#define SETTLE 60.0

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

static bool has_quota(JsonObject *vm, void *unused)
{
    JsonObject *dram = json_array_get_object_element(json_object_get_array_member(vm, "tiers"), 0);
    int64_t bytes = json_object_get_int_member(dram, "file_bytes");

    (void)unused;
    return number(vm, "quota", "max_bytes") == QUOTA && bytes > 0 && (uint64_t)bytes <= QUOTA;
}

static bool has_moved(JsonObject *vm, void *before)
{
    return number(vm, "moves", "promoted") > *(uint64_t *)before;
}

/* Under its quota, not a page bad, and what is hot now is brought to dram. */
static void assert_tiered(struct host *h, struct guest *guest)
{
    g_autoptr(JsonObject) vm = NULL;
    uint64_t promoted;

    daemon_wait_vm_state(h->daemon, VM, "tiering", SETTLE);
    g_assert_true(daemon_wait_vm(h->daemon, VM, has_quota, NULL, SETTLE));
    g_free(guest_beat(guest, SETTLE));
    g_assert_cmpuint(guest_sweep(guest, SETTLE), ==, 0);
    vm = daemon_vm(h->daemon, VM);
    promoted = number(vm, "moves", "promoted");
    g_array_unref(guest_shift(guest, SETTLE));
    g_assert_true(daemon_wait_vm(h->daemon, VM, has_moved, &promoted, SETTLE));
    g_assert_cmpuint(guest_sweep(guest, SETTLE), ==, 0);
}

static void migrate(struct host *from, struct host *to)
{
    g_autofree char *socket = lv_inside(to->lab, "q/migration");

    g_free(lv_domain(to->lab, VM, ""));         /* for its directory */
    g_free(lv_virsh(from->lv, "migrate " VM " --p2p --persistent --undefinesource --desturi '%s' "
                    "--migrateuri 'unix://%s'", to->lv->uri, socket));
}

static void play(struct host *a, struct host *b)
{
    g_autofree char *xml = lv_domain(a->lab, VM, "vmt.foot=96M vmt.hot=16M");
    struct guest *guest;

    lv_define(a->lv, xml, "--max 64M");
    g_free(lv_virsh(a->lv, "start " VM));
    guest = lv_guest(a->lab, VM, SETTLE);
    g_free(guest_expect(guest, "VMT READY", BOOT));
    assert_tiered(a, guest);
    migrate(a, b);
    guest_close(guest);
    guest = lv_guest(b->lab, VM, SETTLE);
    assert_tiered(b, guest);
    g_assert_true(lab_wait(is_gone, a->daemon, SETTLE));
    lv_assert_state(b->lv, VM, "running");
    g_free(lv_virsh(b->lv, "destroy " VM));
    g_assert_true(lab_wait(is_gone, b->daemon, SETTLE));
    guest_close(guest);
}

static void test_migrate(void)
{
    struct host a = { 0 }, b = { 0 };

    if (host_start(&a, "ha") && host_start(&b, "hb"))
        play(&a, &b);
    else
        g_test_skip("there is no libvirtd");
    host_end(&b);
    host_end(&a);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libvirt/migrate", test_migrate);
    return g_test_run();
}
