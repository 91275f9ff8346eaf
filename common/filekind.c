// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See filekind.h.
 *
 * Whether a tmpfs gives huge pages is a mount option, which only mountinfo tells; a memfd is on the
 * kernel's own mount, which is in no list and follows shmem_enabled. So is a mount that nobody has
 * attached (the daemon's own): a memfd made here tells which of the two it is.
 */
#include "common/filekind.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* statfs() of a character device tells of the file system its node is on: no use. */
const char *filekind_fs(const struct filekind *k, char buffer[24])
{
    static const struct {
        long magic;
        const char *name;
    } known[] = {
        { TMPFS_MAGIC, "tmpfs" },          { HUGETLBFS_MAGIC, "hugetlbfs" },
        { EXT4_SUPER_MAGIC, "ext4" },      { XFS_SUPER_MAGIC, "xfs" },
        { BTRFS_SUPER_MAGIC, "btrfs" },    { NFS_SUPER_MAGIC, "nfs" },
        { OVERLAYFS_SUPER_MAGIC, "overlayfs" }, { RAMFS_MAGIC, "ramfs" },
    };

    if (S_ISCHR(k->mode) || S_ISBLK(k->mode))
        return S_ISCHR(k->mode) ? "a character device" : "a block device";
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].magic == k->magic)
            return known[i].name;
    snprintf(buffer, 24, "file system %#lx", (unsigned long)k->magic);
    return buffer;
}

static dev_t memfd_device(void)
{
    static _Atomic dev_t device;
    struct stat st;
    int fd;

    if (device)
        return device;
    fd = memfd_create("vmtier-probe", MFD_CLOEXEC);
    if (fd >= 0 && !fstat(fd, &st))
        device = st.st_dev;
    if (fd >= 0)
        close(fd);
    return device;
}

int filekind_look(int fd, struct filekind *k)
{
    struct statfs fs;
    struct stat st;

    *k = (struct filekind){ .kind = VT_KIND_OTHER, .page_size = 4096 };
    if (fstat(fd, &st) || fstatfs(fd, &fs))
        return -errno;
    k->magic = (long)fs.f_type;
    k->device = st.st_dev;
    k->mode = st.st_mode;
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        return 0;
    if (fs.f_type == HUGETLBFS_MAGIC) {
        k->kind = VT_KIND_HUGETLB;
        k->page_size = (uint32_t)fs.f_bsize;
    } else if (fs.f_type == TMPFS_MAGIC) {
        k->kind = st.st_dev == memfd_device() ? VT_KIND_MEMFD : VT_KIND_TMPFS;
    }
    return 0;
}

/* --- huge pages of a tmpfs -------------------------------------------------------------------- */

static const char *const thp_names[] = { "?", "never", "advise", "within_size", "always" };
static_assert(sizeof(thp_names) / sizeof(thp_names[0]) == VT_THP_END, "a huge= has no name");

const char *filekind_thp_name(unsigned thp)
{
    return thp_names[thp < VT_THP_END ? thp : VT_THP_UNKNOWN];
}

static enum vt_thp thp_named(const char *text, size_t length)
{
    for (unsigned i = VT_THP_NEVER; i < VT_THP_END; i++)
        if (strlen(thp_names[i]) == length && !strncmp(text, thp_names[i], length))
            return (enum vt_thp)i;
    return VT_THP_UNKNOWN;
}

/* The word in brackets. "deny" and "force" overrule every mount's own option. */
static enum vt_thp parse_enabled(const char *text, bool *overrules)
{
    const char *word = text ? strchr(text, '[') : NULL;
    size_t n = word ? strcspn(++word, "]") : 0;

    *overrules = word && (!strncmp(word, "deny", n) || !strncmp(word, "force", n));
    if (!word || !n)
        return VT_THP_UNKNOWN;
    return *overrules ? (*word == 'd' ? VT_THP_NEVER : VT_THP_ALWAYS) : thp_named(word, n);
}

/* The options behind " - tmpfs SOURCE "; a tmpfs without huge= has never. */
static enum vt_thp parse_options(const char *line, const char *end)
{
    const char *at = memmem(line, (size_t)(end - line), " - tmpfs ", 9);

    at = at ? memmem(at, (size_t)(end - at), "huge=", 5) : NULL;
    return at ? thp_named(at + 5, strcspn(at + 5, ", \n")) : VT_THP_NEVER;
}

static enum vt_thp parse_mounts(const char *mounts, dev_t device)
{
    unsigned major_is, minor_is;

    for (const char *line = mounts, *end; line && *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        if (sscanf(line, "%*u %*u %u:%u ", &major_is, &minor_is) == 2 &&
            major_is == major(device) && minor_is == minor(device))
            return parse_options(line, end);
    }
    return VT_THP_UNKNOWN;
}

enum vt_thp filekind_parse_thp(const struct filekind *k, const char *mountinfo,
                               const char *shmem_enabled)
{
    bool overrules;
    enum vt_thp enabled = parse_enabled(shmem_enabled, &overrules);

    if (k->kind == VT_KIND_MEMFD || (k->kind == VT_KIND_TMPFS && overrules))
        return enabled;
    return k->kind == VT_KIND_TMPFS ? parse_mounts(mountinfo, k->device) : VT_THP_UNKNOWN;
}

/* A whole file of /proc or /sys, to be freed; NULL if it cannot be read. */
static char *read_file(const char *path)
{
    size_t room = 4096, n = 0;
    char *text = malloc(room);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = -1;

    while (text && fd >= 0 && (got = read(fd, text + n, room - n - 1)) > 0) {
        char *more = text;

        n += (size_t)got;
        if (room - n < 1024)
            more = realloc(text, room *= 2);
        if (!more)
            break;
        text = more;
    }
    if (fd >= 0)
        close(fd);
    if (got != 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

void filekind_find_thp(struct filekind *k)
{
    char *mounts = k->kind == VT_KIND_TMPFS ? read_file("/proc/self/mountinfo") : NULL;
    char *enabled = read_file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");

    k->thp = (uint8_t)filekind_parse_thp(k, mounts, enabled);
    free(mounts);
    free(enabled);
}

bool filekind_is_small(int fd)
{
    struct filekind k;

    if (filekind_look(fd, &k))
        return false;
    filekind_find_thp(&k);
    if (k.kind == VT_KIND_MEMFD)
        return k.thp <= VT_THP_NEVER;       /* unknown: a kernel without huge pages in shmem */
    return k.kind == VT_KIND_TMPFS && k.thp == VT_THP_NEVER;
}

/* --- text ----------------------------------------------------------------------------------------- */

void filekind_text(const struct filekind *k, char *text, size_t size)
{
    static const char *const names[] = { "none", "memfd", "tmpfs", "hugetlb", "another kind" };
    unsigned kind = k->kind < VT_KIND_END ? k->kind : VT_KIND_OTHER;
    uint32_t mib = k->page_size >> 20;

    static_assert(sizeof(names) / sizeof(names[0]) == VT_KIND_END, "a kind has no name");
    if (kind == VT_KIND_HUGETLB && mib >= 1024)
        snprintf(text, size, "hugetlb, pages of %u GiB", mib >> 10);
    else if (kind == VT_KIND_HUGETLB)
        snprintf(text, size, "hugetlb, pages of %u MiB", mib);
    else if (k->thp > VT_THP_NEVER || (kind == VT_KIND_TMPFS && k->thp))
        snprintf(text, size, "%s, huge=%s", names[kind], filekind_thp_name(k->thp));
    else
        snprintf(text, size, "%s", names[kind]);
}
