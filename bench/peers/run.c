// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One load in L1, with one system after the other: boots the guest, waits until it has its memory and works, arranges
 * where that is, switches the system on, looks once a second, writes what was seen, and switches it off. A system
 * that needs the plugin has a guest of its own. A guest that has a bad page, or does not do what is asked, ends the
 * program.
 */
#include "peers.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define LOOK_S 1.0
#define REFERENCE_S 10.0
#define CGROUP "/sys/fs/cgroup"

/* --- the machine ---------------------------------------------------------------------------------------- */

/* QEMU and its guest's memory are a memory cgroup's of their own; nothing is limited by it. */
static void enter_cgroup(void)
{
    set_file(CGROUP "/cgroup.subtree_control", "+memory\n");
    g_mkdir_with_parents(CGROUP "/vm", 0755);
    set_file(CGROUP "/vm/cgroup.procs", "0\n");
}

static void leave_cgroup(void)
{
    set_file(CGROUP "/cgroup.procs", "0\n");
}

static void start_daemon(struct peers_run *run, const char *more)
{
    g_autofree char *file = lab_path(run->rig->lab, "vmtierd.conf");
    g_autofree char *config = g_strconcat(run->system->daemon, more, NULL);

    g_file_set_contents(file, config, -1, NULL);
    rig_start_daemon(run->rig, NULL);
}

static void start_vm(struct peers_run *run)
{
    g_autofree char *plugin = run->system->plugin ? rig_plugin(run->rig, "vm=vm") : NULL;
    g_autofree char *monitor = lab_path(run->rig->lab, "vm.qmp.2");
    g_autofree char *second = g_strdup_printf("unix:%s,server=on,wait=off", monitor);
    const char *const extra[] = { "-S", "-cpu", "host", "-name", "vm,debug-threads=on", "-qmp", second, NULL };
    struct vm_options o = { .accel = "kvm", .ram = "192M", .append = run->load->words, .plugin = plugin,
                            .backend = plugin ? NULL : "", .extra = extra };

    enter_cgroup();
    run->rig->vm = vm_start(run->rig->lab, "vm", &o);
    leave_cgroup();
}

/* The plugin is there from the start, and keeps to the quota what the guest touches first; then see arrange(). */
static void boot(struct peers_run *run)
{
    g_autofree char *ready = NULL;

    run->rig = rig_new("peers");
    dram_release();
    if (run->system->plugin)
        start_daemon(run, "");
    start_vm(run);
    dram_clear(run->rig->vm->qemu->pid);
    if (run->system->plugin)
        dram_limit(PEERS_DRAM);
    json_node_unref(qmp_ok(run->rig->vm->qmp, "cont", NULL));
    ready = guest_expect(run->rig->vm->guest, "VMT READY", PATIENCE);
    g_print("# %s\n", ready);
    run->pieces = load_pieces(run->load, run->rig->vm->guest);
    run->shared = !run->system->plugin;
}

static void shut_down(struct peers_run *run)
{
    if (run->rig)
        rig_free(run->rig);
    run->rig = NULL;
    g_clear_pointer(&run->pieces, g_array_unref);
    dram_release();
}

/* With the plugin, by its own means; and as with all others the daemon that tiers knows nothing of the guest yet. */
static void arrange_granules(struct peers_run *run)
{
    rig_set_mode(run->rig, "off");
    begin_granules(run->rig, run->pieces);
    daemon_stop(run->rig->daemon);
    g_clear_pointer(&run->rig->daemon, daemon_free);
    start_daemon(run, "mode=off\n");
    daemon_wait_vm_state(run->rig->daemon, "vm", "off", PATIENCE);
}

static void arrange(struct peers_run *run)
{
    if (!run->shared) {
        arrange_granules(run);
        return;
    }
    dram_release();
    begin_pages(run->rig->vm, run->pieces, run->system->limited ? PEERS_DRAM : PEERS_RAM);
    if (run->system->limited)
        dram_limit(0);
}

/*
 * While node 0 is filled nothing may be demoted. kswapd gives a node up of which it could reclaim nothing sixteen
 * times, until something is reclaimed there: so a little of the guest is, by hand, for who is to be measured with it.
 */
static void revive_node(void)
{
    FILE *f = fopen(CGROUP "/vm/memory.reclaim", "we");

    if (!f)
        g_error("memory.reclaim cannot be written: %s", g_strerror(errno));
    fputs("256K\n", f);
    fclose(f);                          /* EAGAIN: it was less */
}

static void switch_on(struct peers_run *run)
{
    system_set(run->system);
    if (run->system->demotion)
        revive_node();
    if (run->system->plugin)
        rig_set_mode(run->rig, "on");
    else if (run->system->daemon)
        start_daemon(run, "");
    if (run->system->begin)
        run->system->begin(run);
}

static void switch_off(struct peers_run *run)
{
    if (run->system->end)
        run->system->end(run);
    system_set(&peers_systems[0]);
    if (run->rig->daemon)
        daemon_stop(run->rig->daemon);          /* it gives DAMON back, that others want next */
    g_clear_pointer(&run->rig->daemon, daemon_free);
}

/* --- looking -------------------------------------------------------------------------------------------- */

/* Who moves by remapping is not seen by the kernel. */
uint64_t run_moved(const struct peers_run *run)
{
    if (run->system->plugin)
        return (uint64_t)rig_daemon_int(run->rig, "moves.bytes");
    return cost_vmstat("pgmigrate_success") * PEERS_PAGE;
}

static double now(const struct peers_run *run)
{
    return lab_now() - run->start;
}

/* CPU time as L1 counts it, so that what else runs in L1 does not count, but what else runs on its host does. */
static double spin(void)
{
    volatile uint64_t state = 1;
    struct timespec a, b;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (int i = 0; i < 200000; i++)
        state = state * 0x5851f42d4c957f2dull + 1;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

static void note_look(struct peers_run *run)
{
    struct look l = { .t = now(run), .node = g_new(gint16, look_pages()) };
    g_autofree char *beat = NULL;

    look(run->rig->vm, l.node);
    for (guint i = 0; i < look_pages(); i++)
        l.dram += l.node[i] == 0;
    l.moved = run_moved(run) - run->moved_at_start;
    beat = guest_beat(run->rig->vm->guest, PATIENCE);
    l.spin_s = spin();
    l.ops = guest_number(beat, "ops");
    if (run->looks->len && l.ops < g_array_index(run->looks, struct look, run->looks->len - 1).ops)
        g_error("the guest has started again: it died, as it does now and then where KVM is emulated");
    g_array_append_val(run->looks, l);
}

static void note_phase(struct peers_run *run, const GArray *hot)
{
    double t = now(run);

    g_ptr_array_add(run->weights, load_weights(run->load, run->pieces, hot, look_pages()));
    g_array_append_val(run->phases, t);
}

/* The reference is there for the guest's speed alone. */
static double seconds_of(const struct peers_run *run)
{
    return run->scale * (run->system->limited ? run->load->seconds : REFERENCE_S);
}

static bool has_hot(const struct peers_load *load)
{
    return load->kind != LOAD_UNIFORM && load->kind != LOAD_KEYS;
}

static void shift(struct peers_run *run)
{
    g_autoptr(GArray) hot = guest_shift(run->rig->vm->guest, PATIENCE);

    note_phase(run, hot);
}

static void measure(struct peers_run *run)
{
    double end = seconds_of(run), next = LOOK_S;
    const double *shifts = run->load->shifts;

    while (now(run) < end) {
        if (*shifts > 0 && now(run) >= *shifts * run->scale) {
            shift(run);
            shifts++;
        }
        if (run->system->second)
            run->system->second(run);
        note_look(run);
        lab_sleep(MAX(next - now(run), 0.01));
        next = MAX(next + LOOK_S, now(run));
    }
}

/* --- from start to end ---------------------------------------------------------------------------------- */

static void observe(struct peers_run *run)
{
    g_autoptr(GArray) hot = has_hot(run->load) ? guest_hot(run->rig->vm->guest, 1, PATIENCE) : NULL;

    run->moved_at_start = run_moved(run);
    run->first = cost_now(run);
    run->start = lab_now();
    note_phase(run, hot);
    switch_on(run);
    measure(run);
    run->last = cost_now(run);
    if (run->load->kind == LOAD_KEYS) {
        g_free(run->weights->pdata[0]);
        run->weights->pdata[0] = load_key_weights(run->rig->vm, look_pages());
    }
}

static void check_guest(struct peers_run *run)
{
    g_autofree char *beat = guest_beat(run->rig->vm->guest, PATIENCE);

    if (run->load->kind != LOAD_KEYS && guest_number(beat, "bad"))
        g_error("the guest has bad pages: %s", beat);
}

static void free_look(gpointer data)
{
    g_free(((struct look *)data)->node);
}

static bool run_one(struct peers_run *run, const char *dir)
{
    g_autofree char *name = g_strconcat(run->system->name, ".json", NULL), *file = g_build_filename(dir, name, NULL);
    double from = lab_now();
    bool ok;

    run->looks = g_array_new(FALSE, FALSE, sizeof(struct look));
    g_array_set_clear_func(run->looks, free_look);
    run->weights = g_ptr_array_new_with_free_func(g_free);
    run->phases = g_array_new(FALSE, FALSE, sizeof(double));
    arrange(run);
    observe(run);
    check_guest(run);
    ok = result_write(run, file);
    switch_off(run);
    g_array_unref(run->looks);
    g_ptr_array_unref(run->weights);
    g_array_unref(run->phases);
    g_print("# %s, %s: %.0f s\n", run->load->name, run->system->title, lab_now() - from);
    return ok;
}

int peers_run(const struct peers_load *load, double scale, const char *dir, char **systems)
{
    struct peers_run run = { .load = load, .scale = scale };
    bool ok = true;

    for (; *systems; systems++) {
        run.system = peers_system(*systems);
        if (run.rig && !(run.shared && !run.system->plugin))
            shut_down(&run);
        if (!run.rig)
            boot(&run);
        ok = run_one(&run, dir) && ok;
    }
    shut_down(&run);
    return ok ? 0 : 1;
}
