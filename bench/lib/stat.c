// SPDX-License-Identifier: GPL-2.0-or-later
/* Figures of runs on a machine that is shared: see stat.h. */
#include "bench/lib/stat.h"
#include "common/clock.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

struct bench_spread bench_spread(double *v, guint n)
{
    if (!n)
        return (struct bench_spread){ 0 };
    qsort(v, n, sizeof(*v), by_value);
    return (struct bench_spread){ .n = n, .median = v[n / 2], .low = v[0], .high = v[n - 1],
                                  .q1 = v[n / 4], .q3 = v[n * 3 / 4], .p99 = v[n * 99 / 100] };
}

int bench_delay_open(void)
{
    return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

guint64 bench_delay_ns(int fd)
{
    char text[96];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    const char *second;

    if (n <= 0)
        return 0;
    text[n] = 0;
    second = strchr(text, ' ');
    return second ? strtoull(second, NULL, 10) : 0;
}

void bench_spin_ns(guint64 ns)
{
    guint64 start = clock_ns(CLOCK_MONOTONIC);

    while (clock_ns(CLOCK_MONOTONIC) - start < ns)
        ;
}

bool bench_pin(guint cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

guint bench_random(guint64 *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (guint)(*state >> 33);
}
