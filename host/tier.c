// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's tiers: see tier.h.
 *
 * Where a page of a shmem file is allocated follows the policy of the file, set with mbind() on a
 * mapping of it; the mapping may go, the policy stays with the inode. Whoever touches the page
 * first, here or in QEMU, it lands on the tier's nodes.
 */
#include "host/tier.h"
#include "host/error.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

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

static bool set_up(struct tier *t, const struct tier_config *c, guint index, GError **error)
{
    g_strlcpy(t->name, c->name, sizeof(t->name));
    t->nodes = g_strdup(c->nodes);
    if (numa_available() < 0) {
        t->emulated = index > 0;
        t->reason = index ? g_strdup("this kernel has no NUMA") : NULL;
        return true;
    }
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

struct tiers *tiers_new(const struct config *config, GError **error)
{
    struct tiers *tiers = g_new0(struct tiers, 1);

    tiers->n = config->tiers->len;
    for (guint i = 0; i < tiers->n; i++)
        if (!set_up(&tiers->tier[i], g_ptr_array_index(config->tiers, i), i, error)) {
            tiers_free(tiers);
            return NULL;
        }
    return tiers;
}

void tiers_free(struct tiers *tiers)
{
    for (guint i = 0; i < tiers->n; i++) {
        g_free(tiers->tier[i].nodes);
        g_free(tiers->tier[i].reason);
        g_clear_pointer(&tiers->tier[i].mask, numa_bitmask_free);
    }
    g_free(tiers);
}

/* --- files ------------------------------------------------------------------------------------------- */

static bool bind_file(const struct tier *t, int fd, guint64 length)
{
    void *p = mmap(NULL, length, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    int rc;

    if (p == MAP_FAILED)
        return false;
    rc = (int)mbind(p, length, MPOL_BIND, t->mask->maskp, t->mask->size + 1, 0);
    munmap(p, length);
    return rc == 0;
}

int tier_make_file(const struct tier *t, const char *vm, const char *block, guint64 length,
                   guint32 page_size, GError **error)
{
    g_autofree char *name = g_strdup_printf("vmtier-%s:%.100s:%.60s", t->name, vm, block);
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd;

    if (page_size > 4096)
        flags |= MFD_HUGETLB | (unsigned)__builtin_ctz(page_size) << MFD_HUGE_SHIFT;
    fd = memfd_create(name, flags);
    if (fd < 0 || ftruncate(fd, (off_t)length) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)) {
        g_set_error(error, VMT_ERROR, errno, "tier %s: a file of %" G_GUINT64_FORMAT " bytes for "
                    "block %s: %s", t->name, length, block, g_strerror(errno));
    } else if (t->mask && !bind_file(t, fd, length)) {
        g_set_error(error, VMT_ERROR, errno, "tier %s: binding a file to nodes %s: %s", t->name,
                    t->nodes, g_strerror(errno));
    } else {
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

guint64 tier_file_bytes(int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 ? (guint64)st.st_blocks * 512 : 0;
}
