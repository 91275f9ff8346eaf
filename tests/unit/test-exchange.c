// SPDX-License-Identifier: GPL-2.0-or-later
/* A QEMU that talks and talks: the worker that listens to it comes back in time, and the log stays short. */
#include "vm-fixture.h"

#include <errno.h>
#include <sys/socket.h>

struct talker {
    int fd;
    gint stop;
    guint pause_us;
    gint said;                  /* atomic */
    GThread *thread;
};

/* Freezes and thaws, for ever. */
static gpointer talk(gpointer data)
{
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);
    struct talker *t = data;

    while (!g_atomic_int_get(&t->stop)) {
        wire_start(m, VT_FROZEN, 0, sizeof(m->text));
        m->text.code = g_atomic_int_add(&t->said, 1) % 2 ? 0 : EBUSY;
        g_snprintf(m->text.text, sizeof(m->text.text), "%s", m->text.code ? "cold" : "");
        wire_send(t->fd, m, 1, NULL);
        if (t->pause_us)
            g_usleep(t->pause_us);
    }
    return NULL;
}

struct fixture {
    struct daemon *d;
    struct vm *vm;
    struct talker t;
};

static guint events;

static void count(const gchar *domain, GLogLevelFlags level, const gchar *text, gpointer unused)
{
    (void)domain;
    (void)level;
    (void)unused;
    events += strstr(text, "VMTIER_VM_FROZEN") != NULL;
}

static void set_up(struct fixture *f, gconstpointer pause_us)
{
    struct vt_hello hello = { .pid = 1, .accel = VT_ACCEL_TCG, .page_size = 4096, .name = "toy" };
    int ends[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), ==, 0);
    f->d = fixture_daemon();
    f->vm = vm_new(f->d, &hello, ends[0]);
    f->vm->placed = true;
    f->t = (struct talker){ .fd = ends[1], .pause_us = GPOINTER_TO_UINT(pause_us) };
    f->t.thread = g_thread_new("talker", talk, &f->t);
    events = 0;
    g_log_set_handler(NULL, G_LOG_LEVEL_MESSAGE, count, NULL);
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    g_atomic_int_set(&f->t.stop, 1);
    g_thread_join(f->t.thread);
    close(f->t.fd);
    vm_unref(f->vm);
    fixture_daemon_free(f->d);
}

/* News without end: there comes a moment when that is enough for this round. */
static void test_news(struct fixture *f, gconstpointer unused)
{
    gint64 start = g_get_monotonic_time();
    struct vt_err err;

    (void)unused;
    for (int i = 0; i < 3 || g_atomic_int_get(&f->t.said) < 100; i++)
        g_assert_cmpint(vm_receive(f->vm, 0, &err), ==, -EAGAIN);
    g_assert_cmpuint(events, >=, 1);
    g_assert_cmpuint(events, <=, 1 + (guint)((g_get_monotonic_time() - start) / G_USEC_PER_SEC));
}

/* One word now and then, but no answer. */
static void test_no_answer(struct fixture *f, gconstpointer unused)
{
    struct vt_err err;

    (void)unused;
    wire_start(&f->vm->out, VT_READY, 0, sizeof(struct vt_ready));
    g_assert_cmpint(vm_send(f->vm, &err), ==, 0);
    g_assert_cmpint(f->vm->deadline_us, >, g_get_monotonic_time());
    f->vm->deadline_us = g_get_monotonic_time() + G_USEC_PER_SEC / 2;
    g_assert_cmpint(vm_receive(f->vm, LINK_MS, &err), ==, -ETIMEDOUT);
    g_assert_nonnull(strstr(err.text, "has not answered"));
}

/* What could not be said at once is said when its time has come, if it is still true. */
static void test_last(struct fixture *f, gconstpointer unused)
{
    struct vt_err err;

    (void)unused;
    while (events == 0)
        vm_receive(f->vm, 0, &err);
    g_atomic_int_set(&f->t.stop, 1);
    g_usleep(50000);
    vm_receive(f->vm, 0, &err);
    events = 0;
    f->vm->unsaid = true;
    vm_receive(f->vm, 0, &err);
    g_assert_cmpuint(events, ==, 0);
    f->vm->said_us -= 2 * G_USEC_PER_SEC;
    vm_receive(f->vm, 0, &err);
    vm_receive(f->vm, 0, &err);
    g_assert_cmpuint(events, ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/exchange/news", struct fixture, NULL, set_up, test_news, tear_down);
    g_test_add("/exchange/no-answer", struct fixture, GUINT_TO_POINTER(50000), set_up, test_no_answer,
               tear_down);
    g_test_add("/exchange/last", struct fixture, GUINT_TO_POINTER(5000), set_up, test_last, tear_down);
    return g_test_run();
}
