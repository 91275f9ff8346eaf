// SPDX-License-Identifier: GPL-2.0-or-later
/* Faults on purpose: the text of the rules, when they act, what the peer is told, files of rules. */
#include "common/fault.h"

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void set(const char *text)
{
    struct vt_err err;

    if (fault_set(text, &err))
        g_error("%s", err.text);
}

static void test_names(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    char buffer[32];

    for (unsigned p = 0; p < FAULT_END; p++) {
        const char *name = fault_name(p, buffer);

        g_assert_true(name || p >= FAULT_FIXED);
        g_assert_true(!name || g_hash_table_add(seen, g_strdup(name)));
    }
    g_assert_cmpstr(fault_name(FAULT_SEND + VT_MOVE, buffer), ==, "send-MOVE");
    g_assert_cmpstr(fault_name(FAULT_RECEIVED + VT_FROZEN, buffer), ==, "received-FROZEN");
    g_assert_null(fault_name(FAULT_SENT, buffer));
    g_assert_null(fault_name(FAULT_END, buffer));
}

static void test_off(void)
{
    set("");
    g_assert_false(atomic_load(&fault_armed));
    errno = 77;
    g_assert_cmpint(fault_at(FAULT_PROTECT), ==, 0);
    g_assert_cmpint(errno, ==, 77);
    g_assert_cmpuint(fault_count(FAULT_PROTECT), ==, 0);
}

static void test_fails_once(void)
{
    set("protect=ENOMEM");
    g_assert_cmpint(fault_at(FAULT_COPY), ==, 0);
    g_assert_cmpint(fault_at(FAULT_PROTECT), ==, -ENOMEM);
    g_assert_cmpint(errno, ==, ENOMEM);
    g_assert_cmpint(fault_at(FAULT_PROTECT), ==, 0);
    g_assert_cmpuint(fault_count(FAULT_PROTECT), ==, 1);
}

static void test_nth_and_count(void)
{
    static const int expected[] = { 0, 0, -EAGAIN, -EAGAIN, 0, 0 };

    set("wake=EAGAIN:3:2,send-MOVE=EPIPE:2:0");
    for (gsize i = 0; i < G_N_ELEMENTS(expected); i++)
        g_assert_cmpint(fault_at(FAULT_WAKE), ==, expected[i]);
    g_assert_cmpint(fault_at(FAULT_SEND + VT_MOVE), ==, 0);
    for (int i = 0; i < 100; i++)
        g_assert_cmpint(fault_at(FAULT_SEND + VT_MOVE), ==, -EPIPE);
    g_assert_cmpuint(fault_count(FAULT_WAKE), ==, 2);
}

static void test_bad_rules(void)
{
    static const char *const bad[] = {
        "nonsense", "protect", "protect=", "=ENOMEM", "protect=ENOSUCH", "nowhere=ENOMEM",
        "send-=EPIPE", "send-NOTHING=EPIPE", "protect=ENOMEM:", "protect=ENOMEM:0",
        "protect=ENOMEM:-1", "protect=ENOMEM:1:x", "protect=ENOMEM:1:2:3",
        "protect=ENOMEM:70000", "protect=ENOMEM:99999999999999999999", "wake=EAGAIN,x",
    };
    struct vt_err err;

    set("copy=EIO:1:0");
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i]);
        g_assert_cmpint(fault_set(bad[i], &err), ==, -EINVAL);
        g_assert_nonnull(strstr(err.text, "POINT=ACTION"));
    }
    g_assert_cmpint(fault_at(FAULT_COPY), ==, -EIO);    /* the rules are as they were */
}

static int end_of(const char *rules)
{
    pid_t pid = fork();
    int status;

    if (!pid) {
        signal(SIGABRT, SIG_DFL);
        set(rules);
        fault_at(FAULT_PUNCH);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return status;
}

static void test_ends(void)
{
    int status = end_of("punch=kill");

    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = end_of("punch=abort");
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = end_of("punch=kill:2");
    g_assert_true(WIFEXITED(status));
}

static int paused;

static void on_pause(enum fault_point point)
{
    g_assert_cmpint(point, ==, FAULT_REGISTER);
    paused++;
}

static void test_pause_here(void)
{
    fault_on_pause(on_pause);
    set("register=pause:1:2");
    for (int i = 0; i < 5; i++)
        g_assert_cmpint(fault_at(FAULT_REGISTER), ==, 0);
    g_assert_cmpint(paused, ==, 2);
    fault_on_pause(NULL);
}

/* --- with a peer, and a file: what a process gets from its environment ------------------------------ */

struct peer {
    char *dir, *path, *rules;
    int listener;
};

static void peer_set_up(struct peer *p, gconstpointer unused)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    (void)unused;
    p->dir = g_dir_make_tmp("vmtier-fault-XXXXXX", NULL);
    p->path = g_build_filename(p->dir, "peer", NULL);
    p->rules = g_build_filename(p->dir, "rules", NULL);
    g_strlcpy(a.sun_path, p->path, sizeof(a.sun_path));
    p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(p->listener, (struct sockaddr *)&a, sizeof(a)), ==, 0);
    g_assert_cmpint(listen(p->listener, 8), ==, 0);
}

static void peer_tear_down(struct peer *p, gconstpointer unused)
{
    (void)unused;
    close(p->listener);
    g_unlink(p->path);
    g_unlink(p->rules);
    g_rmdir(p->dir);
    g_free(p->path);
    g_free(p->rules);
    g_free(p->dir);
}

/* A process with this environment, that runs `body`. */
static pid_t start(const struct peer *p, const char *rules, void (*body)(const struct peer *p))
{
    pid_t pid = fork();
    struct vt_err err;

    if (pid)
        return pid;
    g_setenv("VMTIER_TEST_FAULT", rules, TRUE);
    g_setenv("VMTIER_TEST_FAULT_PEER", p->path, TRUE);
    if (fault_init(&err) != 1)
        _exit(2);
    body(p);
    _exit(0);
}

static void finish(pid_t pid)
{
    int status;

    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

static int accept_line(const struct peer *p, char *line, gsize size)
{
    int fd = accept(p->listener, NULL, NULL);
    ssize_t n;

    g_assert_cmpint(fd, >=, 0);
    n = read(fd, line, size - 1);
    g_assert_cmpint(n, >, 0);
    line[n] = '\0';
    return fd;
}

static void pass_three(const struct peer *p)
{
    (void)p;
    if (fault_at(FAULT_CONNECT) != -EIO || fault_at(FAULT_MAP_OVER) || fault_at(FAULT_MAP_OVER))
        _exit(3);
}

static void test_peer(struct peer *p, gconstpointer unused)
{
    pid_t pid = start(p, "connect=EIO,map-over=pause", pass_three);
    g_autofree char *first = g_strdup_printf("%d %d connect EIO\n", (int)pid, (int)pid);
    g_autofree char *second = g_strdup_printf("%d %d map-over pause\n", (int)pid, (int)pid);
    char line[128];
    int fd;

    (void)unused;
    fd = accept_line(p, line, sizeof(line));
    g_assert_cmpstr(line, ==, first);
    close(fd);
    fd = accept_line(p, line, sizeof(line));
    g_assert_cmpstr(line, ==, second);
    g_usleep(100000);
    g_assert_cmpint(waitpid(pid, NULL, WNOHANG), ==, 0);    /* it waits */
    g_assert_cmpint(write(fd, "", 1), ==, 1);
    finish(pid);
    close(fd);
}

static void write_rules(const struct peer *p, const char *text)
{
    g_assert_true(g_file_set_contents(p->rules, text, -1, NULL));
}

static void follow_file(const struct peer *p)
{
    if (fault_at(FAULT_COPY))
        _exit(3);
    write_rules(p, "copy=EIO:1:0\n");
    if (fault_at(FAULT_COPY))
        _exit(4);
    fault_refresh();
    if (fault_at(FAULT_COPY) != -EIO)
        _exit(5);
    write_rules(p, "");
    fault_refresh();
    if (fault_at(FAULT_COPY))
        _exit(6);
    write_rules(p, "wake=EIO\ncopy=EAGAIN\n");
    fault_refresh();
    if (fault_at(FAULT_COPY) != -EAGAIN || fault_at(FAULT_WAKE) != -EIO)
        _exit(7);
}

static void test_file(struct peer *p, gconstpointer unused)
{
    g_autofree char *at = g_strconcat("@", p->rules, NULL);

    (void)unused;
    finish(start(p, at, follow_file));      /* there is no file at first */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fault/names", test_names);
    g_test_add_func("/fault/off", test_off);
    g_test_add_func("/fault/fails-once", test_fails_once);
    g_test_add_func("/fault/nth-and-count", test_nth_and_count);
    g_test_add_func("/fault/bad-rules", test_bad_rules);
    g_test_add_func("/fault/ends", test_ends);
    g_test_add_func("/fault/pause-here", test_pause_here);
    g_test_add("/fault/peer", struct peer, NULL, peer_set_up, test_peer, peer_tear_down);
    g_test_add("/fault/file", struct peer, NULL, peer_set_up, test_file, peer_tear_down);
    return g_test_run();
}
