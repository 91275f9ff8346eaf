// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the daemon's QMP input: the splitter, the strict JSON check, json-glib behind it, and
 * the argument check. The first byte says in pieces of which size the rest arrives.
 *
 * Beyond not crashing, these hold: a text obeys the splitter's promise, and what the strict check
 * takes, json-glib takes as well.
 */
#include "host/qmp-json.h"
#include "host/qmp-split.h"
#include "host/qmp.h"

#include <stdint.h>
#include <string.h>

#define LIMIT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct qmp_arg args[] = {
    { "vm", QMP_STRING, true },  { "max", QMP_INT, false },  { "r", QMP_NUMBER, false },
    { "on", QMP_BOOL, false },   { "l", QMP_LIST, false },   { 0 },
};

static void check_text(const char *text, gsize length)
{
    g_autoptr(GError) error = NULL, refused = NULL;
    g_autoptr(JsonNode) node = NULL;
    gsize at = 0;
    const char *why = qmp_json_check(text, length, &at);

    g_assert_true(length > 0 && length <= LIMIT && !memchr(text, '\n', length) && at <= length);
    node = qmp_json_parse(text, length, &error);
    g_assert_true(!node == !!why);
    if (node && JSON_NODE_HOLDS_OBJECT(node)) {
        bool fits = qmp_args_check(args, json_node_get_object(node), &refused);

        g_assert_true(fits == !refused);
    }
}

static void drain(struct qmp_split *split)
{
    enum qmp_split_result got;
    const char *text;
    gsize length;

    while ((got = qmp_split_next(split, &text, &length)) != QMP_SPLIT_MORE) {
        if (got == QMP_SPLIT_TEXT) {
            check_text(text, length);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qmp_split split;
    size_t step = size ? data[0] + 1 : 1;

    qmp_split_init(&split, LIMIT);
    for (size_t at = 1; at < size; at += step) {
        qmp_split_feed(&split, data + at, MIN(step, size - at));
        drain(&split);
    }
    qmp_split_end(&split);
    drain(&split);
    qmp_split_clear(&split);
    return 0;
}
