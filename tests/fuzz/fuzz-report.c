// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the command vmtier-report, from JSON text to heat: requests in lines, and a round of the VM's
 * heat after each that leaves something to take. There is a CXL device to translate addresses of.
 *
 * Beyond not crashing, these hold: a command either fails with a reason, and then as much waits as before,
 * or returns how much it has queued; no more than the queue's bound waits; and what heat knows stays finite.
 */
#include "host/qmp-json.h"
#include "host/source/report.h"
#include "host/source/source.h"
#include "tests/unit/vm-fixture.h"

#include <glib/gstdio.h>
#include <math.h>
#include <stdint.h>

#define GRANULE  (2ull << 20)
#define GRANULES 8u
#define ROUND_S  0.25
#define VM_INPUTS 4096u         /* after so many there is a new VM */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct daemon *the_daemon;
static struct vm *the_vm;
static char *cxl_root;

struct vm *daemon_find_vm(struct daemon *d, const char *name)
{
    (void)d;
    return strcmp(name, "toy") ? NULL : the_vm;
}

static GLogWriterOutput say_nothing(GLogLevelFlags level, const GLogField *fields, gsize n,
                                    gpointer opaque)
{
    (void)level, (void)fields, (void)n, (void)opaque;
    return G_LOG_WRITER_HANDLED;
}

static void put(const char *device, const char *key, const char *value)
{
    g_autofree char *dir = g_build_filename(cxl_root, device, NULL);
    g_autofree char *path = g_build_filename(dir, key, NULL);

    g_mkdir_with_parents(dir, 0700);
    g_assert_true(g_file_set_contents(path, value, -1, NULL));
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    g_remove(path);
}

static void remove_cxl(void)
{
    remove_tree(cxl_root);
}

static void make_cxl(void)
{
    g_autofree char *link = NULL;

    cxl_root = g_dir_make_tmp("vmtier-fuzz-XXXXXX", NULL);
    put("decoder3.0", "dpa_resource", "0x1000000\n");
    put("decoder3.0", "dpa_size", "0x1000000\n");
    put("decoder3.0", "region", "region0\n");
    put("region0", "resource", "0x40000000\n");
    put("region0", "interleave_ways", "2\n");
    put("region0", "interleave_granularity", "16384\n");
    put("region0", "target1", "decoder3.0\n");
    put("endpoint3", "dir", "");
    link = g_build_filename(cxl_root, "endpoint3", "uport", NULL);
    g_assert_cmpint(symlink("../mem0", link), ==, 0);
    report_set_cxl_root(cxl_root);
    atexit(remove_cxl);
}

__attribute__((constructor)) static void set_up(void)
{
    g_log_set_writer_func(say_nothing, NULL, NULL);
    make_cxl();
    the_daemon = fixture_daemon();
}

static void new_vm(void)
{
    g_clear_pointer(&the_vm, vm_unref);
    the_vm = fixture_vm(the_daemon);
    the_vm->pid = 1 << 22;                      /* above pid_max */
    the_vm->can_sources = the_vm->sources = 0;  /* there is no QEMU to tell */
    vm_resize(the_vm, GRANULES);
    the_vm->block[0] = (struct vm_block){ .present = true, .host = 0x7f0000000000, .count = GRANULES,
                                          .length = GRANULES * GRANULE, .page_size = 4096,
                                          .file = { -1, -1, -1, -1, -1, -1, -1, -1 } };
    for (guint32 g = 0; g < GRANULES; g++)
        ledger_put(&the_vm->ledger, g, 0);
    the_vm->stats.slot[0] = (struct vt_slot){ .gpa = 0x100000, .length = GRANULES * GRANULE };
    the_vm->stats.n_slots = 1;
    the_vm->config.sources = 1u << SRC_REPORT;
    the_vm->now.mode = VM_ON;
    the_vm->source_look = G_MAXDOUBLE;          /* what else could run takes time to find out */
}

/*
 * The same VM, knowing nothing again: to make one takes ten times as long as most inputs do. Now and then it
 * is a new one all the same, as what is left of the old one would show then.
 */
static void fresh_vm(void)
{
    static guint inputs;
    struct vt_err err;

    if (inputs++ % VM_INPUTS == 0)
        new_vm();
    sources_close(the_vm);
    the_vm->sources = 0;
    the_vm->clock = 0;
    memset(&the_vm->stats.source[SRC_REPORT], 0, sizeof(the_vm->stats.source[0]));
    heat_clear(&the_vm->heat);
    heat_resize(&the_vm->heat, GRANULES);
    g_assert_cmpint(sources_switch(the_vm, &err), ==, 0);
    g_assert_cmpuint(report_waiting(the_vm), ==, 0);
}

static guint64 waiting(void)
{
    return report_waiting(the_vm);
}

/* What is refused leaves nothing for a round to take. */
static bool give(const char *text, gsize length)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = qmp_json_parse(text, length, &error), reply = NULL;
    guint64 before = waiting();

    if (!node || !JSON_NODE_HOLDS_OBJECT(node))
        return false;
    if (qmp_args_check(report_commands[0].args, json_node_get_object(node), &error))
        reply = report_commands[0].run(json_node_get_object(node), the_daemon, &error);
    g_assert_true(!reply == !!error);
    if (reply)
        before += (guint64)json_object_get_int_member(json_node_get_object(reply), "queued");
    g_assert_cmpuint(waiting(), ==, before);
    g_assert_cmpuint(waiting(), <=, REPORT_QUEUE);
    return waiting() > 0;
}

static void round_of(void)
{
    struct vt_err err;

    heat_use_samples(&the_vm->heat, sources_sampling(the_vm));
    heat_advance(&the_vm->heat, ROUND_S, sources_watching(the_vm));
    g_assert_cmpint(source_report.harvest(the_vm, the_vm->config.probe_budget_us, &err), ==, 0);
    heat_digest(&the_vm->heat);
    the_vm->clock += ROUND_S;
    for (guint32 g = 0; g < GRANULES; g++)
        g_assert_true(isfinite(heat_rate(&the_vm->heat, g).rate));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data, *end = at + size;

    fresh_vm();
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        gsize length = (gsize)((stop ? stop : end) - at);

        if (length && give(at, length))
            round_of();
        at += length + 1;
    }
    return 0;
}
