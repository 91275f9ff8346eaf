// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What placing memory costs: CPU time of the kernel's threads that do nothing else here (kdamond, kswapd,
 * kcompactd), of vmtierd, and of the plugin's thread in QEMU. The hint faults and scans of NUMA balancing are part of
 * the vCPU's own time in the kernel, with KVM's; that is told beside it, for all alike.
 */
#include "peers.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const threads[] = { "kdamond", "kswapd", "kcompactd" };

static char *read_of(const char *dir, const char *id, const char *name)
{
    g_autofree char *path = g_build_filename(dir, id, name, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : NULL;
}

static double on_cpu(const char *dir, const char *id)
{
    g_autofree char *text = read_of(dir, id, "schedstat");

    return text ? g_ascii_strtod(text, NULL) / 1e9 : 0;
}

static bool is_one_of(const char *comm)
{
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        if (comm && g_str_has_prefix(comm, threads[i]))
            return true;
    return false;
}

static double kernel_threads(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    const char *id;
    double sum = 0;

    while (dir && (id = g_dir_read_name(dir))) {
        g_autofree char *comm = g_ascii_isdigit(*id) ? read_of("/proc", id, "comm") : NULL;

        if (is_one_of(comm))
            sum += on_cpu("/proc", id);
    }
    return sum;
}

/* Of a process's threads whose name begins so. */
static double of_threads(pid_t pid, const char *prefix)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *id;
    double sum = 0;

    while (dir && (id = g_dir_read_name(dir))) {
        g_autofree char *comm = read_of(path, id, "comm");

        if (comm && g_str_has_prefix(comm, prefix))
            sum += on_cpu(path, id);
    }
    return sum;
}

static void add_times(const char *dir, const char *id, double *user, double *system)
{
    g_autofree char *stat = read_of(dir, id, "stat");
    const char *after = stat ? strrchr(stat, ')') : NULL;
    unsigned long u, s;

    if (after && sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) == 2) {
        *user += (double)u / (double)sysconf(_SC_CLK_TCK);
        *system += (double)s / (double)sysconf(_SC_CLK_TCK);
    }
}

static void of_vcpu(pid_t pid, double *user, double *system)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *id;

    while (dir && (id = g_dir_read_name(dir))) {
        g_autofree char *comm = read_of(path, id, "comm");

        if (comm && g_str_has_prefix(comm, "CPU "))
            add_times(path, id, user, system);
    }
}

uint64_t cost_vmstat(const char *prefix)
{
    g_autofree char *text = NULL;
    uint64_t sum = 0;

    if (!g_file_get_contents("/proc/vmstat", &text, NULL, NULL))
        return 0;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        const char *value = strchr(*line, ' ');

        if (value && g_str_has_prefix(*line, prefix))
            sum += g_ascii_strtoull(value, NULL, 10);
    }
    return sum;
}

struct cost cost_now(const struct peers_run *run)
{
    pid_t qemu = run->rig->vm->qemu->pid;
    struct cost c = {
        .kthreads = kernel_threads(), .plugin = of_threads(qemu, "vmtier"), .qemu = of_threads(qemu, ""),
        .daemon = run->rig->daemon ? of_threads(run->rig->daemon->process->pid, "") : 0,
        .hints = cost_vmstat("numa_hint_faults "), .promoted = cost_vmstat("pgpromote_success"),
        .demoted = cost_vmstat("pgdemote_"),
        .migrated = cost_vmstat("pgmigrate_success"),
    };

    of_vcpu(qemu, &c.vcpu_user, &c.vcpu_system);
    return c;
}
