// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the source "damon", on a tree of plain files: what is written where, whose the slots are, and
 * that what is somebody else's stays as it is. A plain file cannot make directories when it is written, so
 * the tree has them all from the start.
 */
// link: -Wl,--wrap=heat_add
#include "host/source/damon.h"
#include "host/source/damon-sysfs.h"
#include "host/source/damon-trace.h"
#include "host/source/source.h"
#include "tests/unit/heard.h"
#include "tests/unit/vm-fixture.h"

#include <glib/gstdio.h>
#include <math.h>

#define GRANULE (2ull << 20)
#define GRANULES 8
#define HVA     0x7f0000000000ull
#define SLOTS   2

struct bed {
    char *root, *record;
    struct daemon *daemon;
    struct vm *vm[SLOTS];
    struct vt_err err;
};

static void put(struct bed *b, const char *value, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void put(struct bed *b, const char *value, const char *format, ...)
{
    g_autofree char *name = NULL, *path = NULL, *dir = NULL;
    va_list args;

    va_start(args, format);
    name = g_strdup_vprintf(format, args);
    va_end(args);
    path = g_build_filename(b->root, name, NULL);
    dir = g_path_get_dirname(path);
    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, value, -1, NULL));
}

static void assert_file(struct bed *b, const char *wanted, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void assert_file(struct bed *b, const char *wanted, const char *format, ...)
{
    g_autofree char *name = NULL, *path = NULL, *text = NULL;
    va_list args;

    va_start(args, format);
    name = g_strdup_vprintf(format, args);
    va_end(args);
    path = g_build_filename(b->root, name, NULL);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    if (strcmp(text, wanted) != 0)
        g_error("%s: '%s' instead of '%s'", name, text, wanted);
}

static void make_slot(struct bed *b, int slot)
{
    static const char *const files[] = {
        "state", "contexts/nr_contexts", "contexts/0/operations",
        "contexts/0/monitoring_attrs/intervals/sample_us", "contexts/0/monitoring_attrs/intervals/aggr_us",
        "contexts/0/monitoring_attrs/intervals/update_us", "contexts/0/monitoring_attrs/nr_regions/min",
        "contexts/0/monitoring_attrs/nr_regions/max", "contexts/0/targets/nr_targets",
        "contexts/0/targets/0/pid_target", "contexts/0/targets/0/regions/nr_regions",
        "contexts/0/schemes/nr_schemes", "contexts/0/schemes/0/action",
        "contexts/0/schemes/0/access_pattern/sz/min", "contexts/0/schemes/0/access_pattern/sz/max",
        "contexts/0/schemes/0/access_pattern/nr_accesses/min",
        "contexts/0/schemes/0/access_pattern/nr_accesses/max",
        "contexts/0/schemes/0/access_pattern/age/min", "contexts/0/schemes/0/access_pattern/age/max",
    };
    char thread[16];

    for (gsize i = 0; i < G_N_ELEMENTS(files); i++)
        put(b, "", "kdamonds/%d/%s", slot, files[i]);
    g_snprintf(thread, sizeof(thread), "%d\n", 4194400 + slot);     /* above pid_max: no such thread */
    put(b, thread, "kdamonds/%d/pid", slot);
    for (int i = 0; i < GRANULES; i++) {
        put(b, "", "kdamonds/%d/contexts/0/targets/0/regions/%d/start", slot, i);
        put(b, "", "kdamonds/%d/contexts/0/targets/0/regions/%d/end", slot, i);
    }
    put(b, "vaddr\nfvaddr\npaddr\n", "kdamonds/%d/contexts/0/avail_operations", slot);
}

/* A VM of eight granules in two blocks; the second one is at the lower address. */
static struct vm *make_vm(struct bed *b, guint32 pid)
{
    struct vm *vm = fixture_vm(b->daemon);

    vm->pid = pid;
    vm->can_sources = vm->sources = 0;          /* there is no QEMU to tell */
    vm_resize(vm, GRANULES);
    for (guint i = 0; i < 2; i++) {
        vm->block[i].present = true;
        vm->block[i].host = HVA - i * 0x100000000;
        vm->block[i].first = 4 * i;
        vm->block[i].count = 4;
        vm->block[i].length = 4 * GRANULE;
    }
    for (guint32 g = 0; g < GRANULES; g++)
        ledger_put(&vm->ledger, g, 0);
    vm->config.sources = 1u << SRC_DAMON;
    vm->now.mode = VM_ON;
    return vm;
}

static struct bed *bed_new(void)
{
    struct bed *b = g_new0(struct bed, 1);

    b->root = g_dir_make_tmp("vmtier-damon-XXXXXX", NULL);
    b->record = g_build_filename(b->root, "record", NULL);
    put(b, "0\n", "kdamonds/nr_kdamonds");
    for (int i = 0; i < SLOTS; i++)
        make_slot(b, i);
    damon_set_paths(b->root, b->record);
    heard_forget();
    b->daemon = fixture_daemon();
    for (int i = 0; i < SLOTS; i++)
        b->vm[i] = make_vm(b, 100 + (guint32)i);
    return b;
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    g_remove(path);
}

static void bed_free(struct bed *b)
{
    for (int i = 0; i < SLOTS; i++)
        vm_unref(b->vm[i]);
    fixture_daemon_free(b->daemon);
    damon_set_paths(NULL, NULL);
    remove_tree(b->root);
    g_free(b->root);
    g_free(b->record);
    g_free(b);
}

/* All files' names and contents. */
static void snapshot_of(const char *path, GString *text)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autofree char *content = NULL;
    const char *name;

    if (!dir && g_file_get_contents(path, &content, NULL, NULL))
        g_string_append_printf(text, "%s=%s;", path, content);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        snapshot_of(child, text);
    }
}

static char *snapshot(struct bed *b)
{
    GString *text = g_string_new(NULL);

    snapshot_of(b->root, text);
    return g_string_free(text, FALSE);
}

static void round_of(struct bed *b, int i)
{
    g_assert_cmpint(sources_switch(b->vm[i], &b->err), ==, 0);
    g_assert_cmpint(sources_harvest(b->vm[i], 0.25, &b->err), ==, 0);
    b->vm[i]->clock += 0.25;
}

static const struct source_stats *stats(struct bed *b, int i)
{
    return &b->vm[i]->stats.source[SRC_DAMON];
}

static void put_region(struct bed *b, int slot, int i, guint64 start, guint64 end, int accesses)
{
    const guint64 values[] = { start, end, (guint64)accesses };
    static const char *const keys[] = { "start", "end", "nr_accesses" };

    for (int k = 0; k < 3; k++) {
        g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT "\n", values[k]);

        put(b, text, "kdamonds/%d/contexts/0/schemes/0/tried_regions/%d/%s", slot, i, keys[k]);
    }
}

static void test_set_up(void)
{
    struct bed *b = bed_new();

    round_of(b, 0);
    g_assert_true(stats(b, 0)->running);
    assert_file(b, "1", "kdamonds/nr_kdamonds");
    assert_file(b, "1", "kdamonds/0/contexts/nr_contexts");
    assert_file(b, "fvaddr", "kdamonds/0/contexts/0/operations");
    assert_file(b, "100", "kdamonds/0/contexts/0/targets/0/pid_target");
    assert_file(b, "8", "kdamonds/0/contexts/0/targets/0/regions/nr_regions");      /* one each, from the lowest */
    assert_file(b, "139633681760256", "kdamonds/0/contexts/0/targets/0/regions/0/start");
    assert_file(b, "139633683857408", "kdamonds/0/contexts/0/targets/0/regions/0/end");
    assert_file(b, "139633690148864", "kdamonds/0/contexts/0/targets/0/regions/3/end");
    assert_file(b, "139637976727552", "kdamonds/0/contexts/0/targets/0/regions/4/start");
    assert_file(b, "10", "kdamonds/0/contexts/0/monitoring_attrs/nr_regions/min");
    assert_file(b, "200", "kdamonds/0/contexts/0/monitoring_attrs/nr_regions/max");
    assert_file(b, "stat", "kdamonds/0/contexts/0/schemes/0/action");
    assert_file(b, "18446744073709551615", "kdamonds/0/contexts/0/schemes/0/access_pattern/sz/max");
    assert_file(b, "4294967295", "kdamonds/0/contexts/0/schemes/0/access_pattern/age/max");
    assert_file(b, "", "kdamonds/1/state");
    b->vm[0]->now.mode = VM_OFF;
    round_of(b, 0);
    assert_file(b, "off", "kdamonds/0/state");
    assert_file(b, "0", "kdamonds/nr_kdamonds");
    g_assert_false(g_file_test(b->record, G_FILE_TEST_EXISTS));
    bed_free(b);
}

/* With less budget than granules the regions are as many granules large as they must be. */
static void test_coarse(void)
{
    struct bed *b = bed_new();

    b->vm[0]->config.probe_budget_us = 100;     /* 20 regions at most, ten to begin with */
    vm_resize(b->vm[0], 1024);
    b->vm[0]->block[1].present = false;
    b->vm[0]->block[0].count = 24;
    b->vm[0]->block[0].length = 24 * GRANULE - 4096;
    round_of(b, 0);
    assert_file(b, "8", "kdamonds/0/contexts/0/targets/0/regions/nr_regions");
    assert_file(b, "139637995601920", "kdamonds/0/contexts/0/targets/0/regions/3/start");
    assert_file(b, "139638027055104", "kdamonds/0/contexts/0/targets/0/regions/7/end");
    bed_free(b);
}

static double rate_of(guint32 granule)
{
    return heard[HEAT_PROBES][granule].events / heard[HEAT_PROBES][granule].exposure_s;
}

/* A region's looks go to its granules by bytes; what lies beside the RAM, to nobody. */
static void test_regions(void)
{
    struct bed *b = bed_new();

    put_region(b, 0, 0, HVA, HVA + GRANULE, 20);
    put_region(b, 0, 1, HVA + GRANULE, HVA + 4 * GRANULE, 6);
    put_region(b, 0, 2, HVA + 0x40000000, HVA + 0x50000000, 20);
    put_region(b, 0, 3, 10, 5, 20);
    for (int i = 0; i < 500 && !stats(b, 0)->events; i++) {
        round_of(b, 0);
        g_usleep(10000);
    }
    g_assert_cmpfloat_with_epsilon(rate_of(0), -log(1 - 20 / 20.5) / 0.02, 0.01);
    g_assert_cmpfloat_with_epsilon(rate_of(2), -log(1 - 6 / 20.5) / 0.02, 0.01);
    g_assert_cmpfloat_with_epsilon(heard[HEAT_PROBES][0].events / heard[HEAT_PROBES][2].events, 20 / 2.0, 0.01);
    g_assert_cmpfloat(heard[HEAT_PROBES][4].exposure_s, ==, 0);
    assert_file(b, "update_schemes_tried_regions", "kdamonds/0/state");
    g_assert_cmpuint(stats(b, 0)->events % 46, ==, 0);
    bed_free(b);
}

/* Each VM has a slot; when one goes, the other one is set up again in the first. */
static void test_two(void)
{
    struct bed *b = bed_new();

    round_of(b, 0);
    round_of(b, 1);
    assert_file(b, "2", "kdamonds/nr_kdamonds");
    assert_file(b, "100", "kdamonds/0/contexts/0/targets/0/pid_target");
    assert_file(b, "101", "kdamonds/1/contexts/0/targets/0/pid_target");
    b->vm[0]->now.mode = VM_OFF;
    round_of(b, 0);
    assert_file(b, "1", "kdamonds/nr_kdamonds");
    assert_file(b, "101", "kdamonds/0/contexts/0/targets/0/pid_target");
    round_of(b, 1);
    g_assert_true(stats(b, 1)->running);
    bed_free(b);
}

/* Somebody else's: said so, and not a byte of it changes, whatever we want. */
static void test_not_ours(void)
{
    struct bed *b = bed_new();
    g_autofree char *before = NULL, *after = NULL;

    put(b, "1\n", "kdamonds/nr_kdamonds");
    put(b, "on\n", "kdamonds/0/state");
    put(b, "7\n", "kdamonds/0/contexts/0/targets/0/pid_target");
    before = snapshot(b);
    round_of(b, 0);
    g_assert_false(stats(b, 0)->available || stats(b, 0)->running);
    g_assert_nonnull(strstr(stats(b, 0)->reason, "in use by someone else"));
    damon_recover(b->daemon->config);
    b->vm[0]->clock += 100;
    round_of(b, 0);
    after = snapshot(b);
    g_assert_cmpstr(before, ==, after);
    bed_free(b);
}

/* It became somebody else's while we had it: we let go of it without a write. */
static void test_taken_over(void)
{
    struct bed *b = bed_new();
    g_autofree char *before = NULL, *after = NULL;

    round_of(b, 0);
    for (int i = 0; i < 200; i++)       /* its thread has asked, and sleeps */
        g_usleep(1000);
    put(b, "7\n", "kdamonds/0/pid");
    put(b, "8\n", "kdamonds/0/contexts/0/targets/0/pid_target");
    before = snapshot(b);
    b->vm[0]->now.mode = VM_OFF;
    round_of(b, 0);
    after = snapshot(b);
    g_assert_cmpstr(before, ==, after);
    bed_free(b);
}

static void fake_death(struct bed *b)
{
    g_autofree char *boot = NULL, *text = NULL;

    g_assert_true(g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL));
    text = g_strdup_printf("%s4194400 100\n", boot);
    g_assert_true(g_file_set_contents(b->record, text, -1, NULL));
    put(b, "1\n", "kdamonds/nr_kdamonds");
    put(b, "on\n", "kdamonds/0/state");
    put(b, "100\n", "kdamonds/0/contexts/0/targets/0/pid_target");
}

static void test_recover(void)
{
    struct bed *b = bed_new();

    fake_death(b);
    damon_recover(b->daemon->config);
    assert_file(b, "off", "kdamonds/0/state");
    assert_file(b, "0", "kdamonds/nr_kdamonds");
    g_assert_false(g_file_test(b->record, G_FILE_TEST_EXISTS));
    fake_death(b);                      /* its process has ended, and the thread with it */
    put(b, "-1\n", "kdamonds/0/pid");
    damon_recover(b->daemon->config);
    assert_file(b, "0", "kdamonds/nr_kdamonds");
    fake_death(b);                      /* or is it another thread: then it is not ours */
    put(b, "4711\n", "kdamonds/0/pid");
    damon_recover(b->daemon->config);
    assert_file(b, "1\n", "kdamonds/nr_kdamonds");
    assert_file(b, "on\n", "kdamonds/0/state");
    fake_death(b);                      /* or at another process */
    put(b, "99\n", "kdamonds/0/contexts/0/targets/0/pid_target");
    damon_recover(b->daemon->config);
    assert_file(b, "1\n", "kdamonds/nr_kdamonds");
    bed_free(b);
}

static void expect_stop(void)
{
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "toy: source damon has stopped: *");
}

static void test_operations(void)
{
    struct bed *b = bed_new();

    put(b, "paddr\n", "kdamonds/0/contexts/0/avail_operations");
    expect_stop();
    round_of(b, 0);
    g_assert_false(stats(b, 0)->running);
    g_assert_nonnull(strstr(stats(b, 0)->error, "it has 'paddr'): it needs CONFIG_DAMON_VADDR"));
    assert_file(b, "0", "kdamonds/nr_kdamonds");
    put(b, "vaddr\npaddr\n", "kdamonds/0/contexts/0/avail_operations");
    b->vm[0]->clock += 30;
    round_of(b, 0);
    g_assert_true(stats(b, 0)->running);
    assert_file(b, "vaddr", "kdamonds/0/contexts/0/operations");
    bed_free(b);
}

/* The kernel's thread has ended: this source stops, and gives back what it had. */
static void test_thread_gone(void)
{
    struct bed *b = bed_new();
    g_autofree char *state = g_build_filename(b->root, "kdamonds/0/state", NULL);

    round_of(b, 0);
    g_unlink(state);
    g_assert_cmpint(g_mkdir(state, 0700), ==, 0);
    expect_stop();
    for (int i = 0; i < 500 && stats(b, 0)->running; i++) {
        round_of(b, 0);
        g_usleep(10000);
    }
    g_test_assert_expected_messages();
    g_assert_nonnull(strstr(stats(b, 0)->error, "update_schemes_tried_regions"));
    assert_file(b, "0", "kdamonds/nr_kdamonds");
    bed_free(b);
}

static void test_absent(void)
{
    struct bed *b = bed_new();

    damon_set_paths("/nonexistent", b->record);
    round_of(b, 0);
    g_assert_false(stats(b, 0)->available);
    g_assert_nonnull(strstr(stats(b, 0)->reason, "this kernel has no DAMON"));
    bed_free(b);
}

/* Memory that comes or goes is monitored from then on; that granules move changes nothing. */
static void test_layout(void)
{
    struct bed *b = bed_new();

    round_of(b, 0);
    b->vm[0]->block[1].present = false;
    b->vm[0]->map_changed = true;
    round_of(b, 0);
    assert_file(b, "4", "kdamonds/0/contexts/0/targets/0/regions/nr_regions");
    assert_file(b, "139637976727552", "kdamonds/0/contexts/0/targets/0/regions/0/start");
    put(b, "untouched", "kdamonds/0/contexts/0/operations");
    b->vm[0]->map_changed = true;
    round_of(b, 0);
    assert_file(b, "untouched", "kdamonds/0/contexts/0/operations");
    bed_free(b);
}

/* --- by tracepoint -------------------------------------------------------------------------------------- */

/* As Linux 6.12 has it. */
static const char format[] =
    "name: damon_aggregated\nID: 597\nformat:\n"
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
    "\tfield:unsigned long target_id;\toffset:8;\tsize:8;\tsigned:0;\n"
    "\tfield:unsigned int nr_regions;\toffset:16;\tsize:4;\tsigned:0;\n"
    "\tfield:unsigned long start;\toffset:24;\tsize:8;\tsigned:0;\n"
    "\tfield:unsigned long end;\toffset:32;\tsize:8;\tsigned:0;\n"
    "\tfield:unsigned int nr_accesses;\toffset:40;\tsize:4;\tsigned:0;\n"
    "\tfield:unsigned int age;\toffset:44;\tsize:4;\tsigned:0;\n";

struct told {
    guint64 start, end;
    guint32 accesses, n;
};

static void hear(guint64 start, guint64 end, guint32 accesses, gpointer opaque)
{
    struct told *told = opaque;

    *told = (struct told){ start, end, accesses, told->n + 1 };
}

static void test_fields(void)
{
    static const char *const without[] = {
        " start;", " end;", " nr_accesses;", "size:8;\tsigned:0;\n\tfield:unsigned int nr_a",
    };
    guint64 raw[6] = { 1, 2, 3, HVA, HVA + GRANULE, 17 | 9ull << 32 };
    struct damon_fields fields;
    struct told told = { 0 };

    g_assert_true(damon_fields_parse(format, &fields));
    damon_fields_take(&fields, (const guint8 *)raw, sizeof(raw), hear, &told);
    g_assert_true(told.n == 1 && told.start == HVA && told.end == HVA + GRANULE && told.accesses == 17);
    for (gsize size = 0; size < 44; size++)         /* cut off within a field */
        damon_fields_take(&fields, (const guint8 *)raw, size, hear, &told);
    raw[4] = HVA;                                   /* empty */
    damon_fields_take(&fields, (const guint8 *)raw, sizeof(raw), hear, &told);
    g_assert_cmpuint(told.n, ==, 1);
    for (gsize i = 0; i < G_N_ELEMENTS(without); i++) {
        g_autofree char *copy = g_strdup(format);
        char *at = strstr(copy, without[i]);

        g_assert_nonnull(at);
        at[i < 3 ? 1 : 5] = '2';                    /* another name; a size of 2 */
        g_assert_false(damon_fields_parse(copy, &fields));
    }
}

/* No such thread, or no tracepoint: an error that says so, and nothing is left. */
static void test_no_trace(void)
{
    struct vt_err err = { 0 };

    g_assert_null(damon_trace_new(4194400, 100, &err));
    g_assert_nonnull(strstr(err.text, "damon_aggregated"));
    g_assert_null(damon_trace_new(0, 100, &err));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/damon/set-up", test_set_up);
    g_test_add_func("/damon/coarse", test_coarse);
    g_test_add_func("/damon/regions", test_regions);
    g_test_add_func("/damon/two", test_two);
    g_test_add_func("/damon/not-ours", test_not_ours);
    g_test_add_func("/damon/taken-over", test_taken_over);
    g_test_add_func("/damon/recover", test_recover);
    g_test_add_func("/damon/operations", test_operations);
    g_test_add_func("/damon/thread-gone", test_thread_gone);
    g_test_add_func("/damon/absent", test_absent);
    g_test_add_func("/damon/layout", test_layout);
    g_test_add_func("/damon/fields", test_fields);
    g_test_add_func("/damon/no-trace", test_no_trace);
    return g_test_run();
}
