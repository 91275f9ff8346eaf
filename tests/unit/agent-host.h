// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtier-agent on this machine, and a host for it: its port is a pseudo terminal whose other end is the test,
 * or a file that is at its end at once, which is what a port looks like whose host has gone.
 */
#ifndef VT_TEST_AGENT_HOST_H
#define VT_TEST_AGENT_HOST_H

#include "common/agent-frame.h"

#include <glib.h>
#include <stdbool.h>

struct host {
    char *dir, *control, *config;
    int fd;
    GPid agent;
    guint32 seq;
    struct vta_decoder in;
    struct vta_frame f;         /* the last one that came */
};

char *agent_program(void);
bool may_run(void);             /* else the test is skipped */
double now_s(void);

/* The agent with this text as its configuration; it is started later, or at a pseudo terminal at once. */
struct host *host_new(const char *config);
struct host *host_at_pty(const char *config);
void host_start(struct host *h, const char *port);     /* NULL: it looks for one */
void host_free(struct host *h); /* it ends when it is told to, and leaves nothing */

void say(struct host *h, enum vta_type type, struct vta_frame *f, size_t length);
bool hear(struct host *h, enum vta_type type, double timeout);  /* h->f; others are passed over */
void welcome(struct host *h, guint32 credits);                  /* after its hello */

/* Runs `vmtier-agent WORDS` as this user; it works or not, and says that. */
void expect(struct host *h, const char *words, uid_t uid, bool works, const char *text);
/* Its status comes to say that. */
void wait_status(struct host *h, const char *text);

#endif
