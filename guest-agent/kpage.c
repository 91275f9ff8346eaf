// SPDX-License-Identifier: GPL-2.0-or-later
/* kpageflags, in /proc: a word of flags for each page frame. Opened while we have the rights, and kept. */
#include "guest-agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int fd = -1;

bool kpage_open(char *why, size_t size)
{
    char path[256];

    text_to(path, sizeof(path), "%.200s/kpageflags", settings.proc);
    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        text_to(why, size, "%s: %s", path, strerror(errno));
    return fd >= 0;
}

bool kpage_read(uint64_t page, uint64_t *flags, unsigned n)
{
    size_t bytes = n * sizeof(*flags);

    return pread(fd, flags, bytes, (off_t)(page * sizeof(*flags))) == (ssize_t)bytes;
}
