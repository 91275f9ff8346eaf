// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The lab's run directory, its children, waiting, and the logs that a failed test prints.
 *
 * Log files are remembered in a fixed table, so that the handler of the abort that a failed
 * assertion causes can print them with nothing but open, read and write.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAX_LOGS = 64,
    LOG_TAIL = 4000,
    POLL_US = 20000,
};

static char *logs[MAX_LOGS];
static unsigned log_count;

/* --- logs of a failed test ------------------------------------------------------------------ */

static void put(const char *text, size_t n)
{
    if (write(STDERR_FILENO, text, n) < 0)
        _exit(1);
}

static void dump_log(const char *path)
{
    static char tail[LOG_TAIL];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (lseek(fd, -LOG_TAIL, SEEK_END) < 0)
        lseek(fd, 0, SEEK_SET);
    ssize_t n = read(fd, tail, sizeof(tail));

    close(fd);
    put("# --- ", 6);
    put(path, strlen(path));
    put("\n", 1);
    if (n > 0)
        put(tail, (size_t)n);
    put("\n", 1);
}

static void dump_logs(void)
{
    for (unsigned i = 0; i < log_count; i++)
        dump_log(logs[i]);
}

static void on_crash(int number)
{
    dump_logs();
    signal(number, SIG_DFL);
    raise(number);
}

void lab_watch_log(const char *path)
{
    static const int crashes[] = { SIGABRT, SIGTRAP, SIGSEGV, SIGBUS };

    for (gsize i = 0; i < G_N_ELEMENTS(crashes); i++)
        signal(crashes[i], on_crash);
    if (log_count < MAX_LOGS)
        logs[log_count++] = g_strdup(path);
}

static void forget_logs(void)
{
    while (log_count)
        g_free(logs[--log_count]);
}

/* --- the run directory ---------------------------------------------------------------------- */

char *lab_built(const char *name)
{
    const char *build = g_getenv("BUILD");

    return g_build_filename(build && *build ? build : "build", name, NULL);
}

char *lab_path(const struct lab *lab, const char *name)
{
    return g_build_filename(lab->dir, name, NULL);
}

struct lab *lab_new(const char *name)
{
    struct lab *lab = g_new0(struct lab, 1);
    g_autofree char *run = lab_built("tests/run");

    g_mkdir_with_parents(run, 0755);
    lab->dir = g_strdup_printf("%s/%s-XXXXXX", run, name);
    if (!g_mkdtemp(lab->dir))
        g_error("%s: %s", lab->dir, g_strerror(errno));
    if (strlen(lab->dir) > sizeof(((struct sockaddr_un *)0)->sun_path) - 24)
        g_error("%s is too long a path for unix sockets: set BUILD to a shorter one", lab->dir);
    return lab;
}

static void remove_dir(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        g_unlink(file);
    }
    g_rmdir(path);
}

/* The files of a failed test stay for a look. */
void lab_free(struct lab *lab)
{
    if (g_test_failed())
        dump_logs();
    else
        remove_dir(lab->dir);
    forget_logs();
    g_free(lab->dir);
    g_free(lab);
}

/* --- waiting -------------------------------------------------------------------------------- */

double lab_now(void)
{
    return (double)g_get_monotonic_time() / 1e6;
}

double lab_deadline(double timeout)
{
    return lab_now() + timeout * LAB_PATIENCE;
}

void lab_sleep(double seconds)
{
    g_usleep((gulong)(seconds * 1e6));
}

bool lab_wait(bool (*ready)(void *arg), void *arg, double timeout)
{
    double end = lab_deadline(timeout);

    while (!ready(arg)) {
        if (lab_now() > end)
            return false;
        g_usleep(POLL_US);
    }
    return true;
}

struct connecting {
    struct sockaddr_un address;
    struct child *server;
    int fd;
};

static bool try_connect(void *arg)
{
    struct connecting *c = arg;

    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->fd, (struct sockaddr *)&c->address, sizeof(c->address)) == 0)
        return true;
    close(c->fd);
    c->fd = -1;
    return c->server && !child_alive(c->server);
}

int lab_connect(const char *path, struct child *server, double timeout)
{
    struct connecting c = { .address.sun_family = AF_UNIX, .server = server };

    g_strlcpy(c.address.sun_path, path, sizeof(c.address.sun_path));
    return lab_wait(try_connect, &c, timeout) ? c.fd : -1;
}

/* --- children ------------------------------------------------------------------------------- */

/* Between fork and exec. Tests run in the main thread, whose end is the program's. */
static void die_with_parent(gpointer unused)
{
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

struct child *child_start(struct lab *lab, const char *name, const char *const *argv)
{
    struct child *child = g_new0(struct child, 1);
    g_autofree char *file = g_strconcat(name, ".log", NULL);
    g_autoptr(GError) error = NULL;

    child->name = g_strdup(name);
    child->log = lab_path(lab, file);
    lab_watch_log(child->log);
    int out = open(child->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    g_spawn_async_with_fds(NULL, (char **)(gpointer)argv, NULL,
                           G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH, die_with_parent, NULL,
                           &child->pid, -1, out, out, &error);
    close(out);
    if (error)
        g_error("starting %s: %s", argv[0], error->message);
    child->running = true;
    return child;
}

bool child_alive(struct child *child)
{
    if (child->running && waitpid(child->pid, &child->status, WNOHANG) == child->pid)
        child->running = false;
    return child->running;
}

static bool has_ended(void *child)
{
    return !child_alive(child);
}

bool child_wait(struct child *child, double timeout)
{
    return lab_wait(has_ended, child, timeout);
}

void child_kill(struct child *child, int number)
{
    if (child_alive(child))
        kill(child->pid, number);
}

void child_free(struct child *child)
{
    child_kill(child, SIGKILL);
    if (!child_wait(child, 10))
        g_error("%s (process %d) does not end", child->name, (int)child->pid);
    g_free(child->name);
    g_free(child->log);
    g_free(child);
}

char *child_output(const struct child *child)
{
    char *text = NULL;

    g_file_get_contents(child->log, &text, NULL, NULL);
    return text ? text : g_strdup("");
}
