// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of the QMP splitter and of the strict JSON check. */
#include "host/qmp-json.h"
#include "host/qmp-split.h"
#include "host/qmp.h"

#include <string.h>

#define LIMIT 64

/* What the splitter makes of the input fed in pieces of `step` bytes: texts joined by '|', "!" for
 * one that is too long. */
static char *split(const char *input, gsize length, gsize step, bool end)
{
    GString *result = g_string_new(NULL);
    struct qmp_split split;
    enum qmp_split_result got;
    const char *text;
    gsize size;

    qmp_split_init(&split, LIMIT);
    for (gsize at = 0; at <= length; at += step) {
        qmp_split_feed(&split, input + at, MIN(step, length - at));
        if (end && at + step > length) {
            qmp_split_end(&split);
        }
        while ((got = qmp_split_next(&split, &text, &size)) != QMP_SPLIT_MORE) {
            g_string_append(result, result->len ? "|" : "");
            g_string_append_len(result, got == QMP_SPLIT_TEXT ? text : "!",
                                got == QMP_SPLIT_TEXT ? (gssize)size : 1);
        }
    }
    qmp_split_clear(&split);
    return g_string_free(result, FALSE);
}

struct split_case {
    const char *name, *input, *wanted;
    bool end;
};

#define X16 "xxxxxxxxxxxxxxxx"

static const struct split_case split_cases[] = {
    { "empty", "", "", true },
    { "blank", " \r\n\t\n", "", true },
    { "line", "{\"a\":1}\n", "{\"a\":1}", false },
    { "no-newline", "{\"a\":1}", "{\"a\":1}", false },
    { "glued", "{}{}[1]{\"a\":{}}", "{}|{}|[1]|{\"a\":{}}", false },
    { "crlf", "{}\r\n{}\r\n", "{}|{}", false },
    { "brackets-in-string", "{\"}]\":\"{[\"}", "{\"}]\":\"{[\"}", false },
    { "escaped-quote", "{\"\\\"}\":1}", "{\"\\\"}\":1}", false },
    { "escaped-backslash", "{\"\\\\\":1}", "{\"\\\\\":1}", false },
    { "partial", "{\"a\":", "", false },
    { "partial-end", "{\"a\":", "{\"a\":", true },
    { "partial-line", "{\"a\":\n{}", "{\"a\":|{}", false },
    { "open-string-line", "{\"a\n{}", "{\"a|{}", false },
    { "scalar", "12 34\n{}", "12 34|{}", false },
    { "scalar-waits", "12 34", "", false },
    { "scalar-end", "12 34", "12 34", true },
    { "stray-closing", "}\n{}", "}|{}", false },
    { "mismatch", "{]{}", "{]|{}", false },
    { "too-long", X16 X16 X16 X16 "x\n{}", "!|{}", false },
    { "longest", X16 X16 X16 X16 "\n{}", X16 X16 X16 X16 "|{}", false },
    { "too-long-object", "{\"" X16 X16 X16 X16 "\":1}\n{}", "!|{}", false },
    { "too-long-end", X16 X16 X16 X16 X16, "!", true },
};

static void test_split(gconstpointer data)
{
    const struct split_case *c = data;
    gsize length = strlen(c->input);

    for (gsize step = 1; step <= length + 1; step++) {
        g_autofree char *got = split(c->input, length, step, c->end);

        g_assert_cmpstr(got, ==, c->wanted);
    }
}

static void test_split_bounded(void)
{
    g_autofree char *junk = g_strnfill(1000, 'x');
    struct qmp_split split;
    unsigned refused = 0;
    const char *text;
    gsize length;

    qmp_split_init(&split, LIMIT);
    for (int i = 0; i < 1000; i++) {
        qmp_split_feed(&split, junk, 1000);
        refused += qmp_split_next(&split, &text, &length) == QMP_SPLIT_TOO_LONG;
        g_assert_cmpint(qmp_split_next(&split, &text, &length), ==, QMP_SPLIT_MORE);
        g_assert_cmpuint(split.bytes->len, <=, 1000);
    }
    g_assert_cmpuint(refused, ==, 1);
    qmp_split_clear(&split);
}

static const char *const good_json[] = {
    "{}", "[]", " [ 1 , -2.5e+3 , 0 , -0 , 0.5 , 1E5 ] ", "{\"a\":{\"b\":[true,false,null]}}",
    "\"\\u00e9\\ud83d\\ude00\\n\\/\"", "9223372036854775807", "-9223372036854775808", "\"\xc3\xa9\"",
};

static void test_json_good(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(good_json); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonNode) node = qmp_json_parse(good_json[i], strlen(good_json[i]), &error);

        g_assert_no_error(error);
        g_assert_nonnull(node);
    }
}

static const struct {
    const char *text, *why;
} bad_json[] = {
    { "", "unexpected end" },
    { "{\"a\":", "unexpected end" },
    { "{\"a\":1", "unexpected end" },
    { "\"a", "unexpected end" },
    { "{\"a\":1,}", "expected a string" },
    { "{\"a\" 1}", "expected ':'" },
    { "{\"a\":1 \"b\":2}", "expected ','" },
    { "{a:1}", "expected a string" },
    { "{'a':1}", "expected a string" },
    { "[1,]", "unexpected character" },
    { "{]", "expected a string" },
    { "[}", "unexpected character" },
    { "{} {}", "something follows" },
    { "{} /* c */", "something follows" },
    { "010", "something follows" },
    { "0x10", "something follows" },
    { "- 5", "expected a digit" },
    { "1.", "unexpected end" },
    { ".5", "unexpected character" },
    { "[1e]", "expected a digit" },
    { "nan", "unexpected character" },
    { "TRUE", "unexpected character" },
    { "18446744073709551615", "out of range" },
    { "9223372036854775808", "out of range" },
    { "1e400", "out of range" },
    { "\"a\tb\"", "control character" },
    { "\"\\q\"", "invalid escape" },
    { "\"\\u12x4\"", "hex digits" },
    { "\"\\u0000\"", "may not hold a NUL" },
    { "\"\\ud800\"", "surrogate" },
    { "\"\\udc00\"", "surrogate" },
    { "\"\\ud800\\u0041\"", "surrogate" },
    { "\"\xff\"", "invalid UTF-8" },
    { "\"\xc3\"", "invalid UTF-8" },
};

static void test_json_bad(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_json); i++) {
        g_autoptr(GError) error = NULL;
        JsonNode *node = qmp_json_parse(bad_json[i].text, strlen(bad_json[i].text), &error);

        g_test_message("case %" G_GSIZE_FORMAT ": %s", i, bad_json[i].why);
        g_assert_null(node);
        g_assert_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC);
        g_assert_true(g_str_has_prefix(error->message, "JSON parse error, "));
        g_assert_nonnull(strstr(error->message, bad_json[i].why));
    }
}

static void test_json_nul(void)
{
    gsize at;

    g_assert_cmpstr(qmp_json_check("{\0}", 3, &at), ==, "NUL byte");
    g_assert_cmpuint(at, ==, 1);
}

static void test_json_depth(void)
{
    GString *text = g_string_new(NULL);
    gsize at;

    for (int i = 0; i < QMP_JSON_DEPTH; i++) {
        g_string_prepend(text, "[");
        g_string_append(text, "]");
    }
    g_assert_null(qmp_json_check(text->str, text->len, &at));
    g_string_prepend(text, "[");
    g_string_append(text, "]");
    g_assert_cmpstr(qmp_json_check(text->str, text->len, &at), ==, "nested too deeply");
    g_string_free(text, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(split_cases); i++) {
        g_autofree char *path = g_strdup_printf("/qmp-split/%s", split_cases[i].name);

        g_test_add_data_func(path, &split_cases[i], test_split);
    }
    g_test_add_func("/qmp-split/bounded", test_split_bounded);
    g_test_add_func("/qmp-json/good", test_json_good);
    g_test_add_func("/qmp-json/bad", test_json_bad);
    g_test_add_func("/qmp-json/nul", test_json_nul);
    g_test_add_func("/qmp-json/depth", test_json_depth);
    return g_test_run();
}
