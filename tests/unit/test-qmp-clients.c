// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of the QMP server: clients that are many, slow or gone, and its socket file. */
#include "host/qmp-internal.h"
#include "tests/unit/qmp-fixture.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>

static void test_pipeline(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_negotiated(f);
    g_autoptr(GString) requests = g_string_new(NULL);

    (void)data;
    for (int i = 0; i < 5000; i++) {
        g_string_append_printf(requests, "{\"execute\":\"query-version\",\"id\":%d}\n", i);
    }
    for (gsize at = 0; at < requests->len; at += 4000) {
        peer_send_bytes(peer, requests->str + at, MIN(4000, requests->len - at));
        peer_receive(peer);
    }
    for (int i = 0; i < 5000; i++) {
        g_autofree char *wanted = g_strdup_printf("\"id\":%d}", i);

        peer_expect(peer, wanted);
    }
    peer_free(peer);
}

/* Requests whose replies are not read hold the client back; they do not fill the server's memory. */
static void test_backpressure(struct fixture *f, gconstpointer data)
{
    static const char request[] = "{\"execute\":\"toy-big\",\"arguments\":{\"bytes\":1000000}}";
    struct peer *peer = peer_negotiated(f);

    (void)data;
    for (int i = 0; i < 20; i++) {
        peer_send(peer, request);
    }
    for (int i = 0; i < 20; i++) {
        peer_expect(peer, "xxxxxxxx");
    }
    peer_free(peer);
}

static void test_large_reply(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_negotiated(f);
    g_autofree char *line = NULL;

    (void)data;
    peer_send(peer, "{\"execute\":\"toy-big\",\"arguments\":{\"bytes\":9000000}}");
    qmp_server_emit(f->server, "MEANWHILE", NULL);
    line = peer_line(peer);
    g_assert_cmpuint(strlen(line), >, 9000000);
    peer_expect(peer, "MEANWHILE");
    peer_free(peer);
}

/* Behind its reply, a connection that was taken over carries no replies and no events. */
static void test_taken_over(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_negotiated(f), *other = peer_negotiated(f);

    (void)data;
    peer_send(peer, "{\"execute\":\"toy-take\",\"id\":1}{\"execute\":\"query-version\",\"id\":2}");
    peer_expect(peer, "{\"return\":{},\"id\":1}");
    peer_expect(peer, "stream");
    g_assert_cmpint(f->taken, ==, 1);
    qmp_server_emit(f->server, "MEANWHILE", NULL);
    peer_expect(other, "MEANWHILE");
    g_assert_null(peer_line(peer));
    peer_ask(other, "{\"execute\":\"query-version\"}", "\"return\"");
    peer_free(peer);
    peer_free(other);
}

/* One that goes before it has its reply is not forgotten by who waits for it. */
static void test_taken_too_late(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_negotiated(f);

    (void)data;
    peer_send(peer, "{\"execute\":\"toy-big\",\"arguments\":{\"bytes\":400000}}{\"execute\":\"toy-take\"}");
    while (!f->taken && !((struct qmp_conn *)f->server->conns->data)->heir.take) {
        g_main_context_iteration(NULL, TRUE);
    }
    if (f->taken) {
        g_test_skip("sockets here take 400 kB at once");
        peer_free(peer);
        return;
    }
    peer_free(peer);
    while (!f->taken) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpint(f->taken, ==, -1);
}

static void test_slow_client(struct fixture *f, gconstpointer data)
{
    g_autofree char *filler = g_strnfill(100000, 'x');
    struct peer *slow = peer_negotiated(f), *good = peer_negotiated(f);
    g_autofree char *line = NULL;

    (void)data;
    for (int i = 0; i < 60; i++) {
        qmp_server_emit(f->server, "BIG", json_node_init_string(json_node_alloc(), filler));
        peer_expect(good, "BIG");
    }
    while ((line = peer_line(slow))) {
        g_clear_pointer(&line, g_free);
    }
    g_assert_true(slow->eof);
    peer_ask(good, "{\"execute\":\"query-version\"}", "vmtier");
    peer_free(slow);
    peer_free(good);
}

static void test_too_many(struct fixture *f, gconstpointer data)
{
    struct peer *peers[QMP_MAX_CLIENTS], *extra;
    g_autofree char *end = NULL;

    (void)data;
    for (int i = 0; i < QMP_MAX_CLIENTS; i++) {
        peers[i] = peer_negotiated(f);
    }
    extra = peer_new(f);
    peer_expect(extra, "too many clients");
    end = peer_line(extra);
    g_assert_null(end);
    peer_free(extra);
    peer_free(peers[0]);
    peers[0] = peer_negotiated(f);
    for (int i = 0; i < QMP_MAX_CLIENTS; i++) {
        peer_free(peers[i]);
    }
}

static void test_half_closed(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_new(f);
    g_autofree char *end = NULL;

    (void)data;
    peer_send(peer, NEGOTIATE "{\"execute\":\"toy-big\",\"arguments\":{\"bytes\":3000000}}{\"exec");
    g_socket_shutdown(peer->socket, FALSE, TRUE, NULL);
    peer_expect(peer, "\"QMP\"");
    peer_expect(peer, "{\"return\":{}}");
    peer_expect(peer, "xxxxx");
    peer_expect(peer, "JSON parse error, unexpected end");
    end = peer_line(peer);
    g_assert_null(end);
    peer_free(peer);
}

static void test_gone_client(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_negotiated(f), *other;

    (void)data;
    peer_send(peer, "{\"execute\":\"toy-big\",\"arguments\":{\"bytes\":3000000}}");
    peer_free(peer);
    qmp_server_emit(f->server, "AFTER", NULL);
    other = peer_negotiated(f);
    peer_free(other);
}

static void test_stale_socket(struct fixture *f, gconstpointer data)
{
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(f->path);
    g_autoptr(GError) error = NULL;
    GSocket *stale;
    struct peer *peer;

    (void)data;
    g_clear_pointer(&f->server, qmp_server_free);
    stale = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, NULL);
    g_assert_true(g_socket_bind(stale, address, FALSE, NULL));
    g_object_unref(stale);
    f->server = qmp_server_new(f->path, qmp_toy_tables, f, &error);
    g_assert_no_error(error);
    peer = peer_negotiated(f);
    peer_free(peer);
}

static void expect_no_server(const char *path, const char *wanted)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(qmp_server_new(path, qmp_toy_tables, NULL, &error));
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, wanted));
    g_assert_nonnull(strstr(error->message, path));
}

static void test_refused_paths(struct fixture *f, gconstpointer data)
{
    g_autofree char *file = g_build_filename(f->dir, "file", NULL);
    g_autofree char *lost = g_build_filename(f->dir, "none", "qmp.sock", NULL);
    g_autofree char *name = g_strnfill(120, 'x');

    (void)data;
    expect_no_server(f->path, "another vmtierd listens");
    g_assert_true(g_file_set_contents(file, "precious", -1, NULL));
    expect_no_server(file, "not a socket");
    g_assert_true(g_file_test(file, G_FILE_TEST_EXISTS));
    g_unlink(file);
    expect_no_server(lost, "No such file");
    expect_no_server(name, "1 to 107 bytes");
}

static void test_file_mode(struct fixture *f, gconstpointer data)
{
    GStatBuf st;

    (void)data;
    g_assert_cmpint(g_stat(f->path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0660);
}

/* A daemon that is replaced while it lives does not take the other's socket along. */
static void test_foreign_socket_stays(struct fixture *f, gconstpointer data)
{
    QmpServer *old = g_steal_pointer(&f->server);
    g_autoptr(GError) error = NULL;

    (void)data;
    g_unlink(f->path);
    f->server = qmp_server_new(f->path, qmp_toy_tables, f, &error);
    g_assert_no_error(error);
    qmp_server_free(old);
    g_assert_true(g_file_test(f->path, G_FILE_TEST_EXISTS));
}

static const struct qmp_test tests[] = {
    { "/qmp-clients/pipeline", test_pipeline },
    { "/qmp-clients/backpressure", test_backpressure },
    { "/qmp-clients/large-reply", test_large_reply },
    { "/qmp-clients/slow-client", test_slow_client },
    { "/qmp-clients/taken-over", test_taken_over },
    { "/qmp-clients/taken-too-late", test_taken_too_late },
    { "/qmp-clients/too-many", test_too_many },
    { "/qmp-clients/half-closed", test_half_closed },
    { "/qmp-clients/gone-client", test_gone_client },
    { "/qmp-clients/stale-socket", test_stale_socket },
    { "/qmp-clients/refused-paths", test_refused_paths },
    { "/qmp-clients/file-mode", test_file_mode },
    { "/qmp-clients/foreign-socket-stays", test_foreign_socket_stays },
};

int main(int argc, char **argv)
{
    return qmp_tests_run(argc, argv, tests, G_N_ELEMENTS(tests));
}
