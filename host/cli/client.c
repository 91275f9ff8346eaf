// SPDX-License-Identifier: GPL-2.0-or-later
/* A blocking client of the daemon's QMP socket: see client.h. */
#include "host/cli/client.h"

#include "host/cli/cli.h"
#include "host/cli/json.h"

#include <errno.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <string.h>

#define MAX_LINE (512 * 1024 * 1024)    /* no daemon says more; guards against a socket that babbles */
#define READ_BYTES (64 * 1024)
#define FOREVER (-1)

struct client {
    GSocket *socket;
    char *path;
    int timeout_s;
    GString *in;
    gsize seen;                         /* bytes of `in` known to hold no newline */
    GQueue events;                      /* of JsonObject */
};

static gpointer no_daemon(GError **error, const char *path, const char *why)
{
    g_set_error(error, CLI_ERROR, CLI_NO_DAEMON, "no vmtierd at %s: %s", path, why);
    return NULL;
}

static gint64 deadline(const Client *client)
{
    return g_get_monotonic_time() + client->timeout_s * G_USEC_PER_SEC;
}

/* Waits until bytes can be read or the deadline has passed. */
static bool wait_readable(Client *client, gint64 until, GError **error)
{
    gint64 left = until == FOREVER ? -1 : MAX(until - g_get_monotonic_time(), 1);
    g_autoptr(GError) inner = NULL;

    if (g_socket_condition_timed_wait(client->socket, G_IO_IN, left, NULL, &inner)) {
        return true;
    }
    if (g_error_matches(inner, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
        g_set_error(error, CLI_ERROR, CLI_NO_DAEMON,
                    "the daemon at %s did not answer within %d s; --timeout gives it longer",
                    client->path, client->timeout_s);
    } else {
        no_daemon(error, client->path, inner->message);
    }
    return false;
}

static bool receive(Client *client, gint64 until, GError **error)
{
    g_autoptr(GError) inner = NULL;
    char bytes[READ_BYTES];
    gssize got;

    if (!wait_readable(client, until, error)) {
        return false;
    }
    got = g_socket_receive(client->socket, bytes, sizeof(bytes), NULL, &inner);
    if (got <= 0 || client->in->len > MAX_LINE) {
        return no_daemon(error, client->path,
                         inner ? inner->message : got == 0 ? "it hung up" : "it babbles");
    }
    g_string_append_len(client->in, bytes, got);
    return true;
}

/* Takes the next line off the input. */
static char *read_line(Client *client, gint64 until, GError **error)
{
    char *newline, *line;

    while (!(newline = memchr(client->in->str + client->seen, '\n', client->in->len - client->seen))) {
        client->seen = client->in->len;
        if (!receive(client, until, error)) {
            return NULL;
        }
    }
    line = g_strndup(client->in->str, newline - client->in->str);
    g_string_erase(client->in, 0, newline + 1 - client->in->str);
    client->seen = 0;
    return line;
}

static JsonObject *read_object(Client *client, gint64 until, GError **error)
{
    g_autofree char *line = read_line(client, until, error);
    g_autoptr(JsonNode) node = NULL;

    if (!line) {
        return NULL;
    }
    node = json_from_string(line, NULL);
    if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
        return no_daemon(error, client->path, "what listens there does not speak QMP");
    }
    return json_node_dup_object(node);
}

/* The next object that is no event; events are put aside. */
static JsonObject *read_reply(Client *client, GError **error)
{
    gint64 until = deadline(client);
    JsonObject *object;

    while ((object = read_object(client, until, error)) && json_object_has_member(object, "event")) {
        g_queue_push_tail(&client->events, object);
    }
    return object;
}

static JsonNode *refused(JsonObject *problem, GError **error)
{
    const char *class = js_str(problem, "class");
    bool no_vm = class && g_str_equal(class, "DeviceNotFound");
    const char *desc = js_str(problem, "desc");

    g_set_error_literal(error, CLI_ERROR, no_vm ? CLI_NO_VM : CLI_REFUSED,
                        desc ? desc : "the daemon refused and gave no reason");
    return NULL;
}

static bool send_all(Client *client, const char *bytes, GError **error)
{
    g_autoptr(GError) inner = NULL;
    gsize left = strlen(bytes);

    while (left > 0) {
        gssize sent = g_socket_send(client->socket, bytes, left, NULL, &inner);

        if (sent < 0) {
            return no_daemon(error, client->path, inner->message);
        }
        bytes += sent;
        left -= sent;
    }
    return true;
}

static bool send_request(Client *client, const char *command, JsonObject *args /* take */,
                         GError **error)
{
    g_autoptr(JsonObject) request = json_object_new();
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), request);
    g_autofree char *text = NULL, *line = NULL;

    json_object_set_string_member(request, "execute", command);
    if (args) {
        json_object_set_object_member(request, "arguments", args);
    }
    text = json_to_string(node, FALSE);
    line = g_strconcat(text, "\n", NULL);
    return send_all(client, line, error);
}

JsonNode *client_call(Client *client, const char *command, JsonObject *args, GError **error)
{
    g_autoptr(JsonObject) reply = NULL;
    JsonNode *result;

    if (!send_request(client, command, args, error) || !(reply = read_reply(client, error))) {
        return NULL;
    }
    if (js_obj(reply, "error")) {
        return refused(js_obj(reply, "error"), error);
    }
    result = json_object_get_member(reply, "return");
    return result ? json_node_copy(result)
                  : no_daemon(error, client->path, "what listens there does not speak QMP");
}

JsonObject *client_next_event(Client *client, GError **error)
{
    JsonObject *object;

    if (!g_queue_is_empty(&client->events)) {
        return g_queue_pop_head(&client->events);
    }
    while ((object = read_object(client, FOREVER, error)) &&
           !json_object_has_member(object, "event")) {
        json_object_unref(object);
    }
    return object;
}

int client_stream(Client *client, const char **first, gsize *length)
{
    *first = client->in->str;
    *length = client->in->len;
    return g_socket_get_fd(client->socket);
}

void client_drop_events(Client *client)
{
    g_queue_clear_full(&client->events, (GDestroyNotify)json_object_unref);
}

static bool negotiate(Client *client, GError **error)
{
    g_autoptr(JsonObject) greeting = read_reply(client, error);
    g_autoptr(JsonNode) result = NULL;

    if (!greeting) {
        return false;
    }
    if (js_obj(greeting, "error")) {
        return refused(js_obj(greeting, "error"), error);
    }
    if (!js_obj(greeting, "QMP")) {
        return no_daemon(error, client->path, "what listens there does not speak QMP");
    }
    result = client_call(client, "qmp_capabilities", NULL, error);
    return result;
}

static bool connect_to(Client *client, GError **error)
{
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(client->path);
    g_autoptr(GError) inner = NULL;

    client->socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM,
                                  G_SOCKET_PROTOCOL_DEFAULT, &inner);
    if (client->socket) {
        g_socket_set_timeout(client->socket, client->timeout_s);
        g_socket_connect(client->socket, address, NULL, &inner);
        g_socket_set_timeout(client->socket, 0);
    }
    return !inner || no_daemon(error, client->path, inner->message);
}

Client *client_open(const char *path, int timeout_s, GError **error)
{
    Client *client = g_new0(Client, 1);

    client->path = g_strdup(path);
    client->timeout_s = timeout_s;
    client->in = g_string_new(NULL);
    if (!connect_to(client, error) || !negotiate(client, error)) {
        g_clear_pointer(&client, client_close);
    }
    return client;
}

void client_close(Client *client)
{
    client_drop_events(client);
    g_clear_object(&client->socket);
    g_string_free(client->in, TRUE);
    g_free(client->path);
    g_free(client);
}
