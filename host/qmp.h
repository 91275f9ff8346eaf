// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A QMP server on a unix socket: the protocol, and nothing of virtual machines.
 *
 * What it offers is registered as tables of commands. The engine does the greeting, negotiation,
 * argument checks, events, and these commands itself: qmp_capabilities, query-commands,
 * query-version, query-vmtier-events.
 *
 * Everything here belongs to the thread that runs the main context which was the thread's default
 * when the server was made; another thread that has news hands them over with g_main_context_invoke().
 */
#ifndef VMTIER_QMP_H
#define VMTIER_QMP_H

#include <json-glib/json-glib.h>
#include <stdbool.h>

#define QMP_MAX_REQUEST (1024 * 1024)       /* bytes of one request */
#define QMP_MAX_CLIENTS 64
#define QMP_MAX_BACKLOG (4 * 1024 * 1024)   /* unsent bytes of events before a client is dropped */
#define QMP_EVENT_RING 512

#define VMT_QMP_ERROR (vmt_qmp_error_quark())
GQuark vmt_qmp_error_quark(void);

/* The classes of QMP errors. An error of any other domain goes out as GenericError. */
enum vmt_qmp_error {
    VMT_QMP_ERROR_GENERIC,
    VMT_QMP_ERROR_COMMAND_NOT_FOUND,
    VMT_QMP_ERROR_DEVICE_NOT_FOUND,         /* here: no such VM */
    VMT_QMP_ERROR_COUNT
};

enum qmp_type {
    QMP_STRING,
    QMP_INT,                                /* a JSON integer that fits an int64; 1.0 is none */
    QMP_NUMBER,                             /* integer or not */
    QMP_BOOL,
    QMP_LIST,
    QMP_TYPE_COUNT
};

struct qmp_arg {
    const char *name;
    enum qmp_type type;
    bool required;
};

struct qmp_command {
    const char *name;
    const struct qmp_arg *args;             /* ends with a NULL name; NULL: takes none */

    /*
     * The arguments are checked: all there but the optional ones, of the right type, no others. They
     * are never NULL. Returns what goes out as "return" (NULL without an error: {}).
     */
    JsonNode *(*run)(JsonObject *args, gpointer opaque, GError **error);
};

typedef struct QmpServer QmpServer;

/* `tables` ends with NULL, each table with a NULL name; both must outlive the server. */
QmpServer *qmp_server_new(const char *socket_path, const struct qmp_command *const *tables,
                          gpointer opaque, GError **error);

/* Disconnects everybody and removes the socket. */
void qmp_server_free(QmpServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpServer, qmp_server_free)

/* Takes `data` (NULL: {}). Never drops a client before it returns, so commands may call it. */
void qmp_server_emit(QmpServer *server, const char *event, JsonNode *data);

/*
 * For a command's `run`: behind the reply to it, the connection is no QMP client's any more. `take` gets its
 * socket, blocking, to close it some time; or -1, as the client has gone before it had its reply.
 */
typedef void (*qmp_take)(gpointer data, int fd);
void qmp_server_hand_over(QmpServer *server, qmp_take take, gpointer data);

/* Whether the arguments are what the command takes; the error names the culprit. */
bool qmp_args_check(const struct qmp_arg *args, JsonObject *given, GError **error);

#endif
