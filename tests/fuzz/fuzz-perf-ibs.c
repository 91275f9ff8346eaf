// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the decoding of IBS ops, and of the text that names an event. The first byte chooses: even, an
 * op's raw part; odd, an event, with the PMUs of a made directory.
 *
 * Beyond not crashing: an op that is taken has a name for who served it and a width that is one; one that reached
 * memory is a load or a store; an event that is refused has a reason.
 */
#include "host/perf/event.h"
#include "host/perf/ibs.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *devices;

static void put_file(const char *pmu, const char *kind, const char *name, const char *text)
{
    g_autofree char *dir = g_build_filename(devices, pmu, kind, NULL);
    g_autofree char *path = g_build_filename(dir, name, NULL);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void remove_devices(void)
{
    const char *const argv[] = { "rm", "-rf", devices, NULL };

    g_spawn_sync(NULL, (char **)(gpointer)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

static void make_devices(void)
{
    char dir[] = "/tmp/fuzz-perf-XXXXXX";

    devices = g_strdup(g_mkdtemp(dir));
    put_file("ibs_op", "", "type", "11\n");
    put_file("ibs_op", "format", "cnt_ctl", "config:19\n");
    put_file("ibs_op", "format", "l", "config1:0-63\n");
    put_file("cpu", "", "type", "4\n");
    put_file("cpu", "format", "event", "config:0-7,32-35\n");
    put_file("cpu", "format", "bad", "config:99-7,,x\n");
    put_file("cpu", "events", "m", "event=0xcd,l=3\n");
    atexit(remove_devices);
}

static void check_event(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strndup((const char *)data, MIN(size, 256));
    g_autoptr(Event) event = NULL;

    if (!devices)
        make_devices();
    event = event_parse(text, devices, &error);
    g_assert_true(!event == !!error);
    g_assert_true(!event || (event->period >= event->period_least && event->period_step > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibs_op op;
    const char *why_not;

    if (!size)
        return 0;
    if (data[0] & 1) {
        check_event(data + 1, size - 1);
        return 0;
    }
    why_not = ibs_decode(data + 1, size - 1, data[0] & 2, &op);
    g_assert_true(ibs_from_name(op.from)[0]);
    g_assert_true(!(op.width & (op.width - 1)));
    g_assert_true(!ibs_reached_memory(&op) || op.load || op.store);
    g_assert_true(why_not ? why_not[0] != '\0' : op.valid && size - 1 >= 60);
    return 0;
}
