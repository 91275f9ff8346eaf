// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Collector "damon": the kernel's own monitor of physical memory, through /sys/kernel/mm/damon/admin,
 * where the kernel has it and nobody else uses it. It costs CPU time of a kernel thread of its own,
 * bounded by REGIONS_MOST looks every SAMPLE_US; it is switched off unless asked for.
 *
 * One scheme of the action "stat" that everything matches makes the kernel tell its regions. Of a region
 * it says how many of the looks of an aggregation found it used.
 */
#include "guest-agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ADMIN        "/kernel/mm/damon/admin/kdamonds/"      /* in sysfs */
#define CONTEXT      "0/contexts/0/"
#define SCHEME       CONTEXT "schemes/0/"
#define SAMPLE_US    100000
#define AGGR_US      2000000
#define REGIONS_MOST 200
#define EVERY_MS     5000
#define WEIGHT       140

static uint64_t next_ms;

static bool put(const char *file, const char *value)
{
    char path[320];
    ssize_t n;
    int fd;

    text_to(path, sizeof(path), "%s" ADMIN "%s", settings.sysfs, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = write(fd, value, strlen(value));
    close(fd);
    return n == (ssize_t)strlen(value);
}

static bool put_number(const char *file, uint64_t value)
{
    char text[24];

    text_to(text, sizeof(text), "%llu", (unsigned long long)value);
    return put(file, text);
}

static bool get_number(const char *file, uint64_t *value)
{
    char path[320], text[24];
    ssize_t n;
    int fd;

    text_to(path, sizeof(path), "%s" ADMIN "%s", settings.sysfs, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
    *value = strtoull(text, NULL, 10);
    return true;
}

static bool put_region(size_t i)
{
    char file[96];

    text_to(file, sizeof(file), CONTEXT "targets/0/regions/%zu/start", i);
    if (!put_number(file, ram[i].start))
        return false;
    text_to(file, sizeof(file), CONTEXT "targets/0/regions/%zu/end", i);
    return put_number(file, ram[i].end);
}

static bool put_all(const char *const (*list)[2], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!put(list[i][0], list[i][1]))
            return false;
    return true;
}

static bool configure(void)
{
    static const char *const first[][2] = {
        { "nr_kdamonds", "1" }, { "0/contexts/nr_contexts", "1" }, { CONTEXT "operations", "paddr" },
        { CONTEXT "monitoring_attrs/nr_regions/min", "20" }, { CONTEXT "targets/nr_targets", "1" },
    };
    static const char *const last[][2] = {
        { CONTEXT "schemes/nr_schemes", "1" }, { SCHEME "action", "stat" },
        { SCHEME "access_pattern/sz/max", "18446744073709551615" },
        { SCHEME "access_pattern/nr_accesses/max", "4294967295" },
        { SCHEME "access_pattern/age/max", "4294967295" }, { "0/state", "on" },
    };

    if (!put_all(first, sizeof(first) / sizeof(first[0])) ||
        !put_number(CONTEXT "monitoring_attrs/nr_regions/max", REGIONS_MOST) ||
        !put_number(CONTEXT "monitoring_attrs/intervals/sample_us", SAMPLE_US) ||
        !put_number(CONTEXT "monitoring_attrs/intervals/aggr_us", AGGR_US) ||
        !put_number(CONTEXT "targets/0/regions/nr_regions", ram_spans))
        return false;
    for (size_t i = 0; i < ram_spans; i++)
        if (!put_region(i))
            return false;
    return put_all(last, sizeof(last) / sizeof(last[0]));
}

static void close_damon(void)
{
    put("0/state", "off");
    put("nr_kdamonds", "0");
}

static bool open_damon(char *why, size_t size)
{
    char path[320];
    uint64_t others;

    if (!ram_read(why, size))
        return false;
    if (!get_number("nr_kdamonds", &others)) {
        text_to(why, size, "%s" ADMIN ": %s", settings.sysfs, errno == ENOENT ? "this kernel has no DAMON" :
                                                           strerror(errno));
        return false;
    }
    if (others) {
        text_to(why, size, "somebody else uses DAMON");
        return false;
    }
    if (!configure()) {
        text_to(why, size, "DAMON cannot be set up: %s", strerror(errno));
        put("nr_kdamonds", "0");
        return false;
    }
    text_to(path, sizeof(path), "%.200s" ADMIN SCHEME "tried_regions", settings.sysfs);
    if (!access(path, F_OK))
        return true;
    text_to(why, size, "this kernel's DAMON does not tell its regions (Linux 6.2 does)");
    close_damon();
    return false;
}

static bool region_value(unsigned i, const char *name, uint64_t *value)
{
    char file[128];

    text_to(file, sizeof(file), SCHEME "tried_regions/%u/%s", i, name);
    return get_number(file, value);
}

static void say(uint64_t start, uint64_t end, uint64_t accesses)
{
    const uint64_t most = AGGR_US / SAMPLE_US;
    struct vta_range r = { start / PAGE * PAGE, 0, accesses ? VTA_HOT : VTA_COLD, VTA_SHARE, WEIGHT,
                           0, 0 };

    r.length = end / PAGE * PAGE - r.gpa;
    if (accesses)
        r.share = (uint8_t)(1 + (accesses < most ? accesses : most) * (VTA_SHARE - 1) / most);
    outbox_add(r);
}

static void tick(uint64_t now)
{
    uint64_t start, end, accesses;

    if (now < next_ms || !outbox_has_room())
        return;
    next_ms = now + EVERY_MS;
    if (!put("0/state", "update_schemes_tried_regions"))
        return;
    outbox_new_report();
    for (unsigned i = 0; i < REGIONS_MOST && region_value(i, "start", &start); i++)
        if (region_value(i, "end", &end) && region_value(i, "nr_accesses", &accesses) && end > start)
            say(start, end, accesses);
}

const struct collector collect_damon = {
    .name = "damon",
    .kind = VTA_HOT,
    .open = open_damon,
    .close = close_damon,
    .tick = tick,
};
