// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A QMP client that blocks, with timeouts: one command at a time, events kept until asked for.
 */
#include "harness.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLY_TIMEOUT 60.0

struct qmp {
    int fd;
    GString *input;             /* received, not yet a whole line */
    GQueue events;              /* JsonObject, oldest first */
    unsigned next_id;
};

/* --- lines ---------------------------------------------------------------------------------- */

static char *take_line(struct qmp *qmp)
{
    char *end = strchr(qmp->input->str, '\n');

    if (!end)
        return NULL;
    gsize n = (gsize)(end - qmp->input->str);
    char *line = g_strndup(qmp->input->str, n);

    g_string_erase(qmp->input, 0, (gssize)n + 1);
    return line;
}

/* False if nothing more comes: time is over, or the connection. */
static bool receive(struct qmp *qmp, double end)
{
    char bytes[16384];
    struct pollfd p = { .fd = qmp->fd, .events = POLLIN };
    double left = end - lab_now();

    if (poll(&p, 1, left > 0 ? (int)(left * 1000) + 1 : 0) <= 0)
        return false;
    ssize_t n = recv(qmp->fd, bytes, sizeof(bytes), 0);

    if (n > 0)
        g_string_append_len(qmp->input, bytes, n);
    return n > 0;
}

static JsonObject *read_message(struct qmp *qmp, double end)
{
    g_autofree char *line = NULL;
    g_autoptr(GError) error = NULL;

    while (!(line = take_line(qmp)))
        if (!receive(qmp, end))
            return NULL;
    g_autoptr(JsonNode) node = json_from_string(line, &error);

    if (!node || !JSON_NODE_HOLDS_OBJECT(node))
        g_error("not a QMP message: %s", line);
    return json_object_ref(json_node_get_object(node));
}

/* Events that come in between are put aside. */
static JsonObject *read_reply(struct qmp *qmp, double end)
{
    JsonObject *message;

    while ((message = read_message(qmp, end)) && json_object_has_member(message, "event"))
        g_queue_push_tail(&qmp->events, message);
    return message;
}

static void send_text(struct qmp *qmp, const char *text)
{
    if (send(qmp->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        g_test_message("QMP: the peer is gone while sending: %s", text);
}

/* --- connection ----------------------------------------------------------------------------- */

struct qmp *qmp_open(const char *path, struct child *server, double timeout)
{
    int fd = lab_connect(path, server, timeout);
    struct qmp *qmp = g_new0(struct qmp, 1);

    if (fd < 0)
        g_error("no QMP at %s within %.0f s%s", path, timeout,
                server && !child_alive(server) ? ": the process has ended" : "");
    qmp->fd = fd;
    qmp->input = g_string_new(NULL);
    g_queue_init(&qmp->events);
    g_autoptr(JsonObject) greeting = read_message(qmp, lab_deadline(timeout));

    if (!greeting || !json_object_has_member(greeting, "QMP"))
        g_error("no QMP greeting at %s", path);
    json_node_unref(qmp_ok(qmp, "qmp_capabilities", NULL));
    return qmp;
}

void qmp_close(struct qmp *qmp)
{
    close(qmp->fd);
    g_string_free(qmp->input, TRUE);
    g_queue_clear_full(&qmp->events, (GDestroyNotify)json_object_unref);
    g_free(qmp);
}

/* --- commands ------------------------------------------------------------------------------- */

static JsonNode *take_result(JsonObject *reply, const char *command, GError **error)
{
    if (!reply) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "no reply to %s", command);
        return NULL;
    }
    if (json_object_has_member(reply, "return"))
        return json_node_copy(json_object_get_member(reply, "return"));
    JsonObject *e = json_object_get_object_member(reply, "error");

    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s",
                json_object_get_string_member_with_default(e, "class", "no class"),
                json_object_get_string_member_with_default(e, "desc", "no description"));
    return NULL;
}

__attribute__((format(printf, 4, 0)))
static JsonNode *call(struct qmp *qmp, GError **error, const char *command, const char *args,
                      va_list ap)
{
    g_autofree char *json = args ? g_strdup_vprintf(args, ap) : g_strdup("{}");
    g_autofree char *line = g_strdup_printf("{\"execute\":\"%s\",\"arguments\":%s,\"id\":%u}\n",
                                            command, json, ++qmp->next_id);

    send_text(qmp, line);
    g_autoptr(JsonObject) reply = read_reply(qmp, lab_now() + REPLY_TIMEOUT);

    if (reply && json_object_get_int_member_with_default(reply, "id", 0) != qmp->next_id)
        g_error("a reply to another command than %s", line);
    return take_result(reply, command, error);
}

static const char *text_of(const GError *error)
{
    return error ? error->message : "";
}

JsonNode *qmp_try(struct qmp *qmp, GError **error, const char *command, const char *args, ...)
{
    va_list ap;

    va_start(ap, args);
    JsonNode *result = call(qmp, error, command, args, ap);
    va_end(ap);
    return result;
}

JsonNode *qmp_ok(struct qmp *qmp, const char *command, const char *args, ...)
{
    g_autoptr(GError) error = NULL;
    va_list ap;

    va_start(ap, args);
    JsonNode *result = call(qmp, &error, command, args, ap);
    va_end(ap);
    if (!result)
        g_error("QMP %s: %s", command, text_of(error));
    return result;
}

char *qmp_fails(struct qmp *qmp, const char *command, const char *args, ...)
{
    g_autoptr(GError) error = NULL;
    va_list ap;

    va_start(ap, args);
    g_autoptr(JsonNode) result = call(qmp, &error, command, args, ap);
    va_end(ap);
    if (result)
        g_error("QMP %s was to fail and did not", command);
    return g_strdup(text_of(error));
}

JsonObject *qmp_raw(struct qmp *qmp, const char *line, double timeout)
{
    send_text(qmp, line);
    send_text(qmp, "\n");
    return read_reply(qmp, lab_deadline(timeout));
}

/* --- events --------------------------------------------------------------------------------- */

static JsonObject *next_event(struct qmp *qmp, double end)
{
    JsonObject *event = g_queue_pop_head(&qmp->events);

    return event ? event : read_message(qmp, end);
}

JsonObject *qmp_wait_event(struct qmp *qmp, const char *name, double timeout)
{
    double end = lab_deadline(timeout);
    JsonObject *event;

    while ((event = next_event(qmp, end))) {
        if (g_strcmp0(json_object_get_string_member_with_default(event, "event", ""), name) == 0)
            return event;
        json_object_unref(event);
    }
    return NULL;
}
