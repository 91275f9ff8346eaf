// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest memory and memfds of a running process, by /proc alone: no help from what is being tested.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- guest RAM ------------------------------------------------------------------------------ */

static int open_memory(struct vm *vm, int flags)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/mem", (int)vm->qemu->pid);
    int fd = open(path, flags | O_CLOEXEC);

    if (fd < 0 || !vm->ram_at)
        g_error("%s: %s", path, fd < 0 ? g_strerror(errno) : "QEMU does not say where RAM is");
    return fd;
}

void vm_peek(struct vm *vm, uint64_t gpa, void *to, size_t n)
{
    int fd = open_memory(vm, O_RDONLY);

    if (pread(fd, to, n, (off_t)(vm->ram_at + gpa)) != (ssize_t)n)
        g_error("reading guest memory at 0x%" PRIx64 ": %s", gpa, g_strerror(errno));
    close(fd);
}

void vm_poke(struct vm *vm, uint64_t gpa, const void *from, size_t n)
{
    int fd = open_memory(vm, O_RDWR);

    if (pwrite(fd, from, n, (off_t)(vm->ram_at + gpa)) != (ssize_t)n)
        g_error("writing guest memory at 0x%" PRIx64 ": %s", gpa, g_strerror(errno));
    close(fd);
}

/* --- memfds --------------------------------------------------------------------------------- */

G_STATIC_ASSERT(sizeof(ino_t) == sizeof(gint64));

struct memfd_search {
    const char *name;
    GHashTable *seen;           /* inodes, as a process may hold a file more than once */
    uint64_t bytes;
    char *first;
};

static bool is_memfd(const char *path, const char *name)
{
    g_autofree char *target = g_file_read_link(path, NULL);

    return target && g_str_has_prefix(target, "/memfd:") &&
           g_str_has_prefix(target + strlen("/memfd:"), name);
}

static void look_at(struct memfd_search *s, const char *path)
{
    struct stat st;

    if (!is_memfd(path, s->name) || stat(path, &st) < 0)
        return;
    if (!g_hash_table_add(s->seen, g_memdup2(&st.st_ino, sizeof(st.st_ino))))
        return;
    s->bytes += (uint64_t)st.st_blocks * 512;
    if (!s->first)
        s->first = g_strdup(path);
}

static void search(struct memfd_search *s, pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *entry;

    s->seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    while (dir && (entry = g_dir_read_name(dir))) {
        g_autofree char *fd = g_build_filename(path, entry, NULL);

        look_at(s, fd);
    }
    g_hash_table_unref(s->seen);
}

uint64_t memfd_bytes(pid_t pid, const char *name)
{
    struct memfd_search s = { .name = name };

    search(&s, pid);
    g_free(s.first);
    return s.bytes;
}

int memfd_open(pid_t pid, const char *name)
{
    struct memfd_search s = { .name = name };

    search(&s, pid);
    g_autofree char *path = s.first;
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        g_error("process %d has no memfd '%s' that could be opened", (int)pid, name);
    return fd;
}
