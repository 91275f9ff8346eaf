// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier perf-read`: what it prints of a file that is made here, and of what is none. */
#include "host/cli/cli.h"
#include "host/cli/json.h"
#include "perf-file.h"

#include <glib/gstdio.h>
#include <string.h>

static const struct cli_command *const commands[] = { &cli_perf_read, NULL };
static GString *said, *complained;

static void say(const char *text)
{
    g_string_append(said, text);
}

static void complain(const char *text)
{
    g_string_append(complained, text);
}

static int run(const char *path, const char *option)
{
    const char *argv[] = { "vmtier", "perf-read", path, option, NULL };
    int code;

    g_string_truncate(said, 0);
    g_string_truncate(complained, 0);
    g_set_print_handler(say);
    g_set_printerr_handler(complain);
    code = cli_run(commands, option ? 4 : 3, (char **)(gpointer)argv);
    g_set_print_handler(NULL);
    g_set_printerr_handler(NULL);
    return code;
}

/* Two faults, and a record that is cut. */
static char *make_file(void)
{
    const struct file_event faults = { "minor-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MIN,
                                       PERF_SAMPLE_TID | PERF_SAMPLE_ADDR | PERF_SAMPLE_PHYS_ADDR, { 1 } };
    g_autoptr(GByteArray) data = g_byte_array_new(), file = NULL;

    for (guint i = 0; i < 3; i++) {
        g_autoptr(GByteArray) body = g_byte_array_new(), record = NULL;

        put_u32s(body, 100, 101);
        put_u64(body, 0xfedcba9876543000 + i);
        if (i < 2)
            put_u64(body, 0x1000 + i);
        record = record_new(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER, body);
        put_bytes(data, record->data, record->len);
    }
    file = file_new(&faults, 1, data, "", FALSE);
    return file_write(file);
}

static void test_text(void)
{
    g_autofree char *path = make_file(), *dir = g_path_get_dirname(path);

    g_assert_cmpint(run(path, NULL), ==, CLI_OK);
    g_assert_nonnull(strstr(said->str, "100/101 minor-faults addr=fedcba9876543001 phys=1001\n"));
    g_assert_nonnull(strstr(said->str, "2 samples, 0 other records, 0 lost, 0 times throttled\n"));
    g_assert_nonnull(strstr(said->str, "rejected, short: 1\n"));
    g_assert_cmpint(run(path, "--limit=1"), ==, CLI_OK);
    g_assert_nonnull(strstr(said->str, "phys=1000\n"));
    g_assert_null(strstr(said->str, "phys=1001"));
    g_assert_cmpint(run(path, "-c"), ==, CLI_OK);
    g_assert_null(strstr(said->str, "minor-faults"));
    g_assert_nonnull(strstr(said->str, "2 samples"));
    g_unlink(path);
    g_rmdir(dir);
}

static void test_json(void)
{
    g_autofree char *path = make_file(), *dir = g_path_get_dirname(path);
    g_autoptr(JsonNode) node = NULL;
    JsonObject *all, *second;

    g_assert_cmpint(run(path, "--json"), ==, CLI_OK);
    node = json_from_string(said->str, NULL);
    g_assert_nonnull(node);
    all = json_node_get_object(node);
    g_assert_cmpuint(js_len(js_arr(all, "samples")), ==, 2);
    second = js_at(js_arr(all, "samples"), 1);
    g_assert_cmpstr(js_str(second, "addr"), ==, "fedcba9876543001");
    g_assert_cmpstr(js_str(second, "event"), ==, "minor-faults");
    g_assert_cmpint(js_int(second, "tid"), ==, 101);
    g_assert_cmpint(js_int(js_obj(js_obj(all, "counts"), "rejected"), "short"), ==, 1);
    g_unlink(path);
    g_rmdir(dir);
}

static void test_none(void)
{
    g_assert_cmpint(run("/nonexistent", NULL), ==, CLI_REFUSED);
    g_assert_nonnull(strstr(complained->str, "/nonexistent: No such file"));
    g_assert_cmpint(run("/proc/self/exe", NULL), ==, CLI_REFUSED);
    g_assert_nonnull(strstr(complained->str, "it is no perf.data file"));
    g_assert_cmpuint(said->len, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    said = g_string_new(NULL);
    complained = g_string_new(NULL);
    g_test_add_func("/cli-perf-read/none", test_none);
    g_test_add_func("/cli-perf-read/json", test_json);
    g_test_add_func("/cli-perf-read/text", test_text);  /* last: options stay as they are */
    return g_test_run();
}
