// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The virtio port.
 *
 * Found by its name in /sys/class/virtio-ports, so that no udev is needed. While nobody is at the
 * host's end, a read returns end of file at once and poll() says hang-up at once: both are answered by a
 * pause that doubles up to PAUSE_MOST, not by another look. The port is kept open meanwhile; it is
 * closed and opened anew after an error (unplugged, the guest was suspended), with the same pauses.
 */
#include "guest-agent/agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PORTS       "/class/virtio-ports"       /* in sysfs */
#define PAUSE_FIRST 100         /* ms */
#define PAUSE_MOST  5000

int port_fd = -1;

static uint64_t next_try, pause_ms = PAUSE_FIRST;

/* Is the port of this directory entry ours? */
static bool is_ours(const char *entry)
{
    char path[480], name[64] = "";
    FILE *f;

    text_to(path, sizeof(path), "%.200s" PORTS "/%.200s/name", settings.sysfs, entry);
    f = fopen(path, "re");
    if (!f)
        return false;
    if (!fgets(name, sizeof(name), f))
        name[0] = 0;
    fclose(f);
    name[strcspn(name, "\n")] = 0;
    return !strcmp(name, VTA_PORT);
}

static bool find(char *path, size_t size)
{
    struct dirent *entry;
    bool found = false;
    DIR *dir;

    text_to(path, size, "%.200s" PORTS, settings.sysfs);
    dir = opendir(path);

    while (dir && !found && (entry = readdir(dir)))
        if (entry->d_name[0] != '.' && is_ours(entry->d_name)) {
            text_to(path, size, "/dev/%s", entry->d_name);
            found = true;
        }
    if (dir)
        closedir(dir);
    return found;
}

static void wait_longer(uint64_t now)
{
    next_try = now + pause_ms;
    pause_ms = pause_ms * 2 < PAUSE_MOST ? pause_ms * 2 : PAUSE_MOST;
}

static void say_once(const char *what)
{
    static char last[200];

    if (!strncmp(last, what, sizeof(last) - 1))
        return;
    text_to(last, sizeof(last), "%s", what);
    note("%s", what);
}

void port_tick(uint64_t now)
{
    char path[300], text[400];

    if (port_fd >= 0 || now < next_try)
        return;
    if (settings.port) {
        text_to(path, sizeof(path), "%s", settings.port);
    } else if (!find(path, sizeof(path))) {
        text_to(text, sizeof(text), "there is no port " VTA_PORT " in %s" PORTS ": does the host give this "
                "machine one?", settings.sysfs);
        say_once(text);
        wait_longer(now);
        return;
    }
    port_fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (port_fd < 0) {
        text_to(text, sizeof(text), "%s: %s", path, strerror(errno));
        say_once(text);
        wait_longer(now);
        return;
    }
    text_to(text, sizeof(text), "%s is open", path);
    say_once(text);
    next_try = 0;
}

void port_lost(uint64_t now, const char *why)
{
    if (port_fd < 0)
        return;
    say_once(why);
    close(port_fd);
    port_fd = -1;
    wait_longer(now);
}

void port_works(void)
{
    pause_ms = PAUSE_FIRST;
    next_try = 0;
}

bool port_may_read(uint64_t now)
{
    return port_fd >= 0 && now >= next_try;
}

int port_wait_ms(uint64_t now)
{
    if (next_try <= now)
        return port_fd < 0 ? 0 : -1;
    return (int)(next_try - now);
}

ssize_t port_read(void *to, size_t size, uint64_t now)
{
    ssize_t n = read(port_fd, to, size);

    if (n > 0)
        return n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n == 0) {                       /* nobody at the other end */
        wait_longer(now);
        session_lost();
        return 0;
    }
    session_lost();
    port_lost(now, "the port is gone");
    return 0;
}
