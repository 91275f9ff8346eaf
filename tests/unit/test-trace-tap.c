// SPDX-License-Identifier: GPL-2.0-or-later
/* What a VM's rounds leave in a recording: its memory, its sources, and what they saw. */
#include "host/source/source.h"
#include "host/trace-tap.h"
#include "trace-fixture.h"
#include "vm-fixture.h"

#include <sys/socket.h>

#define MIB (1ull << 20)

static void put_block(struct vm *vm, int id, guint32 first, guint32 count, const char *name)
{
    struct vm_block *b = &vm->block[id];

    b->present = true;
    b->first = first;
    b->count = count;
    b->length = count * vm->config.granule - 4096;
    g_strlcpy(b->name, name, sizeof(b->name));
    vm_resize(vm, first + count);
    for (guint32 g = first; g < first + count; g++)
        ledger_put(&vm->ledger, g, g % 2);
}

/* Blocks in QEMU's order, which is not that of their granules, and a slot over each. */
static struct vm *make_vm(struct daemon *d)
{
    struct vm *vm = fixture_vm(d);

    put_block(vm, 7, 40, 10, "dimm");
    put_block(vm, 2, 0, 30, "ram");
    vm->stats.slot[0] = (struct vt_slot){ .gpa = 0, .length = 2 * MIB, .block = 2 };
    vm->stats.slot[1] = (struct vt_slot){ .gpa = 1ull << 32, .length = 4096, .offset = 8192, .block = 7 };
    vm->stats.slot[2] = (struct vt_slot){ .gpa = 1ull << 33, .length = 4096, .block = 5 };  /* gone */
    vm->stats.n_slots = 3;
    vm->sources = 1u << SRC_SAMPLE | 1u << SRC_REFAULT;
    return vm;
}

static int start(struct vm *vm)
{
    const struct trace_header header = tap_header(vm);
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    vm->recorder = recorder_new(&header, pair[0], 0);
    return pair[1];
}

static GByteArray *read_rest(int fd)
{
    GByteArray *file = g_byte_array_new();
    guint8 bytes[4096];
    gssize n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        g_byte_array_append(file, bytes, (guint)n);
    close(fd);
    return file;
}

static void check_layout(const struct trace_layout *l, guint64 granule)
{
    g_assert_cmpuint(l->granules, ==, 50);
    g_assert_cmpuint(l->n_blocks, ==, 2);
    g_assert_cmpstr(l->block[0].name, ==, "ram");
    g_assert_cmpuint(l->block[1].first, ==, 40);
    g_assert_cmpuint(l->block[1].length, ==, 10 * granule - 4096);
    g_assert_cmpuint(l->n_slots, ==, 2);
    g_assert_cmpuint(l->slot[0].block, ==, 0);
    g_assert_cmpuint(l->slot[1].block, ==, 1);
    g_assert_cmpuint(l->slot[1].offset, ==, 8192);
}

static void check_header(const struct trace_header *h, const struct vm *vm)
{
    g_assert_cmpstr(h->vm, ==, "toy");
    g_assert_cmpuint(h->granule, ==, vm->config.granule);
    g_assert_cmpstr(h->source[SRC_SAMPLE].name, ==, "sample");
    g_assert_cmpuint(h->source[SRC_SAMPLE].kind, ==, TRACE_SAMPLES);
    g_assert_cmpuint(h->source[SRC_SAMPLE].scale, ==, vm->config.sample_period);
    g_assert_cmpuint(h->source[SRC_REFAULT].kind, ==, TRACE_PROBES);
    g_assert_cmpuint(h->source[SRC_DIRTY].kind, ==, TRACE_WRITES);
}

static void test_rounds(void)
{
    struct daemon *d = fixture_daemon();
    struct vm *vm = make_vm(d);
    int fd = start(vm);
    g_autoptr(GByteArray) file = NULL;
    g_autoptr(Trace) t = NULL;
    struct trace_item item;

    tap_begin(vm, 0.25);
    tap_observe(vm, SRC_SAMPLE, 1, 7, 3.0 * vm->config.sample_period, 0);
    tap_observe(vm, SRC_REFAULT, 0, 45, 2, 1.5);
    tap_observe(vm, SRC_REFAULT, 0, 35, 2, 1.5);    /* in no block: dropped */
    tap_end(vm);
    tap_observe(vm, SRC_SAMPLE, 0, 1, 1, 0);        /* between rounds: nobody listens */
    recorder_end(vm->recorder, TRACE_ASKED);
    file = read_rest(fd);
    t = trace_open_bytes(file->data, file->len, "toy", NULL);
    g_assert_nonnull(t);
    check_header(trace_header(t), vm);
    g_assert_cmpint(trace_next(t, &item, NULL), ==, TRACE_LAYOUT);
    check_layout(item.layout, vm->config.granule);
    g_assert_cmpint(trace_next(t, &item, NULL), ==, TRACE_ROUND);
    g_assert_cmpuint(item.round.sources, ==, 1u << SRC_SAMPLE | 1u << SRC_REFAULT);
    g_assert_cmpint(trace_next(t, &item, NULL), ==, TRACE_OBS);
    g_assert_cmpuint(item.obs.source, ==, SRC_REFAULT);
    g_assert_cmpuint(item.obs.obs[0].granule, ==, 45);
    g_assert_cmpfloat(item.obs.obs[0].exposure_s, ==, 1.5);
    g_assert_cmpint(trace_next(t, &item, NULL), ==, TRACE_OBS);
    g_assert_cmpuint(item.obs.tier, ==, 1);
    g_assert_cmpfloat(item.obs.obs[0].events, ==, 3.0 * vm->config.sample_period);
    g_assert_cmpint(trace_next(t, &item, NULL), ==, TRACE_END);
    vm_unref(vm);
    fixture_daemon_free(d);
}

/* The VM goes away while it is recorded, or the daemon does. */
static void test_ends(void)
{
    for (int stops = 0; stops < 2; stops++) {
        struct daemon *d = fixture_daemon();
        struct vm *vm = make_vm(d);
        int fd = start(vm);
        g_autoptr(GByteArray) file = NULL;
        struct trace_item end;

        tap_begin(vm, 0.25);
        d->stopping = stops;
        vm_unref(vm);
        file = read_rest(fd);
        g_assert_cmpint(fixture_read(file, NULL, &end, NULL), ==, TRACE_END);
        g_assert_cmpuint(end.end.totals.reason, ==, stops ? TRACE_DAEMON_ENDS : TRACE_VM_GONE);
        fixture_daemon_free(d);
    }
}

/* Memory is not known yet: there is nothing to say, and nothing is. */
static void test_no_memory(void)
{
    struct daemon *d = fixture_daemon();
    struct vm *vm = fixture_vm(d);
    int fd = start(vm);
    g_autoptr(GByteArray) file = NULL;
    guint n[TRACE_GAP + 1] = { 0 };

    tap_begin(vm, 0.25);
    g_assert_null(vm->tap);
    tap_end(vm);
    vm_unref(vm);
    file = read_rest(fd);
    g_assert_cmpint(fixture_read(file, n, NULL, NULL), ==, TRACE_END);
    g_assert_cmpuint(n[TRACE_ROUND], ==, 0);
    fixture_daemon_free(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trace-tap/rounds", test_rounds);
    g_test_add_func("/trace-tap/ends", test_ends);
    g_test_add_func("/trace-tap/no-memory", test_no_memory);
    return g_test_run();
}
