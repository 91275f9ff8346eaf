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
#define BOOST     "/proc/sys/vm/watermark_boost_factor"
#define HUGE_PAGE (2 * MIB)

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

uint64_t dram_node_bytes(unsigned node, const char *key)
{
    g_autofree char *path = g_strdup_printf(NODE "%u/meminfo", node), *text = contents(path);
    const char *at = strstr(text, key);

    return at ? g_ascii_strtoull(at + strlen(key), NULL, 10) << 10 : 0;
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

/* Sum of a watermark ("low", "high") of node 0's zones, in bytes. */
static uint64_t watermark(const char *name)
{
    g_autofree char *text = contents("/proc/zoneinfo");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    uint64_t pages = 0;

    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit_set(g_strstrip(*line), " ", 2);

        if (g_str_has_prefix(*line, "Node 1"))
            break;
        if (words[0] && words[1] && g_str_equal(words[0], name))
            pages += g_ascii_strtoull(g_strstrip(words[1]), NULL, 10);
    }
    return pages * PEERS_PAGE;
}

static void set_number(const char *path, uint64_t number)
{
    FILE *f = fopen(path, "we");

    if (!f || fprintf(f, "%" PRIu64 "\n", number) < 0 || fclose(f))
        g_error("%s cannot be written", path);
}

/* The kernel promotes as long as a node has its high watermark and once more the step up to it free. */
static uint64_t kernel_keeps(void)
{
    return 2 * watermark("high") - watermark("low");
}

/* What is less than a huge page, or was too scattered for one. Locked memory is not demoted. */
static void hold(uint64_t bytes)
{
    unsigned long node = 1;

    if (!bytes)
        return;
    held_bytes = bytes / PEERS_PAGE * PEERS_PAGE;
    held = mmap(NULL, held_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (held == MAP_FAILED || mbind(held, held_bytes, MPOL_BIND, &node, 8 * sizeof(node), 0) < 0 ||
        mlock(held, held_bytes) < 0)
        g_error("%.1f MiB of node 0 cannot be locked: %s", (double)bytes / MIB, g_strerror(errno));
}

void dram_limit(uint64_t bytes)
{
    uint64_t wanted, unused;

    set_number(BOOST, 0);
    dram_release();
    set_number("/proc/sys/vm/compact_memory", 1);
    wanted = bytes + kernel_keeps();
    unused = dram_node_bytes(0, "MemFree:");
    if (unused < wanted)
        g_error("node 0 has %.0f MiB free: too little", (double)unused / MIB);
    set_number(POOL, (unused - wanted) / HUGE_PAGE);
    unused = dram_node_bytes(0, "MemFree:");
    hold(unused > wanted ? unused - wanted : 0);
    g_print("# node 0: %.1f MiB free, of which the kernel keeps %.1f\n",
            (double)dram_node_bytes(0, "MemFree:") / MIB, (double)kernel_keeps() / MIB);
}

void dram_release(void)
{
    if (held)
        munmap(held, held_bytes);
    held = NULL;
    set_number(POOL, 0);
}

uint64_t dram_unused(void)
{
    uint64_t unused = dram_node_bytes(0, "MemFree:"), kept = kernel_keeps();

    return unused > kept ? unused - kept : 0;
}

void dram_clear(pid_t pid)
{
    unsigned long from = 1, to = 2;

    if (migrate_pages(pid, 8 * sizeof(from), &from, &to) < 0)
        g_error("migrate_pages: %s", g_strerror(errno));
}
