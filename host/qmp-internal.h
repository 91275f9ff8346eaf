// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the files of the QMP engine share.
 *
 *      qmp.c           the server: clients, events, the engine's own commands
 *      qmp-conn.c      one client: its bytes in and out
 *      qmp-request.c   one request: from text to reply
 *      qmp-socket.c    the listening socket and who may use it
 */
#ifndef VMTIER_QMP_INTERNAL_H
#define VMTIER_QMP_INTERNAL_H

#include "host/qmp-split.h"
#include "host/qmp.h"

#include <gio/gio.h>
#include <sys/types.h>

/* Who takes a connection over; without `take`, nobody. */
struct qmp_heir {
    qmp_take take;
    gpointer data;
};

/*
 * One client. A connection is torn down in its own callbacks only (conn_ready), never while somebody
 * writes to it: whoever wants it gone sets `doomed` through qmp_conn_doom().
 *
 * Reading stops while a fair amount is unsent, so a client that sends requests and reads no replies
 * waits for itself. Events come unasked: unsent bytes above `allowed` doom the client.
 */
struct qmp_conn {
    QmpServer *server;
    GSocketConnection *stream;
    GSource *reading, *writing;         /* at least one is attached */
    struct qmp_split split;
    GByteArray *out;                    /* unsent; bytes before `sent` are gone already */
    gsize sent, allowed;
    bool negotiated, ended, doomed;     /* ended: the client sends no more */
    struct qmp_heir heir;               /* gets the socket when all is sent */
    pid_t pid;
};

struct qmp_conn *qmp_conn_new(QmpServer *server, GSocketConnection *stream, pid_t pid);
void qmp_conn_free(struct qmp_conn *conn);
void qmp_conn_send_event(struct qmp_conn *conn, const char *line, gsize length);

struct QmpServer {
    char *path;
    dev_t device;                       /* of the socket file, to remove no other daemon's */
    ino_t inode;
    GSocketService *service;
    GMainContext *context;
    const struct qmp_command *const *tables;
    gpointer opaque;
    struct qmp_heir heir;               /* the running command's wish */
    GList *conns;                       /* of struct qmp_conn */
    GQueue events;                      /* of JsonObject, oldest first, at most QMP_EVENT_RING */
    gint64 last_seq;                    /* of the newest event; the first one is 1 */
};

/* The engine's own commands, ended by a NULL name; their `run` gets the connection. */
extern const struct qmp_command qmp_own_commands[];
const struct qmp_command *qmp_command_find(const struct qmp_command *table, const char *name);
JsonNode *qmp_version(void);

/* The reply to one request, as a line. */
char *qmp_request_run(struct qmp_conn *conn, const char *text, gsize length, gsize *reply_length);
char *qmp_error_line(const GError *error, JsonNode *id, gsize *length);

/* The object as a line; takes it. */
char *qmp_line(JsonObject *object, gsize *length);

struct qmp_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

/* A socket bound to path, mode 0660, that listens. */
GSocket *qmp_socket_listen(const char *path, GError **error);
bool qmp_socket_may_use(GSocket *client, const char *path, struct qmp_peer *peer, GError **error);

#endif
