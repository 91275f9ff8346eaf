// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The workload's port: whole lines out, from any thread, and small helpers around text and time.
 */
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int port = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void write_all(const char *text, size_t n)
{
    while (n) {
        ssize_t done = write(port, text, n);

        if (done <= 0)
            return;
        text += done;
        n -= (size_t)done;
    }
}

/* A line that the guest had begun when it was reset ends here, and does not run into ours. */
int open_port(const char *path)
{
    struct termios t;

    port = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (port < 0)
        give_up(path);
    if (tcgetattr(port, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(port, TCSANOW, &t);
    }
    write_all("\n", 1);
    return port;
}

void say(const char *fmt, ...)
{
    char line[256];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof(line) - 2)
        n = sizeof(line) - 2;
    line[n++] = '\n';
    pthread_mutex_lock(&lock);
    write_all(line, (size_t)n);
    pthread_mutex_unlock(&lock);
}

void give_up(const char *what)
{
    int error = errno;

    if (port >= 0)
        say("VMT FAILED %s: %s", what, strerror(error));
    fprintf(stderr, "workload: %s: %s\n", what, strerror(error));
    exit(1);
}

uint64_t parse_size(const char *text)
{
    static const struct { char letter; int shift; } units[] = { {'K', 10}, {'M', 20}, {'G', 30} };
    char *end;
    uint64_t n = strtoull(text, &end, 0);

    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (*end == units[i].letter)
            return n << units[i].shift;
    return n;
}

uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}
