// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the sources' common part: the table, addresses, what is counted, and the harvest of those
 * in QEMU, over a link whose other end is this test.
 */
// link: -Wl,--wrap=heat_add
#include "host/source/source.h"
#include "tests/unit/heard.h"
#include "tests/unit/vm-fixture.h"

#include <errno.h>
#include <math.h>
#include <sys/socket.h>

#define GRANULE (2ull << 20)
#define BLOCK0  0x7f0000000000ull

struct bed {
    struct daemon *daemon;
    struct vm *vm;
    int qemu;                   /* the link's other end */
    struct wire_msg msg;
    struct vt_err err;
};

/* Two blocks of four granules, the second one a page short; the first is at two places of the guest. */
static void lay_out(struct vm *vm)
{
    static const struct vt_slot slots[] = {
        { .gpa = 0, .length = 2 * GRANULE, .offset = 0, .block = 0 },
        { .gpa = 0x100000000, .length = 2 * GRANULE, .offset = 2 * GRANULE, .block = 0 },
        { .gpa = 0x200000000, .length = 4 * GRANULE, .offset = 0, .block = 1 },
        { .gpa = 0x300000000, .length = GRANULE, .offset = 0, .block = VT_BLOCKS },
        { .gpa = 0x400000000, .length = GRANULE, .offset = G_MAXUINT64 - 8, .block = 0 },
    };

    vm_resize(vm, 8);
    for (guint i = 0; i < 2; i++) {
        struct vm_block *b = &vm->block[i];

        b->present = true;
        b->host = BLOCK0 + i * 0x100000000;
        b->first = 4 * i;
        b->count = 4;
        b->length = 4 * GRANULE - i * 4096;
    }
    for (guint32 g = 0; g < 8; g++)
        ledger_put(&vm->ledger, g, 0);
    memcpy(vm->stats.slot, slots, sizeof(slots));
    vm->stats.n_slots = G_N_ELEMENTS(slots);
}

static struct bed *bed_new(void)
{
    struct bed *b = g_new0(struct bed, 1);
    int ends[2];

    heard_forget();
    b->daemon = fixture_daemon();
    b->vm = fixture_vm(b->daemon);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), ==, 0);
    close(b->vm->link);
    b->vm->link = ends[0];
    b->qemu = ends[1];
    b->vm->config.sample_period = 1;
    lay_out(b->vm);
    return b;
}

static void bed_free(struct bed *b)
{
    vm_unref(b->vm);
    close(b->qemu);
    fixture_daemon_free(b->daemon);
    g_free(b);
}

static void test_table(void)
{
    enum source_id id;

    for (int i = 0; i < SRC_END; i++) {
        g_assert_true(source_parse(source_name(i), &id));
        g_assert_cmpint(id, ==, i);
        if (!sources[i])
            continue;
        g_assert_cmpint(sources[i]->id, ==, i);
        g_assert_cmpstr(sources[i]->name, ==, source_name(i));
        g_assert_true(sources[i]->summary && sources[i]->unit && sources[i]->enable);
        g_assert_cmpint(sources[i]->kind, <, HEAT_KINDS);
        g_assert_true(i < VT_SRC_END ? !sources[i]->harvest : sources[i]->available != NULL);
    }
    for (int i = 0; i < VT_SRC_END; i++)
        g_assert_cmpstr(source_name(i), ==, wire_source_name(i));
    g_assert_false(source_parse("refaults", &id));
}

static void test_gpa(void)
{
    static const struct {
        guint64 gpa;
        int granule;            /* -1: none */
    } cases[] = {
        { 0, 0 }, { GRANULE - 1, 0 }, { GRANULE, 1 }, { 2 * GRANULE, -1 }, { 0xffffffff, -1 },
        { 0x100000000, 2 }, { 0x100000000 + 2 * GRANULE - 1, 3 }, { 0x200000000, 4 },
        { 0x200000000 + 4 * GRANULE - 4097, 7 }, { 0x200000000 + 4 * GRANULE - 4096, -1 },
        { 0x300000000, -1 }, { 0x400000000, -1 }, { 0x400000010, -1 }, { G_MAXUINT64, -1 },
    };
    struct bed *b = bed_new();

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint32 granule = 99;
        bool found = vm_granule_of_gpa(b->vm, cases[i].gpa, &granule);

        g_assert_cmpint(found ? (int)granule : -1, ==, cases[i].granule);
    }
    bed_free(b);
}

/* What is no RAM is told up to where there is some again. */
static void test_gaps(void)
{
    struct bed *b = bed_new();
    struct vm_place place;

    g_assert_true(vm_place_of_gpa(b->vm, GRANULE - 4096, &place));
    g_assert_cmpuint(place.left, ==, 4096);
    g_assert_false(vm_place_of_gpa(b->vm, 2 * GRANULE + 1, &place));
    g_assert_cmpuint(place.left, ==, 0x100000000 - 2 * GRANULE - 1);
    g_assert_false(vm_place_of_gpa(b->vm, 0x200000000 + 4 * GRANULE - 4096, &place));
    g_assert_cmpuint(place.left, ==, 4096);
    g_assert_false(vm_place_of_gpa(b->vm, 1ull << 60, &place));
    g_assert_cmpuint(place.left, ==, G_MAXUINT64 - (1ull << 60));
    g_assert_false(vm_place_of_hva(b->vm, 1, &place));
    g_assert_cmpuint(place.left, ==, BLOCK0 - 1);
    g_assert_false(vm_place_of_hva(b->vm, BLOCK0 + 4 * GRANULE, &place));
    g_assert_cmpuint(place.left, ==, 0x100000000 - 4 * GRANULE);
    bed_free(b);
}

static void test_hva(void)
{
    static const struct {
        guint64 hva;
        int granule;
    } cases[] = {
        { 0, -1 }, { BLOCK0 - 1, -1 }, { BLOCK0, 0 }, { BLOCK0 + 4 * GRANULE - 1, 3 },
        { BLOCK0 + 4 * GRANULE, -1 }, { BLOCK0 + 0x100000000 + GRANULE, 5 },
        { BLOCK0 + 0x100000000 + 4 * GRANULE - 4096, -1 }, { G_MAXUINT64, -1 },
    };
    struct bed *b = bed_new();
    guint32 granule;

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        bool found = vm_granule_of_hva(b->vm, cases[i].hva, &granule);

        g_assert_cmpint(found ? (int)granule : -1, ==, cases[i].granule);
    }
    b->vm->block[0].host = 0;       /* an address that was not told is none */
    g_assert_false(vm_granule_of_hva(b->vm, 0, &granule));
    b->vm->block[1].present = false;
    g_assert_false(vm_granule_of_hva(b->vm, BLOCK0 + 0x100000000, &granule));
    bed_free(b);
}

static void say_obs(struct bed *b, const struct vt_obs *obs, guint32 n)
{
    wire_start(&b->msg, VT_OBS, b->vm->seq + 1, sizeof(b->msg.obs) + n * sizeof(*obs));
    b->msg.obs.count = n;
    b->msg.obs.pad = 0;
    memcpy(b->msg.obs.obs, obs, n * sizeof(*obs));
    g_assert_cmpint(wire_send(b->qemu, &b->msg, 1000, &b->err), ==, 0);
}

static void say_end(struct bed *b, guint64 events, guint64 cpu_ns, guint64 vcpu_ns)
{
    memset(b->msg.bytes, 0, sizeof(b->msg.harvest_end));
    wire_start(&b->msg, VT_HARVEST_END, b->vm->seq + 1, sizeof(b->msg.harvest_end));
    b->msg.harvest_end.events[VT_SRC_REFAULT] = events;
    b->msg.harvest_end.cpu_ns[VT_SRC_REFAULT] = cpu_ns;
    b->msg.harvest_end.vcpu_ns[VT_SRC_REFAULT] = vcpu_ns;
    g_assert_cmpint(wire_send(b->qemu, &b->msg, 1000, &b->err), ==, 0);
}

static void await(struct bed *b, enum vt_type type)
{
    g_assert_cmpint(wire_recv(b->qemu, &b->msg, 1000, &b->err), ==, 0);
    g_assert_cmpint(b->msg.h.type, ==, type);
}

/* All three run; what they say goes to heat by their kind, and is counted. */
static void test_qemu(void)
{
    static const struct vt_obs obs[] = {
        { .granule = 0, .source = VT_SRC_REFAULT, .events = 5, .exposure = 2000 },
        { .granule = 1, .source = VT_SRC_DIRTY, .events = 7, .exposure = 250 },
        { .granule = 2, .source = VT_SRC_SAMPLE, .events = 9, .tier = 1 },
        { .granule = 8, .source = VT_SRC_SAMPLE, .events = 9 },
        { .granule = 3, .source = SRC_REPORT, .events = 9 },
        { .granule = 3, .source = VT_SRC_SAMPLE, .events = 9, .tier = 2 },
    };
    struct bed *b = bed_new();
    const struct source_stats *s = b->vm->stats.source;

    b->vm->sources = SOURCES_IN_QEMU;
    say_obs(b, obs, G_N_ELEMENTS(obs));
    say_end(b, 100, 3000000, 1000000);
    g_assert_cmpint(sources_harvest(b->vm, 0.25, &b->err), ==, 0);
    await(b, VT_HARVEST);
    g_assert_cmpuint(b->msg.harvest.sources, ==, SOURCES_IN_QEMU);
    g_assert_cmpfloat(heard[HEAT_PROBES][0].events, ==, 5);
    g_assert_cmpfloat(heard[HEAT_PROBES][0].exposure_s, ==, 2);
    g_assert_cmpfloat(heard[HEAT_WRITES][1].events, ==, 7);
    g_assert_cmpfloat(heard[HEAT_SAMPLES][2].events, ==, 9 * b->vm->config.sample_period);
    g_assert_cmpfloat(heard[HEAT_SAMPLES][3].events, ==, 0);
    g_assert_cmpuint(b->vm->hits[1][2], ==, 9);
    g_assert_cmpuint(s[SRC_REFAULT].events, ==, 100);
    g_assert_cmpuint(s[SRC_REFAULT].vcpu_ns, ==, 1000000);
    g_assert_cmpfloat(s[SRC_REFAULT].events_per_s, >, 0);
    g_assert_true(s[SRC_SAMPLE].running && s[SRC_SAMPLE].drives && !s[SRC_DIRTY].drives);
    say_end(b, 40, 4000000, 1000000);       /* a total that goes back counts for nothing */
    g_assert_cmpint(sources_harvest(b->vm, 0.25, &b->err), ==, 0);
    g_assert_cmpuint(s[SRC_REFAULT].events, ==, 100);
    g_assert_cmpuint(s[SRC_REFAULT].cpu_ns, ==, 4000000);
    bed_free(b);
}

/* With "measure", samples tell the hit ratio and nothing else. */
static void test_measure(void)
{
    static const struct vt_obs obs = { .granule = 2, .source = VT_SRC_SAMPLE, .events = 9 };
    struct bed *b = bed_new();

    b->vm->config.sample_places = false;
    b->vm->sources = SOURCES_IN_QEMU;
    say_obs(b, &obs, 1);
    say_end(b, 0, 0, 0);
    g_assert_cmpint(sources_harvest(b->vm, 0.25, &b->err), ==, 0);
    g_assert_cmpuint(b->vm->hits[0][2], ==, 9);
    g_assert_cmpfloat(heard[HEAT_SAMPLES][2].events, ==, 0);
    g_assert_false(sources_sampling(b->vm));
    bed_free(b);
}

/* Only what QEMU can do is switched on, and only what has changed is said. */
static void test_switch(void)
{
    struct bed *b = bed_new();

    b->vm->can_sources = 1u << SRC_REFAULT | 1u << SRC_DIRTY;
    b->vm->config.sources = 1u << SRC_REFAULT | 1u << SRC_SAMPLE;
    b->vm->now.mode = VM_ON;
    g_assert_cmpint(sources_switch(b->vm, &b->err), ==, 0);
    await(b, VT_SET);
    g_assert_cmpuint(b->msg.set.sources, ==, 1u << SRC_REFAULT);
    g_assert_true(b->vm->stats.source[SRC_DIRTY].available);
    g_assert_false(b->vm->stats.source[SRC_SAMPLE].available);
    g_assert_cmpint(sources_switch(b->vm, &b->err), ==, 0);
    g_assert_cmpint(wire_recv(b->qemu, &b->msg, 0, NULL), ==, -EAGAIN);
    b->vm->now.mode = VM_OFF;
    g_assert_cmpint(sources_switch(b->vm, &b->err), ==, 0);
    await(b, VT_SET);
    g_assert_cmpuint(b->msg.set.sources, ==, 0);
    bed_free(b);
}

static void test_observe(void)
{
    struct bed *b = bed_new();

    ledger_put(&b->vm->ledger, 3, LEDGER_NONE);
    source_observe(b->vm, SRC_REFAULT, 3, 1, 1);
    source_observe(b->vm, SRC_REFAULT, 8, 1, 1);
    source_observe(b->vm, SRC_REFAULT, 0, -1, 1);
    source_observe(b->vm, SRC_REFAULT, 0, NAN, 1);
    for (guint32 g = 0; g < 8; g++)
        g_assert_cmpfloat(heard[HEAT_PROBES][g].exposure_s, ==, 0);
    source_observe(b->vm, SRC_REFAULT, 0, 2, 1);
    g_assert_cmpfloat(heard[HEAT_PROBES][0].events, ==, 2);
    bed_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sources/table", test_table);
    g_test_add_func("/sources/gpa", test_gpa);
    g_test_add_func("/sources/hva", test_hva);
    g_test_add_func("/sources/gaps", test_gaps);
    g_test_add_func("/sources/qemu", test_qemu);
    g_test_add_func("/sources/measure", test_measure);
    g_test_add_func("/sources/switch", test_switch);
    g_test_add_func("/sources/observe", test_observe);
    return g_test_run();
}
