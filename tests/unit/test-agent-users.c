// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtier-agent among the users of its machine: what those may say that are not root, whatever they send to its
 * socket, and which rights the agent itself keeps.
 *
 * timeout: 120
 */
#include "agent-host.h"

#include "guest-agent/agent.h"

#include <glib/gstdio.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define RULES  "refresh=1\ncollect=none\ncpu=1000\n"

/* --- a stranger --------------------------------------------------------------------------------------- */

/* In a process of its own: becomes the user, asks, and writes the answer to `to`. */
static void ask(const struct host *h, const void *request, size_t size, uid_t uid, int to)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct timeval patience = { .tv_sec = 20 };
    char answer[ANSWER_MOST + 1] = "no answer";
    int on = 1, fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ssize_t n;

    g_strlcpy(address.sun_path, h->control, sizeof(address.sun_path));
    if (setresuid(uid, uid, uid) || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
        sendto(fd, request, size, 0, (struct sockaddr *)&address, sizeof(address)) != (ssize_t)size)
        _exit(1);
    n = recv(fd, answer, ANSWER_MOST, 0);
    answer[n > 0 ? n : 9] = 0;
    _exit(write(to, answer, strlen(answer)) < 0 ? 1 : 0);
}

static char *raw(const struct host *h, const void *request, size_t size, uid_t uid)
{
    char answer[ANSWER_MOST + 1];
    ssize_t n, all = 0;
    int p[2], status;
    pid_t pid;

    g_assert_cmpint(pipe(p), ==, 0);
    pid = fork();
    if (!pid)
        ask(h, request, size, uid, p[1]);
    close(p[1]);
    while ((n = read(p[0], answer + all, sizeof(answer) - 1 - (size_t)all)) > 0)
        all += n;
    answer[all] = 0;
    close(p[0]);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    return g_strdup(answer);
}

/* The rule as this user gives it; the answer has to begin so. */
static void give(const struct host *h, struct rule rule, uid_t uid, const char *answer)
{
    const struct request q = { .version = REQUEST_VERSION, .hint = 1, .rule = rule };
    g_autofree char *said = raw(h, &q, sizeof(q), uid);

    if (!g_str_has_prefix(said, answer))
        g_error("the agent said '%s', not '%s'", said, answer);
}

static char *status_of(const struct host *h)
{
    const struct request q = { .version = REQUEST_VERSION };

    return raw(h, &q, sizeof(q), NOBODY);
}

/* A process of the user's that stays. */
static GPid sleeper(void)
{
    char *argv[] = { (char *)"setpriv", (char *)"--pdeathsig", (char *)"KILL", (char *)"--reuid", (char *)"65534",
                     (char *)"--clear-groups", (char *)"sleep", (char *)"1000", NULL };
    g_autofree char *comm = NULL;
    char path[64];
    GPid pid;

    g_assert_true(g_spawn_async(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH, NULL, NULL,
                                &pid, NULL));
    g_snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    for (double end = now_s() + 30; g_strcmp0(comm, "sleep\n"); g_usleep(10000)) {
        g_assert_cmpfloat(now_s(), <, end);
        g_free(g_steal_pointer(&comm));
        g_assert_true(g_file_get_contents(path, &comm, NULL, NULL));
    }
    return pid;
}

static void end_sleeper(GPid pid)
{
    kill(pid, SIGKILL);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

/* The first of its mappings. */
static guint64 first_address(GPid pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)pid), *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(text, NULL, 16);
}

/* --- what they may ------------------------------------------------------------------------------------ */

/* A name is nobody's own, whosever pid is written beside it; and what root has said stays. */
static void test_not_his(void)
{
    struct rule r = { .by = BY_COMM, .kind = VTA_COLD, .name = "sleep" };
    struct host *h;
    GPid pid;

    if (!may_run())
        return;
    pid = sleeper();
    h = host_at_pty(RULES);
    welcome(h, 1000);
    r.pid = pid;
    give(h, r, NOBODY, "-only root may");
    r.by = BY_CGROUP;
    give(h, r, NOBODY, "-only root may");
    r = (struct rule){ .by = BY_PID, .kind = VTA_PIN, .pid = pid };
    give(h, r, NOBODY, "-only root may");
    give(h, r, 0, "+noted");
    r.kind = VTA_COLD;
    give(h, r, NOBODY, "-somebody else");
    r.kind = VTA_NONE;
    give(h, r, NOBODY, "-somebody else");
    give(h, r, 0, "+taken back");
    end_sleeper(pid);
    host_free(h);
}

/* Ranges that are no whole pages, or none; kinds and sorts that there are not; half a request. */
static void test_nonsense(void)
{
    const struct request q = { .version = REQUEST_VERSION };
    struct rule r = { .by = BY_RANGE, .kind = VTA_HOT };
    g_autofree char *half = NULL, *status = NULL;
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty(RULES);
    welcome(h, 1000);
    r.pid = sleeper();
    r.start = first_address(r.pid);
    r.end = r.start + 0x800;
    give(h, r, NOBODY, "-that is no hint");
    r.end = r.start;
    give(h, r, NOBODY, "-that is no hint");
    r.end = r.start + PAGE;
    r.kind = (enum vta_kind)77;
    give(h, r, NOBODY, "-that is no hint");
    r.kind = VTA_HOT;
    r.by = (enum rule_by)9;
    give(h, r, NOBODY, "-that is no hint");
    half = raw(h, &q, sizeof(q) / 2, NOBODY);
    g_assert_cmpstr(half, ==, "-the agent that runs is of another version\n");
    r.by = BY_RANGE;
    give(h, r, NOBODY, "+noted");
    status = status_of(h);
    g_assert_nonnull(strstr(status, "rule: hot range "));
    end_sleeper(r.pid);
    host_free(h);
}

/* Nobody gets at the terminal of whoever asks for the status, and nobody fills the list for root. */
static void test_rude(void)
{
    struct rule r = { .by = BY_PID, .kind = VTA_HOT, .name = "\033[2J" };
    g_autofree char *status = NULL;
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty(RULES);
    welcome(h, 0);
    r.pid = sleeper();
    give(h, r, NOBODY, "+noted");
    r.by = BY_RANGE;
    for (guint i = 1; i < RULES_MOST / 2; i++) {
        r.start = i * PAGE;
        r.end = r.start + PAGE;
        give(h, r, NOBODY, "+noted");
    }
    r.end += PAGE;
    give(h, r, NOBODY, "-there are 32 rules already that are not root's");
    give(h, (struct rule){ .by = BY_COMM, .kind = VTA_PIN, .name = "a\033b" }, 0, "+noted");
    status = status_of(h);
    g_assert_null(strchr(status, '\033'));
    g_assert_nonnull(strstr(status, "rule: pin comm a?b\n"));
    end_sleeper(r.pid);
    host_free(h);
}

/* Who changes his rule all the time does not keep root's from being said. */
static void test_restless(void)
{
    struct rule r = { .by = BY_PID, .kind = VTA_HOT }, mine = { .by = BY_PID, .kind = VTA_PIN, .pid = getpid() };
    guint64 pinned = 0;
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty("refresh=1\ncollect=none\ncpu=20\n");
    welcome(h, 1000);
    r.pid = sleeper();
    give(h, r, NOBODY, "+noted");
    give(h, mine, 0, "+noted");
    for (double end = now_s() + 60; pinned < 1 << 20 && now_s() < end;) {
        r.kind = r.kind == VTA_HOT ? VTA_COLD : VTA_HOT;
        give(h, r, NOBODY, "+noted");
        if (hear(h, VTA_HINTS, 0.01))
            for (guint32 i = 0; i < h->f.hints.count; i++)
                pinned += h->f.hints.range[i].kind == VTA_PIN ? h->f.hints.range[i].length : 0;
    }
    g_assert_cmpuint(pinned, >=, 1 << 20);
    end_sleeper(r.pid);
    host_free(h);
}

/* The second one leaves the first one's socket alone. */
static void test_two(void)
{
    g_autofree char *status = NULL;
    struct host *h, other;

    if (!may_run())
        return;
    h = host_at_pty(RULES);
    welcome(h, 0);
    other = *h;
    host_start(&other, "/dev/null");
    g_usleep(500000);
    kill(other.agent, SIGTERM);
    g_assert_cmpint(waitpid(other.agent, NULL, 0), ==, other.agent);
    status = status_of(h);
    g_assert_true(g_str_has_prefix(status, "+host: connected\n"));
    host_free(h);
}

/* --- what the agent may ------------------------------------------------------------------------------- */

static guint64 field_of(GPid pid, const char *name, int base)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid), *text = NULL;
    const char *at;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    at = strstr(text, name);
    g_assert_nonnull(at);
    return g_ascii_strtoull(at + strlen(name), NULL, (guint)base);
}

/* It says where free memory is, and where a process of root's has its pages. */
static void check_works(struct host *h)
{
    bool is_free = false, is_hot = false;

    welcome(h, 1000);
    give(h, (struct rule){ .by = BY_PID, .kind = VTA_HOT, .pid = getpid() }, 0, "+noted");
    for (double end = now_s() + 60; now_s() < end && !(is_free && is_hot);)
        if (hear(h, VTA_HINTS, 1))
            for (guint32 i = 0; i < h->f.hints.count; i++) {
                is_free |= h->f.hints.range[i].kind == VTA_FREE;
                is_hot |= h->f.hints.range[i].kind == VTA_HOT;
            }
    g_assert_true(is_free && is_hot);
}

/* Started by root, it keeps three capabilities of another user's, and can get no more. */
static void test_rights(void)
{
    const guint64 three = 1ull << CAP_SYS_ADMIN | 1ull << CAP_SYS_PTRACE | 1ull << CAP_DAC_READ_SEARCH;
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty("refresh=1\ncollect=free\ncpu=1000\nuser=nobody\n");
    g_chmod(h->dir, 0777);              /* so that nobody can take its socket away in the end */
    check_works(h);
    g_assert_cmpuint(field_of(h->agent, "\nUid:", 10), ==, NOBODY);
    g_assert_cmpuint(field_of(h->agent, "\nCapEff:", 16), ==, three);
    g_assert_cmpuint(field_of(h->agent, "\nCapPrm:", 16), ==, three);
    g_assert_cmpuint(field_of(h->agent, "\nCapInh:", 16) | field_of(h->agent, "\nCapAmb:", 16), ==, 0);
    g_assert_cmpuint(field_of(h->agent, "\nNoNewPrivs:", 10), ==, 1);
    host_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/agent-users/not-his", test_not_his);
    g_test_add_func("/agent-users/nonsense", test_nonsense);
    g_test_add_func("/agent-users/rude", test_rude);
    g_test_add_func("/agent-users/restless", test_restless);
    g_test_add_func("/agent-users/two", test_two);
    g_test_add_func("/agent-users/rights", test_rights);
    return g_test_run();
}
