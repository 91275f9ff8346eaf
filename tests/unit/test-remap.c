// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The remap mover's messages. A list goes out in several, of as many granules as can be moved in time. What
 * QEMU's part is told to keep of the dram that lies spare: what later ones need has to be there still; after the last
 * one nothing may be left.
 */
#include "vm-fixture.h"
#include "host/mover/mover.h"

#include <sys/socket.h>

#define MOVES 150u
#define FIRST 8u                /* in the first message, */
#define MOST  64u               /* in any; nor are there more of them */

struct fixture {
    struct daemon *d;
    struct vm *vm;
    GThread *thread;
    int fd;
    gulong first_us;            /* that each granule of the first message takes */
    guint n;                    /* messages: */
    struct {
        guint32 count;
        guint64 spare[2];
    } seen[MOST];
};

/* QEMU's part: all arrive, and spare is as much as may be. */
static gpointer answer(gpointer data)
{
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);
    struct fixture *f = data;
    struct vt_err err;

    while (f->n < MOST && !wire_recv(f->fd, m, -1, &err)) {
        g_assert_cmpint(m->h.type, ==, VT_MOVE);
        f->seen[f->n].count = m->move.count;
        f->seen[f->n].spare[0] = m->move.spare[0];
        f->seen[f->n++].spare[1] = m->move.spare[1];
        m->h.type = VT_MOVED;
        if (f->n == 1)
            g_usleep(f->first_us * m->move.count);
        g_assert_cmpint(wire_send(f->fd, m, -1, &err), ==, 0);
    }
    return NULL;
}

static void set_up(struct fixture *f, gconstpointer unused)
{
    struct vt_hello hello = { .pid = 1, .accel = VT_ACCEL_TCG, .page_size = 4096, .name = "toy" };
    int ends[2];

    (void)unused;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), ==, 0);
    f->d = fixture_daemon();
    f->vm = vm_new(f->d, &hello, ends[0]);
    ledger_resize(&f->vm->ledger, MOVES);
    f->fd = ends[1];
    f->thread = g_thread_new("qemu", answer, f);
}

/* With the VM goes its end of the link, and with that the thread. */
static void tear_down(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    vm_unref(f->vm);
    g_thread_join(f->thread);
    close(f->fd);
    fixture_daemon_free(f->d);
}

static void carry_out(struct fixture *f, guint8 tier)
{
    struct vt_move_one moves[MOVES] = { { 0 } };
    struct vt_err err;

    for (guint32 i = 0; i < MOVES; i++)
        moves[i] = (struct vt_move_one){ .granule = i, .tier = tier };
    if (mover_remap.carry_out(f->vm, moves, MOVES, false, &err))
        g_error("%s", err.text);
}

static void test_promotions(struct fixture *f, gconstpointer unused)
{
    const guint64 granule = f->vm->config.granule;
    guint32 left = MOVES;

    (void)unused;
    f->vm->spare_most[1] = 5 * granule;
    carry_out(f, 0);
    g_assert_cmpuint(f->n, >=, 4);
    g_assert_cmpuint(f->seen[0].count, ==, FIRST);
    for (guint i = 0; i < f->n; i++) {
        g_assert_cmpuint(f->seen[i].count, <=, MOST);
        left -= f->seen[i].count;
        g_assert_cmpuint(f->seen[i].spare[0], ==, left * granule);
        g_assert_cmpuint(f->seen[i].spare[1], ==, 5 * granule);
    }
    g_assert_cmpuint(left, ==, 0);
}

/* What is asked for with a list is the same for all of its messages. */
static void test_demotions(struct fixture *f, gconstpointer unused)
{
    const guint64 granule = f->vm->config.granule;

    (void)unused;
    f->vm->spare_most[0] = 9 * granule;
    carry_out(f, 1);
    g_assert_cmpuint(f->n, >=, 4);
    for (guint i = 0; i < f->n; i++)
        g_assert_cmpuint(f->seen[i].spare[0], ==, 9 * granule);
}

/* Where a granule takes a tenth of a second a message has but a dozen: 64 would be given up before they are moved. */
static void test_slow(struct fixture *f, gconstpointer unused)
{
    (void)unused;
    f->first_us = 100000;
    carry_out(f, 0);
    g_assert_cmpuint(f->seen[0].count, ==, FIRST);
    g_assert_cmpuint(f->seen[1].count, <=, 12);
    g_assert_cmpuint(f->seen[1].count, >, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/remap/promotions", struct fixture, NULL, set_up, test_promotions, tear_down);
    g_test_add("/remap/slow", struct fixture, NULL, set_up, test_slow, tear_down);
    g_test_add("/remap/demotions", struct fixture, NULL, set_up, test_demotions, tear_down);
    return g_test_run();
}
