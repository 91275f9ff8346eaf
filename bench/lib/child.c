// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Children and huge pages.
 *
 * nr_hugepages is raised by what is missing and lowered again by as much, so that what others have
 * reserved stays theirs. The lock is an flock() of the setting's file itself.
 *
 * A pipe takes 4 KiB at once, and no result is longer; so an answer is there as a whole, or not.
 */
#include "bench/lib/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETTING "/proc/sys/vm/nr_hugepages"
#define FREE    "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"

static struct {
    int fd;                     /* 0: not taken */
    glong added;
    char before[32];            /* what to write to put it back at once */
    gsize length;
} huge;

/* Where each thread of a process is, in the kernel's words; only root may know. */
static void print_stacks(pid_t pid)
{
    g_autofree char *tasks = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(tasks, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *comm_path = g_build_filename(tasks, name, "comm", NULL);
        g_autofree char *stack_path = g_build_filename(tasks, name, "stack", NULL);
        g_autofree char *comm = NULL, *stack = NULL;

        g_file_get_contents(comm_path, &comm, NULL, NULL);
        g_file_get_contents(stack_path, &stack, NULL, NULL);
        g_printerr("thread %s %s%s\n", name, comm ? comm : "\n", stack ? stack : "");
    }
}

/* The child's answer, or what went wrong. */
static const char *await(int fd, void *answer, gsize size, pid_t pid, guint limit)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int ready;

    do
        ready = poll(&p, 1, (int)limit * 1000);
    while (ready < 0 && errno == EINTR);
    if (ready > 0)
        return read(fd, answer, size) == (ssize_t)size ? NULL : "the process died";
    print_stacks(pid);
    kill(pid, SIGKILL);
    return "the process hangs";
}

const char *bench_child(void (*fn)(const void *what, void *result), const void *what, void *result,
                        gsize size, guint limit)
{
    g_autofree char *answer = g_malloc(size);
    const char *wrong;
    int ends[2];
    pid_t pid;

    if (pipe(ends))
        return "no pipe";
    pid = fork();
    if (pid == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        fn(what, result);
        _exit(write(ends[1], result, size) == (ssize_t)size ? 0 : 1);
    }
    close(ends[1]);
    wrong = pid > 0 ? await(ends[0], answer, size, pid, limit) : "no process";
    close(ends[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    if (!wrong)
        memcpy(result, answer, size);
    return wrong;
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

static void let_go(void)
{
    close(huge.fd);
    huge.fd = 0;
}

void bench_huge_give(void)
{
    if (huge.fd <= 0)
        return;
    if (huge.added > 0)
        write_number(huge.fd, MAX(read_number(SETTING) - huge.added, 0));
    let_go();
}

/* Only plain calls here, so what it was is put back, whatever others have made of it since. */
static void on_signal(int number)
{
    if (huge.fd > 0 && lseek(huge.fd, 0, SEEK_SET) == 0 &&
        write(huge.fd, huge.before, huge.length) > 0)
        let_go();
    signal(number, SIG_DFL);
    raise(number);
}

bool bench_huge_take(guint pages, char why[200])
{
    glong before;
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
    huge.added = MAX((glong)pages - read_number(FREE), 0);
    if (huge.added)
        write_number(fd, before + huge.added);
    if (read_number(FREE) < (glong)pages) {
        g_snprintf(why, 200, "only %ld of %u huge pages can be had", read_number(FREE), pages);
        bench_huge_give();
        return false;
    }
    return true;
}
