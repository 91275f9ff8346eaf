// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See faults.h. A thread listens on the peer's socket, counts, and lets go whoever pauses; only the
 * one connection that the test waits for is handed over to it.
 */
#include "faults.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct faults {
    char *dir, *rules, *path;
    int listener;
    GThread *thread;
    gint stop;                          /* atomic */
    GMutex lock;                        /* what follows */
    GCond changed;
    GHashTable *counts;                 /* point -> how often */
    const char *point, *thread_name;    /* expected */
    int held;                           /* the connection, or -1 */
};

struct hit {
    int pid, tid;
    char point[40], action[20];
};

/* --- the listener --------------------------------------------------------------------------- */

static bool read_hit(int fd, struct hit *hit)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char line[128];
    ssize_t n;

    if (poll(&p, 1, 1000) <= 0 || (n = read(fd, line, sizeof(line) - 1)) <= 0)
        return false;
    line[n] = '\0';
    return sscanf(line, "%d %d %39s %19s", &hit->pid, &hit->tid, hit->point, hit->action) == 4;
}

static bool is_thread(const struct hit *hit, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/comm", hit->pid, hit->tid);
    g_autofree char *comm = NULL;

    if (!name)
        return true;
    return g_file_get_contents(path, &comm, NULL, NULL) && !strcmp(g_strchomp(comm), name);
}

/* Under the lock. Whether the test has taken the connection over. */
static bool take_hit(struct faults *f, int fd, const struct hit *hit)
{
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(f->counts, hit->point));

    g_hash_table_insert(f->counts, g_strdup(hit->point), GUINT_TO_POINTER(n + 1));
    if (!f->point || strcmp(f->point, hit->point) != 0 || !is_thread(hit, f->thread_name))
        return false;
    f->point = NULL;
    f->held = fd;
    g_cond_signal(&f->changed);
    return true;
}

static void serve_one(struct faults *f, int fd)
{
    struct hit hit;
    bool taken = false;

    if (read_hit(fd, &hit)) {
        g_mutex_lock(&f->lock);
        taken = take_hit(f, fd, &hit);
        g_mutex_unlock(&f->lock);
    }
    if (!taken)
        close(fd);
}

static gpointer serve(gpointer data)
{
    struct faults *f = data;
    struct pollfd p = { .fd = f->listener, .events = POLLIN };

    while (!g_atomic_int_get(&f->stop))
        if (poll(&p, 1, 50) > 0) {
            int fd = accept(f->listener, NULL, NULL);

            if (fd >= 0)
                serve_one(f, fd);
        }
    return NULL;
}

/* --- for the test --------------------------------------------------------------------------- */

struct faults *faults_new(void)
{
    struct faults *f = g_new0(struct faults, 1);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    g_autofree char *at = NULL;

    f->dir = g_dir_make_tmp("vmtier-faults-XXXXXX", NULL);
    f->rules = g_build_filename(f->dir, "rules", NULL);
    f->path = g_build_filename(f->dir, "peer", NULL);
    at = g_strconcat("@", f->rules, NULL);
    g_strlcpy(a.sun_path, f->path, sizeof(a.sun_path));
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(f->listener, (struct sockaddr *)&a, sizeof(a)) || listen(f->listener, 1024))
        g_error("%s: cannot listen", f->path);
    f->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    f->held = -1;
    faults_set(f, "");
    g_setenv("VMTIER_TEST_FAULT", at, TRUE);
    g_setenv("VMTIER_TEST_FAULT_PEER", f->path, TRUE);
    f->thread = g_thread_new("faults", serve, f);
    return f;
}

void faults_free(struct faults *f)
{
    g_atomic_int_set(&f->stop, 1);
    g_thread_join(f->thread);
    faults_go_on(f);
    close(f->listener);
    g_unlink(f->path);
    g_unlink(f->rules);
    g_rmdir(f->dir);
    g_hash_table_unref(f->counts);
    g_free(f->dir);
    g_free(f->rules);
    g_free(f->path);
    g_free(f);
}

void faults_set(struct faults *f, const char *rules)
{
    if (!g_file_set_contents(f->rules, rules, -1, NULL))
        g_error("%s: cannot be written", f->rules);
    g_mutex_lock(&f->lock);
    g_hash_table_remove_all(f->counts);
    g_mutex_unlock(&f->lock);
}

unsigned faults_count(struct faults *f, const char *point)
{
    guint n;

    g_mutex_lock(&f->lock);
    n = GPOINTER_TO_UINT(g_hash_table_lookup(f->counts, point));
    g_mutex_unlock(&f->lock);
    return n;
}

void faults_expect(struct faults *f, const char *point, const char *thread)
{
    g_mutex_lock(&f->lock);
    f->point = point;
    f->thread_name = thread;
    g_mutex_unlock(&f->lock);
}

bool faults_wait(struct faults *f, double timeout)
{
    gint64 end = g_get_monotonic_time() + (gint64)(timeout * 1e6);
    bool came;

    g_mutex_lock(&f->lock);
    while (f->held < 0 && g_cond_wait_until(&f->changed, &f->lock, end))
        ;
    came = f->held >= 0;
    g_mutex_unlock(&f->lock);
    return came;
}

void faults_go_on(struct faults *f)
{
    g_mutex_lock(&f->lock);
    if (f->held >= 0)
        close(f->held);
    f->held = -1;
    g_mutex_unlock(&f->lock);
}
