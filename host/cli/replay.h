// SPDX-License-Identifier: GPL-2.0-or-later
/* What the commands that replay recordings share. They need no daemon. */
#ifndef VMTIER_CLI_REPLAY_H
#define VMTIER_CLI_REPLAY_H

#include "host/trace-replay.h"

#include <json-glib/json-glib.h>

struct replay_memory {
    guint64 granule, ram, quota;        /* bytes */
};

/* What the recording says of the VM's memory when it began. */
bool replay_open(const char *path, struct replay_memory *memory, GError **error);

/* Options; NULL: the default. */
bool replay_policy(const char *name, const struct policy **to, GError **error);
bool replay_rate(const char *text, guint64 *to, GError **error);
bool replay_use(const char *text, enum replay_use *to, GError **error);

/* Sentences about what is missing in the recording. */
void replay_notes(const struct replay_result *result, GString *out);

/* Members about the recording; part / whole as a member, null where there is no whole. */
void replay_describe(JsonObject *object, const char *path, const struct replay_result *result);
void replay_set_ratio(JsonObject *object, const char *name, double part, double whole);

/* Hits, the oracle's, and moves over time. */
bool replay_png_draw(const struct replay_result *result, const char *policy, const char *path,
                     GError **error);

#endif
