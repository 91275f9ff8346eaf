// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * For tests of the QMP server: a server with toy commands on a temporary socket, and clients that run
 * the main loop while they wait, so that everything happens in one thread.
 */
#ifndef VMTIER_TESTS_QMP_FIXTURE_H
#define VMTIER_TESTS_QMP_FIXTURE_H

#include "host/qmp.h"

#include <gio/gio.h>

#define NEGOTIATE "{\"execute\":\"qmp_capabilities\"}"

struct fixture {
    char *dir, *path;
    QmpServer *server;
    int taken;                  /* 1: toy-take got its client's socket; -1: the client had gone */
};

struct peer {
    GSocket *socket;
    GString *in;
    bool eof;
};

struct qmp_test {
    const char *path;
    void (*run)(struct fixture *f, gconstpointer data);
};

extern const struct qmp_command *const qmp_toy_tables[];

/* Connects. */
struct peer *peer_new(struct fixture *f);

/* Connects, reads the greeting and negotiates. */
struct peer *peer_negotiated(struct fixture *f);
void peer_free(struct peer *peer);

void peer_send_bytes(struct peer *peer, const char *bytes, gsize length);
void peer_send(struct peer *peer, const char *text);

/* Takes what has arrived. */
void peer_receive(struct peer *peer);

/* The next line, or NULL when the server has hung up. */
char *peer_line(struct peer *peer);

/* The next line must hold `wanted`. */
void peer_expect(struct peer *peer, const char *wanted);

/* Sends a line and expects one. */
void peer_ask(struct peer *peer, const char *request, const char *wanted);

/* main() of a test program: each test gets a server of its own. */
int qmp_tests_run(int argc, char **argv, const struct qmp_test *tests, gsize count);

#endif
