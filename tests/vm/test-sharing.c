// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two VMs that share less dram than they may have: guarantees and the host's limit hold all the time,
 * dram follows the work from one to the other, and comes back when a VM dies.
 *
 * timeout: 150
 *
 * The guests are test ROMs of 64 MiB under TCG, granules of 2 MiB; the host has 40 MiB of dram.
 */
#include "rig.h"

#include <signal.h>

#define RAM     (64 * MIB)
#define POOL    (40 * MIB)
#define LEAST   (8 * MIB)
#define ANSWER  40.0

/* What a ROM spins over: 28 MiB from 4 MiB on, a word in each page. */
static const struct rom_range work = { .base = 4 * MIB, .stride = 4096, .count = 28 * 256 };
static const struct rom_range all = { .base = MIB, .stride = 4096, .count = 63 * 256 };

static void start_daemon(struct rig *rig, const char *sharing)
{
    g_autofree char *path = lab_path(rig->lab, "vmtierd.conf");
    g_autofree char *text = g_strdup_printf("[host]\ndram=40M\n%s\n[vm default]\nquota=100%%\n"
                                            "quota-min=8M\nrate=256M\n", sharing);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(path, text, -1, &error);
    g_assert_no_error(error);
    rig_start_daemon(rig, NULL);
}

static gint64 number(struct rig *rig, const char *name, const char *path)
{
    g_autoptr(JsonObject) vm = daemon_vm(rig->daemon, name);

    g_assert_nonnull(vm);
    return json_int(vm, path);
}

static gint64 dram_of(struct rig *rig, const char *name)
{
    return number(rig, name, "tiers.0.file_bytes");
}

/* Both may use what they are guaranteed, and do not use more than there is but for b's first granule. */
static void check_bounds(struct rig *rig)
{
    g_assert_cmpint(number(rig, "a", "quota.now_bytes"), >=, LEAST);
    g_assert_cmpint(number(rig, "b", "quota.now_bytes"), >=, LEAST);
    g_assert_cmpint(dram_of(rig, "a") + dram_of(rig, "b"), <=, POOL + GRANULE);
}

/* `name` gets so much dram; all the way there the bounds hold. */
static void await(struct rig *rig, const char *name, gint64 least)
{
    double end = lab_deadline(ANSWER);

    while (dram_of(rig, name) < least) {
        if (lab_now() > end)
            g_error("%s has %" G_GINT64_FORMAT " bytes of dram, of %" G_GINT64_FORMAT " that it may", name,
                    dram_of(rig, name), number(rig, name, "quota.now_bytes"));
        check_bounds(rig);
        lab_sleep(0.2);
    }
}

static bool is_tiering(struct rig *rig, const char *name)
{
    g_autoptr(JsonObject) vm = daemon_vm(rig->daemon, name);

    return vm && g_str_equal(json_text(vm, "state"), "tiering");
}

static struct vm *start_vm(struct rig *rig, const char *name)
{
    struct vm *vm = rig_another_vm(rig, name, (struct vm_options){ 0 });
    double end = lab_deadline(ANSWER);

    rom_wait_alive(vm, 20);
    while (!is_tiering(rig, name) || number(rig, name, "quota.now_bytes") < (gint64)LEAST) {
        g_assert_cmpfloat(lab_now(), <, end);
        lab_sleep(.1);
    }
    rom_run(vm, ROM_WRITE, all, 7, 30);
    return vm;
}

/* What the host's dram has left for whoever comes. */
static gint64 free_bytes(struct rig *rig)
{
    g_autoptr(JsonObject) host = ask(rig->daemon->qmp, "query-vmtier-status", "{}");

    return json_int(host, "sharing.free_bytes");
}

static bool is_gone(void *rig)
{
    g_autoptr(JsonObject) vm = daemon_vm(((struct rig *)rig)->daemon, "a");

    return !vm;
}

/* One that dies gives back all it had, in the same moment: the other may have it, or one that comes. */
static void check_gives_back(struct rig *rig, struct vm *a)
{
    gint64 left, other;

    child_kill(a->qemu, SIGKILL);
    g_assert_true(lab_wait(is_gone, rig, ANSWER));
    left = free_bytes(rig);
    other = MAX(number(rig, "b", "quota.now_bytes"), dram_of(rig, "b"));    /* it may be granted more meanwhile */
    g_assert_cmpint(left + other, >=, POOL - GRANULE);
}

static void test_follows_work(gconstpointer sharing)
{
    g_autoptr(Rig) rig = rig_new("sharing");
    struct vm *a, *b;

    start_daemon(rig, sharing);
    a = start_vm(rig, "a");
    g_assert_cmpint(dram_of(rig, "a"), <=, POOL);
    rom_give(a, ROM_SPIN, work, 0);
    b = start_vm(rig, "b");
    await(rig, "a", 28 * MIB);
    rom_stop_spin(a, 10);
    rom_give(b, ROM_SPIN, work, 0);
    await(rig, "b", 28 * MIB);
    check_gives_back(rig, a);
    rom_stop_spin(b, 10);
    g_assert_cmpint(rom_run(b, ROM_READ, all, 0, 30).first_bad, ==, 0);
}

/* What one has given up is not gone: contents are as they were. */
static void test_contents(void)
{
    g_autoptr(Rig) rig = rig_new("sharing-contents");
    struct vm *a, *b;

    start_daemon(rig, "");
    a = start_vm(rig, "a");
    b = start_vm(rig, "b");
    rom_give(b, ROM_SPIN, work, 0);
    await(rig, "b", 28 * MIB);
    rom_stop_spin(b, 10);
    g_assert_cmpuint(rom_run(a, ROM_CHECK, all, 7, 30).result, ==, 0);
}

static void refused(struct rig *rig, const char *args, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) reply = qmp_try(rig->daemon->qmp, &error, "vmtier-set-quota", "%s", args);

    g_assert_null(reply);
    says(error->message, why);
}

static void test_guarantees(void)
{
    g_autoptr(Rig) rig = rig_new("guarantees");

    start_daemon(rig, "");
    start_vm(rig, "a");
    start_vm(rig, "b");
    refused(rig, "{\"vm\":\"a\",\"min\":34000000}", "*cannot be promised*");
    refused(rig, "{\"vm\":\"a\",\"max\":33554432,\"min\":33554433}", "*guarantee of 33554433*");
    refused(rig, "{\"vm\":\"a\",\"weight\":10001}", "*weight of 10001*");
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-set-quota", "{\"vm\":\"b\",\"min\":%llu}",
                           32 * MIB));
    g_assert_cmpint(number(rig, "b", "quota.min_bytes"), ==, 32 * MIB);
    for (double end = lab_deadline(ANSWER); number(rig, "b", "quota.now_bytes") < (gint64)(32 * MIB);
         lab_sleep(.2))
        g_assert_cmpfloat(lab_now(), <, end);
    check_bounds(rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/sharing/throughput", "sharing=throughput", test_follows_work);
    g_test_add_data_func("/sharing/fair", "sharing=fair", test_follows_work);
    g_test_add_func("/sharing/contents", test_contents);
    g_test_add_func("/sharing/guarantees", test_guarantees);
    return g_test_run();
}
