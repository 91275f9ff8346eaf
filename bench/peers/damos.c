// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * DAMON's own tiering, as its author describes it: one context watches node 0 and has what is cold there migrated to
 * node 1, a second one watches node 1 and has what is hot there migrated to node 0. Both have quotas that the kernel
 * tunes towards a goal: some of node 0 free, and nothing more of it unused. 6.12 has no metric for that, so the values
 * are told from here once a second ("user_input"), as damo does.
 *
 * The kernel begins with a quota of one byte and changes it by how far the goal is away, once per interval; so that it
 * gets somewhere in our time the intervals are short, and the goal of promotions is all or nothing. What counts as hot
 * or cold is left to the quota's order, by which the hottest (coldest) go first. The sampling and the number of regions
 * are those of vmtier's own source `damon`. Other memory than QEMU's is left alone: a filter by its memory cgroup.
 */
#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ROOT      "/sys/kernel/mm/damon/admin/kdamonds"
#define FULL      10000
#define FREE      (4 * MIB)     /* beyond what the kernel keeps */
#define INTERVAL_MS 100
#define BUSY_TRIES 100

static void put(const char *value, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(const char *value, const char *format, ...)
{
    va_list args;
    int fd, error = 0;

    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args), *path = g_build_filename(ROOT, name, NULL);
    va_end(args);
    for (int i = 0; i < BUSY_TRIES; i++) {
        fd = open(path, O_WRONLY | O_CLOEXEC);
        error = fd < 0 || write(fd, value, strlen(value)) < 0 ? errno : 0;
        if (fd >= 0)
            close(fd);
        if (error != EBUSY)
            break;
        g_usleep(10000);
    }
    if (error)
        g_error("DAMON: '%s' to %s: %s", value, path, g_strerror(error));
}

static void put_n(uint64_t value, int context, const char *name)
{
    g_autofree char *text = g_strdup_printf("%" PRIu64, value);

    put(text, "%d/contexts/0/%s", context, name);
}

static void watch(int context, unsigned node)
{
    struct extent range = dram_node(node);

    put("1", "%d/contexts/nr_contexts", context);
    put("paddr", "%d/contexts/0/operations", context);
    put_n(20000, context, "monitoring_attrs/intervals/sample_us");
    put_n(400000, context, "monitoring_attrs/intervals/aggr_us");
    put_n(1000000, context, "monitoring_attrs/intervals/update_us");
    put_n(50, context, "monitoring_attrs/nr_regions/min");
    put_n(200, context, "monitoring_attrs/nr_regions/max");
    put_n(1, context, "targets/nr_targets");
    put_n(1, context, "targets/0/regions/nr_regions");
    put_n(range.gpa, context, "targets/0/regions/0/start");
    put_n(range.gpa + range.length, context, "targets/0/regions/0/end");
}

static void scheme(int context, const char *action, unsigned to, unsigned least, unsigned most)
{
    put_n(1, context, "schemes/nr_schemes");
    put(action, "%d/contexts/0/schemes/0/action", context);
    put_n(to, context, "schemes/0/target_nid");
    put_n(0, context, "schemes/0/access_pattern/sz/min");
    put_n(UINT64_MAX, context, "schemes/0/access_pattern/sz/max");
    put_n(least, context, "schemes/0/access_pattern/nr_accesses/min");
    put_n(most, context, "schemes/0/access_pattern/nr_accesses/max");
    put_n(0, context, "schemes/0/access_pattern/age/min");
    put_n(UINT32_MAX, context, "schemes/0/access_pattern/age/max");
}

/* 256 MiB/s at most, as vmtierd's default is. */
static void quota(int context)
{
    put_n(256 * MIB * INTERVAL_MS / 1000, context, "schemes/0/quotas/bytes");
    put_n(INTERVAL_MS, context, "schemes/0/quotas/reset_interval_ms");
    put_n(INTERVAL_MS * 1000, context, "schemes/0/apply_interval_us");
    put_n(1, context, "schemes/0/quotas/weights/sz_permil");
    put_n(900, context, "schemes/0/quotas/weights/nr_accesses_permil");
    put_n(100, context, "schemes/0/quotas/weights/age_permil");
    put_n(1, context, "schemes/0/quotas/goals/nr_goals");
    put("user_input", "%d/contexts/0/schemes/0/quotas/goals/0/target_metric", context);
    put_n(FULL, context, "schemes/0/quotas/goals/0/target_value");
    put_n(1, context, "schemes/0/quotas/goals/0/current_value");
}

static void only_vm(int context)
{
    put_n(1, context, "schemes/0/filters/nr_filters");
    put("memcg", "%d/contexts/0/schemes/0/filters/0/type", context);
    put("/vm", "%d/contexts/0/schemes/0/filters/0/memcg_path", context);
    put("N", "%d/contexts/0/schemes/0/filters/0/matching", context);
}

void damos_begin(struct peers_run *run)
{
    (void)run;
    put("2", "nr_kdamonds");
    watch(0, 0);
    scheme(0, "migrate_cold", 1, 0, UINT32_MAX);
    quota(0);
    watch(1, 1);
    scheme(1, "migrate_hot", 0, 1, UINT32_MAX);
    quota(1);
    for (int i = 0; i < 2; i++) {
        only_vm(i);
        put("on", "%d/state", i);
    }
}

void damos_second(struct peers_run *run)
{
    uint64_t unused = dram_unused();

    (void)run;
    put_n(MAX(unused * FULL / FREE, 1), 0, "schemes/0/quotas/goals/0/current_value");
    put("commit_schemes_quota_goals", "0/state");
    put_n(unused > FREE / 4 ? 1 : FULL, 1, "schemes/0/quotas/goals/0/current_value");
    put("commit_schemes_quota_goals", "1/state");
}

void damos_end(struct peers_run *run)
{
    (void)run;
    put("off", "0/state");
    put("off", "1/state");
    put("0", "nr_kdamonds");
}
