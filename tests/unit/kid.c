// SPDX-License-Identifier: GPL-2.0-or-later
/* Child processes that have memory and do what they are told: see kid.h. */
#include "kid.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

char *memory;

void stamp(guint first, guint n)
{
    for (guint i = first; i < first + n; i++)
        *(guint64 *)(gpointer)(memory + (gsize)i * KID_PAGE) = i * 0x9e3779b97f4a7c15u + 1;
}

bool is_stamped(guint first, guint n)
{
    for (guint i = first; i < first + n; i++)
        if (*(guint64 *)(gpointer)(memory + (gsize)i * KID_PAGE) != i * 0x9e3779b97f4a7c15u + 1)
            return false;
    return true;
}

static _Noreturn void live(const struct role *role, int in, int out)
{
    char command = 0;
    bool ok = role->set_up();

    do {
        if (command)
            ok = role->obey ? role->obey(command) : is_stamped(0, KID_PAGES);
        command = ok ? 'y' : 'n';
    } while (write(out, &command, 1) == 1 && read(in, &command, 1) == 1);
    _exit(0);
}

static char answer_of(const struct kid *kid)
{
    char answer = 0;

    g_assert_cmpint(read(kid->from, &answer, 1), ==, 1);
    return answer;
}

/* `like`: the pid it is to have, or 0. */
static pid_t fork_as(pid_t like)
{
    struct clone_args args = { .exit_signal = SIGCHLD };

    if (!like)
        return fork();
    args.set_tid = (uintptr_t)&like;
    args.set_tid_size = 1;
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

struct kid kid_start_as(const struct role *role, pid_t like)
{
    int to[2], from[2];
    struct kid kid;

    g_assert_true(pipe(to) == 0 && pipe(from) == 0);
    kid.pid = fork_as(like);
    if (kid.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(to[1]);
        close(from[0]);
        live(role, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    kid.to = to[1];
    kid.from = from[0];
    kid.pidfd = kid.pid > 0 ? (int)syscall(SYS_pidfd_open, kid.pid, 0) : -1;
    if (kid.pid > 0)
        g_assert_true(answer_of(&kid) == 'y');
    return kid;
}

struct kid kid_start(const struct role *role)
{
    struct kid kid = kid_start_as(role, 0);

    g_assert_cmpint(kid.pid, >, 0);
    return kid;
}

bool kid_does(const struct kid *kid, char command)
{
    g_assert_cmpint(write(kid->to, &command, 1), ==, 1);
    return answer_of(kid) == 'y';
}

void kid_reap(struct kid *kid)
{
    kill(kid->pid, SIGKILL);
    g_assert_cmpint(waitpid(kid->pid, NULL, 0), ==, kid->pid);
    close(kid->to);
    close(kid->from);
}

void kid_end(struct kid *kid)
{
    kid_reap(kid);
    close(kid->pidfd);
}

void kid_prepare(void)
{
    const uintptr_t align = 2 << 20;

    memory = mmap(NULL, KID_BYTES + align, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(memory != MAP_FAILED);
    memory = (char *)(((uintptr_t)memory + align - 1) & ~(align - 1));
}
