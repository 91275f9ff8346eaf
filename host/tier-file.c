// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a tier's files can be, and making them.
 *
 * The plugin write-protects what it moves with userfaultfd, and the kernel does that for shared
 * mappings of tmpfs (memfd) and hugetlbfs only (vma_can_userfault() in include/linux/userfaultfd_k.h):
 * not for files on disk, with or without DAX, nor for device-dax. Those are refused here by name.
 *
 * 2 MiB pages of shmem are a matter of the mount: a memfd has those that the administrator allows all
 * of the host, a tmpfs has its own option. So the daemon makes a tmpfs of its own, which is mounted
 * nowhere and lasts as long as a file on it is open, in whatever process.
 */
#include "host/tier.h"
#include "common/filekind.h"
#include "host/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

/* Linux 5.2, include/uapi/linux/mount.h, which cannot be included beside sys/mount.h. */
#define OPEN_CLOEXEC   1u
#define SET_STRING     1
#define CREATE         6

struct tier_mount {
    int fd;
};

#define FAIL(error, code, ...) g_set_error(error, VMT_ERROR, code, __VA_ARGS__)

/* --- a tmpfs of our own ------------------------------------------------------------------------------ */

static int configure(int fs)
{
    static const char *const options[][2] = {
        { "huge", "advise" },   /* QEMU and the plugin advise what they map */
        { "size", "0" },        /* no limit, as for a memfd */
        { "nr_inodes", "0" },
        { "mode", "0700" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(options); i++)
        if (syscall(SYS_fsconfig, fs, SET_STRING, options[i][0], options[i][1], 0))
            return -1;
    return (int)syscall(SYS_fsconfig, fs, CREATE, NULL, NULL, 0);
}

/* Somebody with more rights has mounted one for us. */
static int open_prepared(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct filekind kind = { 0 };

    if (fd >= 0 && !filekind_look(fd, &kind) && kind.kind == VT_KIND_TMPFS) {
        filekind_find_thp(&kind);
        if (kind.thp >= VT_THP_ADVISE)
            return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static int make_mount(GError **error)
{
    int fs = (int)syscall(SYS_fsopen, "tmpfs", OPEN_CLOEXEC), fd = -1;

    if (fs >= 0 && !configure(fs))
        fd = (int)syscall(SYS_fsmount, fs, OPEN_CLOEXEC, 0);
    if (fd < 0)
        FAIL(error, errno, "a tmpfs with huge=advise: %s: mount one at " TIER_HUGE_DIR
             ", or give vmtierd CAP_SYS_ADMIN", g_strerror(errno));
    if (fs >= 0)
        close(fs);
    return fd;
}

struct tier_mount *tier_mount_new(const char *directory, GError **error)
{
    int fd = open_prepared(directory);
    struct tier_mount *mount;

    if (fd < 0)
        fd = make_mount(error);
    if (fd < 0)
        return NULL;
    mount = g_new0(struct tier_mount, 1);
    mount->fd = fd;
    return mount;
}

void tier_mount_free(struct tier_mount *mount)
{
    if (mount)
        close(mount->fd);
    g_free(mount);
}

/* --- files -------------------------------------------------------------------------------------------- */

/* The name is for /proc/PID/maps; the file has none any more as soon as it is there. */
static int make_nameless(int directory, const char *name, GError **error)
{
    static gint counter;
    g_autofree char *full = g_strdup_printf("%s.%d.%d", name, (int)getpid(),
                                            g_atomic_int_add(&counter, 1));
    int fd = openat(directory, g_strdelimit(full, "/", '_'),
                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        FAIL(error, errno, "making '%s': %s", full, g_strerror(errno));
    else
        unlinkat(directory, full, 0);
    return fd;
}

int tier_file_in_mount(const struct tier_mount *mount, const char *name, GError **error)
{
    return make_nameless(mount->fd, name, error);
}

static char *size_text(guint32 bytes)
{
    return bytes >> 20 ? g_strdup_printf("%u MiB", bytes >> 20) : g_strdup_printf("%u KiB", bytes >> 10);
}

int tier_file_in_directory(const char *path, const char *name, guint32 page_size, GError **error)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
    g_autofree char *wanted = size_text(page_size), *there = NULL;
    struct filekind kind;

    if (directory < 0 || filekind_look(directory, &kind)) {
        FAIL(error, errno, "%s: %s", path, g_strerror(errno));
    } else if (kind.page_size != page_size) {
        there = size_text(kind.page_size);
        FAIL(error, EINVAL, "%s has pages of %s and the VM's RAM has pages of %s: give the RAM the "
             "same kind, or leave path= out", path, there, wanted);
    } else {
        fd = make_nameless(directory, name, error);
        if (fd < 0)
            g_prefix_error(error, "%s: ", path);
    }
    if (directory >= 0)
        close(directory);
    return fd;
}

int tier_file_in_memory(const char *name, guint32 page_size, GError **error)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd;

    if (page_size > 4096)
        flags |= MFD_HUGETLB | (unsigned)__builtin_ctz(page_size) << MFD_HUGE_SHIFT;
    fd = memfd_create(name, flags);
    if (fd < 0 && errno == ENODEV) {
        g_autofree char *size = size_text(page_size);

        FAIL(error, ENODEV, "this host has no huge pages of %s: see /sys/kernel/mm/hugepages", size);
    } else if (fd < 0) {
        FAIL(error, errno, "memfd: %s", g_strerror(errno));
    }
    return fd;
}

/* --- what path= may be -------------------------------------------------------------------------------- */

/* The name of a device-dax behind a character device ("dax0.0"), and the node its memory would be. */
static char *find_dax(dev_t device, int *node)
{
    g_autofree char *dir = g_strdup_printf("/sys/dev/char/%u:%u", major(device), minor(device));
    g_autofree char *link = g_build_filename(dir, "subsystem", NULL);
    g_autofree char *subsystem = g_file_read_link(link, NULL);
    g_autofree char *self = g_file_read_link(dir, NULL);
    g_autofree char *file = g_build_filename(dir, "target_node", NULL);
    g_autofree char *text = NULL;

    if (!subsystem || !self || !g_str_has_suffix(subsystem, "/dax"))
        return NULL;
    *node = g_file_get_contents(file, &text, NULL, NULL) ? (int)g_ascii_strtoll(text, NULL, 10) : -1;
    return g_path_get_basename(self);
}

bool tier_judge_path(const char *path, const struct filekind *kind, const char *dax, int node,
                     GError **error)
{
    g_autofree char *number = node >= 0 ? g_strdup_printf("%d", node) : g_strdup("N");
    char name[24];

    if (kind->kind == VT_KIND_TMPFS && (S_ISDIR(kind->mode) || S_ISREG(kind->mode)))
        return true;
    if (kind->kind == VT_KIND_HUGETLB && S_ISDIR(kind->mode))
        return true;
    if (kind->kind == VT_KIND_HUGETLB && S_ISREG(kind->mode))
        FAIL(error, EINVAL, "path=%s: which VM has how much of a file on hugetlbfs cannot be told: "
             "give the directory instead, each VM gets files of its own there", path);
    else if (dax)
        FAIL(error, EINVAL, "path=%s is a DAX device, which userfaultfd cannot write-protect: make "
             "its memory a NUMA node with `daxctl reconfigure-device --mode=system-ram %s`, then "
             "nodes=%s instead of path=", path, dax, number);
    else
        FAIL(error, EINVAL, "path=%s is on %s, and userfaultfd can write-protect only tmpfs and "
             "hugetlbfs: give a directory or file on tmpfs, or a directory on hugetlbfs; for "
             "persistent or CXL memory `daxctl reconfigure-device --mode=system-ram`, then nodes=N "
             "instead of path=", path, filekind_fs(kind, name));
    return false;
}

bool tier_check_path(const char *path, GError **error)
{
    int fd = open(path, O_PATH | O_CLOEXEC), node = -1;
    struct filekind kind = { 0 };
    g_autofree char *dax = NULL;
    bool ok = false;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) || filekind_look(fd, &kind)) {
        FAIL(error, errno, "path=%s: %s", path, g_strerror(errno));
    } else {
        dax = S_ISCHR(st.st_mode) ? find_dax(st.st_rdev, &node) : NULL;
        ok = tier_judge_path(path, &kind, dax, node, error);
    }
    if (fd >= 0)
        close(fd);
    return ok;
}
