// SPDX-License-Identifier: GPL-2.0-or-later
/* vmtier-agent and a host for it: see agent-host.h. */
#include "agent-host.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

char *agent_program(void)
{
    const char *build = g_getenv("BUILD");

    return g_build_filename(build ? build : "build", "vmtier-agent", NULL);
}

bool may_run(void)
{
    g_autofree char *path = agent_program();

    if (geteuid() == 0 && g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
        return true;
    g_test_skip("page flags are root's, and vmtier-agent has to be built");
    return false;
}

double now_s(void)
{
    return (double)g_get_monotonic_time() / 1e6;
}

void host_start(struct host *h, const char *port)
{
    g_autofree char *path = agent_program();
    /* It is not to outlive a test that fails. */
    char *argv[] = { (char *)"setpriv", (char *)"--pdeathsig", (char *)"KILL", path, (char *)"--config",
                     h->config, (char *)"--control", h->control, port ? (char *)"--port" : NULL,
                     (char *)(gpointer)port, NULL };

    g_assert_true(g_spawn_async(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH |
                                G_SPAWN_STDERR_TO_DEV_NULL | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL,
                                &h->agent, NULL));
}

struct host *host_new(const char *config)
{
    struct host *h = g_new0(struct host, 1);

    h->fd = -1;
    h->dir = g_dir_make_tmp("vmtier-agent-XXXXXX", NULL);
    h->control = g_build_filename(h->dir, "control", NULL);
    h->config = g_build_filename(h->dir, "conf", NULL);
    g_chmod(h->dir, 0755);
    g_assert_true(g_file_set_contents(h->config, config, -1, NULL));
    return h;
}

struct host *host_at_pty(const char *config)
{
    struct host *h = host_new(config);
    struct termios t;
    int slave;

    h->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    g_assert_true(h->fd >= 0 && !grantpt(h->fd) && !unlockpt(h->fd));
    slave = open(ptsname(h->fd), O_RDWR | O_NOCTTY | O_CLOEXEC);
    tcgetattr(slave, &t);
    cfmakeraw(&t);
    tcsetattr(slave, TCSANOW, &t);
    close(slave);
    host_start(h, ptsname(h->fd));
    return h;
}

void host_free(struct host *h)
{
    int status;

    kill(h->agent, SIGTERM);
    g_assert_cmpint(waitpid(h->agent, &status, 0), ==, h->agent);
    g_assert_cmpint(status, ==, 0);
    if (h->fd >= 0)
        close(h->fd);
    g_assert_false(g_file_test(h->control, G_FILE_TEST_EXISTS));
    g_unlink(h->config);
    g_rmdir(h->dir);
    g_free(h->dir);
    g_free(h->control);
    g_free(h->config);
    g_free(h);
}

void say(struct host *h, enum vta_type type, struct vta_frame *f, size_t length)
{
    size_t n = vta_seal(f, type, ++h->seq, length);

    g_assert_cmpint(write(h->fd, f, n), ==, n);
}

bool hear(struct host *h, enum vta_type type, double timeout)
{
    double end = now_s() + timeout;
    guint8 bytes[1024];

    while (now_s() < end) {
        gssize n;

        while (vta_next(&h->in, &h->f))
            if (h->f.h.type == type)
                return true;
        n = read(h->fd, bytes, MIN(sizeof(bytes), vta_room(&h->in)));
        if (n > 0)
            g_assert_cmpuint(vta_feed(&h->in, bytes, (size_t)n), ==, n);
        else
            g_usleep(2000);
    }
    return false;
}

void welcome(struct host *h, guint32 credits)
{
    struct vta_frame f = { .welcome = { .version = VTA_VERSION, .granule = 2 << 20, .life_ms = 60000,
                                        .ranges_per_s = 100000 } };

    g_assert_true(hear(h, VTA_HELLO, 10));
    g_assert_cmpuint(h->f.hello.version, ==, VTA_VERSION);
    g_assert_nonnull(strstr(h->f.hello.name, "vmtier-agent"));
    say(h, VTA_WELCOME, &f, sizeof(f.welcome));
    f.credit = (struct vta_credit){ credits, 0 };
    say(h, VTA_CREDIT, &f, sizeof(f.credit));
}

static char *ask(struct host *h, const char *words, uid_t uid, int *status)
{
    g_autofree char *path = agent_program();
    g_autofree char *line = g_strdup_printf("setpriv --reuid %u --clear-groups %s --control %s %s 2>&1",
                                            uid, path, h->control, words);
    char *argv[] = { (char *)"sh", (char *)"-c", line, NULL }, *said = NULL;

    g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &said, NULL, status,
                               NULL));
    return said;
}

void expect(struct host *h, const char *words, uid_t uid, bool works, const char *text)
{
    int status;
    g_autofree char *said = ask(h, words, uid, &status);

    if ((status == 0) != works || !strstr(said, text))
        g_error("'%s' as %u ended with %d and said '%s'", words, uid, status, said);
}

void wait_status(struct host *h, const char *text)
{
    double end = now_s() + 60;

    for (;;) {
        int status;
        g_autofree char *said = ask(h, "status", 0, &status);

        if (strstr(said, text))
            return;
        if (now_s() > end)
            g_error("the status does not say '%s': %s", text, said);
        g_usleep(50000);
    }
}
