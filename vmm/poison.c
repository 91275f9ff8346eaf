// SPDX-License-Identifier: GPL-2.0-or-later
/* See poison.h. The count is all that tells, and it is of the whole host: an error elsewhere costs a look, too. */
#include "vmm/poison.h"
#include "common/clock.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EACH_MS 1000u
#define FIELD   "\nHardwareCorrupted:"

static struct {
    const char *path;
    bool asked;
    uint32_t at;                    /* clock_ms() */
    unsigned long kib;
} poison = { .path = "/proc/meminfo" };

/* What cannot be read is no error: then none is ever seen. */
static unsigned long read_kib(void)
{
    char text[8192];
    const char *field;
    int fd = open(poison.path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    field = strstr(text, FIELD);
    return field ? strtoul(field + sizeof(FIELD) - 1, NULL, 10) : 0;
}

bool poison_is_new(void)
{
    uint32_t now = clock_ms();
    unsigned long kib;
    bool is_new;

    if (poison.asked && now - poison.at < EACH_MS)
        return false;
    kib = read_kib();
    is_new = poison.asked && kib != poison.kib;
    poison.asked = true;
    poison.at = now;
    poison.kib = kib;
    return is_new;
}

void poison_ask(const char *path)
{
    poison.path = path;
    poison.at = clock_ms() - EACH_MS;
}
