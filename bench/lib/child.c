// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Children and huge pages.
 *
 * nr_hugepages is raised by what is missing and lowered again by as much, so that what others have
 * reserved stays theirs. The lock is an flock() of the setting's file itself.
 */
#include "bench/lib/child.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETTING "/proc/sys/vm/nr_hugepages"
#define FREE    "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"

static struct {
    int fd;                     /* 0: not taken */
    char before[32];            /* what to write to put it back */
    gsize length;
} huge;

bool bench_child(void (*fn)(const void *what, void *result), const void *what, void *result,
                 gsize size)
{
    g_autofree char *answer = g_malloc(size);
    int ends[2];
    ssize_t got;
    pid_t pid;

    if (pipe(ends))
        return false;
    pid = fork();
    if (pid == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        fn(what, result);
        _exit(write(ends[1], result, size) == (ssize_t)size ? 0 : 1);
    }
    close(ends[1]);
    got = pid > 0 ? read(ends[0], answer, size) : -1;
    close(ends[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    if (got != (ssize_t)size)
        return false;
    memcpy(result, answer, size);
    return true;
}

static glong read_number(const char *path)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? strtol(text, NULL, 10) : -1;
}

static bool write_number(int fd, glong n)
{
    char text[32];
    int length = g_snprintf(text, sizeof(text), "%ld\n", n);

    return pwrite(fd, text, (size_t)length, 0) == length;
}

/* Also called from a signal handler. */
void bench_huge_give(void)
{
    if (huge.fd <= 0)
        return;
    if (lseek(huge.fd, 0, SEEK_SET) == 0 && write(huge.fd, huge.before, huge.length) < 0)
        signal(SIGTERM, SIG_DFL);           /* nothing can be done about it here */
    close(huge.fd);
    huge.fd = 0;
}

static void on_signal(int number)
{
    bench_huge_give();
    signal(number, SIG_DFL);
    raise(number);
}

bool bench_huge_take(guint pages, char why[200])
{
    glong before, missing;
    int fd = open(SETTING, O_RDWR | O_CLOEXEC);

    if (fd < 0 || flock(fd, LOCK_EX) || (before = read_number(SETTING)) < 0) {
        g_snprintf(why, 200, "%s cannot be set: run as root", SETTING);
        if (fd >= 0)
            close(fd);
        return false;
    }
    huge.length = (gsize)g_snprintf(huge.before, sizeof(huge.before), "%ld\n", before);
    huge.fd = fd;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    missing = (glong)pages - read_number(FREE);
    if (missing > 0)
        write_number(fd, before + missing);
    if (read_number(FREE) < (glong)pages) {
        g_snprintf(why, 200, "only %ld of %u huge pages can be had", read_number(FREE), pages);
        bench_huge_give();
        return false;
    }
    return true;
}
