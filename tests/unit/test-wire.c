// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the wire protocol: each message type's shape, cut at every length and with wrong
 * counts, descriptors and strings; and the way over a socket, descriptors included.
 */
#include "common/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The shapes again, written from wire.h by hand: the code's own table is what is tested. */
struct shape {
    enum vt_type type;
    const char *name;
    size_t body, element, count_at;
    int fds;
    size_t string_at, string_size, strings;
};

static const struct shape shapes[] = {
    { VT_HELLO, "HELLO", 320, 0, 0, 0, 64, 64, 4 },
    { VT_WELCOME, "WELCOME", 168, 0, 0, 1, 40, 16, 8 },
    { VT_REFUSE, "REFUSE", 280, 0, 0, 0, 24, 256, 1 },
    { VT_BLOCK, "BLOCK", 184, 0, 0, 8, 120, 64, 1 },
    { VT_BLOCK_GONE, "BLOCK_GONE", 24, 0, 0, 0, 0, 0, 0 },
    { VT_SLOTS, "SLOTS", 24, 32, 16, 0, 0, 0, 0 },
    { VT_PLACEMENT, "PLACEMENT", 24, 1, 20, 0, 0, 0, 0 },
    { VT_LAYOUT_END, "LAYOUT_END", 24, 0, 0, 0, 0, 0, 0 },
    { VT_TIER_FILE, "TIER_FILE", 32, 0, 0, 1, 0, 0, 0 },
    { VT_READY, "READY", 16, 0, 0, 0, 0, 0, 0 },
    { VT_HARVEST, "HARVEST", 24, 0, 0, 0, 0, 0, 0 },
    { VT_OBS, "OBS", 24, 16, 16, 0, 0, 0, 0 },
    { VT_HARVEST_END, "HARVEST_END", 96, 0, 0, 0, 0, 0, 0 },
    { VT_MOVE, "MOVE", 112, 8, 16, 0, 0, 0, 0 },
    { VT_MOVED, "MOVED", 112, 8, 16, 0, 0, 0, 0 },
    { VT_SET, "SET", 32, 0, 0, 0, 0, 0, 0 },
    { VT_FROZEN, "FROZEN", 280, 0, 0, 0, 24, 256, 1 },
    { VT_BACKING, "BACKING", 864, 0, 0, 0, 224, 640, 1 },
};
G_STATIC_ASSERT(G_N_ELEMENTS(shapes) == VT_TYPE_END - 1);

static struct wire_msg msg, back;       /* too large for comfort on a stack */

static size_t start(const struct shape *s, guint32 elements)
{
    size_t length = s->body + elements * s->element;

    memset(msg.bytes, 0, sizeof(msg.bytes));
    wire_start(&msg, s->type, 7, length);
    if (s->element)
        memcpy(msg.bytes + s->count_at, &elements, sizeof(elements));
    return length;
}

/* Asserts that it is refused for the reason, and that the reason says which message it was. */
static void refused(size_t got, const char *why)
{
    struct vt_err err = { 0 };

    g_assert_cmpint(wire_check(&msg, got, &err), ==, -EPROTO);
    if (!strstr(err.text, why))
        g_error("'%s' does not say '%s'", err.text, why);
}

static void accepted(size_t got)
{
    struct vt_err err = { 0 };

    if (wire_check(&msg, got, &err))
        g_error("refused: %s", err.text);
}

/* --- shapes --------------------------------------------------------------------------------- */

static void test_lengths(gconstpointer data)
{
    const struct shape *s = data;
    size_t whole = start(s, 0);

    accepted(whole);
    for (size_t got = 0; got < whole; got++) {
        refused(got, got < sizeof(struct vt_hdr) ? "shorter than a header" : "but has");
        if (got >= sizeof(struct vt_hdr)) {
            msg.h.length = (uint32_t)got;
            refused(got, s->name);
            msg.h.length = (uint32_t)whole;
        }
    }
    msg.h.length = (uint32_t)whole + 1;
    refused(whole + 1, s->name);
    msg.h.length = (uint32_t)whole - 1;
    refused(whole, "but has");
}

static void put_count(const struct shape *s, guint32 count)
{
    memcpy(msg.bytes + s->count_at, &count, sizeof(count));
}

static void test_counts(gconstpointer data)
{
    const struct shape *s = data;
    guint32 most = wire_room(s->body, s->element);
    size_t length = start(s, 5);

    accepted(length);
    for (size_t got = s->body; got < length; got++) {
        msg.h.length = (uint32_t)got;
        refused(got, "cannot hold 5 elements");
    }
    msg.h.length = (uint32_t)length;
    /* The last one is 5 elements again if the product is taken in 32 bits. */
    const guint32 wrong[] = { 0, 4, 6, 1u << 31, G_MAXUINT32,
                              s->element > 1 ? (guint32)(0x100000000 / s->element + 5) : 6 };

    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        put_count(s, wrong[i]);
        refused(length, s->name);
    }
    length = start(s, most);
    g_assert_cmpuint(length, <=, VT_WIRE_MAX);
    g_assert_cmpuint(length + s->element, >, VT_WIRE_MAX);
    accepted(length);
}

static void test_descriptors(gconstpointer data)
{
    const struct shape *s = data;
    size_t length = start(s, 0);

    msg.n_fds = s->fds;
    accepted(length);
    msg.n_fds = s->fds + 1;
    refused(length, "descriptors");
}

static void test_strings(gconstpointer data)
{
    const struct shape *s = data;

    for (size_t i = 0; i < s->strings; i++) {
        size_t length = start(s, 0), at = s->string_at + i * s->string_size;

        memset(msg.bytes + at, 'x', s->string_size - 1);
        accepted(length);
        msg.bytes[at + s->string_size - 1] = 'x';
        refused(length, "without an end");
    }
}

static void test_header(void)
{
    static const guint16 types[] = { 0, VT_TYPE_END, 0x7fff, 0xffff };
    size_t length = start(&shapes[0], 0);

    msg.h.magic = __builtin_bswap32(VT_WIRE_MAGIC);
    refused(length, "bad magic");
    msg.h.magic = VT_WIRE_MAGIC;
    msg.h.version = VT_WIRE_VERSION + 1;
    refused(length, "protocol version 4, this side speaks 3");
    msg.h.version = VT_WIRE_VERSION;
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++) {
        msg.h.type = types[i];
        refused(length, "unknown message type");
    }
}

static void test_names(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++)
        g_assert_cmpstr(wire_type_name(shapes[i].type), ==, shapes[i].name);
    g_assert_cmpstr(wire_type_name(0), ==, "unknown");
    g_assert_cmpstr(wire_type_name(VT_TYPE_END), ==, "unknown");
    g_assert_cmpstr(wire_source_name(VT_SRC_DIRTY), ==, "dirty");
    g_assert_cmpstr(wire_source_name(VT_SRC_END), ==, "unknown");
    g_assert_cmpstr(wire_status_name(VT_ST_OK), ==, "ok");
    g_assert_cmpstr(wire_status_name(VT_ST_END), ==, "unknown");
}

/* --- over a socket -------------------------------------------------------------------------- */

struct pair {
    int a, b;
};

static struct pair open_pair(void)
{
    int fd[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), ==, 0);
    return (struct pair){ fd[0], fd[1] };
}

static void close_pair(struct pair p)
{
    close(p.a);
    close(p.b);
}

static guint open_descriptors(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

static void receive_fails(int fd, int code, const char *why)
{
    struct vt_err err = { 0 };

    g_assert_cmpint(wire_recv(fd, &back, 0, &err), ==, -code);
    if (!strstr(err.text, why))
        g_error("'%s' does not say '%s'", err.text, why);
}

static void test_round_trip(void)
{
    struct pair p = open_pair();
    struct vt_err err;

    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++) {
        size_t length = start(&shapes[i], shapes[i].element ? 3 : 0);

        g_assert_cmpint(wire_send(p.a, &msg, 1000, &err), ==, 0);
        g_assert_cmpint(wire_recv(p.b, &back, 1000, &err), ==, 0);
        g_assert_cmpmem(msg.bytes, length, back.bytes, back.h.length);
        g_assert_cmpint(back.n_fds, ==, 0);
    }
    close_pair(p);
}

static void send_with_pipe(int to, int n)
{
    int ends[2];
    struct vt_err err;

    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    start(&shapes[VT_BLOCK - 1], 0);
    for (int i = 0; i < n; i++)
        msg.fd[i] = ends[1];
    msg.n_fds = n;
    g_assert_cmpint(wire_send(to, &msg, 1000, &err), ==, 0);
    close(ends[0]);
    close(ends[1]);
}

static void test_pass_descriptors(void)
{
    struct pair p = open_pair();
    guint before = open_descriptors();
    struct vt_err err;

    send_with_pipe(p.a, VT_TIERS);
    g_assert_cmpint(wire_recv(p.b, &back, 1000, &err), ==, 0);
    g_assert_cmpint(back.n_fds, ==, VT_TIERS);
    int mine = wire_take_fd(&back, 2);

    g_assert_cmpint(mine, >=, 0);
    g_assert_cmpint(fcntl(mine, F_GETFD), ==, FD_CLOEXEC);
    g_assert_cmpint(wire_take_fd(&back, 2), ==, -1);
    g_assert_cmpint(wire_take_fd(&back, VT_TIERS), ==, -1);
    g_assert_cmpint(wire_take_fd(&back, -1), ==, -1);
    wire_drop_fds(&back);
    g_assert_cmpint(fcntl(mine, F_GETFD), ==, FD_CLOEXEC);
    close(mine);
    g_assert_cmpuint(open_descriptors(), ==, before);
    close_pair(p);
}

/* A message that is refused leaves no descriptor behind. */
static void test_refused_descriptors(void)
{
    struct pair p = open_pair();
    guint before = open_descriptors();

    send_with_pipe(p.a, 1);
    g_assert_cmpint(recv(p.b, back.bytes, 0, MSG_TRUNC), >, 0);
    start(&shapes[VT_READY - 1], 0);
    msg.fd[0] = p.a;
    msg.n_fds = 1;
    g_assert_cmpint(wire_send(p.a, &msg, 1000, NULL), ==, 0);
    receive_fails(p.b, EPROTO, "READY with 1 descriptors, at most 0");
    g_assert_cmpint(back.n_fds, ==, 0);
    g_assert_cmpuint(open_descriptors(), ==, before);
    close_pair(p);
}

/* More descriptors than any message may have, which wire_send() would not send. */
static void test_too_many_descriptors(void)
{
    struct pair p = open_pair();
    guint before = open_descriptors();
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * (WIRE_FDS + 1))];
    } control = { 0 };
    struct iovec iov = { msg.bytes, start(&shapes[VT_BLOCK - 1], 0) };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                        .msg_controllen = sizeof(control) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    *c = (struct cmsghdr){ CMSG_LEN(sizeof(int) * (WIRE_FDS + 1)), SOL_SOCKET, SCM_RIGHTS };
    for (int i = 0; i <= WIRE_FDS; i++)
        memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &p.a, sizeof(int));
    g_assert_cmpint(sendmsg(p.a, &m, 0), ==, (gssize)iov.iov_len);
    receive_fails(p.b, EPROTO, "descriptors");
    g_assert_cmpuint(open_descriptors(), ==, before);
    close_pair(p);
}

static void test_oversized(void)
{
    struct pair p = open_pair();
    static char large[VT_WIRE_MAX + 1];
    struct vt_hdr h = { VT_WIRE_MAGIC, VT_WIRE_VERSION, VT_OBS, VT_WIRE_MAX + 1, 0 };

    memcpy(large, &h, sizeof(h));
    g_assert_cmpint(send(p.a, large, sizeof(large), 0), ==, sizeof(large));
    receive_fails(p.b, EPROTO, "longer than 65536 bytes");
    close_pair(p);
}

static void test_peer(void)
{
    struct pair p = open_pair();
    struct vt_err err = { 0 };
    int rc;

    receive_fails(p.b, EAGAIN, "silent");
    g_assert_cmpint(send(p.a, "?", 1, 0), ==, 1);
    receive_fails(p.b, EPROTO, "shorter than a header");
    start(&shapes[VT_OBS - 1], wire_room(24, 16));
    do
        rc = wire_send(p.a, &msg, 0, &err);
    while (!rc);
    g_assert_cmpint(rc, ==, -EAGAIN);
    close(p.b);
    g_assert_cmpint(wire_send(p.a, &msg, 0, &err), ==, -ECONNRESET);
    receive_fails(p.a, ECONNRESET, "closed");
    close(p.a);
}

/* --- the list of tests ---------------------------------------------------------------------- */

static void add(const struct shape *s, const char *what, void (*test)(gconstpointer))
{
    g_autofree char *path = g_strdup_printf("/wire/%s/%s", s->name, what);

    g_test_add_data_func(path, s, test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (const struct shape *s = shapes; s < shapes + G_N_ELEMENTS(shapes); s++) {
        add(s, "lengths", test_lengths);
        add(s, "descriptors", test_descriptors);
        if (s->element)
            add(s, "counts", test_counts);
        if (s->strings)
            add(s, "strings", test_strings);
    }
    g_test_add_func("/wire/header", test_header);
    g_test_add_func("/wire/names", test_names);
    g_test_add_func("/wire/socket/round-trip", test_round_trip);
    g_test_add_func("/wire/socket/descriptors", test_pass_descriptors);
    g_test_add_func("/wire/socket/refused-descriptors", test_refused_descriptors);
    g_test_add_func("/wire/socket/too-many-descriptors", test_too_many_descriptors);
    g_test_add_func("/wire/socket/oversized", test_oversized);
    g_test_add_func("/wire/socket/peer", test_peer);
    return g_test_run();
}
