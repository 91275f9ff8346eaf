// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of the texts that `vmtier` shows and the sizes it takes. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"
#include "host/cli/view.h"

#include <locale.h>
#include <string.h>

static void test_size(void)
{
    static const struct {
        gint64 bytes;
        const char *text;
    } cases[] = {
        { 0, "0 B" }, { 1023, "1023 B" }, { 1024, "1 KiB" }, { 1536, "1.50 KiB" },
        { 268435456, "256 MiB" }, { 1610612736, "1.50 GiB" }, { 13421772800, "12.5 GiB" },
        { G_MAXINT64, "8 EiB" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = fmt_size(cases[i].bytes);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

static void test_duration(void)
{
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {
        { 0, "0 s" }, { 59.9, "59 s" }, { 60, "1 min" }, { 185, "3 min 5 s" },
        { 7620, "2 h 7 min" }, { 7200, "2 h" }, { 273600, "3 d 4 h" }, { -5, "0 s" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = fmt_duration(cases[i].seconds);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

static void test_parse_size(void)
{
    static const struct {
        const char *text;
        gint64 bytes;
    } cases[] = {
        { "0", 0 }, { "4096", 4096 }, { "4k", 4096 }, { "256M", 268435456 }, { "1.5G", 1610612736 },
        { "2MiB", 2097152 }, { "1T", 1099511627776 }, { "1GB", 1073741824 }, { "7b", 7 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        gint64 bytes = -1;

        g_assert_true(fmt_parse_size(cases[i].text, &bytes, &error));
        g_assert_no_error(error);
        g_assert_cmpint(bytes, ==, cases[i].bytes);
    }
}

static void test_parse_size_bad(void)
{
    static const char *const bad[] = { "",    "M",   "-1",  "+1",   "x",    "1X",   "1MM",
                                       "1Mi", "1 M", "0x10", "nan",  "1M1", "9999999999T" };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        gint64 bytes;

        g_assert_false(fmt_parse_size(bad[i], &bytes, &error));
        g_assert_error(error, CLI_ERROR, CLI_USAGE);
    }
}

static void test_parse_quota(void)
{
    static const char *const bad[] = { "%", "-5%", "101%", "5%%", "abc%", "nan%" };
    gint64 bytes = -1;

    g_assert_true(fmt_parse_quota("25%", 1 << 30, 2 << 20, &bytes, NULL));
    g_assert_cmpint(bytes, ==, 256 << 20);
    g_assert_true(fmt_parse_quota("33.3%", 1 << 30, 2 << 20, &bytes, NULL));
    g_assert_cmpint(bytes, ==, 340 << 20);
    g_assert_true(fmt_parse_quota("3M", 1 << 30, 2 << 20, &bytes, NULL));
    g_assert_cmpint(bytes, ==, 3 << 20);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(fmt_parse_quota(bad[i], 1 << 30, 2 << 20, &bytes, &error));
        g_assert_error(error, CLI_ERROR, CLI_USAGE);
    }
}

static void test_bar(void)
{
    static const double shares[] = { -1, 0, 0.01, 0.333, 0.5, 0.999, 1, 7 };

    for (gsize i = 0; i < G_N_ELEMENTS(shares); i++) {
        g_autofree char *bar = fmt_bar(shares[i], 10);

        g_assert_cmpint(g_utf8_strlen(bar, -1), ==, 10);
    }
}

static void test_safe(void)
{
    g_autofree char *escape = fmt_safe("a\033[31mb\n\xc2\x9b\xff"), *none = fmt_safe(NULL);

    g_assert_cmpstr(none, ==, "-");
    g_assert_null(strpbrk(escape, "\033\n"));
    g_assert_null(strstr(escape, "\xc2\x9b"));
    g_assert_true(g_utf8_validate(escape, -1, NULL));
}

static void test_table(void)
{
    static const char *const cells[] = { "A", "LONG", "C", "é", "b", "", "aaa", "", "" };
    g_autoptr(GString) out = g_string_new(NULL);
    struct fmt_table table;

    fmt_table_init(&table, 3);
    for (gsize i = 0; i < G_N_ELEMENTS(cells); i++) {
        fmt_table_add(&table, g_strdup(cells[i]));
    }
    fmt_table_print(&table, 1, out);
    g_assert_cmpstr(out->str, ==, " A    LONG  C\n é    b\n aaa\n");
}

/* A daemon that says little, or nonsense, is shown as far as that goes. */
static void test_views_forgive(void)
{
    static const char *const vms[] = {
        "{}", "{\"name\":5,\"tiers\":{},\"sources\":[1,null],\"memslots\":[[]],\"dram_hit\":[]}",
        "{\"quota\":{\"max_bytes\":\"x\"},\"tiers\":[{}],\"sources\":[{}],\"moves\":null}",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(vms); i++) {
        g_autoptr(JsonNode) node = json_from_string(vms[i], NULL);
        g_autoptr(JsonArray) list = json_array_new();
        g_autoptr(GString) out = g_string_new(NULL);

        json_array_add_object_element(list, json_node_dup_object(node));
        json_array_add_null_element(list);
        view_vm(json_node_get_object(node), out);
        view_vms(list, out);
        view_daemon(json_node_get_object(node), out);
        g_assert_nonnull(strstr(out->str, "no hit ratio: the daemon gives no reason"));
    }
}

static void test_view_hit(void)
{
    g_autoptr(JsonNode) sampled = json_from_string("{\"dram_hit\":{\"ratio\":0.9734}}", NULL);
    g_autoptr(JsonNode) absent = json_from_string("{\"dram_hit\":{\"ratio\":null}}", NULL);
    g_autofree char *one = view_hit(json_node_get_object(sampled));
    g_autofree char *none = view_hit(json_node_get_object(absent));

    g_assert_cmpstr(one, ==, "97.3 %");
    g_assert_cmpstr(none, ==, "-");
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "C.UTF-8");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli-format/size", test_size);
    g_test_add_func("/cli-format/duration", test_duration);
    g_test_add_func("/cli-format/parse-size", test_parse_size);
    g_test_add_func("/cli-format/parse-size-bad", test_parse_size_bad);
    g_test_add_func("/cli-format/parse-quota", test_parse_quota);
    g_test_add_func("/cli-format/bar", test_bar);
    g_test_add_func("/cli-format/safe", test_safe);
    g_test_add_func("/cli-format/table", test_table);
    g_test_add_func("/cli-format/views-forgive", test_views_forgive);
    g_test_add_func("/cli-format/view-hit", test_view_hit);
    return g_test_run();
}
