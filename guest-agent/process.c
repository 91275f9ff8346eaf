// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Processes: who is meant by a rule, and where in the guest's physical memory their pages are.
 *
 * Page frame numbers come from /proc/PID/pagemap, which shows them to CAP_SYS_ADMIN. Reserved address
 * space may be terabytes of nothing: where the kernel can (6.7) it is asked which pages are there. A process may
 * have ten thousands of mappings: its list of them is read on where it was left, not from its beginning.
 */
#include "guest-agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PRESENT (1ull << 63)
#define FRAME   ((1ull << 55) - 1)
#define CHUNK   512             /* places looked at in one call, and ranges that the outbox then has room for */

/* From Linux 6.7's <linux/fs.h>, for builds with older headers. */
struct scan_region {
    uint64_t start, end, categories;
};
struct scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
        category_mask, category_anyof_mask, return_mask;
};
#define SCAN         _IOWR('f', 16, struct scan_arg)
#define SCAN_PRESENT (1ull << 3)

static FILE *open_of(pid_t pid, const char *name)
{
    char path[256];

    text_to(path, sizeof(path), "%.200s/%d/%s", settings.proc, (int)pid, name);
    return fopen(path, "re");
}

uint64_t process_begun(pid_t pid)
{
    unsigned long long begun = 0;
    char line[1024], *at;
    FILE *f = open_of(pid, "stat");

    if (!f)
        return 0;
    /* Field 22; the second one is a name in brackets, which may contain anything. */
    if (fgets(line, sizeof(line), f) && (at = strrchr(line, ')')))
        if (sscanf(at + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                           "%*s %llu", &begun) != 1)
            begun = 0;
    fclose(f);
    return begun;
}

bool process_has_comm(pid_t pid, const char *comm)
{
    char name[64] = "";
    FILE *f = open_of(pid, "comm");

    if (!f)
        return false;
    if (!fgets(name, sizeof(name), f))
        name[0] = 0;
    fclose(f);
    name[strcspn(name, "\n")] = 0;
    return !strncmp(name, comm, 15);    /* the kernel keeps no more */
}

/* In the cgroup or below it. Lines are "number:controllers:path". */
bool process_in_cgroup(pid_t pid, const char *cgroup)
{
    size_t n = strlen(cgroup);
    FILE *f = open_of(pid, "cgroup");
    char line[512];
    bool in = false;

    if (!f)
        return false;
    while (n && cgroup[n - 1] == '/')
        n--;
    while (!in && fgets(line, sizeof(line), f)) {
        char *path = strchr(line, ':');

        path = path ? strchr(path + 1, ':') : NULL;
        if (!path)
            continue;
        path++;
        path[strcspn(path, "\n")] = 0;
        in = !strncmp(path, cgroup, n) && (!path[n] || path[n] == '/');
    }
    fclose(f);
    return in;
}

/* --- pages ---------------------------------------------------------------------------------- */

/* The list of mappings that is being read, and the mapping that was read last. */
static struct {
    FILE *file;                 /* NULL: none */
    pid_t pid;
    uint64_t start, end;
} maps;

static void close_maps(void)
{
    if (maps.file)
        fclose(maps.file);
    memset(&maps, 0, sizeof(maps));
}

/* False: there are no more. A line may be longer than our buffer, and end in anything. */
static bool read_mapping(void)
{
    unsigned long long from, to;
    bool begins = true;
    char line[512];

    while (fgets(line, sizeof(line), maps.file)) {
        bool is = begins && sscanf(line, "%llx-%llx", &from, &to) == 2;

        begins = strchr(line, '\n') != NULL;
        if (!is || from >= 1ull << 63)  /* the vsyscall page is nobody's memory */
            continue;
        maps.start = from;
        maps.end = to;
        while (!begins && fgets(line, sizeof(line), maps.file))
            begins = strchr(line, '\n') != NULL;
        return true;
    }
    return false;
}

/* The first mapping that ends above `at`: from where on. False: there is none. */
static bool next_mapping(pid_t pid, uint64_t at, uint64_t *start, uint64_t *end)
{
    if (maps.pid != pid || at < maps.start)
        close_maps();
    if (!maps.file) {
        maps.file = open_of(pid, "maps");
        maps.pid = pid;
    }
    while (maps.file && maps.end <= at)
        if (!read_mapping())
            close_maps();
    if (!maps.file)
        return false;
    *start = maps.start > at ? maps.start : at;
    *end = maps.end;
    return true;
}

/* Moves *start to the first page that is there; false: there is none before `end`. Where the kernel
 * cannot tell, *start stays. */
static bool skip_absent(int pagemap, uint64_t *start, uint64_t end)
{
    struct scan_region found;
    struct scan_arg arg = {
        .size = sizeof(arg), .start = *start, .end = end, .vec = (uintptr_t)&found, .vec_len = 1,
        .max_pages = 1, .category_mask = SCAN_PRESENT, .return_mask = SCAN_PRESENT,
    };
    int n = ioctl(pagemap, SCAN, &arg);

    if (n < 0)
        return true;
    if (n == 0)
        return false;
    *start = found.start;
    return true;
}

/* Says the pages of up to CHUNK places from `at` on; how many. */
static long say_chunk(int pagemap, uint64_t at, unsigned n, enum vta_kind kind)
{
    uint64_t entry[CHUNK];
    ssize_t got = pread(pagemap, entry, n * sizeof(entry[0]), (off_t)(at / PAGE * sizeof(entry[0])));
    long said = 0;

    for (ssize_t i = 0; i < got / (ssize_t)sizeof(entry[0]); i++) {
        uint64_t frame = entry[i] & FRAME;

        if (!(entry[i] & PRESENT) || !frame)
            continue;
        outbox_add((struct vta_range){ frame * PAGE, PAGE, (uint8_t)kind, VTA_SHARE, 255, 0, 0 });
        said++;
    }
    return said;
}

long process_pages(pid_t pid, uint64_t *at, uint64_t end, enum vta_kind kind, long most, char *why,
                   size_t size)
{
    uint64_t from, to;
    char path[256];
    long said = 0;
    int fd;

    text_to(path, sizeof(path), "%.200s/%d/pagemap", settings.proc, (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        text_to(why, size, "%s: %s", path, strerror(errno));
        *at = UINT64_MAX;
        return -1;
    }
    if (!next_mapping(pid, *at, &from, &to) || from >= end) {
        close_maps();
        *at = UINT64_MAX;
    } else {
        bool more;

        to = to < end ? to : end;
        while ((more = (from < to && skip_absent(fd, &from, to))) && most > 0 && outbox_has_room()) {
            unsigned n = (to - from) / PAGE < CHUNK ? (unsigned)((to - from) / PAGE) : CHUNK;

            said += say_chunk(fd, from, n, kind);
            from += (uint64_t)n * PAGE;
            most -= n;
        }
        *at = more ? from : to;
    }
    close(fd);
    return said;
}
