// SPDX-License-Identifier: GPL-2.0-or-later
/* Events by their text, against PMUs that are made here as sysfs shows them; and the pace's arithmetic. */
#include "host/perf/sampler.h"

#include <string.h>

static char *devices;

static void put_file(const char *pmu, const char *kind, const char *name, const char *text)
{
    g_autofree char *dir = g_build_filename(devices, pmu, kind, NULL);
    g_autofree char *path = g_build_filename(dir, name, NULL);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void make_devices(void)
{
    devices = g_dir_make_tmp("vmtier-pmu-XXXXXX", NULL);
    g_assert_nonnull(devices);
}

static void remove_devices(void)
{
    const char *const argv[] = { "rm", "-rf", devices, NULL };

    g_assert_true(g_spawn_sync(NULL, (char **)(gpointer)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                               NULL, NULL));
    g_clear_pointer(&devices, g_free);
}

static void put_ibs(bool zen4)
{
    put_file("ibs_op", "", "type", "11\n");
    put_file("ibs_op", "format", "cnt_ctl", "config:19\n");
    if (zen4)
        put_file("ibs_op", "format", "l3missonly", "config:16\n");
}

static void put_intel(void)
{
    put_file("cpu", "", "type", "4\n");
    put_file("cpu", "format", "event", "config:0-7\n");
    put_file("cpu", "format", "umask", "config:8-15\n");
    put_file("cpu", "format", "ldlat", "config1:0-15\n");
    put_file("cpu", "format", "split", "config:0-3,32-35\n");
    put_file("cpu", "format", "wide", "config2:0-63\n");
    put_file("cpu", "format", "odd", "konfig:3\n");
    put_file("cpu", "events", "mem-loads", "event=0xcd,umask=0x1,ldlat=3\n");
}

static Event *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    Event *e = event_parse(text, devices, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(e->text, ==, text);
    g_assert_cmpuint(e->attr.size, ==, sizeof(e->attr));
    g_assert_true(e->attr.sample_type & PERF_SAMPLE_ADDR && e->attr.sample_type & PERF_SAMPLE_PHYS_ADDR);
    return e;
}

static void refuses(const char *text, const char *pattern)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(event_parse(text, devices, &error));
    if (!g_pattern_match_simple(pattern, error->message))
        g_error("%s: \"%s\" is not like \"%s\"", text, error->message, pattern);
}

static void test_ibs(void)
{
    g_autoptr(Event) e = NULL;

    make_devices();
    put_ibs(true);
    e = parse("ibs_op/cnt_ctl=1,l3missonly=1/");
    g_assert_cmpuint(e->attr.type, ==, 11);
    g_assert_cmphex(e->attr.config, ==, 1u << 19 | 1u << 16);
    g_assert_cmpint(e->space, ==, EVENT_IBS);
    g_assert_true(e->attr.sample_type & PERF_SAMPLE_RAW);
    g_assert_cmpuint(e->period % e->period_step, ==, 0);
    event_free(e);
    e = parse("ibs_op/cnt_ctl/G");
    g_assert_cmphex(e->attr.config, ==, 1u << 19);
    g_assert_true(e->attr.exclude_host);
    refuses("ibs_op/ldlat=30/", "*PMU ibs_op has no 'ldlat'; its terms are cnt_ctl, l3missonly, its events none");
    refuses("ibs_op/cnt_ctl=2/", "*does not fit into config:19");
    refuses("ibs_op/cnt_ctl=x/", "*'x' is not a number");
    refuses("ibs_op", "*NAME/TERM=VALUE*");
    refuses("cxl_hot//", "*there is no PMU cxl_hot here; there are ibs_op");
    refuses("ibs_op//q", "*'q' is no modifier*");
    refuses("ibs_op/../type/", "*");
    remove_devices();
}

static void test_intel(void)
{
    g_autoptr(Event) e = NULL, split = NULL, wide = NULL;

    make_devices();
    put_intel();
    e = parse("cpu/mem-loads,ldlat=50/P");
    g_assert_cmphex(e->attr.config, ==, 0x1cd);
    g_assert_cmpuint(e->attr.config1, ==, 50);
    g_assert_cmpuint(e->attr.precise_ip, ==, 3);
    g_assert_true(e->most_precise);
    g_assert_cmpint(e->space, ==, EVENT_PHYSICAL);
    split = parse("cpu/split=0xa5/ppu");
    g_assert_cmphex(split->attr.config, ==, 0xa00000005);
    g_assert_cmpuint(split->attr.precise_ip, ==, 2);
    g_assert_true(split->attr.exclude_kernel && !split->attr.exclude_user);
    wide = parse("cpu/wide=0xfedcba9876543210/");
    g_assert_cmphex(wide->attr.config2, ==, 0xfedcba9876543210);
    refuses("cpu/odd=1/", "*is 'konfig:3', which is not understood");
    refuses("cpu/mem-loads=3/", "*has no 'mem-loads'*");
    refuses("cpu/event=0x1cd/", "*does not fit into config:0-7");
    remove_devices();
}

static void test_faults(void)
{
    static const char *const names[] = { "minor-faults", "major-faults", "page-faults" };

    make_devices();
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(Event) e = parse(names[i]);

        g_assert_cmpuint(e->attr.type, ==, PERF_TYPE_SOFTWARE);
        g_assert_cmpint(e->space, ==, EVENT_VIRTUAL);
        g_assert_cmpuint(e->period, ==, 1);
    }
    remove_devices();
}

static void expect_default(const char *wanted)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = event_default(devices, &error);

    g_assert_cmpstr(text, ==, wanted);
    g_assert_true(!text == !!error);
    if (text)
        event_free(parse(text));
}

static void test_default(void)
{
    make_devices();
    expect_default(NULL);
    put_intel();
    expect_default("cpu/mem-loads,ldlat=50/P");
    put_ibs(false);
    expect_default("ibs_op/cnt_ctl=1/");
    put_ibs(true);
    expect_default("ibs_op/cnt_ctl=1,l3missonly=1/");
    remove_devices();
}

/* Rounds until the rate is as wanted, within a tenth; of a thing that happens `per_s` times a second. */
static guint settle(const struct event *e, guint64 *period, double per_s, double rate)
{
    guint round = 0;

    for (; round < 60; round++) {
        guint64 seen = (guint64)(per_s / (double)*period * 0.25);
        guint64 next = sampler_next_period(e, *period, rate, (double)(seen * *period), 0.25);

        g_assert_cmpuint(next % e->period_step, ==, 0);
        g_assert_cmpuint(next, >=, e->period_least);
        if (next == *period || (double)seen * 4 < rate * 1.1)
            return round;
        *period = next;
    }
    return round;
}

static void test_pace(void)
{
    g_autoptr(Event) faults = NULL, ibs = NULL;
    guint64 period = 1;

    make_devices();
    put_ibs(true);
    faults = parse("minor-faults");
    ibs = parse("ibs_op/cnt_ctl=1/");
    g_assert_cmpuint(settle(faults, &period, 1e6, 1000), <, 20);
    g_assert_cmpuint(period, >=, 900);
    g_assert_cmpuint(period, <=, 1100);
    /* Nothing happens any more: it becomes sharp again. */
    for (guint i = 0; i < 40; i++)
        period = sampler_next_period(faults, period, 1000, 0, 0.25);
    g_assert_cmpuint(period, ==, 1);
    period = ibs->period;
    g_assert_cmpuint(settle(ibs, &period, 64e9, 1000), <, 20);
    g_assert_cmpuint(period, >=, 32000000);
    period = sampler_next_period(ibs, ibs->period_least, 1000, 0, 0.25);
    g_assert_cmpuint(period, ==, ibs->period_least);
    period = 1u << 26;
    g_assert_cmpuint(sampler_next_period(ibs, period, 1, 1e14, 0.25), ==, 1u << 26);
    remove_devices();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/perf-event/ibs", test_ibs);
    g_test_add_func("/perf-event/intel", test_intel);
    g_test_add_func("/perf-event/faults", test_faults);
    g_test_add_func("/perf-event/default", test_default);
    g_test_add_func("/perf-event/pace", test_pace);
    return g_test_run();
}
