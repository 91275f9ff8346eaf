// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The demo's options, its start and its end. See demo.h.
 */
#include "demo.h"

#include "host/cli/json.h"

#include <glib/gstdio.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void on_signal(int number)
{
    demo_signal = number;
}

/* --- start and end --------------------------------------------------------------------------- */

static void start_daemon(struct demo *d)
{
    const char *const arguments[] = { "--quota", "256M", "--rate", "0", NULL };
    g_autofree char *path = lab_path(d->lab, "vmtierd.conf");
    g_autofree char *text = g_strdup_printf("[vm default]\nsample-use=%s\n", d->options.sample_use);

    g_file_set_contents(path, text, -1, NULL);
    d->daemon = daemon_start(d->lab, arguments);
}

static void start_vm(struct demo *d)
{
    g_autofree char *plugin = daemon_plugin(d->daemon, DEMO_VM);
    g_autofree char *append = g_strdup_printf("vmt.foot=%lluM vmt.hot=%lluM vmt.share=%d",
                                              FOOT_BYTES / MIB, HOT_BYTES / MIB, HOT_SHARE);
    const struct vm_options options = { .accel = d->accel, .append = append, .plugin = plugin };

    d->vm = vm_spawn(d->lab, DEMO_VM, &options);
    d->memory = memory_watch_start(d->vm->qemu->pid);
    vm_connect(d->vm);
}

static void say_what_runs(const struct demo *d)
{
    g_autoptr(JsonNode) node = qmp_try(d->daemon->qmp, NULL, "query-vmtier-status", "{}");
    JsonObject *cxl = node ? js_at(js_arr(json_node_get_object(node), "tiers"), 1) : NULL;

    screen_say(d->screen, "A VM of 1 GiB, %llu MiB of it DRAM at most. Its guest uses %llu MiB; "
               "%d %% of the", QUOTA_BYTES / MIB, FOOT_BYTES / MIB, HOT_SHARE);
    screen_say(d->screen, "accesses go to %llu MiB that are scattered in pieces of 2 MiB.",
               HOT_BYTES / MIB);
    screen_say(d->screen, "accel: %s, because", d->accel);
    screen_say(d->screen, "    %s", d->accel_why);
    if (js_bool(cxl, "emulated")) {
        screen_say(d->screen, "cxl: emulated, because");
        screen_say(d->screen, "    %s", js_str(cxl, "reason"));
    } else {
        screen_say(d->screen, "cxl: NUMA node %s", js_str(cxl, "nodes"));
    }
}

/* An old run's files would pass for this one's. */
static void clear_results(void)
{
    static const char *const files[] = { REPORT_FILE, SERIES_FILE, HEATMAP_FILE };
    g_autofree char *dir = lab_built("demo");

    g_mkdir_with_parents(dir, 0755);
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = lab_built(files[i]);

        g_unlink(path);
    }
}

static void start(struct demo *d)
{
    clear_results();
    d->lab = lab_new("demo");
    d->start = lab_now();
    d->screen = screen_new(d);
    measure_init(d);
    start_choose_accel(d);
    start_daemon(d);
    say_what_runs(d);
    start_vm(d);
}

static void stop(struct demo *d)
{
    if (d->memory)
        memory_watch_end(d->memory, d);
    vm_free(d->vm);
    daemon_free(d->daemon);
    screen_free(d->screen);
}

/* lab_free() takes us for a test that failed: we are not GLib's test program. */
static void remove_lab(struct lab *lab)
{
    g_autoptr(GDir) dir = g_dir_open(lab->dir, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = lab_path(lab, name);

        g_unlink(path);
    }
    g_rmdir(lab->dir);
    g_free(lab->dir);
    g_free(lab);
}

/* After a failure the logs are printed, and stay. */
static void forget(struct demo *d)
{
    measure_free(d);
    if (d->broken)
        lab_free(d->lab);
    else
        remove_lab(d->lab);
    g_free(d->accel_why);
    g_free(d->broken);
    g_free(d->options.rate);
    g_free(d->options.sample_use);
}

/* The end that was meant: everything is told. */
static int conclude(struct demo *d)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *map = lab_built(HEATMAP_FILE), *report = lab_built(REPORT_FILE);
    unsigned failed;

    if (!report_write(d, &error))
        g_printerr("demo: %s\n", error->message);
    failed = verdict_print(d);
    printf("%sThe ratios are %s.\n", d->options.tap ? "# " : "\n", measure_how(d));
    if (d->options.tap)
        return failed > 0;
    printf("Heat map: %s\nReport:   %s\n\n", map, report);
    printf(failed ? "%u criteria FAILED.\n" : "All is as it should be.\n", failed);
    return failed > 0;
}

/* The end of a demo that could not go on. */
static int give_up(struct demo *d)
{
    if (demo_signal)
        g_printerr("\ndemo: interrupted\n");
    else
        printf("%s%s; the logs are in %s\n", d->options.tap ? "Bail out! " : "demo: ", d->broken,
               d->lab->dir);
    fflush(stdout);
    return demo_signal ? 128 + demo_signal : 1;
}

static int run(struct demo *d)
{
    g_autoptr(GError) error = NULL;
    bool done;
    int status;

    start(d);
    done = phases_run(d);
    if (done) {
        d->daemon_cpu_s = measure_cpu_s(d->daemon->process->pid);
        d->qemu_cpu_s = measure_cpu_s(d->vm->qemu->pid);
        if (!report_draw_heatmap(d, &error))
            g_printerr("demo: heat map: %s\n", error->message);
    }
    stop(d);
    status = done ? conclude(d) : give_up(d);
    forget(d);
    return status;
}

/* --- main ------------------------------------------------------------------------------------ */

static bool check(const struct demo_options *o, GError **error)
{
    const char *wrong = NULL;

    if (strcmp(o->sample_use, "place") != 0 && strcmp(o->sample_use, "measure") != 0)
        wrong = "--sample-use is place or measure";
    else if (!g_ascii_string_to_unsigned(o->rate, 10, 1, G_MAXINT64, NULL, NULL))
        wrong = "--rate is a number of bytes per second, at least 1";
    if (wrong)
        g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, wrong);
    return !wrong;
}

static bool parse(struct demo_options *o, int *argc, char ***argv, GError **error)
{
    gboolean tap = FALSE, keep_going;
    const GOptionEntry entries[] = {
        { "sample-use", 0, 0, G_OPTION_ARG_STRING, &o->sample_use,
          "What drives placement: samples (place), or refaults alone (measure)", "place|measure" },
        { "rate", 0, 0, G_OPTION_ARG_STRING, &o->rate,
          "Bytes moved per second once moves are on (536870912)", "BYTES" },
        { "tap", 0, 0, G_OPTION_ARG_NONE, &tap, "Say the verdict as TAP, to be a test", NULL },
        { "keep-going", 'k', G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_NONE, &keep_going, NULL, NULL },
        { NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_set_summary(context, "Boots a VM and shows its memory being tiered.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error))
        return false;
    o->tap = tap;
    o->rate = o->rate ? o->rate : g_strdup("536870912");
    o->sample_use = o->sample_use ? o->sample_use : g_strdup("place");
    return check(o, error);
}

int main(int argc, char **argv)
{
    struct demo demo = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *missing = NULL;

    setlocale(LC_ALL, "");
    setlocale(LC_NUMERIC, "C");
    if (!parse(&demo.options, &argc, &argv, &error)) {
        g_printerr("demo: %s\n", error->message);
        return 2;
    }
    missing = start_missing();
    if (missing) {
        printf("%s%s\n", demo.options.tap ? "Bail out! " : "", missing);
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGHUP, on_signal);
    return run(&demo);
}
