// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which pages a shmem file is made of: a memfd's follow the system's setting, those of a mounted tmpfs
 * the mount's option huge=. A tmpfs that is mounted nowhere, or not in our view, cannot be looked up.
 */
#include "vmm/pages.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC 0x01021994
#endif

static bool is_memfd(const struct stat *st)
{
    int fd = memfd_create("vmtier-look", MFD_CLOEXEC);
    struct stat own;
    bool same;

    if (fd < 0)
        return false;
    same = fstat(fd, &own) == 0 && own.st_dev == st->st_dev;
    close(fd);
    return same;
}

static bool memfds_are_small(void)
{
    char line[128] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
    bool got;

    if (!f)
        return true;                /* a kernel without THP */
    got = fgets(line, sizeof(line), f) != NULL;
    fclose(f);
    return got && (strstr(line, "[never]") || strstr(line, "[deny]"));
}

/* A line: "36 35 98:0 /root /mount/point rw,noatime - tmpfs none rw,huge=advise,..." */
static bool mount_is_small(dev_t dev)
{
    char line[4096];
    unsigned device[2];
    bool small = false;
    FILE *f = fopen("/proc/self/mountinfo", "re");

    if (!f)
        return false;
    while (!small && fgets(line, sizeof(line), f)) {
        const char *huge = strstr(line, "huge=");

        if (sscanf(line, "%*d %*d %u:%u", &device[0], &device[1]) == 2 &&
            makedev(device[0], device[1]) == dev)
            small = !huge || !strncmp(huge, "huge=never", 10);
    }
    fclose(f);
    return small;
}

bool pages_are_small(int fd)
{
    struct statfs fs;
    struct stat st;

    if (fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC || fstat(fd, &st))
        return false;
    return is_memfd(&st) ? memfds_are_small() : mount_is_small(st.st_dev);
}
