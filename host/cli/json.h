// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Members of the daemon's JSON, forgiving: a member that is missing, null or of another type reads as
 * 0, false or NULL, so that an older or newer daemon is shown as far as it is understood.
 */
#ifndef VMTIER_CLI_JSON_H
#define VMTIER_CLI_JSON_H

#include <json-glib/json-glib.h>
#include <stdbool.h>

gint64 js_int(JsonObject *object, const char *name);
double js_num(JsonObject *object, const char *name);
bool js_bool(JsonObject *object, const char *name);
const char *js_str(JsonObject *object, const char *name);
JsonObject *js_obj(JsonObject *object, const char *name);
JsonArray *js_arr(JsonObject *object, const char *name);

/* Whether there is a number, so that "0" can be told from "not said". */
bool js_has_num(JsonObject *object, const char *name);

/* The length of an array (NULL: 0), and an element of it if that is an object. */
guint js_len(JsonArray *array);
JsonObject *js_at(JsonArray *array, guint index);

#endif
