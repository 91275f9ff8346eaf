// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's tiers: see tier.h.
 *
 * Where a page of a shmem file is allocated follows the policy of the file, set with mbind() on a
 * mapping of it; the mapping may go, the policy stays with the inode. Whoever touches the page
 * first, here or in QEMU, it lands on the tier's nodes.
 *
 * Files are made to be like the block's own in dram (tier-file.c), or where path= says: in a
 * directory, or as pieces of one file (tier-area.c).
 */
#include "host/tier.h"
#include "common/fault.h"
#include "host/error.h"
#include "host/tier-area.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_PAGE     (2ull << 20)
#define COUNT_SHARE   50            /* walking areas takes two per cent of the time at most */
#define PIECES_MOST   100000        /* a guest that uses every other page is not worth more time */

/* libnuma's own complaints: ours name the tier, and there is to be one line. */
void numa_warn(int number, char *where, ...)
{
    (void)number;
    (void)where;
}

/* --- nodes ------------------------------------------------------------------------------------------ */

/* Nodes with memory: those with CPUs too, or those without. NULL if there are none. */
static char *find_nodes(bool with_cpus)
{
    g_autoptr(GString) list = g_string_new(NULL);
    struct bitmask *cpus = numa_allocate_cpumask();

    for (int node = 0; node <= numa_max_node(); node++) {
        bool has;

        if (numa_node_size64(node, NULL) <= 0)
            continue;
        has = numa_node_to_cpus(node, cpus) == 0 && numa_bitmask_weight(cpus) > 0;
        if (has == with_cpus)
            g_string_append_printf(list, "%s%d", list->len ? "," : "", node);
    }
    numa_bitmask_free(cpus);
    return list->len ? g_string_free(g_steal_pointer(&list), FALSE) : NULL;
}

static bool set_up_path(struct tier *t, const char *path, GError **error)
{
    if (!tier_check_path(path, error)) {
        g_prefix_error(error, "tier %s: ", t->name);
        return false;
    }
    t->path = g_strdup(path);
    if (g_file_test(path, G_FILE_TEST_IS_DIR))
        return true;
    t->area = tier_area_new(path, error);
    if (!t->area)
        g_prefix_error(error, "tier %s: ", t->name);
    return t->area;
}

/* Which of the nodes that have memory only is whose cannot be guessed. */
static bool may_find_nodes(const struct config *config, const struct tier_config *c, GError **error)
{
    g_autofree char *slow = find_nodes(false);

    if (config->tiers->len <= 2 || !slow || c == g_ptr_array_index(config->tiers, 0))
        return true;
    g_set_error(error, VMT_ERROR, EINVAL, "tier %s: nodes= is missing: there are several slower tiers, and "
                "the nodes without CPUs are %s", c->name, slow);
    return false;
}

static bool set_up_nodes(struct tier *t, const struct config *config, guint index, GError **error)
{
    const struct tier_config *c = g_ptr_array_index(config->tiers, index);

    t->nodes = g_strdup(c->nodes);
    if (numa_available() < 0) {
        t->emulated = index > 0;
        t->reason = index ? g_strdup("this kernel has no NUMA") : NULL;
        return true;
    }
    if (!t->nodes && !c->path && !may_find_nodes(config, c, error))
        return false;
    if (!t->nodes)
        t->nodes = find_nodes(index == 0);
    if (!t->nodes) {
        t->emulated = index > 0;
        t->reason = index ? g_strdup("this host has no NUMA node without CPUs: a second file in the "
                                     "same memory stands in") : NULL;
        return true;
    }
    t->mask = numa_parse_nodestring(t->nodes);
    if (!t->mask) {
        g_set_error(error, VMT_ERROR, EINVAL, "tier %s: nodes=%s: no such nodes on this host",
                    t->name, t->nodes);
        return false;
    }
    return true;
}

static bool set_up(struct tier *t, const struct config *config, guint index, GError **error)
{
    const struct tier_config *c = g_ptr_array_index(config->tiers, index);

    g_strlcpy(t->name, c->name, sizeof(t->name));
    return set_up_nodes(t, config, index, error) && (!c->path || set_up_path(t, c->path, error));
}

static void set_up_mount(struct tiers *tiers)
{
    g_autoptr(GError) error = NULL;

    tiers->huge = tier_mount_new(TIER_HUGE_DIR, &error);
    if (!tiers->huge)
        tiers->no_huge = g_strdup(error->message);
}

struct tiers *tiers_new(const struct config *config, GError **error)
{
    struct tiers *tiers = g_new0(struct tiers, 1);

    tiers->n = config->tiers->len;
    for (guint i = 0; i < tiers->n; i++)
        if (!set_up(&tiers->tier[i], config, i, error)) {
            tiers_free(tiers);
            return NULL;
        }
    set_up_mount(tiers);
    return tiers;
}

void tiers_free(struct tiers *tiers)
{
    for (guint i = 0; i < tiers->n; i++) {
        g_free(tiers->tier[i].nodes);
        g_free(tiers->tier[i].reason);
        g_free(tiers->tier[i].path);
        g_clear_pointer(&tiers->tier[i].area, tier_area_free);
        g_clear_pointer(&tiers->tier[i].mask, numa_bitmask_free);
    }
    tier_mount_free(tiers->huge);
    g_free(tiers->no_huge);
    g_free(tiers);
}

guint64 tier_memory(const struct tier *tier)
{
    guint64 sum = 0;

    if (!tier->mask)
        return (guint64)sysconf(_SC_PHYS_PAGES) * (guint64)sysconf(_SC_PAGESIZE);
    for (int node = 0; node <= numa_max_node(); node++)
        if (numa_bitmask_isbitset(tier->mask, (unsigned)node))
            sum += (guint64)MAX(numa_node_size64(node, NULL), 0);
    return sum;
}

/* --- files ------------------------------------------------------------------------------------------- */

static bool bind_file(const struct tier *t, int fd, guint64 base, guint64 length)
{
    void *p = mmap(NULL, length, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)base);
    int rc;

    if (p == MAP_FAILED)
        return false;
    rc = (int)mbind(p, length, MPOL_BIND, t->mask->maskp, t->mask->size + 1, 0);
    munmap(p, length);
    return rc == 0;
}

/* In an area that several blocks share, none may have a part of another's page. */
static int take_piece(const struct tier *t, const struct tier_want *want, guint64 *base,
                      GError **error)
{
    guint64 align = MAX(MAX(want->granule, (guint64)HUGE_PAGE), want->page_size);

    if (want->page_size > 4096) {
        g_set_error(error, VMT_ERROR, EINVAL, "%s has pages of 4 KiB and the VM's RAM has pages of "
                    "%u MiB: give the RAM the same kind, or leave path= out", t->path,
                    want->page_size >> 20);
        return -1;
    }
    return tier_area_take(t->area, want->length, align, base, error);
}

/* On a mount of 2 MiB pages, if there is one and they are of use; -1 with `note` if not. */
static int make_huge(const struct tiers *tiers, const struct tier_want *want, const char *name,
                     char note[VT_TEXT])
{
    g_autoptr(GError) error = NULL;
    int fd = -1;

    if (want->granule < HUGE_PAGE) {
        g_snprintf(note, VT_TEXT, "no 2 MiB pages: the granule of %" G_GUINT64_FORMAT " KiB is a part "
                   "of one", want->granule >> 10);
        return -1;
    }
    if (tiers->huge)
        fd = tier_file_in_mount(tiers->huge, name, &error);
    if (fd < 0)
        g_snprintf(note, VT_TEXT, "no 2 MiB pages: %s", error ? error->message : tiers->no_huge);
    return fd;
}

static int make_like_dram(const struct tiers *tiers, const struct tier_want *want, const char *name,
                          char note[VT_TEXT], GError **error)
{
    int fd = want->huge ? make_huge(tiers, want, name, note) : -1;

    return fd >= 0 ? fd : tier_file_in_memory(name, want->page_size, error);
}

static int make_file(const struct tiers *tiers, const struct tier *t, const struct tier_want *want,
                     struct tier_got *got, GError **error)
{
    g_autofree char *name = g_strdup_printf("vmtier-%s:%.100s:%.60s", t->name, want->vm, want->block);

    if (fault_at(FAULT_FILE_MAKE)) {
        g_set_error(error, VMT_ERROR, errno, "making a file: %s", g_strerror(errno));
        return -1;
    }
    if (t->area)
        return take_piece(t, want, &got->base, error);
    if (t->path)
        return tier_file_in_directory(t->path, name, want->page_size, error);
    return make_like_dram(tiers, want, name, got->note, error);
}

/* QEMU must not cut the file short under others' feet. Only memfds can be sealed. */
static void seal(int fd)
{
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
        g_debug("a tier's file is not sealed: %s", g_strerror(errno));
}

bool tier_make_file(const struct tiers *tiers, guint tier, const struct tier_want *want,
                    struct tier_got *got, GError **error)
{
    const struct tier *t = &tiers->tier[tier];
    const guint64 page = want->page_size, length = (want->length + page - 1) / page * page;

    *got = (struct tier_got){ .fd = -1 };
    got->fd = make_file(tiers, t, want, got, error);
    if (got->fd < 0) {
        g_prefix_error(error, "tier %s: block %s: ", t->name, want->block);
        return false;
    }
    if (!t->area && ftruncate(got->fd, (off_t)length)) {
        g_set_error(error, VMT_ERROR, errno, "tier %s: a file of %" G_GUINT64_FORMAT " bytes for "
                    "block %s: %s", t->name, length, want->block, g_strerror(errno));
    } else if (t->mask && !bind_file(t, got->fd, got->base, length)) {
        g_set_error(error, VMT_ERROR, errno, "tier %s: binding a file to nodes %s: %s", t->name,
                    t->nodes, g_strerror(errno));
    } else {
        if (!t->path)
            seal(got->fd);
        (void)fault_at(FAULT_FILE_MADE);
        return true;
    }
    close(got->fd);
    got->fd = -1;
    return false;
}

/* --- what is in them ---------------------------------------------------------------------------------- */

/* Bytes of data in a range; false if there are too many pieces of it. What is in swap counts as well. */
static bool count_range(int fd, guint64 base, guint64 length, guint64 *bytes)
{
    const off_t end = (off_t)(base + length);
    off_t at = (off_t)base;
    guint64 sum = 0;

    for (int pieces = 0; pieces < PIECES_MOST; pieces++) {
        off_t data = lseek(fd, at, SEEK_DATA);

        if (data < 0 || data >= end) {
            *bytes = sum;
            return data >= 0 || errno == ENXIO;
        }
        at = lseek(fd, data, SEEK_HOLE);
        if (at < 0)
            return false;
        at = MIN(at, end);
        sum += (guint64)(at - data);
    }
    return false;
}

guint64 tier_count_bytes(int fd, guint64 base, guint64 length, struct tier_use *use)
{
    gint64 now = g_get_monotonic_time();
    struct stat st;

    use->fresh = true;
    if (fd < 0 || fstat(fd, &st))
        return 0;
    if (!base && (guint64)st.st_size <= length)
        return (guint64)st.st_blocks * 512;
    use->fresh = now - use->counted_us >= COUNT_SHARE * use->cost_us;
    if (!use->fresh)
        return use->bytes;
    use->fresh = count_range(fd, base, length, &use->bytes);
    use->counted_us = g_get_monotonic_time();
    use->cost_us = use->counted_us - now;
    return use->bytes;
}
