// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guard of vm.max_map_count: see maps.h.
 *
 * Counting costs microseconds per mapping, so it is done at most once in a second, or ten times when
 * the limit seems to be near; what was added since is assumed the worst.
 */
#include "vmm/maps.h"
#include "common/clock.h"
#include "common/fault.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static struct {
    long limit;                     /* three quarters of the kernel's */
    long count;
    uint32_t counted;               /* clock_ms() */
} maps;

static long read_limit(void)
{
    long limit = 65530;
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");

    if (f) {
        if (fscanf(f, "%ld", &limit) != 1)
            limit = 65530;
        fclose(f);
    }
    return limit;
}

static long count_maps(void)
{
    char buffer[65536];
    long n = 0;
    ssize_t got;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    while ((got = read(fd, buffer, sizeof(buffer))) > 0)
        for (ssize_t i = 0; i < got; i++)
            n += buffer[i] == '\n';
    close(fd);
    return n;
}

bool maps_take(uint32_t n)
{
    uint32_t age = clock_ms() - maps.counted;
    long most;

    if (fault_at(FAULT_MAPS_LIMIT))
        return false;
    if (!maps.limit)
        maps.limit = read_limit() / 4 * 3;
    most = maps.count + 2 * (long)n;
    if (age > 1000 || (most > maps.limit && age > 100)) {
        maps.count = count_maps();
        maps.counted = clock_ms();
        most = maps.count + 2 * (long)n;
    }
    if (most > maps.limit)
        return false;
    maps.count = most;
    return true;
}

bool maps_scarce(void)
{
    return maps.limit && maps.count > maps.limit / 2;
}
