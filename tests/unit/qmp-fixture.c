// SPDX-License-Identifier: GPL-2.0-or-later
/* A QMP server with toy commands, and clients of it: see qmp-fixture.h. */
#include "tests/unit/qmp-fixture.h"

#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static JsonNode *run_echo(JsonObject *args, gpointer opaque, GError **error)
{
    (void)opaque, (void)error;
    return json_node_init_object(json_node_alloc(), args);
}

static JsonNode *run_fail(JsonObject *args, gpointer opaque, GError **error)
{
    (void)args, (void)opaque;
    g_set_error_literal(error, VMT_QMP_ERROR, VMT_QMP_ERROR_DEVICE_NOT_FOUND, "no VM \"x\"");
    return NULL;
}

static JsonNode *run_foreign(JsonObject *args, gpointer opaque, GError **error)
{
    (void)args, (void)opaque;
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_EXISTS, "foreign");
    return NULL;
}

static JsonNode *run_emit(JsonObject *args, gpointer opaque, GError **error)
{
    struct fixture *f = opaque;

    (void)args, (void)error;
    qmp_server_emit(f->server, "TOY", NULL);
    return NULL;
}

static JsonNode *run_big(JsonObject *args, gpointer opaque, GError **error)
{
    g_autofree char *filler = g_strnfill(json_object_get_int_member(args, "bytes"), 'x');

    (void)opaque, (void)error;
    return json_node_init_string(json_node_alloc(), filler);
}

/* What follows the reply is the taker's: it says so and hangs up. */
static void take(gpointer data, int fd)
{
    struct fixture *f = data;

    f->taken = fd >= 0 ? 1 : -1;
    if (fd >= 0) {
        g_assert_cmpint(send(fd, "stream\n", 7, MSG_NOSIGNAL), ==, 7);
        close(fd);
    }
}

static JsonNode *run_take(JsonObject *args, gpointer opaque, GError **error)
{
    struct fixture *f = opaque;

    (void)args, (void)error;
    qmp_server_hand_over(f->server, take, f);
    return NULL;
}

static const struct qmp_arg echo_args[] = {
    { "name", QMP_STRING, true }, { "count", QMP_INT, false },   { "ratio", QMP_NUMBER, false },
    { "flag", QMP_BOOL, false },  { "items", QMP_LIST, false },  { 0 },
};
static const struct qmp_arg big_args[] = { { "bytes", QMP_INT, true }, { 0 } };

static const struct qmp_command first_table[] = {
    { "toy-echo", echo_args, run_echo },
    { "toy-fail", NULL, run_fail },
    { "toy-foreign", NULL, run_foreign },
    { 0 },
};
static const struct qmp_command second_table[] = {
    { "toy-emit", NULL, run_emit },
    { "toy-big", big_args, run_big },
    { "toy-take", NULL, run_take },
    { 0 },
};
const struct qmp_command *const qmp_toy_tables[] = { first_table, second_table, NULL };

static void set_up(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    (void)data;
    f->dir = g_dir_make_tmp("vmtier-qmp-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "qmp.sock", NULL);
    f->server = qmp_server_new(f->path, qmp_toy_tables, f, &error);
    g_assert_no_error(error);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_clear_pointer(&f->server, qmp_server_free);
    g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->path);
    g_free(f->dir);
}

static void pump(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {
    }
}

struct peer *peer_new(struct fixture *f)
{
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(f->path);
    g_autoptr(GError) error = NULL;
    struct peer *peer = g_new0(struct peer, 1);

    peer->socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, &error);
    g_assert_no_error(error);
    peer->in = g_string_new(NULL);
    g_socket_connect(peer->socket, address, NULL, &error);
    g_assert_no_error(error);
    g_socket_set_blocking(peer->socket, FALSE);
    return peer;
}

void peer_free(struct peer *peer)
{
    g_object_unref(peer->socket);
    g_string_free(peer->in, TRUE);
    g_free(peer);
    pump();
}

/* Takes what has arrived. */
void peer_receive(struct peer *peer)
{
    char bytes[65536];
    gssize got = g_socket_receive(peer->socket, bytes, sizeof(bytes), NULL, NULL);

    if (got > 0) {
        g_string_append_len(peer->in, bytes, got);
    }
    peer->eof = got == 0 || (got < 0 && errno == ECONNRESET);
}

/* The next line, or NULL when the server has hung up. */
char *peer_line(struct peer *peer)
{
    gint64 deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    char *newline, *line;

    while (!(newline = memchr(peer->in->str, '\n', peer->in->len))) {
        if (peer->eof) {
            return NULL;
        }
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        pump();
        peer_receive(peer);
    }
    line = g_strndup(peer->in->str, newline - peer->in->str);
    g_string_erase(peer->in, 0, newline + 1 - peer->in->str);
    return line;
}

void peer_send_bytes(struct peer *peer, const char *bytes, gsize length)
{
    while (length > 0) {
        gssize written = g_socket_send(peer->socket, bytes, length, NULL, NULL);

        pump();
        if (written > 0) {
            bytes += written;
            length -= written;
        }
    }
}

void peer_send(struct peer *peer, const char *text)
{
    peer_send_bytes(peer, text, strlen(text));
}

/* The next line must hold `wanted`. */
void peer_expect(struct peer *peer, const char *wanted)
{
    g_autofree char *line = peer_line(peer);

    g_assert_nonnull(line);
    if (!strstr(line, wanted)) {
        g_error("expected %s in %.300s", wanted, line);
    }
}

void peer_ask(struct peer *peer, const char *request, const char *wanted)
{
    peer_send(peer, request);
    peer_send(peer, "\n");
    peer_expect(peer, wanted);
}

struct peer *peer_negotiated(struct fixture *f)
{
    struct peer *peer = peer_new(f);

    peer_expect(peer, "\"QMP\"");
    peer_ask(peer, NEGOTIATE, "{\"return\":{}}");
    return peer;
}

int qmp_tests_run(int argc, char **argv, const struct qmp_test *tests, gsize count)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < count; i++) {
        g_test_add(tests[i].path, struct fixture, NULL, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
