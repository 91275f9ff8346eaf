// SPDX-License-Identifier: GPL-2.0-or-later
/* The QMP server: who is connected, what happened lately, and the engine's own commands. */
#include "host/qmp-internal.h"
#include "common/version.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void qmp_server_hand_over(QmpServer *server, qmp_take take, gpointer data)
{
    server->heir = (struct qmp_heir){ take, data };
}

JsonNode *qmp_version(void)
{
    JsonObject *version = json_object_new(), *qemu = json_object_new();
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_object_set_int_member(qemu, "major", VMTIER_VERSION_MAJOR);
    json_object_set_int_member(qemu, "minor", VMTIER_VERSION_MINOR);
    json_object_set_int_member(qemu, "micro", VMTIER_VERSION_MICRO);
    json_object_set_object_member(version, "qemu", qemu);
    json_object_set_string_member(version, "package", "vmtier " VMTIER_VERSION);
    json_node_take_object(node, version);
    return node;
}

static JsonNode *array_node(JsonArray *array /* take */)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    json_node_take_array(node, array);
    return node;
}

/* There is no capability, so none can be enabled. */
static JsonNode *run_capabilities(JsonObject *args, gpointer opaque, GError **error)
{
    struct qmp_conn *conn = opaque;
    JsonNode *enable = json_object_get_member(args, "enable");

    if (enable && json_array_get_length(json_node_get_array(enable)) > 0) {
        g_set_error_literal(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC,
                            "Parameter 'enable': no capability is available");
        return NULL;
    }
    conn->negotiated = true;
    return NULL;
}

static void list_commands(JsonArray *list, const struct qmp_command *table)
{
    for (const struct qmp_command *command = table; command->name; command++) {
        JsonObject *entry = json_object_new();

        json_object_set_string_member(entry, "name", command->name);
        json_array_add_object_element(list, entry);
    }
}

static JsonNode *run_query_commands(JsonObject *args, gpointer opaque, GError **error)
{
    struct qmp_conn *conn = opaque;
    JsonArray *list = json_array_new();

    (void)args, (void)error;
    list_commands(list, qmp_own_commands);
    for (gsize i = 0; conn->server->tables[i]; i++) {
        list_commands(list, conn->server->tables[i]);
    }
    return array_node(list);
}

static JsonNode *run_query_version(JsonObject *args, gpointer opaque, GError **error)
{
    (void)args, (void)opaque, (void)error;
    return qmp_version();
}

static JsonNode *run_query_events(JsonObject *args, gpointer opaque, GError **error)
{
    struct qmp_conn *conn = opaque;
    gint64 since = json_object_get_int_member_with_default(args, "since", 0);
    JsonArray *list = json_array_new();

    (void)error;
    for (GList *l = conn->server->events.head; l; l = l->next) {
        if (json_object_get_int_member(l->data, "seq") > since) {
            json_array_add_object_element(list, json_object_ref(l->data));
        }
    }
    return array_node(list);
}

static const struct qmp_arg capabilities_args[] = { { "enable", QMP_LIST, false }, { 0 } };
static const struct qmp_arg events_args[] = { { "since", QMP_INT, false }, { 0 } };

const struct qmp_command qmp_own_commands[] = {
    { "qmp_capabilities", capabilities_args, run_capabilities },
    { "query-commands", NULL, run_query_commands },
    { "query-version", NULL, run_query_version },
    { "query-vmtier-events", events_args, run_query_events },
    { 0 },
};

/* Tells a client why it is not served. A full socket buffer is no reason to wait for it. */
static void turn_away(GSocketConnection *stream, const GError *error)
{
    gsize length;
    g_autofree char *line = qmp_error_line(error, NULL, &length);

    g_socket_send_with_blocking(g_socket_connection_get_socket(stream), line, length, FALSE, NULL,
                                NULL);
}

static bool admit(QmpServer *server, GSocket *socket, struct qmp_peer *peer, GError **error)
{
    if (!qmp_socket_may_use(socket, server->path, peer, error)) {
        return false;
    }
    if (g_list_length(server->conns) >= QMP_MAX_CLIENTS) {
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC,
                    "too many clients: %d are connected; close one", QMP_MAX_CLIENTS);
        return false;
    }
    return true;
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *stream, GObject *source,
                            gpointer opaque)
{
    QmpServer *server = opaque;
    g_autoptr(GError) error = NULL;
    struct qmp_peer peer = { 0 };

    (void)service, (void)source;
    if (!admit(server, g_socket_connection_get_socket(stream), &peer, &error)) {
        g_message("QMP client (pid %d) turned away: %s", (int)peer.pid, error->message);
        turn_away(stream, error);
        return TRUE;
    }
    g_debug("QMP client connected: pid %d, uid %u", (int)peer.pid, peer.uid);
    qmp_conn_new(server, stream, peer.pid);
    return TRUE;
}

static void remember_inode(QmpServer *server)
{
    struct stat st;

    if (lstat(server->path, &st) == 0) {
        server->device = st.st_dev;
        server->inode = st.st_ino;
    }
}

QmpServer *qmp_server_new(const char *socket_path, const struct qmp_command *const *tables,
                          gpointer opaque, GError **error)
{
    g_autoptr(GSocket) socket = qmp_socket_listen(socket_path, error);
    g_autoptr(QmpServer) server = NULL;

    if (!socket) {
        return NULL;
    }
    server = g_new0(QmpServer, 1);
    server->path = g_strdup(socket_path);
    server->service = g_socket_service_new();
    server->context = g_main_context_ref_thread_default();
    server->tables = tables;
    server->opaque = opaque;
    remember_inode(server);
    g_signal_connect(server->service, "incoming", G_CALLBACK(on_incoming), server);
    if (!g_socket_listener_add_socket(G_SOCKET_LISTENER(server->service), socket, NULL, error)) {
        return NULL;
    }
    return g_steal_pointer(&server);
}

/* Leaves the file alone when another daemon has replaced it. */
static void remove_socket(QmpServer *server)
{
    struct stat st;

    if (lstat(server->path, &st) == 0 && st.st_dev == server->device &&
        st.st_ino == server->inode) {
        unlink(server->path);
    }
}

void qmp_server_free(QmpServer *server)
{
    if (!server) {
        return;
    }
    g_signal_handlers_disconnect_by_data(server->service, server);
    g_socket_service_stop(server->service);
    g_socket_listener_close(G_SOCKET_LISTENER(server->service));
    remove_socket(server);
    while (server->conns) {
        qmp_conn_free(server->conns->data);
    }
    g_queue_clear_full(&server->events, (GDestroyNotify)json_object_unref);
    g_object_unref(server->service);
    g_main_context_unref(server->context);
    g_free(server->path);
    g_free(server);
}

static JsonObject *timestamp_now(void)
{
    gint64 now = g_get_real_time();
    JsonObject *timestamp = json_object_new();

    json_object_set_int_member(timestamp, "seconds", now / G_USEC_PER_SEC);
    json_object_set_int_member(timestamp, "microseconds", now % G_USEC_PER_SEC);
    return timestamp;
}

static JsonObject *event_object(const char *name, JsonNode *data /* take */)
{
    JsonObject *event = json_object_new();

    json_object_set_string_member(event, "event", name);
    if (data) {
        json_object_set_member(event, "data", data);
    } else {
        json_object_set_object_member(event, "data", json_object_new());
    }
    json_object_set_object_member(event, "timestamp", timestamp_now());
    return event;
}

/* Puts the event into the ring, where it also has a number. */
static void remember(QmpServer *server, JsonObject *event /* take */)
{
    json_object_set_int_member(event, "seq", ++server->last_seq);
    g_queue_push_tail(&server->events, event);
    if (g_queue_get_length(&server->events) > QMP_EVENT_RING) {
        json_object_unref(g_queue_pop_head(&server->events));
    }
}

void qmp_server_emit(QmpServer *server, const char *event, JsonNode *data)
{
    JsonObject *object = event_object(event, data);
    gsize length;
    g_autofree char *line = qmp_line(json_object_ref(object), &length);

    for (GList *l = server->conns; l; l = l->next) {
        qmp_conn_send_event(l->data, line, length);
    }
    remember(server, object);
}
