// SPDX-License-Identifier: GPL-2.0-or-later
/* A daemon that does nothing but move: see pusher.h. */
#include "pusher.h"
#include "harness.h"

#include "common/wire.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SPARE (8u << 20)
#define BATCH 16                /* granules per message: neighbours, so runs get long now and then */
#define TIMEOUT_MS 20000

struct pusher {
    char *socket;
    uint64_t granule;
    int listener;
    GThread *thread;
    atomic_bool go, busy_now, attached, stop, may_freeze;
    _Atomic uint64_t rate;          /* bytes a second; 0: no limit */
    _Atomic uint64_t moved, busy, frozen, failed, pages;
    uint32_t granules;
    uint32_t seq;
    uint8_t *tier;
    struct wire_msg in, out;
};

static void send_msg(struct pusher *p, int link)
{
    struct vt_err err = { 0 };

    if (wire_send(link, &p->out, TIMEOUT_MS, &err))
        g_error("pusher: %s", err.text);
}

static void welcome(struct pusher *p, int link)
{
    struct vt_welcome *w = &p->out.welcome;
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    g_assert_cmpint(device, >=, 0);
    memset(w, 0, sizeof(*w));
    wire_start(&p->out, VT_WELCOME, 0, sizeof(*w));
    w->granule = p->granule;
    w->tiers = 2;
    g_strlcpy(w->tier[0], "dram", sizeof(w->tier[0]));
    g_strlcpy(w->tier[1], "cxl", sizeof(w->tier[1]));
    p->out.fd[0] = device;
    p->out.n_fds = 1;
    send_msg(p, link);
    close(device);
}

static void give_file(struct pusher *p, int link, const struct vt_block *b)
{
    int file = memfd_create("pusher-cxl", MFD_CLOEXEC);

    g_assert_cmpint(ftruncate(file, (off_t)b->length), ==, 0);
    wire_start(&p->out, VT_TIER_FILE, 0, sizeof(p->out.tier_file));
    p->out.tier_file.block = b->id;
    p->out.tier_file.tier = 1;
    p->out.tier_file.offset = 0;
    p->out.fd[0] = file;
    p->out.n_fds = 1;
    send_msg(p, link);
    close(file);
}

/* Takes the layout; the VM has one block. */
static void attach(struct pusher *p, int link)
{
    struct vt_err err = { 0 };
    struct vt_block block = { 0 };

    g_assert_cmpint(wire_recv(link, &p->in, TIMEOUT_MS, &err), ==, 0);
    g_assert_cmpint(p->in.h.type, ==, VT_HELLO);
    welcome(p, link);
    do {
        if (wire_recv(link, &p->in, TIMEOUT_MS, &err))
            g_error("pusher: %s", err.text);
        if (p->in.h.type == VT_BLOCK)
            block = p->in.block;
        wire_drop_fds(&p->in);
    } while (p->in.h.type != VT_LAYOUT_END);
    g_assert_cmpuint(block.count, >, 0);
    p->granules = block.count;
    p->tier = g_new0(uint8_t, block.count);
    give_file(p, link, &block);
    wire_start(&p->out, VT_READY, 0, sizeof(struct vt_ready));
    send_msg(p, link);
    atomic_store(&p->attached, true);
}

static void note(struct pusher *p, const struct vt_move_list *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        p->tier[m->move[i].granule] = m->move[i].tier;
        p->moved += m->move[i].status == VT_ST_OK;
        p->busy += m->move[i].status == VT_ST_BUSY || m->move[i].status == VT_ST_AGAIN;
        p->frozen += m->move[i].status == VT_ST_FROZEN;
        p->failed += m->move[i].status != VT_ST_OK && m->move[i].status != VT_ST_BUSY &&
                     m->move[i].status != VT_ST_AGAIN && m->move[i].status != VT_ST_FROZEN;
    }
    p->pages += m->pages;
}

/* One list: up to BATCH neighbours from a random place, each to where it is not. */
static bool push(struct pusher *p, int link, GRand *rand)
{
    struct vt_move_list *m = &p->out.move;
    uint32_t n = 1 + g_rand_int(rand) % BATCH, first = g_rand_int(rand) % p->granules;
    struct vt_err err;

    n = MIN(n, p->granules - first);
    wire_start(&p->out, VT_MOVE, ++p->seq, sizeof(*m) + n * sizeof(m->move[0]));
    m->count = n;
    m->fresh = 0;
    m->cpu_ns = m->pages = m->rate = 0;
    for (int t = 0; t < VT_TIERS; t++)      /* slots get used again, or not */
        m->spare[t] = g_rand_boolean(rand) ? SPARE : 0;
    for (uint32_t i = 0; i < n; i++)
        m->move[i] = (struct vt_move_one){ .granule = first + i, .tier = !p->tier[first + i] };
    send_msg(p, link);
    do {
        if (wire_recv(link, &p->in, TIMEOUT_MS, &err))
            return false;           /* QEMU has ended */
        wire_drop_fds(&p->in);
    } while (p->in.h.type != VT_MOVED);
    note(p, &p->in.move);
    return true;
}

/* Never behind by more than a moment: what was missed is not caught up with. */
static void keep_rate(struct pusher *p, uint64_t bytes, double *due)
{
    uint64_t rate = atomic_load(&p->rate);
    double now = lab_now();

    *due = MAX(*due, now - 0.01);
    if (rate)
        *due += (double)bytes / (double)rate;
    if (*due > now)
        lab_sleep(*due - now);
}

static gpointer run(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    struct pusher *p = data;
    int link = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    bool alive = link >= 0;
    double due = 0;

    if (alive)
        attach(p, link);
    while (alive && !atomic_load(&p->stop)) {
        atomic_store(&p->busy_now, true);
        if (atomic_load(&p->go)) {
            alive = push(p, link, rand);
            keep_rate(p, p->out.move.count * p->granule, &due);
        } else {
            atomic_store(&p->busy_now, false);
            g_usleep(1000);
        }
    }
    atomic_store(&p->busy_now, false);
    close(link);
    return NULL;
}

struct pusher *pusher_start(const char *socket_path, uint64_t granule)
{
    struct pusher *p = g_new0(struct pusher, 1);
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    p->socket = g_strdup(socket_path);
    p->granule = granule;
    g_strlcpy(a.sun_path, socket_path, sizeof(a.sun_path));
    p->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(p->listener, (struct sockaddr *)&a, sizeof(a)), ==, 0);
    g_assert_cmpint(listen(p->listener, 1), ==, 0);
    p->thread = g_thread_new("pusher", run, p);
    return p;
}

static bool has_attached(void *pusher)
{
    return atomic_load(&((struct pusher *)pusher)->attached);
}

void pusher_go(struct pusher *p)
{
    g_assert_true(lab_wait(has_attached, p, 20));
    atomic_store(&p->go, true);
}

static bool is_idle(void *pusher)
{
    return !atomic_load(&((struct pusher *)pusher)->busy_now);
}

void pusher_pause(struct pusher *p)
{
    atomic_store(&p->go, false);
    g_assert_true(lab_wait(is_idle, p, 30));
}

void pusher_set_rate(struct pusher *p, uint64_t bytes_per_s)
{
    atomic_store(&p->rate, bytes_per_s);
}

struct pusher_count pusher_get_count(struct pusher *p)
{
    return (struct pusher_count){ p->moved, p->busy, p->frozen, p->failed, p->pages };
}

bool pusher_moves(struct pusher *p, uint64_t more, double timeout)
{
    uint64_t goal = pusher_get_count(p).moved + more;
    double end = lab_deadline(timeout);

    while (pusher_get_count(p).moved < goal && lab_now() < end)
        lab_sleep(0.01);
    return pusher_get_count(p).moved >= goal;
}

void pusher_may_freeze(struct pusher *p)
{
    atomic_store(&p->may_freeze, true);
}

void pusher_end(struct pusher *p)
{
    atomic_store(&p->stop, true);
    shutdown(p->listener, SHUT_RDWR);
    g_thread_join(p->thread);
    close(p->listener);
    unlink(p->socket);
    g_assert_cmpuint(p->failed, ==, 0);
    g_assert_true(p->may_freeze || !p->frozen);
    g_free(p->socket);
    g_free(p->tier);
    g_free(p);
}
