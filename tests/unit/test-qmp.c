// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of the QMP server: what is said. */
#include "tests/unit/qmp-fixture.h"

#include <string.h>

static void test_greeting(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_new(f);

    (void)data;
    peer_expect(peer, "{\"QMP\":{\"version\":{\"qemu\":{\"major\":0,\"minor\":1,\"micro\":0},"
                      "\"package\":\"vmtier 0.1.0\"},\"capabilities\":[]}}");
    peer_free(peer);
}

static void test_negotiation(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_new(f);

    (void)data;
    peer_expect(peer, "\"QMP\"");
    peer_ask(peer, "{\"execute\":\"query-commands\"}", "CommandNotFound");
    peer_ask(peer, "{\"execute\":\"nothing\",\"id\":1}", "Expecting capabilities negotiation");
    peer_ask(peer, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}",
             "'enable'");
    peer_ask(peer, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[]}}",
             "{\"return\":{}}");
    peer_ask(peer, NEGOTIATE, "already complete");
    peer_ask(peer, "{\"execute\":\"query-version\"}", "\"package\":\"vmtier 0.1.0\"");
    peer_free(peer);
}

static const char *const exchanges[][2] = {
    { "{\"execute\":\"query-commands\"}", "{\"name\":\"toy-big\"}" },
    { "{\"execute\":\"quit\"}", "\"class\":\"CommandNotFound\",\"desc\":\"The command quit" },
    { "{\"execute\":\"toy-fail\"}", "{\"class\":\"DeviceNotFound\",\"desc\":\"no VM \\\"x\\\"\"}" },
    { "{\"execute\":\"toy-foreign\"}", "{\"class\":\"GenericError\",\"desc\":\"foreign\"}" },
    { "{\"execute\":\"toy-fail\",\"arguments\":{\"vm\":1}}", "Parameter 'vm' is unexpected" },
    { "{\"execute\":\"toy-echo\"}", "Parameter 'name' is missing" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":5}}", "'name', expected: string" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":null}}", "'name', expected: string" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":\"a\",\"count\":1.0}}",
      "'count', expected: integer" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":\"a\",\"count\":\"1\"}}",
      "'count', expected: integer" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":\"a\",\"ratio\":true}}",
      "'ratio', expected: number" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":\"a\",\"flag\":0}}",
      "'flag', expected: boolean" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":\"a\",\"items\":{}}}",
      "'items', expected: array" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":\"a\",\"count\":3,\"ratio\":1,\"flag\":true,"
      "\"items\":[1]}}", "{\"return\":{\"name\":\"a\",\"count\":3,\"ratio\":1,\"flag\":true" },
    { "{\"execute\":\"toy-echo\",\"arguments\":{\"name\":\"a\",\"count\":18446744073709551615}}",
      "number out of range" },
    { "{}", "lacks member 'execute'" },
    { "[]", "must be a JSON object" },
    { "{\"execute\":1}", "'execute' must be a string" },
    { "{\"execute\":{}}", "'execute' must be a string" },
    { "{\"execute\":\"toy-echo\",\"arguments\":[]}", "'arguments' must be an object" },
    { "{\"exec-oob\":\"toy-echo\",\"id\":3}", "'exec-oob' is unexpected\"},\"id\":3}" },
    { "{\"execute\":\"toy-emit\",\"id\":{\"a\":[1,\"b\"]}}", "\"event\":\"TOY\"" },
    { "", "{\"return\":{},\"id\":{\"a\":[1,\"b\"]}}" },
    { "{\"id\":null,\"execute\":\"toy-fail\"}", "\"id\":null}" },
    { "hello", "JSON parse error, " },
    { "{\"execute\":", "JSON parse error, unexpected end" },
    { "{'execute':'quit'}", "JSON parse error, expected a string" },
    { "{\"execute\":\"\xff\"}", "JSON parse error, invalid UTF-8" },
    { "{\"execute\":\"query-version\"}", "vmtier" },
};

static void test_exchanges(struct fixture *f, gconstpointer data)
{
    struct peer *peer = peer_negotiated(f);

    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(exchanges); i++) {
        peer_ask(peer, exchanges[i][0], exchanges[i][1]);
    }
    peer_free(peer);
}

static void test_framing(struct fixture *f, gconstpointer data)
{
    static const char request[] = "{\"execute\":\"query-version\"}";
    struct peer *peer = peer_negotiated(f);

    (void)data;
    for (gsize i = 0; i < strlen(request); i++) {
        peer_send_bytes(peer, request + i, 1);
    }
    peer_expect(peer, "vmtier");
    peer_send_bytes(peer, "{\"execute\":\"\0\"}\n", 16);
    peer_expect(peer, "NUL byte");
    peer_send(peer, "{\"execute\":\"query-version\",\"id\":1}{\"execute\":\"query-version\",\"id\":2}");
    peer_expect(peer, "\"id\":1}");
    peer_expect(peer, "\"id\":2}");
    peer_free(peer);
}

static void test_oversized(struct fixture *f, gconstpointer data)
{
    g_autofree char *junk = g_strnfill(3 * QMP_MAX_REQUEST, 'x');
    struct peer *peer = peer_negotiated(f);

    (void)data;
    peer_send(peer, junk);
    peer_expect(peer, "longer than 1048576 bytes");
    peer_send(peer, "\n");
    peer_ask(peer, "{\"execute\":\"query-version\",\"id\":7}", "\"id\":7}");
    peer_free(peer);
}

static void test_deep(struct fixture *f, gconstpointer data)
{
    g_autofree char *open = g_strnfill(100000, '[');
    struct peer *peer = peer_negotiated(f);

    (void)data;
    peer_ask(peer, open, "nested too deeply");
    peer_ask(peer, "{\"execute\":\"query-version\"}", "vmtier");
    peer_free(peer);
}

static void test_events(struct fixture *f, gconstpointer data)
{
    struct peer *ready = peer_negotiated(f), *fresh = peer_new(f);
    JsonObject *payload = json_object_new();

    (void)data;
    peer_expect(fresh, "\"QMP\"");
    json_object_set_string_member(payload, "vm", "a");
    qmp_server_emit(f->server, "HELLO", json_node_init_object(json_node_alloc(), payload));
    json_object_unref(payload);
    peer_expect(ready, "{\"event\":\"HELLO\",\"data\":{\"vm\":\"a\"},\"timestamp\":{\"seconds\":");
    peer_ask(fresh, NEGOTIATE, "{\"return\":{}}");
    peer_ask(fresh, "{\"execute\":\"query-vmtier-events\"}", "\"seq\":1");
    peer_ask(fresh, "{\"execute\":\"query-vmtier-events\",\"arguments\":{\"since\":1}}",
             "{\"return\":[]}");
    peer_free(ready);
    peer_free(fresh);
}

static void test_ring(struct fixture *f, gconstpointer data)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    struct peer *peer;
    g_autofree char *line = NULL;
    JsonArray *list;

    (void)data;
    for (int i = 0; i < QMP_EVENT_RING + 10; i++) {
        qmp_server_emit(f->server, "TICK", NULL);
    }
    peer = peer_negotiated(f);
    peer_send(peer, "{\"execute\":\"query-vmtier-events\"}");
    line = peer_line(peer);
    g_assert_true(json_parser_load_from_data(parser, line, -1, NULL));
    list = json_object_get_array_member(json_node_get_object(json_parser_get_root(parser)), "return");
    g_assert_cmpuint(json_array_get_length(list), ==, QMP_EVENT_RING);
    g_assert_cmpint(json_object_get_int_member(json_array_get_object_element(list, 0), "seq"), ==, 11);
    peer_free(peer);
}

static const struct qmp_test tests[] = {
    { "/qmp/greeting", test_greeting },
    { "/qmp/negotiation", test_negotiation },
    { "/qmp/exchanges", test_exchanges },
    { "/qmp/framing", test_framing },
    { "/qmp/oversized", test_oversized },
    { "/qmp/deep", test_deep },
    { "/qmp/events", test_events },
    { "/qmp/ring", test_ring },
};

int main(int argc, char **argv)
{
    return qmp_tests_run(argc, argv, tests, G_N_ELEMENTS(tests));
}
