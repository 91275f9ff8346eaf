// SPDX-License-Identifier: GPL-2.0-or-later
/* One client of the QMP server: its bytes in and out. See struct qmp_conn for the rules. */
#include "host/qmp-internal.h"

#include <fcntl.h>

#define READ_BYTES (64 * 1024)
#define FAIR_BACKLOG (256 * 1024)       /* unsent bytes above which no request is taken */

static gboolean conn_ready(GSocket *socket, GIOCondition condition, gpointer opaque);

static gsize unsent(const struct qmp_conn *conn)
{
    return conn->out->len - conn->sent;
}

static void unwatch(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

/* Watches the socket for the condition, or no longer. */
static void watch(struct qmp_conn *conn, GSource **source, GIOCondition condition, bool wanted)
{
    GSocket *socket = g_socket_connection_get_socket(conn->stream);

    if (!wanted) {
        unwatch(source);
    } else if (!*source) {
        *source = g_socket_create_source(socket, condition, NULL);
        g_source_set_callback(*source, G_SOURCE_FUNC(conn_ready), conn, NULL);
        g_source_attach(*source, conn->server->context);
    }
}

static void update_watches(struct qmp_conn *conn)
{
    bool reading = !conn->ended && !conn->heir.take && unsent(conn) < FAIR_BACKLOG;

    watch(conn, &conn->reading, G_IO_IN, reading);
    watch(conn, &conn->writing, G_IO_OUT, unsent(conn) > 0 || !reading);
}

static void doom(struct qmp_conn *conn, const char *why)
{
    if (!conn->doomed) {
        g_debug("QMP client (pid %d): dropped: %s", (int)conn->pid, why);
        conn->doomed = true;
        /* Makes the socket ready, and with it the callback run that frees the connection. */
        g_socket_shutdown(g_socket_connection_get_socket(conn->stream), TRUE, TRUE, NULL);
    }
}

/* Forgets what has been sent once that is cheap. */
static void compact(struct qmp_conn *conn)
{
    if (unsent(conn) == 0) {
        g_byte_array_set_size(conn->out, 0);
        conn->sent = 0;
        conn->allowed = QMP_MAX_BACKLOG;
    } else if (conn->sent > conn->out->len / 2) {
        g_byte_array_remove_range(conn->out, 0, conn->sent);
        conn->sent = 0;
    }
}

static void flush(struct qmp_conn *conn)
{
    GSocket *socket = g_socket_connection_get_socket(conn->stream);
    g_autoptr(GError) error = NULL;
    gssize written = 0;

    while (unsent(conn) > 0 && written >= 0) {
        written = g_socket_send_with_blocking(socket, (char *)conn->out->data + conn->sent,
                                              unsent(conn), FALSE, NULL, &error);
        conn->sent += MAX(written, 0);
    }
    if (error && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        doom(conn, error->message);
    }
    compact(conn);
}

static void send_reply(struct qmp_conn *conn, char *line /* take */, gsize length)
{
    g_autofree char *owned = line;

    g_byte_array_append(conn->out, (const guint8 *)owned, length);
    conn->allowed = unsent(conn) + QMP_MAX_BACKLOG;     /* a large reply is not the client's fault */
}

void qmp_conn_send_event(struct qmp_conn *conn, const char *line, gsize length)
{
    if (!conn->negotiated || conn->doomed || conn->heir.take) {
        return;
    }
    if (unsent(conn) + length > conn->allowed) {
        doom(conn, "it does not read what it is sent");
        return;
    }
    g_byte_array_append(conn->out, (const guint8 *)line, length);
    update_watches(conn);
}

static void refuse_long(struct qmp_conn *conn)
{
    g_autoptr(GError) error = g_error_new(VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC,
                                          "JSON parse error, the request is longer than %d bytes",
                                          QMP_MAX_REQUEST);
    gsize length;
    char *line = qmp_error_line(error, NULL, &length);

    send_reply(conn, line, length);
}

/* Answers requests; false when none is complete. */
static bool answer_one(struct qmp_conn *conn)
{
    const char *text;
    char *line;
    gsize length;

    switch (qmp_split_next(&conn->split, &text, &length)) {
    case QMP_SPLIT_TEXT:
        line = qmp_request_run(conn, text, length, &length);
        send_reply(conn, line, length);
        conn->heir = conn->server->heir;
        conn->server->heir = (struct qmp_heir) { 0 };
        return !conn->heir.take;
    case QMP_SPLIT_TOO_LONG:
        refuse_long(conn);
        return true;
    case QMP_SPLIT_MORE:
        break;
    }
    return false;
}

static void receive(struct qmp_conn *conn)
{
    GSocket *socket = g_socket_connection_get_socket(conn->stream);
    g_autoptr(GError) error = NULL;
    char bytes[READ_BYTES];
    gssize got = g_socket_receive_with_blocking(socket, bytes, sizeof(bytes), FALSE, NULL, &error);

    if (got > 0) {
        qmp_split_feed(&conn->split, bytes, got);
    } else if (got == 0) {
        qmp_split_end(&conn->split);
        conn->ended = true;
    } else if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        doom(conn, error->message);
    }
}

/* Answers as much as the client takes. True when it has taken all there is to answer. */
static bool answer(struct qmp_conn *conn)
{
    bool more = true;

    while (more && !conn->doomed && unsent(conn) < FAIR_BACKLOG) {
        more = answer_one(conn);
        flush(conn);
    }
    return !more;
}

/* The heir gets a descriptor of its own, so that this one can be closed as ever. */
static void hand_over(struct qmp_conn *conn)
{
    struct qmp_heir heir = conn->heir;
    int fd = fcntl(g_socket_get_fd(g_socket_connection_get_socket(conn->stream)), F_DUPFD_CLOEXEC, 0);

    if (fd >= 0) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    }
    conn->heir.take = NULL;
    heir.take(heir.data, fd);
}

static gboolean conn_ready(GSocket *socket, GIOCondition condition, gpointer opaque)
{
    struct qmp_conn *conn = opaque;
    bool idle, closing = conn->doomed || conn->ended || conn->heir.take;

    (void)socket;
    if (!closing && (condition & (G_IO_IN | G_IO_HUP | G_IO_ERR))) {
        receive(conn);
    }
    flush(conn);
    idle = conn->heir.take || answer(conn);
    if (!conn->doomed && conn->heir.take && unsent(conn) == 0) {
        hand_over(conn);
        qmp_conn_free(conn);
        return G_SOURCE_REMOVE;
    }
    if (conn->doomed || (conn->ended && idle && unsent(conn) == 0)) {
        qmp_conn_free(conn);
        return G_SOURCE_REMOVE;
    }
    update_watches(conn);
    return G_SOURCE_CONTINUE;
}

static void greet(struct qmp_conn *conn)
{
    JsonObject *qmp = json_object_new(), *greeting = json_object_new();
    gsize length;
    char *line;

    json_object_set_member(qmp, "version", qmp_version());
    json_object_set_array_member(qmp, "capabilities", json_array_new());
    json_object_set_object_member(greeting, "QMP", qmp);
    line = qmp_line(greeting, &length);
    send_reply(conn, line, length);
}

struct qmp_conn *qmp_conn_new(QmpServer *server, GSocketConnection *stream, pid_t pid)
{
    struct qmp_conn *conn = g_new0(struct qmp_conn, 1);

    conn->server = server;
    conn->stream = g_object_ref(stream);
    conn->out = g_byte_array_new();
    conn->pid = pid;
    qmp_split_init(&conn->split, QMP_MAX_REQUEST);
    server->conns = g_list_prepend(server->conns, conn);
    greet(conn);
    update_watches(conn);
    return conn;
}

void qmp_conn_free(struct qmp_conn *conn)
{
    g_debug("QMP client (pid %d): gone", (int)conn->pid);
    if (conn->heir.take) {
        conn->heir.take(conn->heir.data, -1);
    }
    conn->server->conns = g_list_remove(conn->server->conns, conn);
    unwatch(&conn->reading);
    unwatch(&conn->writing);
    qmp_split_clear(&conn->split);
    g_byte_array_unref(conn->out);
    g_io_stream_close(G_IO_STREAM(conn->stream), NULL, NULL);
    g_object_unref(conn->stream);
    g_free(conn);
}
