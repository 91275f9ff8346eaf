// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A source's cost to a guest: QEMU, plugin and daemon as they are used. The daemon runs this one source,
 * and is switched to "off" and back to "observe" (nothing moves) in turn, in one and the same VM.
 *
 * Speed is the guest's progress per second of its vCPU thread's CPU time, which has the faults in it and
 * leaves out what others on the machine take. Progress is the test ROM's rounds over its memory (KVM),
 * or the page visits of the Linux guest's workload (emulated).
 */
#include "bench/lib/track.h"
#include "common/clock.h"
#include "tests/vm/rig.h"

#include <stdio.h>
#include <string.h>

#define SETTLE_S   1.5
#define BOOT_S     90.0
#define ROM_RAM    "512M"
#define ROM_PAGES  (64u << 8)       /* 64 MiB: a round must be short */
#define HUGE_PAGES 256

struct mark {
    double progress, cpu_s, at;
    double cpu_ms, vcpu_ms, events;
};

/* Run time of QEMU's vCPU threads, ns. */
static guint64 vcpu_ns(pid_t pid)
{
    g_autofree char *tasks = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(tasks, 0, NULL);
    guint64 ns = 0;
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *comm_path = g_build_filename(tasks, name, "comm", NULL);
        g_autofree char *stat_path = g_build_filename(tasks, name, "schedstat", NULL);
        g_autofree char *comm = NULL, *stat = NULL;

        if (g_file_get_contents(comm_path, &comm, NULL, NULL) && strstr(comm, "CPU") &&
            g_file_get_contents(stat_path, &stat, NULL, NULL))
            ns += g_ascii_strtoull(stat, NULL, 10);
    }
    return ns;
}

static double progress_of(struct vm *vm)
{
    if (!vm->guest)
        return (double)((guint64)rom_mailbox(vm).rounds * ROM_PAGES);
    g_autofree char *beat = guest_beat(vm->guest, 10);

    return (double)guest_number(beat, "ops");
}

static void note_cost(struct vt_daemon *d, const char *source, struct mark *m)
{
    g_autoptr(JsonObject) vm = daemon_vm(d, "vm");
    JsonArray *list = json_object_get_array_member(vm, "sources");

    for (guint i = 0; i < json_array_get_length(list); i++) {
        JsonObject *s = json_array_get_object_element(list, i);

        if (strcmp(json_object_get_string_member(s, "name"), source))
            continue;
        m->cpu_ms = json_object_get_double_member(s, "cpu_ms");
        m->vcpu_ms = json_object_get_double_member(s, "vcpu_ms");
        m->events = (double)json_object_get_int_member(s, "events");
    }
}

static struct mark look(struct vm *vm, struct vt_daemon *d, const char *source)
{
    struct mark m = { 0 };

    note_cost(d, source, &m);
    m.progress = progress_of(vm);
    m.cpu_s = (double)vcpu_ns(vm->qemu->pid) / 1e9;
    m.at = lab_now();
    return m;
}

static void set_mode(struct vt_daemon *d, const char *mode)
{
    json_node_unref(qmp_ok(d->qmp, "vmtier-set-mode", "{\"vm\":\"vm\",\"mode\":\"%s\"}", mode));
}

static struct vm *start_guest(struct lab *lab, struct vt_daemon *d, const struct track_guest *what)
{
    static const struct rom_range all = { .base = 16u << 20, .stride = 4096, .count = ROM_PAGES };
    g_autofree char *plugin = daemon_plugin(d, "vm"), *rom = lab_built("tests/rom.bin");
    struct vm *vm;

    if (!what->kvm) {
        vm = vm_start(lab, "vm", &(struct vm_options){
            .ram = "1G", .append = "vmt.foot=700M vmt.hot=160M", .plugin = plugin });
        g_free(guest_expect(vm->guest, "VMT READY", BOOT_S));
        return vm;
    }
    vm = vm_start(lab, "vm", &(struct vm_options){
        .rom = rom, .accel = "kvm", .ram = ROM_RAM, .machine = "pc", .plugin = plugin,
        .backend = what->huge ? "memory-backend-memfd,id=ram0,size=%s,share=on,hugetlb=on,hugetlbsize=2M"
                              : NULL });
    rom_wait_alive(vm, 20);
    rom_give(vm, ROM_SPIN, all, 0);
    return vm;
}

static void run_phases(struct vm *vm, struct vt_daemon *d, const struct track_guest *what,
                       struct track_result *r)
{
    double speed[2 * TRACK_PAIRS_MOST], seconds = 0;
    struct mark sum = { 0 };

    for (guint i = 0; i < 2 * what->pairs; i++) {
        struct mark a, b;

        set_mode(d, i % 2 ? "observe" : "off");
        lab_sleep(i == 1 ? 2 * SETTLE_S : SETTLE_S);
        a = look(vm, d, what->source);
        lab_sleep(what->phase_s);
        b = look(vm, d, what->source);
        speed[i] = (b.progress - a.progress) / MAX(b.cpu_s - a.cpu_s, 1e-9);
        if (i % 2 == 0)
            continue;
        seconds += b.at - a.at;
        sum.cpu_ms += b.cpu_ms - a.cpu_ms;
        sum.vcpu_ms += b.vcpu_ms - a.vcpu_ms;
        sum.events += b.events - a.events;
    }
    track_compare(speed, 2 * what->pairs, r);
    r->tracker = sum.cpu_ms / 1e3 / seconds;
    r->vcpu = sum.vcpu_ms / 1e3 / seconds;
    r->events_per_s = sum.events / seconds;
    r->ok = true;
}

void track_guest_run(const struct track_guest *what, struct track_result *r)
{
    static const char *const arguments[] = { "--quota", "100%", "--mode", "off", NULL };

    *r = (struct track_result){ 0 };
    if (what->kvm && !vm_kvm_usable()) {
        g_strlcpy(r->why, "/dev/kvm cannot be opened", sizeof(r->why));
        return;
    }
    g_autoptr(Lab) lab = lab_new("track");
    g_autofree char *config = lab_path(lab, "vmtierd.conf");
    g_autofree char *text = g_strdup_printf("[vm vm]\nsources=%s\nsample-use=measure\n", what->source);

    g_assert_true(g_file_set_contents(config, text, -1, NULL));
    g_autoptr(Daemon) d = daemon_start(lab, arguments);
    g_autoptr(Vm) vm = start_guest(lab, d, what);

    run_phases(vm, d, what, r);
}
