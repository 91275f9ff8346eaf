// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Samples on their way to heat: of a fixture's VM whose RAM is a child's memory. IBS ops are made here, with the
 * physical addresses that pagemap tells; page faults are the child's own.
 */
#include "host/perf/resolve.h"
#include "host/source/source.h"
#include "kid.h"
#include "vm-fixture.h"

#include <errno.h>
#include <stdint.h>
#include <sys/prctl.h>

#define GRANULE  (2u << 20)
#define GRANULES (KID_BYTES / GRANULE)
#define FIRST    4u

enum { CTL, RIP, DATA, DATA2, DATA3, LINEAR, PHYSICAL, REGISTERS };
enum { LOAD = 1, STORE = 2, DC_MISS = 1 << 7, PHYSICAL_VALID = 1 << 18, L2_MISS = 1 << 20 };
#define FROM_MEMORY (LOAD | DC_MISS | L2_MISS | PHYSICAL_VALID)

static bool touch_all(void)
{
    prctl(PR_SET_NAME, "CPU 0/TCG");
    stamp(0, KID_PAGES);
    return true;
}

/* One page of each granule is touched after it was dropped; a 2 MiB page would be one fault for all. */
static bool touch_some(char command)
{
    (void)command;
    madvise(memory, KID_BYTES, MADV_NOHUGEPAGE);
    madvise(memory, KID_BYTES, MADV_DONTNEED);
    for (guint g = 0; g < GRANULES; g++)
        stamp(g * (GRANULE / KID_PAGE) + g, 1);
    return true;
}

static const struct role toucher = { .set_up = touch_all, .obey = touch_some };

struct lab {
    struct kid kid;
    struct daemon *daemon;
    struct vm *vm;
    struct vm_block *block;
};

static struct lab lab_start(void)
{
    struct lab lab = { .kid = kid_start(&toucher), .daemon = fixture_daemon() };

    lab.vm = fixture_vm(lab.daemon);
    lab.vm->pid = (guint32)lab.kid.pid;
    lab.block = &lab.vm->block[2];
    lab.block->present = true;
    lab.block->length = KID_BYTES;
    lab.block->host = (uintptr_t)memory;
    lab.block->first = FIRST;
    lab.block->count = GRANULES;
    lab.block->page_size = KID_PAGE;
    vm_resize(lab.vm, FIRST + GRANULES);
    for (guint32 g = FIRST; g < FIRST + GRANULES; g++)
        ledger_put(&lab.vm->ledger, g, 0);
    return lab;
}

static void lab_end(struct lab *lab)
{
    kid_end(&lab->kid);
    vm_unref(lab->vm);
    fixture_daemon_free(lab->daemon);
}

/* --- IBS ---------------------------------------------------------------------------------------------------- */

struct op {
    guint8 raw[4 + REGISTERS * 8];
    struct perf_sample sample;
};

static void op_make(struct op *op, guint64 data2, guint64 data3, guint64 physical)
{
    guint32 caps = 0x81f;       /* a Zen 4, without the registers that are not always there */
    guint64 reg[REGISTERS] = { 3u << 17, 0x401000, 0, data2, data3, 0x7fff0000, physical };

    memcpy(op->raw, &caps, sizeof(caps));
    memcpy(op->raw + 4, reg, sizeof(reg));
    op->sample = (struct perf_sample){
        .have = PERF_SAMPLE_RAW, .raw = op->raw, .raw_size = sizeof(op->raw),
        .misc = PERF_RECORD_MISC_GUEST_USER,    /* and yet the physical address is the host's */
    };
}

static guint64 hpa_of(const struct lab *lab, guint page)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int)lab->kid.pid);
    guint64 entry = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    g_assert_cmpint(pread(fd, &entry, 8, (off_t)(((uintptr_t)memory / KID_PAGE + page) * 8)), ==, 8);
    close(fd);
    return (entry & ((1ull << 55) - 1)) * KID_PAGE;
}

static struct rmap *map_of(const struct lab *lab)
{
    struct rmap_area area = { lab->block->host, KID_BYTES, FIRST, GRANULES, KID_PAGE };
    struct vt_err err = { 0 };
    struct rmap *map = rmap_new(lab->kid.pid, GRANULE, &err);

    if (!map)
        return NULL;
    rmap_set_areas(map, &area, 1);
    while (rmap_is_due(map))
        g_assert_cmpint(rmap_refresh(map, 10000, &err), ==, 0);
    return map;
}

static void test_ops(void)
{
    struct lab lab = lab_start();
    struct resolver r = { .space = EVENT_IBS, .map = map_of(&lab) };
    struct op op;
    guint32 granule;
    guint64 expected = 0;

    if (!r.map) {
        g_test_skip("page frame numbers are hidden here");
        lab_end(&lab);
        return;
    }
    for (guint page = 0; page < KID_PAGES; page += 5) {
        op_make(&op, 3, FROM_MEMORY, hpa_of(&lab, page) + page % KID_PAGE);
        g_assert_true(resolve(&r, lab.vm, &op.sample, &granule));
        g_assert_cmpuint(granule, ==, FIRST + page / (GRANULE / KID_PAGE));
        expected++;
    }
    g_assert_cmpuint(r.placed, ==, expected);
    op_make(&op, 0x40, FROM_MEMORY, hpa_of(&lab, 9));   /* from CXL */
    g_assert_true(resolve(&r, lab.vm, &op.sample, &granule));
    op_make(&op, 0, STORE | DC_MISS | L2_MISS | PHYSICAL_VALID, hpa_of(&lab, 9));
    g_assert_true(resolve(&r, lab.vm, &op.sample, &granule));
    op_make(&op, 3, LOAD | PHYSICAL_VALID, hpa_of(&lab, 9));
    g_assert_false(resolve(&r, lab.vm, &op.sample, &granule));
    op_make(&op, 3, FROM_MEMORY & ~PHYSICAL_VALID, hpa_of(&lab, 9));
    g_assert_false(resolve(&r, lab.vm, &op.sample, &granule));
    op_make(&op, 3, FROM_MEMORY, 1ull << 51);
    g_assert_false(resolve(&r, lab.vm, &op.sample, &granule));
    op.sample.raw_size = 20;
    g_assert_false(resolve(&r, lab.vm, &op.sample, &granule));
    g_assert_cmpuint(r.cached, ==, 1);
    g_assert_cmpuint(r.nowhere, ==, 2);
    g_assert_cmpuint(r.bad, ==, 1);
    g_assert_cmpuint(r.seen, ==, expected + 6);
    rmap_free(r.map);
    lab_end(&lab);
}

/* Of any other event's, a guest's address is not looked up as if it were ours. */
static void test_guest(void)
{
    struct lab lab = lab_start();
    struct resolver r = { .space = EVENT_PHYSICAL, .map = map_of(&lab) };
    struct perf_sample s = { .misc = PERF_RECORD_MISC_GUEST_KERNEL };
    guint32 granule;

    if (r.map) {
        s.phys_addr = hpa_of(&lab, 700);
        g_assert_false(resolve(&r, lab.vm, &s, &granule));
        g_assert_cmpuint(r.guest, ==, 1);
        s.misc = PERF_RECORD_MISC_USER;
        g_assert_true(resolve(&r, lab.vm, &s, &granule));
        g_assert_cmpuint(granule, ==, FIRST + 1);
        s.phys_addr = 0;
        g_assert_false(resolve(&r, lab.vm, &s, &granule));
        g_assert_cmpuint(r.nowhere, ==, 1);
    } else {
        g_test_skip("page frame numbers are hidden here");
    }
    rmap_free(r.map);
    lab_end(&lab);
}

/* --- the source --------------------------------------------------------------------------------------------- */

static void test_faults(void)
{
    const struct source *s = sources[SRC_IBS];
    struct lab lab = lab_start();
    struct vt_err err = { 0 };
    char reason[VT_TEXT] = "";

    lab.vm->config.ibs_event = "minor-faults";
    g_assert_true(s->available(lab.vm, reason));
    if (s->start(lab.vm, &err)) {
        g_test_skip(err.text);
        lab_end(&lab);
        return;
    }
    lab.vm->sources |= 1u << SRC_IBS;
    g_assert_false(s->drives(lab.vm));
    for (guint round = 0; round < 5; round++) {
        g_assert_true(kid_does(&lab.kid, 't'));
        g_assert_cmpint(s->harvest(lab.vm, 100000, &err), ==, 0);
    }
    s->layout_changed(lab.vm);
    g_test_message("%s", lab.vm->stats.source[SRC_IBS].detail);
    g_assert_cmpuint(lab.vm->stats.source[SRC_IBS].events, >=, GRANULES);
    heat_digest(&lab.vm->heat);
    for (guint32 g = FIRST; g < FIRST + GRANULES; g++)
        g_assert_cmpfloat(lab.vm->heat.longer[g], >, 0);
    for (guint32 g = 0; g < FIRST; g++)
        g_assert_cmpfloat(lab.vm->heat.longer[g], ==, 0);
    sources_close(lab.vm);
    g_assert_null(lab.vm->source_state[SRC_IBS]);
    lab_end(&lab);
}

static void test_unavailable(void)
{
    const struct source *s = sources[SRC_IBS];
    struct lab lab = lab_start();
    char reason[VT_TEXT] = "";
    struct vt_err err = { 0 };

    lab.vm->config.ibs_event = "minor-faults";
    lab.vm->accel = VT_ACCEL_KVM;
    g_assert_false(s->available(lab.vm, reason));
    g_assert_nonnull(strstr(reason, "does not see what a guest under KVM does"));
    reason[0] = '\0';
    lab.vm->config.ibs_event = "no_such_pmu/x=1/";
    g_assert_false(s->available(lab.vm, reason));
    g_assert_nonnull(strstr(reason, "there is no PMU no_such_pmu here"));
    g_assert_cmpint(s->start(lab.vm, &err), <, 0);
    g_assert_nonnull(strstr(err.text, "no_such_pmu"));
    g_assert_null(lab.vm->source_state[SRC_IBS]);
    lab_end(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    kid_prepare();
    g_test_add_func("/source-ibs/ops", test_ops);
    g_test_add_func("/source-ibs/guest", test_guest);
    g_test_add_func("/source-ibs/faults", test_faults);
    g_test_add_func("/source-ibs/unavailable", test_unavailable);
    return g_test_run();
}
