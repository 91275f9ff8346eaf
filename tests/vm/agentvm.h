// SPDX-License-Identifier: GPL-2.0-or-later
/* A tiered guest in which vmtier-agent runs: the one that a program's tests share. */
#ifndef VT_TEST_AGENTVM_H
#define VT_TEST_AGENTVM_H

#include "rig.h"
#include "tiered.h"

#define AGENTVM_QUOTA (160 * MIB)

extern struct tiered *agentvm;

void agentvm_start(void);
void agentvm_end(void);         /* if it was started */

/* Another QEMU like it under the same daemon; `incoming`: to which it comes from another one, or NULL. */
struct vm *agentvm_qemu(const char *name, const char *incoming);

/* What the daemon says of the agent; and that a number of it gets into these bounds, else fails. */
JsonObject *agent_of(void);
gint64 agent_int(const char *name);
void wait_agent(const char *name, gint64 low, gint64 high, double timeout);

/* A command in the guest's shell; what it said. */
char *in_guest(const char *command, unsigned *status);

#endif
