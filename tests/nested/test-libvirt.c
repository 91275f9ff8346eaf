// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A domain of type 'kvm' of a real libvirtd in L1: QEMU as libvirt's user and in its sandbox, the test guest in it,
 * which verifies its memory. Its quota is kept on the node that is the DRAM, and what is not in it is on the other.
 */
#include "nested.h"

#include "tests/libvirt/lv.h"

#include <string.h>

#define QUOTA   (96 * MIB)
#define SMALLER (64 * MIB)

static char *kvm_domain(struct lab *lab)
{
    g_autofree char *xml = lv_domain(lab, "vm", "vmt.foot=128M vmt.hot=32M");
    g_auto(GStrv) parts = g_strsplit(xml, "<domain type='qemu'>", 2);

    g_assert_nonnull(parts[1]);
    return g_strjoinv("<domain type='kvm'>", parts);
}

static bool is_tiering(JsonObject *vm, void *unused)
{
    (void)unused;
    return g_str_equal(json_text(vm, "state"), "tiering");
}

static bool is_within(JsonObject *vm, void *quota)
{
    const gint64 most = (gint64)*(uint64_t *)quota;

    return json_int(vm, "quota.max_bytes") == most && json_int(vm, "tiers.0.file_bytes") <= most;
}

static void await_quota(struct rig *rig, uint64_t quota)
{
    g_assert_true(daemon_wait_vm(rig->daemon, "vm", is_within, &quota, TIMEOUT));
}

/* The VM's pages by node; of its CXL file each is to be on the CXL node. */
static struct nested_pages look(struct rig *rig)
{
    g_autoptr(JsonObject) vm = daemon_vm(rig->daemon, "vm");
    g_autofree char *path = g_strdup_printf("/proc/%d/numa_maps", (int)json_int(vm, "pid")), *text = NULL;
    struct nested_pages ram = { 0 }, cxl = { 0 };

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++)
        if (strstr(*line, "file=/memfd:"))
            nested_add_line(*line, strstr(*line, "vmtier-cxl") ? &cxl : &ram);
    g_test_message("pages on node 0: %" PRIu64 ", on node 1: %" PRIu64, ram.on[0] + cxl.on[0], ram.on[1] + cxl.on[1]);
    g_assert_cmpuint(cxl.on[0], ==, 0);
    g_assert_cmpuint(ram.on[1], ==, 0);
    return (struct nested_pages){ { ram.on[0], cxl.on[1] } };
}

static void check(struct rig *rig, struct guest *guest, uint64_t quota)
{
    struct nested_pages pages;

    await_quota(rig, quota);
    rig_set_mode(rig, "observe");    /* two that are exchanged while they are counted might both be counted */
    nested_wait_rounds(rig, 2);
    pages = look(rig);
    g_assert_cmpuint(pages.on[0], <=, quota / 4096);
    g_assert_cmpuint(pages.on[1], >, 0);
    rig_set_mode(rig, "on");
    g_assert_cmpuint(guest_sweep(guest, TIMEOUT), ==, 0);
}

static bool is_gone(void *rig)
{
    g_autoptr(JsonObject) vm = daemon_vm(((struct rig *)rig)->daemon, "vm");

    return !vm;
}

static void play(struct rig *rig, struct lv *lv)
{
    g_autofree char *xml = kvm_domain(rig->lab);
    struct guest *guest;

    lv_define(lv, xml, "--max 96M --mode on");
    g_free(lv_virsh(lv, "start vm"));
    guest = lv_guest(rig->lab, "vm", TIMEOUT);
    g_assert_true(daemon_wait_vm(rig->daemon, "vm", is_tiering, NULL, TIMEOUT));
    g_free(guest_expect(guest, "VMT READY", TIMEOUT));
    check(rig, guest, QUOTA);
    g_free(lv_virsh(lv, "metadata vm urn:vmtier:libvirt:1 --live --key vmtier --set "
                    "\"<tiering mode='on'><dram max='64' unit='MiB'/></tiering>\""));
    check(rig, guest, SMALLER);
    guest_close(guest);
    g_free(lv_virsh(lv, "destroy vm"));
    g_assert_true(lab_wait(is_gone, rig, TIMEOUT));
}

static void test_domain(void)
{
    const char *arguments[] = { "--vmm-group", "kvm", "--libvirt", NULL, "--rate", "512M", NULL };
    g_autoptr(Rig) rig = rig_new("libvirt");
    g_autoptr(Lv) lv = lv_start(rig->lab, "lv");

    if (!lv) {
        g_test_skip("there is no libvirtd");
        return;
    }
    arguments[3] = lv->uri;
    rig_start_daemon(rig, arguments);
    play(rig, lv);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nested/libvirt/kvm", test_domain);
    return nested_run();
}
