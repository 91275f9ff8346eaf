// SPDX-License-Identifier: GPL-2.0-or-later
/* A guest's agent, as `vmtier status VM` shows it. */
#ifndef VMTIER_CLI_VIEW_AGENT_H
#define VMTIER_CLI_VIEW_AGENT_H

#include "host/cli/format.h"

#include <json-glib/json-glib.h>

/* Adds rows of two cells; none if the daemon says nothing of an agent. */
void view_agent(JsonObject *vm, struct fmt_table *table);

#endif
