// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A daemon that hangs or dies while it is told the layout: who wants ram_lock() meanwhile, as the main
 * loop does, gets it at once.
 */
#include "two-tiers.h"
#include "common/wire.h"
#include "vmm/link.h"
#include "vmm/ram.h"

#include <errno.h>
#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GRANULE 4096u
#define LENGTH  (1ull << 30)        /* with its granules as small, its placement does not fit the socket */
#define BLOCKED_S 0.3               /* that long a sender that waits is seen to wait */

struct sender {
    GThread *thread;
    int ends[2];                    /* QEMU's and the daemon's */
    atomic_bool done;
    int rc;
};

static gpointer send_it(gpointer data)
{
    struct sender *s = data;
    struct vt_err err = { 0 };

    s->rc = link_send_layout(s->ends[0], &err);
    atomic_store(&s->done, true);
    return NULL;
}

static void set_up(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    two_tiers_set_up(f, LENGTH, 4096, 0);
}

static void tear_down(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    two_tiers_tear_down(f);
}

/* Returns when the daemon's side is full and the sender waits. */
static void start(struct sender *s)
{
    *s = (struct sender){ .rc = 1 };
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->ends), ==, 0);
    s->thread = g_thread_new("vmtier", send_it, s);
    g_usleep((gulong)(BLOCKED_S * 1e6));
    g_assert_false(atomic_load(&s->done));
    ram_lock();                     /* for ever, if the sender has it and nobody reads */
    ram_unlock();
    g_assert_false(atomic_load(&s->done));
}

static void end(struct sender *s)
{
    g_thread_join(s->thread);
    close(s->ends[0]);
    if (s->ends[1] >= 0)
        close(s->ends[1]);
}

static void test_dies(struct two_tiers *f, gconstpointer unused)
{
    struct sender s;

    (void)f;
    (void)unused;
    start(&s);
    close(s.ends[1]);
    s.ends[1] = -1;
    end(&s);
    g_assert_cmpint(s.rc, ==, -ECONNRESET);
}

/* It is as it was when the lock was held, whatever has become of the block. */
static void test_slow(struct two_tiers *f, gconstpointer unused)
{
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);
    guint32 granules = 0, blocks = 0;
    struct vt_err err;
    struct sender s;

    (void)unused;
    ram_tier[f->b->first] = 1;
    start(&s);
    ram_tier[f->b->first] = 0;
    do {
        g_assert_cmpint(wire_recv(s.ends[1], m, 5000, &err), ==, 0);
        if (m->h.type == VT_BLOCK) {
            blocks++;
            g_assert_cmpint(m->n_fds, ==, 2);
        } else if (m->h.type == VT_PLACEMENT) {
            g_assert_cmpint(m->placement.tier[0], ==, granules == 0);
            granules += m->placement.count;
        }
        wire_drop_fds(m);
    } while (m->h.type != VT_LAYOUT_END);
    end(&s);
    g_assert_cmpint(s.rc, ==, 0);
    g_assert_cmpuint(blocks, ==, 1);
    g_assert_cmpuint(granules, ==, LENGTH / GRANULE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(ram_init(NULL), ==, 0);
    ram_set_granule(GRANULE);
    g_test_add("/vmm-layout/dies", struct two_tiers, NULL, set_up, test_dies, tear_down);
    g_test_add("/vmm-layout/slow", struct two_tiers, NULL, set_up, test_slow, tear_down);
    return g_test_run();
}
