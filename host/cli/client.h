// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A blocking client of the daemon's QMP socket.
 *
 * Events may come between a request and its reply; they are kept in order until client_next_event()
 * takes them. Errors are of the domain CLI_ERROR.
 */
#ifndef VMTIER_CLI_CLIENT_H
#define VMTIER_CLI_CLIENT_H

#include <json-glib/json-glib.h>

typedef struct client Client;

/* Connects and negotiates. Each later call may take timeout_s seconds. */
Client *client_open(const char *path, int timeout_s, GError **error);
void client_close(Client *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Client, client_close)

/* What the command returned; takes `args` (NULL: none). */
JsonNode *client_call(Client *client, const char *command, JsonObject *args, GError **error);

/* The next event, however long that takes. */
JsonObject *client_next_event(Client *client, GError **error);

/*
 * After a command behind whose reply the connection is a stream of bytes: its descriptor, and what has come
 * of it already. Only client_close() may follow.
 */
int client_stream(Client *client, const char **first, gsize *length);

/* Drops the events that have come so far. */
void client_drop_events(Client *client);

#endif
