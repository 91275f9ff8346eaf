// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Death and failure at every step, not at random moments: the daemon dies while QEMU's part is at
 * just that step, dies at each of its own steps, QEMU dies, and each call fails. The guest does not
 * notice, not a page of it is bad, and tiering goes on, or says why not.
 *
 * timeout: 240
 *
 * In a minute not all combinations can be had: each run takes some, other ones with another seed. With
 * VMTIER_FAULT_LONG in the environment it is all of them, QEMU's steps at several passages each: ten
 * minutes, after which $BUILD/long/fault.jsonl has a line for each.
 */
#include "faults.h"
#include "rig.h"
#include "tiered.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define GUEST "vmt.foot=300M vmt.hot=96M"
#define LOW (64 * MIB)
#define HIGH (128 * MIB)
#define HIT_S 20.0                  /* until a point is passed */
#define RESUME_S 20.0               /* until the daemon moves again; one round usually */
#define LINK "vmtier"               /* QEMU's thread that talks to the daemon */

static struct faults *faults;
static struct tiered *guest;        /* shared by the tests that leave it whole */

static bool is_long(void)
{
    return g_getenv("VMTIER_FAULT_LONG") != NULL;
}

/* --- what was seen -------------------------------------------------------------------------- */

/* A case that passed. What was not measured is negative. */
static void record(const char *kind, const char *rules, double resumed_s, double gap_ms)
{
    g_autofree char *dir = lab_built("long"), *path = g_build_filename(dir, "fault.jsonl", NULL);
    FILE *f;

    g_test_message("%s: %s: goes on after %.2f s, the guest stood still for %.0f ms", kind, rules,
                   resumed_s, gap_ms);
    if (!is_long())
        return;
    g_mkdir_with_parents(dir, 0755);
    f = fopen(path, "ae");
    fprintf(f, "{\"time\": %" G_GINT64_FORMAT ", \"kind\": \"%s\", \"rules\": \"%s\", "
            "\"resumed_s\": %.3f, \"gap_ms\": %.0f, \"bad\": 0}\n",
            g_get_real_time() / G_USEC_PER_SEC, kind, rules, resumed_s, gap_ms);
    fclose(f);
}

/* --- some cases of a list ------------------------------------------------------------------- */

/* The i-th of n in an order that the seed decides. */
static guint *shuffled(guint n)
{
    guint *order = g_new(guint, n);

    for (guint i = 0; i < n; i++) {
        guint j = (guint)g_test_rand_int_range(0, (gint32)i + 1);

        order[i] = order[j];
        order[j] = i;
    }
    return order;
}

/* Runs all of n cases, or, in the short form, so many of them. */
static void run_some(void (*run)(guint which), guint n, guint some)
{
    g_autofree guint *order = shuffled(n);

    for (guint i = 0; i < (is_long() ? n : MIN(n, some)); i++)
        run(is_long() ? i : order[i]);
}

/* --- the guest ------------------------------------------------------------------------------ */

static void ensure_guest(void)
{
    if (guest)
        return;
    faults_set(faults, "");
    guest = tiered_new(&(struct tiered_options){
        .lab = "fault", .ram = "512M", .append = GUEST, .quota = "128M" });
}

/* A daemon that is asked may be dying. */
static void set_quota(uint64_t bytes)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) done = qmp_try(guest->daemon->qmp, &error, "vmtier-set-quota",
                                       "{\"vm\":\"vm\",\"max\":%" PRIu64 "}", bytes);

    if (!done)
        g_test_message("%s", error->message);
}

/* Another quota: demotions, or room for promotions. */
static void ask_for_moves(void)
{
    static bool low;

    low = !low;
    set_quota(low ? LOW : HIGH);
}

static int64_t daemon_moves(void)
{
    g_autoptr(JsonObject) vm = daemon_vm(guest->daemon, "vm");

    return vm ? json_int(vm, "moves.promoted") + json_int(vm, "moves.demoted") : 0;
}

/* How long it takes this daemon to move again. */
static double wait_for_moves(void)
{
    double start = lab_now(), end = lab_deadline(RESUME_S);
    int64_t before = daemon_moves();

    while (daemon_moves() <= before) {
        if (lab_now() > end)
            g_error("no moves any more for %.0f s", RESUME_S);
        ask_for_moves();
        lab_sleep(0.3);
    }
    return lab_now() - start;
}

static void start_gap(void)
{
    tiered_guest_gap(guest->vm);
    guest_reset_gap(guest->vm->guest);
}

/* Everything is as it should be, and goes on. */
static void check_guest(const char *kind, const char *rules)
{
    double resumed = wait_for_moves(), gap;
    g_autofree char *beat = guest_beat(guest->vm->guest, 10);

    tiered_check(guest, 10);
    gap = (double)tiered_guest_gap(guest->vm);
    gap = MAX(gap, guest_longest_gap(guest->vm->guest));
    g_assert_cmpuint(guest_number(beat, "bad"), ==, 0);
    g_assert_true(child_alive(guest->vm->qemu));
    g_assert_cmpfloat(gap, <=, GAP_MS);
    record(kind, rules, resumed, gap);
}

static void sweep_guest(void)
{
    g_assert_cmpuint(guest_sweep(guest->vm->guest, 60), ==, 0);
}

/* Waits until the point that is expected acts, while moves are asked for again and again. */
static void wait_for_hit(const char *point, unsigned nth)
{
    double end = lab_deadline(HIT_S + nth);

    while (!faults_wait(faults, 0.3)) {
        if (lab_now() > end)
            g_error("%s: never came to pass", point);
        ask_for_moves();
    }
}

/* --- the daemon dies while QEMU's part is at a step ------------------------------------------- */

enum when { ROUND, ATTACH };        /* in which the point is passed */

/* The link is lost, and comes anew at once. */
#define LOSE_LINK ",received-HARVEST=ECONNRESET"

static const struct {
    const char *point;
    enum when when;
} vmm_steps[] = {
    { "pool-take", ROUND }, { "maps-limit", ROUND }, { "fence-hold", ROUND },
    { "find-data", ROUND }, { "populate-source", ROUND },
    { "populate-dest", ROUND }, { "protect", ROUND }, { "copy", ROUND }, { "map-over", ROUND },
    { "advise", ROUND }, { "register", ROUND }, { "map-in", ROUND }, { "wake", ROUND },
    { "punch", ROUND }, { "moved", ROUND },
    { "received-HARVEST", ROUND }, { "send-OBS", ROUND }, { "sent-OBS", ROUND },
    { "send-HARVEST_END", ROUND }, { "sent-HARVEST_END", ROUND }, { "received-MOVE", ROUND },
    { "send-MOVED", ROUND }, { "sent-MOVED", ROUND },
    { "connect", ATTACH }, { "send-HELLO", ATTACH }, { "sent-HELLO", ATTACH },
    { "received-WELCOME", ATTACH }, { "survey", ATTACH }, { "send-BLOCK", ATTACH },
    { "sent-BLOCK", ATTACH }, { "send-SLOTS", ATTACH }, { "sent-SLOTS", ATTACH },
    { "send-PLACEMENT", ATTACH }, { "sent-PLACEMENT", ATTACH }, { "send-LAYOUT_END", ATTACH },
    { "sent-LAYOUT_END", ATTACH }, { "received-READY", ATTACH },
};

static unsigned passage;            /* the long form goes through all of vmm_steps more than once */

static void die_at_step(guint which)
{
    const char *point = vmm_steps[which].point;
    bool attach = vmm_steps[which].when == ATTACH;
    unsigned nth = attach ? 1 : passage ? passage : (unsigned)g_test_rand_int_range(1, 8);
    /* Again and again, as it is the link's thread that is to be met there, and not the monitor's. */
    g_autofree char *rules = g_strdup_printf("%s=pause:%u:0%s", point, nth, attach ? LOSE_LINK : "");
    struct stir *stir = stir_start(guest);

    start_gap();
    faults_expect(faults, point, strcmp(point, "survey") != 0 ? LINK : NULL);
    faults_set(faults, rules);
    wait_for_hit(point, nth);
    daemon_kill(guest->daemon);
    faults_set(faults, "");
    faults_go_on(faults);
    daemon_restart(guest->daemon);
    stir_end(stir);
    check_guest("daemon dies at QEMU's step", rules);
}

static void test_steps(void)
{
    static const unsigned passages[] = { 1, 2, 7, 40 };

    ensure_guest();
    if (!is_long())
        run_some(die_at_step, G_N_ELEMENTS(vmm_steps), 8);
    for (gsize i = 0; is_long() && i < G_N_ELEMENTS(passages); i++) {
        passage = passages[i];
        run_some(die_at_step, G_N_ELEMENTS(vmm_steps), 0);
    }
    sweep_guest();
}

/* --- the daemon dies at a step of its own ------------------------------------------------------ */

static const struct {
    const char *point;
    enum when when;
} daemon_steps[] = {
    { "round-start", ROUND }, { "round-news", ROUND }, { "round-harvested", ROUND },
    { "round-planned", ROUND }, { "round-demoted", ROUND }, { "round-moved", ROUND },
    { "round-accounted", ROUND }, { "send-HARVEST", ROUND }, { "sent-HARVEST", ROUND },
    { "received-OBS", ROUND }, { "received-HARVEST_END", ROUND }, { "send-MOVE", ROUND },
    { "sent-MOVE", ROUND }, { "received-MOVED", ROUND }, { "ledger-before", ROUND },
    { "ledger-after", ROUND },
    { "accepted", ATTACH }, { "received-HELLO", ATTACH }, { "send-WELCOME", ATTACH },
    { "sent-WELCOME", ATTACH }, { "received-BLOCK", ATTACH }, { "received-SLOTS", ATTACH },
    { "received-PLACEMENT", ATTACH }, { "received-LAYOUT_END", ATTACH },
    { "attach-layout", ATTACH }, { "attach-files", ATTACH }, { "attach-placing", ATTACH },
    { "attach-placed", ATTACH }, { "send-READY", ATTACH }, { "sent-READY", ATTACH },
    { "attach-ready", ATTACH },
};

static void check_killed(struct child *child)
{
    if (!child_wait(child, HIT_S))
        g_error("%s lives on", child->name);
    g_assert_true(WIFSIGNALED(child->status) && WTERMSIG(child->status) == SIGKILL);
}

/* The new one is there at once, and follows other rules. */
static void bury_daemon(struct vt_daemon *daemon)
{
    check_killed(daemon->process);
    faults_set(faults, "");
    daemon_kill(daemon);
    daemon_restart(daemon);
}

static void die_at_own_step(guint which)
{
    const char *point = daemon_steps[which].point;
    bool attach = daemon_steps[which].when == ATTACH;
    unsigned nth = attach ? 1 : (unsigned)g_test_rand_int_range(1, 6);
    g_autofree char *rules = g_strdup_printf("%s=kill:%u%s", point, nth, attach ? LOSE_LINK : "");
    struct stir *stir = stir_start(guest);

    start_gap();
    faults_set(faults, rules);
    for (double end = lab_deadline(HIT_S); child_alive(guest->daemon->process); lab_sleep(0.1)) {
        if (lab_now() > end)
            g_error("%s: never came to pass", rules);
        if (!attach)
            ask_for_moves();
    }
    bury_daemon(guest->daemon);
    stir_end(stir);
    check_guest("daemon dies", rules);
}

static void test_own_steps(void)
{
    ensure_guest();
    run_some(die_at_own_step, G_N_ELEMENTS(daemon_steps), 8);
    sweep_guest();
}

/* --- calls fail ------------------------------------------------------------------------------------ */

static const char *const passing[] = {
    "pool-take=ENOMEM:1:0", "find-data=EINVAL:1:0", "find-data=ENOMEM:3:4",
    "populate-source=ENOMEM:1:0", "populate-source=EFAULT:2:3", "populate-dest=ENOMEM:1:0",
    "populate-dest=ENOSPC:1:0", "populate-dest=EAGAIN:2:2", "maps-limit=ENOMEM:1:0",
    "fence-hold=EAGAIN:1:0", "fence-hold=EAGAIN:2:3", "protect=EAGAIN:1:0", "protect=EFAULT:2:2",
    "protect=EINVAL:1:0", "copy=EIO:1:0", "copy=EIO:3:2", "map-over=ENOMEM:1:0",
    "map-over=EAGAIN:2:3", "map-over=EINVAL:1", "advise=EINVAL:1:0", "advise=ENOMEM:2:3",
    "map-in=EEXIST:1:0", "map-in=EFAULT:1:0",
    "map-in=EAGAIN:2:2", "wake=EAGAIN:1:0", "wake=EINVAL:2:3", "punch=EIO:2:3",
    "punch=ENOSPC:1:0", "copy=ENOMEM:2:5,unprotect=EAGAIN:1:0",
    "populate-source=ENOMEM:2:9,unprotect=EFAULT:1:2", "send-MOVED=EPIPE", "sent-MOVED=EIO:2",
    "received-MOVE=EPROTO", "received-HARVEST=ECONNRESET", "send-OBS=EPIPE:2",
    "send-HARVEST_END=ECONNRESET", "connect=EAGAIN:1:3,received-HARVEST=ECONNRESET",
    "send-MOVE=EPIPE", "received-MOVED=EPROTO:2", "received-OBS=ENOMEM", "sent-HARVEST=EPIPE",
    "received-BLOCK=ENOMEM,received-HARVEST=ECONNRESET",
    "send-WELCOME=EPIPE,received-HARVEST=ECONNRESET",
    "received-PLACEMENT=EPROTO,received-HARVEST=ECONNRESET",
    "send-READY=EPIPE,received-HARVEST=ECONNRESET",
};

static void fail_and_go_on(guint which)
{
    const char *rules = passing[which];
    g_autofree char *point = g_strndup(rules, strcspn(rules, "="));
    struct stir *stir = stir_start(guest);

    start_gap();
    faults_set(faults, rules);
    for (double end = lab_deadline(HIT_S); !faults_count(faults, point); lab_sleep(0.1)) {
        if (lab_now() > end)
            g_error("%s: never came to pass", rules);
        ask_for_moves();
    }
    lab_sleep(is_long() ? 1.5 : 0.5);           /* for a while it goes on failing */
    stir_end(stir);
    faults_set(faults, "");
    check_guest("call fails", rules);
}

static void test_failures(void)
{
    ensure_guest();
    run_some(fail_and_go_on, G_N_ELEMENTS(passing), 8);
    sweep_guest();
}

/* --- what cannot be made good: tiering ends, and says why ------------------------------------------ */

static const struct {
    const char *rules, *reason;
} fatal[] = {
    { "register=ENOMEM", "block ram0, offset 0*UFFDIO_REGISTER*" },
    { "protect=ENOENT", "block ram0, offset 0*not registered with userfaultfd*" },
    { "map-over=ENOMEM:1:0,map-back=ENOMEM:1:0", "block ram0, offset 0*mapping the other file*" },
};

static bool is_frozen(JsonObject *vm, void *unused)
{
    (void)unused;
    return strcmp(json_text(vm, "state"), "frozen") == 0;
}

static void freeze_for_good(guint which)
{
    g_autofree char *thaw = NULL;
    struct stir *stir;

    ensure_guest();
    stir = stir_start(guest);
    start_gap();
    faults_set(faults, fatal[which].rules);
    if (!daemon_wait_vm(guest->daemon, "vm", is_frozen, NULL, HIT_S))
        g_error("%s: not frozen", fatal[which].rules);
    stir_end(stir);
    faults_set(faults, "");
    g_autoptr(JsonObject) vm = daemon_vm(guest->daemon, "vm");

    g_test_message("%s", json_text(vm, "reason"));
    says(json_text(vm, "reason"), fatal[which].reason);
    thaw = qmp_fails(guest->vm->qmp, "x-vmtier-set", "{\"mode\":\"on\"}");
    says(thaw, "*tiering stays frozen: block ram0*");
    daemon_kill(guest->daemon);                 /* the next one has to be told as well */
    daemon_restart(guest->daemon);
    if (!daemon_wait_vm(guest->daemon, "vm", is_frozen, NULL, HIT_S))
        g_error("%s: the next daemon knows nothing of it", fatal[which].rules);
    sweep_guest();
    record("frozen for good", fatal[which].rules, -1, guest_longest_gap(guest->vm->guest));
    g_clear_pointer(&guest, tiered_free);
}

static void test_fatal(void)
{
    run_some(freeze_for_good, G_N_ELEMENTS(fatal), 1);
}

/* --- VMs that come and go -------------------------------------------------------------------------- */

static const char *const rom_args[] = { "--quota", "16M", "--rate", "1G", NULL };
static const struct rom_range all_pages = { .base = MIB, .stride = 4096,
                                            .count = (64 * MIB - MIB) / 4096 };
static struct rig *rig;

static void ensure_rig(void)
{
    if (rig)
        return;
    faults_set(faults, "");
    rig = rig_new("fault-rom");
    rig_start_daemon(rig, rom_args);
}

static const struct {
    const char *point;
    enum when when;
} qemu_steps[] = {
    { "pool-take", ROUND }, { "find-data", ROUND }, { "populate-source", ROUND },
    { "populate-dest", ROUND }, { "protect", ROUND }, { "copy", ROUND }, { "map-over", ROUND },
    { "advise", ROUND }, { "register", ROUND }, { "map-in", ROUND }, { "wake", ROUND },
    { "punch", ROUND }, { "moved", ROUND }, { "fence-hold", ROUND }, { "received-MOVE", ROUND },
    { "send-MOVED", ROUND }, { "sent-MOVED", ROUND }, { "received-HARVEST", ROUND },
    { "send-HARVEST_END", ROUND },
    { "map-over", ATTACH }, { "register", ATTACH }, { "send-MOVED", ATTACH },
    { "sent-LAYOUT_END", ATTACH }, { "send-BLOCK", ATTACH }, { "sent-PLACEMENT", ATTACH },
    { "received-WELCOME", ATTACH }, { "received-TIER_FILE", ATTACH }, { "view", ATTACH },
    { "received-READY", ATTACH }, { "sent-HELLO", ATTACH }, { "uffd-open", ATTACH },
};

static bool is_forgotten(void *unused)
{
    g_autoptr(JsonObject) vm = daemon_vm(rig->daemon, "vm");
    pid_t pid = rig->daemon->process->pid;

    (void)unused;
    return !vm && memfd_count(pid, "vmtier-cxl") == 0 && memfd_count(pid, "memory-backend") == 0;
}

/* The monitor may be the first thing that is gone. */
static void start_doomed(struct vm_options o)
{
    g_autofree char *rom = lab_built("tests/rom.bin");
    g_autofree char *plugin = rig_plugin(rig, "vm=vm");

    o.rom = rom;
    o.ram = "64M";
    o.machine = "pc";
    o.plugin = plugin;
    rig->vm = vm_spawn(rig->lab, "vm", &o);
}

/* The daemon's moves, and the monitor's: whichever is first. */
static void ask_rom_for_moves(void)
{
    static const char *const tiers[] = { "cxl", "dram" };

    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-set-quota", "{\"vm\":\"vm\",\"max\":%llu}",
                           8 * MIB));
    lab_sleep(0.5);
    for (gsize i = 0; i < G_N_ELEMENTS(tiers) && child_alive(rig->vm->qemu); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonNode) done = qmp_try(rig->vm->qmp, &error, "x-vmtier-move", "{\"block\":\"ram0\","
                                           "\"offset\":0,\"length\":%llu,\"tier\":\"%s\"}",
                                           64 * MIB, tiers[i]);
    }
}

static void kill_qemu(guint which)
{
    g_autofree char *rules = g_strconcat(qemu_steps[which].point, "=kill", NULL);

    ensure_rig();
    if (qemu_steps[which].when == ATTACH) {
        faults_set(faults, rules);
        start_doomed((struct vm_options){ 0 });
    } else {
        rig_start_vm(rig, (struct vm_options){ 0 });
        rom_wait_alive(rig->vm, 20);
        rig_wait_state(rig, "tiering");
        rom_run(rig->vm, ROM_WRITE, all_pages, which, 30);
        faults_set(faults, rules);
        ask_rom_for_moves();
    }
    check_killed(rig->vm->qemu);
    if (!lab_wait(is_forgotten, NULL, 10))
        g_error("%s: the daemon keeps something of a QEMU that is dead", rules);
    g_assert_true(child_alive(rig->daemon->process));
    record("QEMU dies", rules, -1, -1);
    g_clear_pointer(&rig->vm, vm_free);
    faults_set(faults, "");
}

static void test_qemu_dies(void)
{
    run_some(kill_qemu, G_N_ELEMENTS(qemu_steps), 5);
    g_clear_pointer(&rig, rig_free);
}

/* --- the first attach of a VM ------------------------------------------------------------------------ */

static const char *const first_steps[] = {
    "accepted=kill", "received-HELLO=kill", "sent-WELCOME=kill", "received-BLOCK=kill",
    "received-LAYOUT_END=kill", "attach-layout=kill", "file-make=kill", "file-made=kill",
    "send-TIER_FILE=kill", "sent-TIER_FILE=kill", "attach-files=kill", "send-MOVE=kill",
    "sent-MOVE=kill", "received-MOVED=kill", "ledger-after=kill:40", "attach-placing=kill",
    "attach-placed=kill", "send-READY=kill", "sent-READY=kill", "attach-ready=kill",
    "file-make=ENOMEM", "send-TIER_FILE=EPIPE", "received-TIER_FILE=EPROTO", "uffd-open=EPERM",
    "view=ENOMEM:2", "send-BLOCK=EPIPE", "map-over=ENOMEM:1:0", "pool-take=ENOMEM:1:0",
    "survey=EBUSY", "received-WELCOME=EPROTO", "received-READY=ECONNRESET",
};

/* Without a file there is no tiering until somebody has done something: here, with the next daemon. */
static void expect_refusal(const char *rules)
{
    g_autoptr(JsonObject) vm = NULL;

    if (!g_str_has_prefix(rules, "file-make=E"))
        return;
    rig_wait_state(rig, "refused");
    vm = rig_status(rig);
    says(json_text(vm, "reason"), "tier cxl: block ram0: making a file: *");
    daemon_kill(rig->daemon);
    daemon_restart(rig->daemon);
}

/* The guest starts all the same, and is tiered soon. */
static void attach_despite(guint which)
{
    const char *rules = first_steps[which];
    g_autofree char *point = g_strndup(rules, strcspn(rules, "="));

    ensure_rig();
    faults_set(faults, rules);
    rig_start_vm(rig, (struct vm_options){ 0 });
    for (double end = lab_deadline(HIT_S); !faults_count(faults, point); lab_sleep(0.05))
        if (lab_now() > end)
            g_error("%s: never came to pass", rules);
    if (strstr(rules, "=kill"))
        bury_daemon(rig->daemon);
    else
        faults_set(faults, "");
    expect_refusal(rules);
    rom_wait_alive(rig->vm, 20);
    rom_run(rig->vm, ROM_WRITE, all_pages, which, 30);
    rig_wait_state(rig, "tiering");
    g_assert_true(rig_falls_to(rig, "tiers.0.ledger_bytes", 16 * MIB, 20));
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, all_pages, which, 30).result, ==, 0);
    g_assert_cmpuint(rig_dram_bytes(rig), <=, 16 * MIB);
    record("first attach", rules, -1, -1);
    g_clear_pointer(&rig->vm, vm_free);
    if (!lab_wait(is_forgotten, NULL, 10))
        g_error("%s: the daemon keeps something of a QEMU that is gone", rules);
}

static void test_first_attach(void)
{
    run_some(attach_despite, G_N_ELEMENTS(first_steps), 6);
    g_clear_pointer(&rig, rig_free);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    faults = faults_new();
    g_test_add_func("/fault/qemu-dies", test_qemu_dies);
    g_test_add_func("/fault/first-attach", test_first_attach);
    g_test_add_func("/fault/daemon-dies-at-qemus-step", test_steps);
    g_test_add_func("/fault/daemon-dies", test_own_steps);
    g_test_add_func("/fault/calls-fail", test_failures);
    g_test_add_func("/fault/frozen-for-good", test_fatal);
    rc = g_test_run();
    g_clear_pointer(&guest, tiered_free);
    faults_free(faults);
    return rc;
}
