// SPDX-License-Identifier: GPL-2.0-or-later
/* One QMP request: from the text of a JSON value to the line of its reply. */
#include "host/qmp-internal.h"
#include "host/qmp-json.h"

#include <string.h>

GQuark vmt_qmp_error_quark(void)
{
    return g_quark_from_static_string("vmt-qmp-error");
}

static const char *const classes[] = {
    [VMT_QMP_ERROR_GENERIC] = "GenericError",
    [VMT_QMP_ERROR_COMMAND_NOT_FOUND] = "CommandNotFound",
    [VMT_QMP_ERROR_DEVICE_NOT_FOUND] = "DeviceNotFound",
};
G_STATIC_ASSERT(G_N_ELEMENTS(classes) == VMT_QMP_ERROR_COUNT);

struct request {
    const char *execute;
    JsonObject *arguments;
    JsonNode *id;
};

char *qmp_line(JsonObject *object, gsize *length)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);
    g_autoptr(JsonGenerator) generator = json_generator_new();
    GString *line = g_string_new(NULL);

    json_object_unref(object);
    json_generator_set_root(generator, node);
    json_generator_to_gstring(generator, line);
    g_string_append(line, "\r\n");
    *length = line->len;
    return g_string_free(line, FALSE);
}

static char *reply_line(const char *key, JsonNode *payload, JsonNode *id, gsize *length)
{
    JsonObject *reply = json_object_new();

    json_object_set_member(reply, key, payload);
    if (id) {
        json_object_set_member(reply, "id", json_node_copy(id));
    }
    return qmp_line(reply, length);
}

static JsonNode *object_node(JsonObject *object /* take */)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
}

char *qmp_error_line(const GError *error, JsonNode *id, gsize *length)
{
    int code = error->domain == VMT_QMP_ERROR ? error->code : VMT_QMP_ERROR_GENERIC;
    JsonObject *payload = json_object_new();

    json_object_set_string_member(payload, "class", classes[code]);
    json_object_set_string_member(payload, "desc", error->message);
    return reply_line("error", object_node(payload), id, length);
}

static bool bad_member(GError **error, const char *name, const char *what)
{
    g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, "QMP input member '%s' %s", name, what);
    return false;
}

static bool read_member(struct request *request, const char *name, JsonNode *node, GError **error)
{
    if (g_str_equal(name, "id")) {
        request->id = node;
        return true;
    }
    if (g_str_equal(name, "execute")) {
        request->execute = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_string(node) : NULL;
        return request->execute || bad_member(error, name, "must be a string");
    }
    if (g_str_equal(name, "arguments")) {
        request->arguments = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        return request->arguments || bad_member(error, name, "must be an object");
    }
    return bad_member(error, name, "is unexpected");
}

/* What it points to belongs to root. The id is known even when something else is wrong. */
static bool read_request(struct request *request, JsonNode *root, GError **error)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;

    if (!JSON_NODE_HOLDS_OBJECT(root)) {
        g_set_error_literal(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC,
                            "QMP input must be a JSON object");
        return false;
    }
    request->id = json_object_get_member(json_node_get_object(root), "id");
    json_object_iter_init_ordered(&iter, json_node_get_object(root));
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        if (!read_member(request, name, node, error)) {
            return false;
        }
    }
    if (!request->execute) {
        g_set_error_literal(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC,
                            "QMP input lacks member 'execute'");
    }
    return request->execute;
}

const struct qmp_command *qmp_command_find(const struct qmp_command *table, const char *name)
{
    for (const struct qmp_command *command = table; command->name; command++) {
        if (g_str_equal(command->name, name)) {
            return command;
        }
    }
    return NULL;
}

/* Also says what the command's `run` gets. */
static const struct qmp_command *find(struct qmp_conn *conn, const char *name, gpointer *opaque)
{
    const struct qmp_command *command = qmp_command_find(qmp_own_commands, name);

    *opaque = conn;
    for (gsize i = 0; !command && conn->server->tables[i]; i++) {
        command = qmp_command_find(conn->server->tables[i], name);
        *opaque = conn->server->opaque;
    }
    return command;
}

/* Why this command cannot be given now, or NULL. */
static const char *wrong_moment(struct qmp_conn *conn, const char *name)
{
    bool negotiates = g_str_equal(name, "qmp_capabilities");

    if (negotiates == !conn->negotiated) {
        return NULL;
    }
    return negotiates ? "Capabilities negotiation is already complete, command ignored"
                      : "Expecting capabilities negotiation with 'qmp_capabilities'";
}

static JsonNode *run(struct qmp_conn *conn, const struct request *request, GError **error)
{
    g_autoptr(JsonObject) none = json_object_new();
    JsonObject *args = request->arguments ? request->arguments : none;
    const char *wrong = wrong_moment(conn, request->execute);
    gpointer opaque;
    const struct qmp_command *command = find(conn, request->execute, &opaque);

    if (wrong) {
        g_set_error_literal(error, VMT_QMP_ERROR, VMT_QMP_ERROR_COMMAND_NOT_FOUND, wrong);
        return NULL;
    }
    if (!command) {
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_COMMAND_NOT_FOUND,
                    "The command %s has not been found", request->execute);
        return NULL;
    }
    if (!qmp_args_check(command->args, args, error)) {
        return NULL;
    }
    return command->run(args, opaque, error);
}

char *qmp_request_run(struct qmp_conn *conn, const char *text, gsize length, gsize *reply_length)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) root = qmp_json_parse(text, length, &error);
    struct request request = { 0 };
    JsonNode *result = NULL;

    if (root && read_request(&request, root, &error)) {
        result = run(conn, &request, &error);
    }
    if (error) {
        return qmp_error_line(error, request.id, reply_length);
    }
    return reply_line("return", result ? result : object_node(json_object_new()), request.id,
                      reply_length);
}
