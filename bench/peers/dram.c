// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How much of node 0 is there for the guest.
 *
 * No cgroup limits one node. So what is free there, when QEMU has been started and its guest has not, is put
 * into the pool of huge pages, that nobody uses and nothing can migrate or reclaim, until only the guest's
 * share is left and what the kernel keeps free by its watermarks: it would begin to demote otherwise
 * before the guest has as much as vmtier is given as a quota. What QEMU itself has by then is on node 1: the firmware's
 * and the kernel's images in its heap are never used again, and who demotes them would have that much more.
 */
#include "peers.h"

#include <errno.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define NODE      "/sys/devices/system/node/node"
#define POOL      NODE "0/hugepages/hugepages-2048kB/nr_hugepages"
#define HUGE_PAGE (2 * MIB)
#define HELD_STEP (256 * KIB)

static void *held;
static uint64_t held_bytes;

static char *contents(const char *path)
{
    g_autoptr(GError) error = NULL;
    char *text;

    if (!g_file_get_contents(path, &text, NULL, &error))
        g_error("%s", error->message);
    return text;
}

/* By its memory blocks, which are contiguous here. */
struct extent dram_node(unsigned node)
{
    g_autofree char *path = g_strdup_printf(NODE "%u", node);
    g_autofree char *size = contents("/sys/devices/system/memory/block_size_bytes");
    uint64_t block = g_ascii_strtoull(size, NULL, 16), first = UINT64_MAX, last = 0;
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    unsigned number;

    while (dir && (name = g_dir_read_name(dir))) {
        if (sscanf(name, "memory%u", &number) != 1)
            continue;
        first = MIN(first, number);
        last = MAX(last, number);
    }
    if (first > last)
        g_error("node %u has no memory", node);
    return (struct extent){ first * block, (last - first + 1) * block };
}

/* Sum of a figure of node 0's zones ("low", "high", "free"), in bytes; but not of the lowest, see dram_limit(). */
static uint64_t zones(const char *name)
{
    g_autofree char *text = contents("/proc/zoneinfo");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    uint64_t pages = 0;
    bool counts = false;

    for (char **line = lines; *line; line++) {
        g_autofree char *key = g_strdup_printf("%s ", name);
        const char *at = g_str_has_prefix(g_strstrip(*line), "pages ") ? *line + strlen("pages ") : *line;

        if (g_str_has_prefix(at, "Node "))
            counts = g_str_has_prefix(at, "Node 0,") && !g_str_has_suffix(at, " DMA");
        else if (counts && g_str_has_prefix(at, key))
            pages += g_ascii_strtoull(at + strlen(key), NULL, 10);
    }
    return pages * PEERS_PAGE;
}

/* The kernel promotes as long as a node has its high watermark and once more the step up to it free. */
static uint64_t kernel_keeps(void)
{
    return 2 * zones("high") - zones("low");
}

/*
 * What is less than a huge page, or was too scattered for one. Locked memory is not demoted. Little by little, as the
 * kernel ends QEMU if node 0 has no more.
 */
static void hold(uint64_t wanted)
{
    unsigned long node = 1;
    char *at;

    held_bytes = zones("free");
    held = at = mmap(NULL, held_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (held == MAP_FAILED || mbind(held, held_bytes, MPOL_BIND, &node, 8 * sizeof(node), 0) < 0)
        g_error("memory of node 0 cannot be held: %s", g_strerror(errno));
    for (; at < (char *)held + held_bytes - HELD_STEP && zones("free") > wanted + HELD_STEP;
         at += HELD_STEP)
        if (mlock(at, HELD_STEP) < 0)
            g_error("memory of node 0 cannot be locked: %s", g_strerror(errno));
}

/*
 * The lowest zone (16 MiB) is kept from all of this: on a node as small as this the kernel would call a node balanced
 * of which that zone alone has memory, and neither demote nor promote any more.
 */
void dram_limit(uint64_t bytes)
{
    uint64_t wanted, unused;

    set_file("/proc/sys/vm/lowmem_reserve_ratio", "1\n");
    set_file("/proc/sys/vm/watermark_boost_factor", "0\n");
    dram_release();
    wanted = bytes + kernel_keeps();
    unused = zones("free");
    if (unused < wanted)
        g_error("node 0 has %.0f MiB free: too little", (double)unused / MIB);
    set_file(POOL, "%" PRIu64 "\n", (uint64_t)((unused - wanted) / HUGE_PAGE));
    hold(wanted);
    g_print("# node 0: %.1f MiB free, of which the kernel keeps %.1f\n",
            (double)zones("free") / MIB, (double)kernel_keeps() / MIB);
}

void dram_release(void)
{
    if (held)
        munmap(held, held_bytes);
    held = NULL;
    set_file(POOL, "0\n");
}

uint64_t dram_unused(void)
{
    uint64_t unused = zones("free"), kept = kernel_keeps();

    return unused > kept ? unused - kept : 0;
}

void dram_clear(pid_t pid)
{
    unsigned long from = 1, to = 2;

    if (migrate_pages(pid, 8 * sizeof(from), &from, &to) < 0)
        g_error("migrate_pages: %s", g_strerror(errno));
}
