// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Strict JSON: a recursive descent that checks and builds nothing; see qmp-json.h.
 *
 * Every function leaves `at` behind what it accepted, or `why` set and `at` at the culprit. Reading at
 * the end gives a NUL, which no rule accepts, so bounds are looked at in peek() only.
 */
#include "host/qmp-json.h"

#include "host/qmp.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

struct cursor {
    const char *text;
    gsize length, at;
    unsigned depth;
    const char *why;
};

static bool value(struct cursor *c);

static char peek(const struct cursor *c)
{
    return c->at < c->length ? c->text[c->at] : '\0';
}

static bool fail(struct cursor *c, const char *why)
{
    c->why = c->at < c->length ? why : "unexpected end of the request";
    return false;
}

static bool accept(struct cursor *c, char wanted)
{
    if (peek(c) != wanted) {
        return false;
    }
    c->at++;
    return true;
}

static void spaces(struct cursor *c)
{
    while (peek(c) && strchr(" \t\r\n", peek(c))) {
        c->at++;
    }
}

/* Four hex digits, or -1. */
static int hex4(struct cursor *c)
{
    int code = 0;

    for (int i = 0; i < 4; i++) {
        int digit = g_ascii_xdigit_value(peek(c));

        if (digit < 0) {
            return -1;
        }
        code = code * 16 + digit;
        c->at++;
    }
    return code;
}

/* What follows \u: one code point, which may take two escapes. */
static bool unicode_escape(struct cursor *c)
{
    int code = hex4(c);

    if (code < 0) {
        return fail(c, "expected four hex digits");
    }
    if (code == 0) {
        return fail(c, "a string may not hold a NUL");
    }
    if (code >= 0xd800 && code < 0xdc00 && accept(c, '\\') && accept(c, 'u')) {
        code = hex4(c);
        return (code >= 0xdc00 && code < 0xe000) || fail(c, "lone surrogate");
    }
    return (code < 0xd800 || code >= 0xe000) || fail(c, "lone surrogate");
}

static bool escape(struct cursor *c)
{
    if (accept(c, 'u')) {
        return unicode_escape(c);
    }
    if (!peek(c) || !strchr("\"\\/bfnrt", peek(c))) {
        return fail(c, "invalid escape");
    }
    c->at++;
    return true;
}

static bool string_char(struct cursor *c)
{
    if ((unsigned char)peek(c) < 0x20) {
        return fail(c, "control character in a string");
    }
    if (accept(c, '\\')) {
        return escape(c);
    }
    c->at++;
    return true;
}

static bool string(struct cursor *c)
{
    if (!accept(c, '"')) {
        return fail(c, "expected a string");
    }
    while (!accept(c, '"')) {
        if (!string_char(c)) {
            return false;
        }
    }
    return true;
}

static bool digits(struct cursor *c)
{
    gsize from = c->at;

    while (g_ascii_isdigit(peek(c))) {
        c->at++;
    }
    return c->at > from || fail(c, "expected a digit");
}

/* Whether the number in [from, at) can be held. Number texts are short but for hostile ones. */
static bool in_range(struct cursor *c, gsize from, bool is_int)
{
    g_autofree char *copy = g_strndup(c->text + from, c->at - from);
    gint64 ignored;
    bool fits = is_int ? g_ascii_string_to_signed(copy, 10, G_MININT64, G_MAXINT64, &ignored, NULL)
                       : isfinite(g_ascii_strtod(copy, NULL));

    if (!fits) {
        c->at = from;
        return fail(c, "number out of range");
    }
    return true;
}

static bool exponent(struct cursor *c)
{
    if (!accept(c, '-')) {
        accept(c, '+');
    }
    return digits(c);
}

static bool number(struct cursor *c)
{
    gsize from = c->at;
    bool is_int = true;

    accept(c, '-');
    if (!accept(c, '0') && !digits(c)) {
        return false;
    }
    if (accept(c, '.')) {
        is_int = false;
        if (!digits(c)) {
            return false;
        }
    }
    if (accept(c, 'e') || accept(c, 'E')) {
        is_int = false;
        if (!exponent(c)) {
            return false;
        }
    }
    return in_range(c, from, is_int);
}

static bool literal(struct cursor *c)
{
    static const char *const names[] = { "true", "false", "null" };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        gsize length = strlen(names[i]);

        if (c->length - c->at >= length && !memcmp(c->text + c->at, names[i], length)) {
            c->at += length;
            return true;
        }
    }
    return fail(c, "unexpected character");
}

static bool member(struct cursor *c)
{
    spaces(c);
    if (!string(c)) {
        return false;
    }
    spaces(c);
    return accept(c, ':') ? value(c) : fail(c, "expected ':'");
}

/* The elements of an array or an object, behind its opening bracket. */
static bool elements(struct cursor *c, bool (*element)(struct cursor *), char closing)
{
    spaces(c);
    if (accept(c, closing)) {
        return true;
    }
    do {
        if (!element(c)) {
            return false;
        }
        spaces(c);
    } while (accept(c, ','));
    return accept(c, closing) || fail(c, "expected ',' or a closing bracket");
}

static bool nested(struct cursor *c, bool is_object)
{
    bool ok;

    if (++c->depth > QMP_JSON_DEPTH) {
        return fail(c, "nested too deeply");
    }
    c->at++;
    ok = is_object ? elements(c, member, '}') : elements(c, value, ']');
    c->depth--;
    return ok;
}

static bool value(struct cursor *c)
{
    char first;

    spaces(c);
    first = peek(c);
    if (first == '{' || first == '[') {
        return nested(c, first == '{');
    }
    if (first == '"') {
        return string(c);
    }
    return first == '-' || g_ascii_isdigit(first) ? number(c) : literal(c);
}

const char *qmp_json_check(const char *text, gsize length, gsize *at)
{
    struct cursor c = { .text = text, .length = length };
    const char *end;

    if (!g_utf8_validate_len(text, length, &end)) {
        *at = end - text;
        return *at < length && !*end ? "NUL byte" : "invalid UTF-8";
    }
    if (value(&c)) {
        spaces(&c);
        if (c.at < c.length) {
            fail(&c, "something follows the value");
        }
    }
    *at = c.at;
    return c.why;
}

JsonNode *qmp_json_parse(const char *text, gsize length, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) inner = NULL;
    gsize at;
    const char *why = qmp_json_check(text, length, &at);

    if (why) {
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC,
                    "JSON parse error, %s at byte %" G_GSIZE_FORMAT, why, at);
        return NULL;
    }
    if (!json_parser_load_from_data(parser, text, length, &inner)) {
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, "JSON parse error, %s",
                    inner->message);
        return NULL;
    }
    return json_parser_steal_root(parser);
}
