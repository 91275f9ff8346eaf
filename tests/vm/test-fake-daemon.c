// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A daemon that talks nonsense to QEMU: QEMU's log names the cause, the VM goes on untiered, and is
 * attached when the right daemon comes.
 *
 * timeout: 60
 */
#include "peer.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static void make_welcome(struct wire_msg *m, uint64_t granule)
{
    memset(m, 0, sizeof(m->welcome));
    wire_start(m, VT_WELCOME, 0, sizeof(m->welcome));
    m->welcome.granule = granule;
    m->welcome.tiers = 2;
    g_strlcpy(m->welcome.tier[0], "dram", sizeof(m->welcome.tier[0]));
    g_strlcpy(m->welcome.tier[1], "cxl", sizeof(m->welcome.tier[1]));
}

static void welcome_with(int fd, struct wire_msg *m, const char *device, uint64_t granule)
{
    make_welcome(m, granule);
    m->fd[0] = open(device, O_RDWR | O_CLOEXEC);
    m->n_fds = 1;
    g_assert_cmpint(m->fd[0], >=, 0);
    peer_send(fd, m);
    wire_drop_fds(m);
}

static void say_other_version(int fd, struct wire_msg *m)
{
    make_welcome(m, GRANULE);
    m->h.version = VT_WIRE_VERSION + 1;
    peer_send_raw(fd, m, m->h.length);
}

static void say_garbage(int fd, struct wire_msg *m)
{
    g_strlcpy((char *)m->bytes, "HTTP/1.1 400 Bad Request", sizeof(m->bytes));
    peer_send_raw(fd, m, 24);
}

static void say_too_little(int fd, struct wire_msg *m)
{
    make_welcome(m, GRANULE);
    peer_send_raw(fd, m, 100);
}

static void say_no(int fd, struct wire_msg *m)
{
    memset(&m->text, 0, sizeof(m->text));
    wire_start(m, VT_REFUSE, 0, sizeof(m->text));
    g_strlcpy(m->text.text, "full up", sizeof(m->text.text));
    peer_send(fd, m);
}

static void hang_up(int fd, struct wire_msg *m)
{
    (void)m;
    shutdown(fd, SHUT_RDWR);
}

static void lend_nothing(int fd, struct wire_msg *m)
{
    make_welcome(m, GRANULE);
    peer_send(fd, m);
}

static void lend_null(int fd, struct wire_msg *m)
{
    welcome_with(fd, m, "/dev/null", GRANULE);
}

static void want_odd_granules(int fd, struct wire_msg *m)
{
    welcome_with(fd, m, "/dev/userfaultfd", 3 * MIB);
}

/* A good start, up to the end of the layout. */
static void take_layout(int fd, struct wire_msg *m)
{
    struct vt_err err;

    welcome_with(fd, m, "/dev/userfaultfd", GRANULE);
    do {
        g_assert_cmpint(wire_recv(fd, m, PEER_MS, &err), ==, 0);
        wire_drop_fds(m);
    } while (m->h.type != VT_LAYOUT_END);
}

static void send_file(int fd, struct wire_msg *m, uint32_t block, off_t length)
{
    take_layout(fd, m);
    wire_start(m, VT_TIER_FILE, 0, sizeof(m->tier_file));
    m->tier_file.block = block;
    m->tier_file.tier = 1;
    m->tier_file.offset = 0;
    m->fd[0] = memfd_create("fake", MFD_CLOEXEC);
    m->n_fds = 1;
    g_assert_cmpint(ftruncate(m->fd[0], length), ==, 0);
    peer_send(fd, m);
    wire_drop_fds(m);
}

static void give_file_for_nothing(int fd, struct wire_msg *m)
{
    send_file(fd, m, 99, 64 * MIB);
}

static void give_short_file(int fd, struct wire_msg *m)
{
    send_file(fd, m, 0, MIB);
}

static void greet_back(int fd, struct wire_msg *m)
{
    take_layout(fd, m);
    memset(&m->hello, 0, sizeof(m->hello));
    wire_start(m, VT_HELLO, 0, sizeof(m->hello));
    peer_send(fd, m);
}

static void move_nonsense(int fd, struct wire_msg *m)
{
    static const struct vt_move_one moves[] = {
        { .granule = 32, .tier = 1 }, { .granule = G_MAXUINT32, .tier = 0 },
        { .granule = 0, .tier = 7 }, { .granule = 0, .tier = 200 }, { .granule = 1, .tier = 1 },
    };
    struct vt_err err;

    take_layout(fd, m);
    wire_start(m, VT_MOVE, 5, sizeof(m->move) + sizeof(moves));
    m->move.count = G_N_ELEMENTS(moves);
    m->move.fresh = 0;
    m->move.rate = 0;
    memset(m->move.spare, 0, sizeof(m->move.spare));
    memcpy(m->move.move, moves, sizeof(moves));
    peer_send(fd, m);
    g_assert_cmpint(wire_recv(fd, m, PEER_MS, &err), ==, 0);
    g_assert_cmpint(m->h.type, ==, VT_MOVED);
    for (gsize i = 0; i < G_N_ELEMENTS(moves); i++)
        g_assert_cmpint(m->move.move[i].status, ==, VT_ST_INVALID);
    peer_say_a_byte(fd, m);
}

static const struct fake_daemon {
    const char *name;
    peer_fn answer;
    const char *log;
} daemons[] = {
    { "version", say_other_version, "protocol version 4, this side speaks 3" },
    { "garbage", say_garbage, "bad magic 0x50545448: the peer does not speak vmtier" },
    { "truncated", say_too_little, "WELCOME says it has 168 bytes but has 100" },
    { "one-byte", peer_say_a_byte, "message of 1 bytes is shorter than a header" },
    { "oversized", peer_say_too_much, "a message is longer than 65536 bytes" },
    { "out-of-turn", peer_say_ready, "the daemon answered HELLO with READY" },
    { "refuses", say_no, "the daemon refuses this VM: full up" },
    { "hangs-up", hang_up, "the peer has closed the link" },
    { "no-device", lend_nothing, "the daemon has no /dev/userfaultfd to lend" },
    { "wrong-device", lend_null, "USERFAULTFD_IOC_NEW on the daemon's /dev/userfaultfd" },
    { "odd-granules", want_odd_granules, "the daemon wants granules of 3145728 bytes" },
    { "file-for-nothing", give_file_for_nothing, "TIER_FILE for block 99, tier 1" },
    { "short-file", give_short_file, "has no 67108864 bytes at offset 0" },
    { "greets-back", greet_back, "unexpected HELLO" },
    { "moves-nonsense", move_nonsense, "message of 1 bytes is shorter than a header" },
};

struct service {
    int listener;
    peer_fn answer;
};

/* Serves the first one who comes; who comes again finds nobody. */
static gpointer serve(gpointer data)
{
    const struct service *s = data;
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    struct vt_err err;

    close(s->listener);
    g_assert_cmpint(wire_recv(fd, m, PEER_MS, &err), ==, 0);
    g_assert_cmpint(m->h.type, ==, VT_HELLO);
    s->answer(fd, m);
    /* Until the other side hangs up, or clearly does not. */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ 5, 0 }, sizeof(struct timeval));
    while (recv(fd, m->bytes, sizeof(m->bytes), 0) > 0)
        ;
    close(fd);
    return NULL;
}

static void test_daemon(gconstpointer data)
{
    static const struct rom_range range = { .base = MIB, .stride = 4096, .count = 1000 };
    const struct fake_daemon *fake = data;
    g_autoptr(Rig) rig = rig_new("fake");
    struct sockaddr_un a = peer_address(rig);
    struct service s = { socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fake->answer };

    g_assert_cmpint(bind(s.listener, (struct sockaddr *)&a, sizeof(a)), ==, 0);
    g_assert_cmpint(listen(s.listener, 1), ==, 0);
    GThread *thread = g_thread_new("fake vmtierd", serve, &s);

    rig_start_vm(rig, (struct vm_options){ 0 });
    rom_wait_alive(rig->vm, 20);
    g_thread_join(thread);
    if (!log_says(rig->vm->qemu, fake->log, 10))
        g_error("QEMU did not say '%s'", fake->log);
    rom_run(rig->vm, ROM_WRITE, range, 1, 10);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, range, 1, 10).result, ==, 0);
    g_autoptr(JsonObject) query = rig_query(rig);

    g_assert_cmpstr(json_text(query, "state"), ==, "detached");
    /* The right one comes, and all is well. */
    unlink(a.sun_path);
    rig_start_daemon(rig, (const char *const[]){ "--quota", "16M", NULL });
    rig_wait_state(rig, "tiering");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(daemons); i++) {
        g_autofree char *path = g_strconcat("/fake-daemon/", daemons[i].name, NULL);

        g_test_add_data_func(path, &daemons[i], test_daemon);
    }
    return g_test_run();
}
