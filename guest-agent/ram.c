// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where RAM is: the "System RAM" of iomem, in /proc. A page frame number outside of it is a device's, and of no
 * use to the host. What drivers bring is below the device it comes from, with their name behind: "System RAM
 * (virtio_mem)". The file is read at each pass, as memory may be plugged.
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
    if (ram_spans && start < ram[ram_spans - 1].end)
        start = ram[ram_spans - 1].end;
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
    unsigned long long start, end;
    char line[128], path[256];
    FILE *f;

    text_to(path, sizeof(path), "%.200s/iomem", settings.proc);
    f = fopen(path, "re");
    ram_spans = 0;
    ram_bytes = 0;
    if (!f) {
        text_to(why, size, "%s: %s", path, strerror(errno));
        return false;
    }
    while (fgets(line, sizeof(line), f))
        if (strstr(line, " : System RAM") && sscanf(line, "%llx-%llx", &start, &end) == 2 && end)
            add(start, end + 1);
    fclose(f);
    if (!ram_spans)
        text_to(why, size, "%s shows no addresses: CAP_SYS_ADMIN is missing", path);
    return ram_spans > 0;
}
