// SPDX-License-Identifier: GPL-2.0-or-later
/* Another process as /proc shows it: see process.h. */
#include "host/process.h"
#include "host/error.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINE_BYTES 8192         /* of smaps; a longer path is cut */

static gpointer fail(GError **error, pid_t pid, const char *what, int e)
{
    const char *help = e == EACCES || e == EPERM ? ": run vmtierd as its user, or with CAP_SYS_PTRACE"
                                                 : "";

    g_set_error(error, VMT_ERROR, e, "process %d: %s: %s%s", (int)pid, what, g_strerror(e), help);
    return NULL;
}

/* /proc/PID/NAME; g_file_get_contents() says less about why not. */
static char *read_proc(pid_t pid, const char *name, gsize *length, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, name);
    g_autoptr(GError) inner = NULL;
    char *text;

    errno = 0;
    if (g_file_get_contents(path, &text, length, &inner))
        return text;
    return fail(error, pid, path, errno ? errno : EIO);
}

/* --- who it is ------------------------------------------------------------------------------------------ */

/* The 22nd field; the second is a name in brackets that may hold anything. */
static bool parse_start(const char *stat, guint64 *start)
{
    const char *at = strrchr(stat, ')');

    for (int field = 2; at && field < 22; field++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    if (at)
        *start = g_ascii_strtoull(at, NULL, 10);
    return at != NULL;
}

static bool read_argv(struct process *p, GError **error)
{
    gsize length;
    g_autofree char *all = read_proc(p->pid, "cmdline", &length, error);

    for (const char *arg = all; arg && arg < all + length; arg += strlen(arg) + 1)
        g_ptr_array_add(p->argv, g_strdup(arg));
    return all != NULL;
}

static bool read_who(struct process *p, GError **error)
{
    g_autofree char *stat = read_proc(p->pid, "stat", NULL, error);
    g_autofree char *link = g_strdup_printf("/proc/%d/exe", (int)p->pid);
    char target[4096];
    ssize_t n;

    if (!stat)
        return false;
    if (!parse_start(stat, &p->start))
        return fail(error, p->pid, "its start time", EPROTO);
    n = readlink(link, target, sizeof(target) - 1);
    if (n < 0)
        return fail(error, p->pid, link, errno);
    target[n] = '\0';
    p->exe = g_path_get_basename(target);
    return read_argv(p, error);
}

struct process *process_open(pid_t pid, GError **error)
{
    g_autoptr(Process) p = g_new0(struct process, 1);

    p->pid = pid;
    p->argv = g_ptr_array_new_with_free_func(g_free);
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (p->pidfd < 0)
        return fail(error, pid, "pidfd_open", errno);
    if (!read_who(p, error))
        return NULL;
    if (process_ended(p))       /* then what was read may be another's */
        return fail(error, pid, "it has ended", ESRCH);
    return g_steal_pointer(&p);
}

void process_free(struct process *p)
{
    if (!p)
        return;
    if (p->pidfd >= 0)
        close(p->pidfd);
    g_ptr_array_unref(p->argv);
    g_free(p->exe);
    g_free(p);
}

bool process_ended(const struct process *p)
{
    struct pollfd fd = { .fd = p->pidfd, .events = POLLIN };

    return poll(&fd, 1, 0) > 0;
}

bool process_is_qemu(const struct process *p)
{
    return g_str_has_prefix(p->exe, "qemu-system") || g_str_has_prefix(p->exe, "qemu-kvm") ||
           g_str_equal(p->exe, "kvm");
}

bool process_has_kvm(const struct process *p)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)p->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *fd = g_build_filename(path, name, NULL);
        g_autofree char *target = g_file_read_link(fd, NULL);

        if (g_strcmp0(target, "anon_inode:kvm-vm") == 0)
            return true;
    }
    return false;
}

double process_started_at(const struct process *p)
{
    struct timespec now, up;

    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &up);
    return (double)(now.tv_sec - up.tv_sec) + (double)(now.tv_nsec - up.tv_nsec) / 1e9 +
           (double)p->start / (double)sysconf(_SC_CLK_TCK);
}

/* --- maps -------------------------------------------------------------------------------------------------- */

static bool parse_mapping(const char *line, struct mapping *m)
{
    char perms[5];
    int name = 0;

    *m = (struct mapping){ 0 };
    if (sscanf(line, "%" G_GINT64_MODIFIER "x-%" G_GINT64_MODIFIER "x %4s %*x %*x:%*x %"
               G_GUINT64_FORMAT " %n", &m->start, &m->end, perms, &m->inode, &name) < 4 || !name)
        return false;
    m->writable = perms[1] == 'w';
    m->executable = perms[2] == 'x';
    m->shared = perms[3] == 's';
    g_strlcpy(m->name, line + name, sizeof(m->name));
    m->name[strcspn(m->name, "\n")] = '\0';
    return m->start < m->end;
}

GArray *maps_parse(const char *text)
{
    GArray *maps = g_array_new(FALSE, FALSE, sizeof(struct mapping));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        struct mapping m;

        if (parse_mapping(*line, &m))
            g_array_append_val(maps, m);
    }
    return maps;
}

GArray *process_maps(const struct process *p, GError **error)
{
    g_autofree char *text = read_proc(p->pid, "maps", NULL, error);

    return text ? maps_parse(text) : NULL;
}

bool maps_cover(const GArray *maps, guint64 start, guint64 end)
{
    for (guint i = 0; i < maps->len && start < end; i++) {
        const struct mapping *m = &g_array_index(maps, struct mapping, i);

        if (m->end <= start)
            continue;
        if (m->start > start || !m->writable)
            return false;
        start = m->end;
    }
    return start >= end;
}

/* --- smaps ------------------------------------------------------------------------------------------------- */

static guint64 kilobytes(const char *line, const char *key)
{
    return g_str_has_prefix(line, key) ? g_ascii_strtoull(line + strlen(key), NULL, 10) << 10 : 0;
}

static void take_smaps_line(const char *line, struct backing *b)
{
    guint64 size = kilobytes(line, "KernelPageSize:");

    b->page_size = MAX(b->page_size, (guint32)MIN(size, 1u << 30));
    b->present += kilobytes(line, "Rss:") + kilobytes(line, "Shared_Hugetlb:") +
                  kilobytes(line, "Private_Hugetlb:");
    b->huge += kilobytes(line, "AnonHugePages:") + kilobytes(line, "ShmemPmdMapped:") +
               kilobytes(line, "FilePmdMapped:");
    if (g_str_has_prefix(line, "VmFlags:")) {
        b->hugetlb |= strstr(line, " ht") != NULL;
        b->device |= strstr(line, " io") || strstr(line, " pf");
    }
}

static void take_smaps(FILE *file, guint64 start, guint64 end, struct backing *b)
{
    char line[LINE_BYTES];
    bool within = false;

    while (fgets(line, sizeof(line), file)) {
        struct mapping m;

        if (parse_mapping(line, &m)) {
            within = m.start < end && start < m.end;
            b->shared |= within && m.shared;
        } else if (within) {
            take_smaps_line(line, b);
        }
    }
}

bool process_backing(const struct process *p, guint64 start, guint64 end, struct backing *backing,
                     GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps", (int)p->pid);
    FILE *file = fopen(path, "re");

    *backing = (struct backing){ 0 };
    if (!file)
        return fail(error, p->pid, path, errno);
    take_smaps(file, start, end, backing);
    fclose(file);
    if (backing->page_size)
        return true;
    return fail(error, p->pid, "its RAM is not in smaps any more", ESRCH);
}
