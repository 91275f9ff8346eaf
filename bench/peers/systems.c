// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who places the guest's memory. All have the same node 0, and RAM of 4 KiB pages: QEMU's own memory, as it comes, but
 * for `remap`, that needs a memfd. (Of a memfd NUMA balancing sees nothing: the kernel does not scan shared memory that
 * has no policy of its own.)
 *
 * What is not said is as the kernel and vmtierd have it by default. vmtier's two are given the same quota, that is
 * what the others find free on node 0.
 */
#include "peers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define QUOTA "[vm default]\nquota=48M\n"

void set_file(const char *path, const char *format, ...)
{
    FILE *f = fopen(path, "we");
    va_list args;

    va_start(args, format);
    if (!f || vfprintf(f, format, args) < 0 || fclose(f))
        g_error("%s cannot be written: %s", path, g_strerror(errno));
    va_end(args);
}

void system_set(const struct peers_system *system)
{
    set_file("/proc/sys/kernel/numa_balancing", "%u\n", system->balancing);
    set_file("/sys/kernel/mm/numa/demotion_enabled", "%d\n", system->demotion);
}

static void attach(struct peers_run *run)
{
    struct vm *vm = run->rig->vm;
    g_autofree char *monitor = g_canonicalize_filename(vm->qmp_path, NULL);

    json_node_unref(qmp_ok(run->rig->daemon->qmp, "vmtier-attach", "{\"pid\":%d,\"vm\":\"vm\",\"qmp\":\"%s.2\"}",
                           (int)vm->qemu->pid, monitor));
}

const struct peers_system peers_systems[] = {
    { .name = "dram", .title = "everything in DRAM" },
    { .name = "static", .title = "first touch", .limited = true },
    { .name = "balancing", .title = "NUMA balancing 2, demotion", .limited = true, .demotion = true, .balancing = 2 },
    { .name = "damos", .title = "DAMON migrate_hot, migrate_cold", .limited = true, .begin = damos_begin,
      .second = damos_second, .end = damos_end },
    { .name = "numa", .title = "vmtier numa", .limited = true, .daemon = QUOTA "sources=damon,report\n",
      .begin = attach },
    { .name = "remap", .title = "vmtier remap", .limited = true, .plugin = true,
      .daemon = QUOTA "sources=refault,damon,report\n" },
};
const guint peers_n_systems = G_N_ELEMENTS(peers_systems);

const struct peers_system *peers_system(const char *name)
{
    for (guint i = 0; i < peers_n_systems; i++)
        if (g_str_equal(peers_systems[i].name, name))
            return &peers_systems[i];
    return NULL;
}
