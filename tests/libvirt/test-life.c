// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM's life under libvirt: a real libvirtd of our own, stock QEMU as libvirt's user in its sandbox, the
 * test guest, which verifies its memory all the time.
 *
 * The tests are steps of one story and run in this order; each leaves the VM tiered and running.
 *
 * timeout: 400
 */
#include "tests/libvirt/lv.h"
#include "tests/vm/tiered.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define VM "life"
#define BOOT 90.0
#define SETTLE 30.0

static struct lab *lab;
static struct lv *lv;
static struct vt_daemon *daemon_;
static struct guest *guest;

/* --- what is looked at --------------------------------------------------------------------------------------- */

static JsonObject *vm_view(void)
{
    JsonObject *vm = daemon_vm(daemon_, VM);

    g_assert_nonnull(vm);
    return vm;
}

static uint64_t max_bytes(JsonObject *vm)
{
    return (uint64_t)json_object_get_int_member(json_object_get_object_member(vm, "quota"), "max_bytes");
}

static uint64_t dram_bytes(JsonObject *vm)
{
    JsonObject *dram = json_array_get_object_element(json_object_get_array_member(vm, "tiers"), 0);

    return (uint64_t)json_object_get_int_member(dram, "file_bytes");
}

static bool within(JsonObject *vm, void *quota)
{
    uint64_t want = *(uint64_t *)quota;

    return max_bytes(vm) == want && dram_bytes(vm) <= want && dram_bytes(vm) > 0;
}

static void await_quota(uint64_t quota)
{
    if (!daemon_wait_vm(daemon_, VM, within, &quota, SETTLE)) {
        g_autoptr(JsonObject) vm = daemon_vm(daemon_, VM);

        g_error("a quota of %" PRIu64 " is not reached: %" PRIu64 " of %" PRIu64, quota,
                vm ? dram_bytes(vm) : 0, vm ? max_bytes(vm) : 0);
    }
}

static void await_tiering(void)
{
    daemon_wait_vm_state(daemon_, VM, "tiering", SETTLE);
}

/* The guest works, and not one of its pages is bad. */
static void assert_sane(void)
{
    g_free(guest_beat(guest, SETTLE));
    g_assert_cmpuint(guest_sweep(guest, SETTLE), ==, 0);
}

/* A new QEMU has another port. */
static void connect_guest(void)
{
    g_clear_pointer(&guest, guest_close);
    guest = lv_guest(lab, VM, SETTLE);
}

static pid_t qemu_pid(void)
{
    g_autoptr(JsonObject) vm = vm_view();

    return (pid_t)json_object_get_int_member(vm, "pid");
}

static char *libvirt_member(const char *name)
{
    g_autoptr(JsonObject) vm = vm_view();
    JsonNode *node = json_object_get_member(vm, "libvirt");

    g_assert_true(JSON_NODE_HOLDS_OBJECT(node));
    return g_strdup(json_object_get_string_member(json_node_get_object(node), name));
}

static bool is_connected(void *unused)
{
    g_autoptr(JsonNode) node = qmp_ok(daemon_->qmp, "query-vmtier-libvirt", NULL);

    (void)unused;
    return json_object_get_boolean_member(json_node_get_object(node), "connected");
}

static void await_libvirt(void)
{
    if (!lab_wait(is_connected, NULL, SETTLE))
        g_error("the daemon is not connected to libvirtd");
}

static void set_metadata(const char *element)
{
    g_free(lv_virsh(lv, "metadata " VM " urn:vmtier:libvirt:1 --live --key vmtier --set \"%s\"", element));
}

/* --- the story ----------------------------------------------------------------------------------------------- */

static void test_start(void)
{
    g_autofree char *xml = lv_domain(lab, VM, "vmt.foot=96M vmt.hot=32M vmt.button"), *uuid = NULL, *known = NULL;
    g_autofree char *domuuid = NULL;

    lv_define(lv, xml, "--max 96M --mode on");
    g_free(lv_virsh(lv, "start " VM));
    connect_guest();
    await_tiering();
    known = libvirt_member("name");
    g_assert_cmpstr(known, ==, VM);
    uuid = libvirt_member("uuid");
    domuuid = lv_virsh(lv, "domuuid " VM);
    g_assert_cmpstr(uuid, ==, domuuid);
    g_free(guest_expect(guest, "VMT READY", BOOT));
    await_quota(96 * MIB);
    assert_sane();
}

/* As libvirt's user, without capabilities, in the sandbox; userfaultfd is not for such a user. */
static void test_sandbox(void)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)qemu_pid()), *status = NULL, *uffd = NULL;
    struct stat st;

    g_assert_true(g_file_get_contents(path, &status, NULL, NULL));
    g_assert_nonnull(strstr(status, "Seccomp:\t2"));
    g_assert_nonnull(strstr(status, "NoNewPrivs:\t1"));
    g_assert_nonnull(strstr(status, "CapEff:\t0000000000000000"));
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_uid, !=, 0);
    g_assert_true(g_file_get_contents("/proc/sys/vm/unprivileged_userfaultfd", &uffd, NULL, NULL));
    g_test_message("QEMU is of uid %d; vm.unprivileged_userfaultfd=%s", (int)st.st_uid, g_strstrip(uffd));
}

/* `virsh metadata --set` on the running VM, down and up again. */
static void test_quota_live(void)
{
    await_libvirt();
    set_metadata("<tiering mode='on'><dram max='48' unit='MiB'/></tiering>");
    await_quota(48 * MIB);
    assert_sane();
    set_metadata("<tiering mode='on'><dram max='80' unit='MiB'/></tiering>");
    await_quota(80 * MIB);
}

static bool has_problem(JsonObject *vm, void *said)
{
    JsonObject *o = json_object_get_object_member(vm, "libvirt");
    const char *problem = json_object_get_null_member(o, "problem") ? NULL
                                                        : json_object_get_string_member(o, "problem");

    return problem && strstr(problem, said);
}

/* What is wrong is named and changes nothing, and what comes after it counts again. */
static void test_bad_metadata(void)
{
    static const struct {
        const char *element, *said;
    } bad[] = {
        { "<tiering mode='auto'/>", "mode='auto'" },
        { "<tiering mod='on'/>", "unknown attribute 'mod'" },
        { "<tiering required='1'/>", "required='1'" },
        { "<tiering>64M</tiering>", "text '64M'" },
        { "<tiering><ram/></tiering>", "<ram>: unknown element" },
        { "<tiering><dram maxx='1G'/></tiering>", "maxx" },
        { "<tiering><dram max='64'/></tiering>", "no unit" },
        { "<tiering><dram max='1' unit='GiBi'/></tiering>", "the unit 'GiBi'" },
        { "<tiering><dram max='0'/></tiering>", "max is 0" },
        { "<tiering><dram max='64K'/></tiering>", "less than one granule" },
        { "<tiering><dram max='101%'/></tiering>", "quota '101%'" },
        { "<tiering><dram min='2T'/></tiering>", "more than the domain's memory" },
        { "<tiering><dram min='64M' max='32M'/></tiering>", "min is more than max" },
        { "<tiering><dram min='64M' max='10%'/></tiering>", "min of <dram> is more than max" },
        { "<tiering><dram weight='0'/></tiering>", "weight='0'" },
        { "<tiering><dram/><dram/></tiering>", "there is one already" },
        { "<tiering><dram><max/></dram></tiering>", "<max>: no such element in <dram>" },
        { "<tiering><granule>3M</granule></tiering>", "a power of two" },
        { "<tiering><pin gpa='0' size='2M'/></tiering>", "tier=''" },
        { "<tiering><pin tier='nvme' gpa='0' size='2M'/></tiering>", "no tier 'nvme'" },
        { "<tiering><pin tier='dram' gpa='4096' size='4K'/></tiering>", "not of whole granules" },
        { "<tiering><pin tier='cxl' gpa='0' size='4M'/><pin tier='dram' gpa='0' size='2M'/></tiering>", "overlaps" },
        { "<tiering><dram max='4M'/><pin tier='dram' gpa='0' size='8M'/></tiering>", "pins to dram of 8388608" },
        { "<tiering><interleave dram='1'/></tiering>", "shares of two tiers" },
        { "<tiering><interleave dram='1' cxl='0'/></tiering>", "cxl='0'" },
        { "<tiering><interleave dram='3' cxl9='1'/></tiering>", "no tier 'cxl9'" },
    };
    static_assert(G_N_ELEMENTS(bad) >= 20, "twenty kinds");

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(JsonObject) vm = NULL;

        set_metadata(bad[i].element);
        if (!daemon_wait_vm(daemon_, VM, has_problem, (void *)(gpointer)bad[i].said, SETTLE))
            g_error("'%s' is not named for %s", bad[i].said, bad[i].element);
        vm = vm_view();
        g_assert_cmpuint(max_bytes(vm), ==, 80 * MIB);
        g_assert_cmpstr(json_object_get_string_member(vm, "mode"), ==, "on");
        g_assert_cmpuint(json_array_get_length(json_object_get_array_member(vm, "pins")), ==, 0);
        g_assert_true(json_object_get_null_member(vm, "interleave"));
    }
    set_metadata("<tiering mode='on'><dram max='64' unit='MiB'/></tiering>");
    await_quota(64 * MIB);
}

static gint64 number(const char *object, const char *name)
{
    g_autoptr(JsonObject) vm = vm_view();

    return json_object_get_int_member(json_object_get_object_member(vm, object), name);
}

/* A round that has begun may still move something. */
static bool is_still(void *unused)
{
    gint64 before = number("moves", "bytes");

    (void)unused;
    lab_sleep(1);
    return number("moves", "bytes") == before;
}

static bool has_promoted(void *before)
{
    return number("moves", "promoted") > *(gint64 *)before;
}

/*
 * Left alone, or only looked at: whatever the guest does, nothing is moved; and then it is again. The quota is so
 * small that no new hot set is in dram by chance.
 */
static void test_opt_out(void)
{
    static const char *const modes[][2] = { { "off", "off" }, { "observe", "observing" } };
    gint64 moved;

    set_metadata("<tiering mode='on'><dram max='32' unit='MiB'/></tiering>");
    await_quota(32 * MIB);
    for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *element = g_strdup_printf("<tiering mode='%s'><dram max='32' unit='MiB'/></tiering>",
                                                   modes[i][0]);

        set_metadata(element);
        daemon_wait_vm_state(daemon_, VM, modes[i][1], SETTLE);
        g_assert_true(lab_wait(is_still, NULL, SETTLE));
        moved = number("moves", "bytes");
        g_array_unref(guest_shift(guest, SETTLE));
        lab_sleep(3);
        g_assert_cmpint(number("moves", "bytes"), ==, moved);
    }
    moved = number("moves", "promoted");
    set_metadata("<tiering mode='on'><dram max='64' unit='MiB'/></tiering>");
    await_tiering();
    g_assert_true(lab_wait(has_promoted, &moved, SETTLE));
    await_quota(64 * MIB);
    assert_sane();
}

/* What libvirtd tells of the domain; what it told before is passed over. */
static void await_event(const char *name)
{
    for (;;) {
        g_autoptr(JsonObject) event = qmp_wait_event(daemon_->qmp, "VMTIER_LIBVIRT_DOMAIN", SETTLE);
        JsonObject *data = event ? json_object_get_object_member(event, "data") : NULL;

        if (!data)
            g_error("no event '%s' of the domain", name);
        if (!strcmp(json_object_get_string_member(data, "event"), name))
            break;
    }
}

static void test_suspend(void)
{
    g_free(lv_virsh(lv, "suspend " VM));
    lv_assert_state(lv, VM, "paused");
    await_event("suspended");
    g_free(lv_virsh(lv, "resume " VM));
    lv_assert_state(lv, VM, "running");
    await_event("resumed");
    await_tiering();
    assert_sane();
}

/* --- who dies when ------------------------------------------------------------------------------------------- */

static void daemon_dies(void)
{
    daemon_kill(daemon_);
    g_free(guest_beat(guest, SETTLE));
}

static void await_all(void)
{
    await_tiering();
    await_libvirt();
    await_quota(64 * MIB);
    lv_assert_state(lv, VM, "running");
}

static void all_is_well(void)
{
    await_all();
    assert_sane();
}

/* Besides, the guest has not stood still since guest_reset_gap(); counted before it is busy with the sweep. */
static void all_was_well(void)
{
    await_all();
    g_test_message("the guest was not heard of for %.0f ms at most", guest_longest_gap(guest));
    g_assert_cmpfloat(guest_longest_gap(guest), <=, GAP_MS);
    assert_sane();
    guest_reset_gap(guest);
}

static void test_libvirtd_restarts(void)
{
    guest_reset_gap(guest);
    lv_shell(lv, "stop; start");
    all_was_well();
    lv_shell(lv, "crash; start");
    all_was_well();
}

/* Alone, and with libvirtd. Its settings are there before that has been asked: the default would be 25 % of RAM. */
static void test_daemon_restarts(void)
{
    g_autofree char *from = NULL;

    guest_reset_gap(guest);
    daemon_dies();
    daemon_restart(daemon_);
    all_was_well();
    daemon_dies();
    lv_shell(lv, "crash");
    daemon_restart(daemon_);
    await_tiering();
    from = libvirt_member("from");
    g_assert_cmpstr(from, ==, "file");
    await_quota(64 * MIB);
    lv_shell(lv, "start");
    all_was_well();
}

static void test_both_restart(void)
{
    guest_reset_gap(guest);
    lv_shell(lv, "crash");
    daemon_dies();
    lv_shell(lv, "start");
    g_free(guest_beat(guest, SETTLE));
    daemon_restart(daemon_);
    all_was_well();
    daemon_dies();
    lv_shell(lv, "stop; start");
    daemon_restart(daemon_);
    all_was_well();
    lv_shell(lv, "crash");
    daemon_dies();
    daemon_restart(daemon_);
    await_tiering();
    lv_shell(lv, "start");
    all_was_well();
}

/* --- other ways to end and begin -------------------------------------------------------------------------------- */

static bool is_gone(void *unused)
{
    g_autoptr(JsonObject) vm = daemon_vm(daemon_, VM);

    (void)unused;
    return !vm;
}

static void test_save(void)
{
    g_autofree char *file = lab_path(lab, "q/saved");

    g_free(lv_virsh(lv, "save " VM " '%s'", file));
    lv_assert_state(lv, VM, "shut off");
    g_assert_true(lab_wait(is_gone, NULL, SETTLE));
    g_free(lv_virsh(lv, "restore '%s'", file));
    connect_guest();
    all_is_well();
}

static void test_managedsave(void)
{
    g_free(lv_virsh(lv, "managedsave " VM));
    lv_assert_state(lv, VM, "shut off");
    g_assert_true(lab_wait(is_gone, NULL, SETTLE));
    g_free(lv_virsh(lv, "start " VM));
    connect_guest();
    all_is_well();
}

/* The guest hears the power button, and libvirt resets it instead. */
static void test_reboot(void)
{
    pid_t before = qemu_pid();

    g_free(lv_virsh(lv, "reboot " VM " --mode acpi"));
    g_free(guest_expect(guest, "VMT READY", BOOT));
    g_assert_cmpint(qemu_pid(), ==, before);
    all_is_well();
}

static bool is_off(void *unused)
{
    g_autofree char *is = lv_virsh(lv, "domstate " VM);

    (void)unused;
    return !strcmp(is, "shut off");
}

/* A start from nothing has what the domain's own metadata say again. */
static void test_shutdown(void)
{
    g_free(lv_virsh(lv, "shutdown " VM " --mode acpi"));
    g_assert_true(lab_wait(is_off, NULL, BOOT));
    g_assert_true(lab_wait(is_gone, NULL, SETTLE));
    g_free(lv_virsh(lv, "start " VM));
    connect_guest();
    g_free(guest_expect(guest, "VMT READY", BOOT));
    await_tiering();
    await_quota(96 * MIB);
    assert_sane();
}

static bool is_forgotten(void *unused)
{
    g_autoptr(JsonNode) node = qmp_ok(daemon_->qmp, "query-vmtier-libvirt", NULL);

    (void)unused;
    return json_array_get_length(json_object_get_array_member(json_node_get_object(node), "domains")) == 0;
}

static void test_destroy(void)
{
    g_free(lv_virsh(lv, "destroy " VM));
    g_assert_true(lab_wait(is_gone, NULL, SETTLE));
    g_assert_true(lab_wait(is_forgotten, NULL, SETTLE));
    g_clear_pointer(&guest, guest_close);
}

/* --- all ------------------------------------------------------------------------------------------------------- */

static void begin(void)
{
    g_autofree char *uri = NULL;
    const char *arguments[] = { "--vmm-group", "kvm", "--libvirt", NULL, "--rate", "512M",
                                "--log-level", "debug", NULL };

    lab = lab_new("life");
    lv = lv_start(lab, "lv");
    if (!lv)
        return;
    arguments[3] = lv->uri;
    daemon_ = daemon_start(lab, arguments);
}

static void end(void)
{
    g_clear_pointer(&guest, guest_close);
    g_clear_pointer(&lv, lv_free);
    g_clear_pointer(&daemon_, daemon_free);
    g_clear_pointer(&lab, lab_free);
}

static void test_begin(void)
{
    begin();
}

static void step(gconstpointer run)
{
    if (lv)
        ((void (*)(void))run)();
    else
        g_test_skip("there is no libvirtd");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } steps[] = {
        { "start", test_start },                { "sandbox", test_sandbox },
        { "quota-live", test_quota_live },      { "bad-metadata", test_bad_metadata },
        { "opt-out", test_opt_out },            { "suspend", test_suspend },
        { "libvirtd-restarts", test_libvirtd_restarts }, { "daemon-restarts", test_daemon_restarts },
        { "both-restart", test_both_restart },
        { "save", test_save },                  { "managedsave", test_managedsave },
        { "reboot", test_reboot },              { "shutdown", test_shutdown },
        { "destroy", test_destroy },
    };
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libvirt/life/libvirtd", test_begin);
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree char *path = g_strconcat("/libvirt/life/", steps[i].name, NULL);

        g_test_add_data_func(path, (gconstpointer)steps[i].run, step);
    }
    g_test_add_func("/libvirt/life/end", end);
    return g_test_run();
}
