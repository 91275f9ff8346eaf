// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where RAM is: the top-level "System RAM" of /proc/iomem. A page frame number outside of it is a
 * device's, and of no use to the host. The file is read at each pass, as memory may be plugged.
 */
#include "guest-agent/agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct vta_span ram[RAM_SPANS];
size_t ram_spans;
uint64_t ram_bytes;

static void add(uint64_t start, uint64_t end)
{
    start = (start + PAGE - 1) / PAGE * PAGE;
    end = end / PAGE * PAGE;
    if (start >= end)
        return;
    ram_bytes += end - start;
    if (ram_spans && ram[ram_spans - 1].end == start)
        ram[ram_spans - 1].end = end;
    else if (ram_spans < RAM_SPANS)
        ram[ram_spans++] = (struct vta_span){ start, end };
    else
        ram_bytes -= end - start;       /* nobody has so many; what is left out is not hinted */
}

bool ram_read(char *why, size_t size)
{
    FILE *f = fopen("/proc/iomem", "re");
    unsigned long long start, end;
    char line[128];

    ram_spans = 0;
    ram_bytes = 0;
    if (!f) {
        text_to(why, size, "/proc/iomem: %s", strerror(errno));
        return false;
    }
    while (fgets(line, sizeof(line), f))
        if (line[0] != ' ' && strstr(line, ": System RAM") &&
            sscanf(line, "%llx-%llx", &start, &end) == 2 && end)
            add(start, end + 1);
    fclose(f);
    if (!ram_spans)
        text_to(why, size, "/proc/iomem shows no addresses: CAP_SYS_ADMIN is missing");
    return ram_spans > 0;
}
