// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Strict JSON for input that is not trusted.
 *
 * json-glib alone is too kind for a control socket: it reads 010 as 8, 2^64-1 as -1 and 1e400 as
 * infinity, takes comments and single quotes, cuts strings at \u0000 and recurses without a limit. A
 * text is therefore checked against RFC 8259 first, with these limits on top: numbers must fit an
 * int64 or a finite double, strings hold no NUL, nesting is at most QMP_JSON_DEPTH.
 */
#ifndef VMTIER_QMP_JSON_H
#define VMTIER_QMP_JSON_H

#include <json-glib/json-glib.h>

#define QMP_JSON_DEPTH 64

/* What is wrong with the text (a constant), and where; NULL when it is one JSON value. */
const char *qmp_json_check(const char *text, gsize length, gsize *at);

/* The value, or an error of the form "JSON parse error, WHY at byte N". */
JsonNode *qmp_json_parse(const char *text, gsize length, GError **error);

#endif
