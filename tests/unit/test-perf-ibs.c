// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * IBS ops, built byte for byte: every bit of every register changes what it should and nothing else; a record that
 * AMD has published is decoded as AMD's own text beside it says; what is no record is refused.
 */
#include "host/perf/ibs.h"

#include <stdint.h>
#include <string.h>

#define ALL_CAPS  0x1bffu       /* of a Zen 4: all registers there are */
#define OLD_CAPS  0x00ffu       /* before: narrow sources, a branch target, no fourth data register */

enum { CTL, RIP, DATA, DATA2, DATA3, LINEAR, PHYSICAL, TARGET, DATA4, REGISTERS };

struct raw {
    guint8 byte[4 + REGISTERS * 8];
    gsize size;
};

static struct raw raw_of(guint32 caps)
{
    struct raw raw = { .size = 4 + 7 * 8 };

    raw.size += caps & 1u << 5 ? 8 : 0;
    raw.size += caps & 1u << 10 ? 8 : 0;
    for (guint i = 0; i < 4; i++)
        raw.byte[i] = (guint8)(caps >> 8 * i);
    raw.byte[4 + 2] = 0x06;     /* IBS_OP_CTL: bits 17 and 18, enabled and valid */
    return raw;
}

static void set_bit(struct raw *raw, guint reg, guint bit)
{
    raw->byte[4 + reg * 8 + bit / 8] |= (guint8)(1u << bit % 8);
}

static void set_bits(struct raw *raw, guint reg, guint low, guint64 value)
{
    for (guint i = 0; i < 64 - low; i++)
        if (value >> i & 1)
            set_bit(raw, reg, low + i);
}

static struct ibs_op decode(const struct raw *raw)
{
    struct ibs_op op;

    g_assert_null(ibs_decode(raw->byte, raw->size, false, &op));
    return op;
}

static guint64 field_load(const struct ibs_op *op) { return op->load; }
static guint64 field_store(const struct ibs_op *op) { return op->store; }
static guint64 field_tlb(const struct ibs_op *op) { return op->tlb_miss; }
static guint64 field_tlb2(const struct ibs_op *op) { return op->tlb2_miss; }
static guint64 field_dc(const struct ibs_op *op) { return op->dc_miss; }
static guint64 field_misaligned(const struct ibs_op *op) { return op->misaligned; }
static guint64 field_wc(const struct ibs_op *op) { return op->write_combining; }
static guint64 field_uc(const struct ibs_op *op) { return op->uncached; }
static guint64 field_locked(const struct ibs_op *op) { return op->locked; }
static guint64 field_mab(const struct ibs_op *op) { return op->no_mab; }
static guint64 field_linear_valid(const struct ibs_op *op) { return op->linear_valid; }
static guint64 field_physical_valid(const struct ibs_op *op) { return op->physical_valid; }
static guint64 field_l2(const struct ibs_op *op) { return op->l2_miss; }
static guint64 field_prefetch(const struct ibs_op *op) { return op->prefetch; }
static guint64 field_width(const struct ibs_op *op) { return op->width ? 1u + (guint)__builtin_ctz(op->width) : 0; }
static guint64 field_latency(const struct ibs_op *op) { return op->miss_latency; }
static guint64 field_tlb_latency(const struct ibs_op *op) { return op->tlb_latency; }
static guint64 field_source(const struct ibs_op *op) { return op->source; }
static guint64 field_remote(const struct ibs_op *op) { return op->remote; }
static guint64 field_counts_ops(const struct ibs_op *op) { return op->counts_ops; }
static guint64 field_max(const struct ibs_op *op) { return op->max_count >> 4; }
static guint64 field_rip_invalid(const struct ibs_op *op) { return !op->rip_valid; }
static guint64 field_rip(const struct ibs_op *op) { return op->rip; }
static guint64 field_linear(const struct ibs_op *op) { return op->linear; }
static guint64 field_physical(const struct ibs_op *op) { return op->physical; }
static guint64 field_target(const struct ibs_op *op) { return op->target; }

/* As the manual has them: bits [first, last] of a register are bits from `shift` of the field. */
static const struct {
    guint reg, first, last, shift;
    guint64 (*field)(const struct ibs_op *op);
} fields[] = {
    { CTL, 0, 15, 0, field_max },       { CTL, 19, 19, 0, field_counts_ops },
    { CTL, 20, 26, 16, field_max },     { RIP, 0, 63, 0, field_rip },
    { DATA, 38, 38, 0, field_rip_invalid },
    { DATA2, 0, 2, 0, field_source },   { DATA2, 4, 4, 0, field_remote },
    { DATA2, 6, 7, 3, field_source },
    { DATA3, 0, 0, 0, field_load },     { DATA3, 1, 1, 0, field_store },
    { DATA3, 2, 2, 0, field_tlb },      { DATA3, 3, 3, 0, field_tlb2 },
    { DATA3, 7, 7, 0, field_dc },       { DATA3, 8, 8, 0, field_misaligned },
    { DATA3, 13, 13, 0, field_wc },     { DATA3, 14, 14, 0, field_uc },
    { DATA3, 15, 15, 0, field_locked }, { DATA3, 16, 16, 0, field_mab },
    { DATA3, 17, 17, 0, field_linear_valid }, { DATA3, 18, 18, 0, field_physical_valid },
    { DATA3, 20, 20, 0, field_l2 },     { DATA3, 21, 21, 0, field_prefetch },
    { DATA3, 22, 25, 0, field_width },  { DATA3, 32, 47, 0, field_latency },
    { DATA3, 48, 63, 0, field_tlb_latency },
    { LINEAR, 0, 63, 0, field_linear }, { PHYSICAL, 0, 63, 0, field_physical },
    { TARGET, 0, 63, 0, field_target },
};

/* Which of the fields a bit of a register belongs to, or -1. */
static int owner_of(guint reg, guint bit)
{
    for (guint i = 0; i < G_N_ELEMENTS(fields); i++)
        if (fields[i].reg == reg && bit >= fields[i].first && bit <= fields[i].last)
            return (int)i;
    return -1;
}

static void check_bit(guint reg, guint bit)
{
    struct raw raw = raw_of(ALL_CAPS);
    int owner = owner_of(reg, bit);
    struct ibs_op op;

    set_bit(&raw, reg, bit);
    op = decode(&raw);
    for (guint i = 0; i < G_N_ELEMENTS(fields); i++) {
        bool own = owner >= 0 && fields[i].field == fields[owner].field;
        guint64 wanted = own ? 1ull << (bit - fields[owner].first + fields[owner].shift) : 0;

        if (fields[i].field(&op) != wanted)
            g_error("register %u bit %u: field %u is %" G_GINT64_MODIFIER "x, not %" G_GINT64_MODIFIER "x", reg, bit,
                    i, fields[i].field(&op), wanted);
    }
}

static void test_bits(void)
{
    for (guint reg = 0; reg < REGISTERS; reg++)
        for (guint bit = 0; bit < 64; bit++)
            check_bit(reg, bit);
}

/* --- what they mean ------------------------------------------------------------------------------------------- */

static enum ibs_from from(guint32 caps, guint64 source, guint64 data3)
{
    struct raw raw = raw_of(caps);

    set_bits(&raw, DATA2, 0, source & 7);
    set_bits(&raw, DATA2, 6, source >> 3);
    set_bits(&raw, DATA3, 0, data3);
    return decode(&raw).from;
}

#define LOAD      (1u << 0)
#define STORE     (1u << 1)
#define DC_MISS   (1u << 7)
#define UNCACHED  (1u << 14)
#define NO_MAB    (1u << 16)
#define HAS_PHYS  (1u << 18)
#define L2_MISS   (1u << 20)
#define PREFETCH  (1u << 21)
#define MISSES    (DC_MISS | L2_MISS)

static void test_sources(void)
{
    static const guint8 wide[] = {
        IBS_FROM_UNKNOWN, IBS_FROM_NEAR_CACHE, IBS_FROM_FAR_CACHE, IBS_FROM_DRAM, IBS_FROM_UNKNOWN,
        IBS_FROM_FAR_CACHE, IBS_FROM_PMEM, IBS_FROM_IO, IBS_FROM_EXTENDED, 0, 0, 0, IBS_FROM_PEER,
    };
    static const guint8 narrow[] = {
        IBS_FROM_UNKNOWN, IBS_FROM_UNKNOWN, IBS_FROM_NEAR_CACHE, IBS_FROM_DRAM, IBS_FROM_FAR_CACHE, 0, 0, IBS_FROM_IO,
    };

    for (guint i = 0; i < 32; i++) {
        g_assert_cmpint(from(ALL_CAPS, i, LOAD | MISSES), ==, i < G_N_ELEMENTS(wide) ? wide[i] : 0);
        g_assert_cmpint(from(OLD_CAPS, i, LOAD | MISSES), ==, narrow[i & 7]);
        g_assert_cmpint(from(ALL_CAPS, i, STORE | MISSES), ==, IBS_FROM_UNKNOWN);
        g_assert_cmpint(from(ALL_CAPS, i, LOAD | DC_MISS), ==, IBS_FROM_L2);
        g_assert_cmpint(from(ALL_CAPS, i, LOAD), ==, IBS_FROM_L1);
        g_assert_cmpint(from(ALL_CAPS, i, MISSES), ==, IBS_FROM_UNKNOWN);
        g_assert_cmpint(from(ALL_CAPS, i, LOAD | MISSES | UNCACHED), ==, i == 7 ? IBS_FROM_IO : IBS_FROM_UNCACHED);
    }
}

static bool reaches(guint64 source, guint64 data3)
{
    struct raw raw = raw_of(ALL_CAPS);
    struct ibs_op op;

    set_bits(&raw, DATA2, 0, source & 7);
    set_bits(&raw, DATA2, 6, source >> 3);
    set_bits(&raw, DATA3, 0, data3);
    op = decode(&raw);
    return ibs_reached_memory(&op);
}

static void test_memory(void)
{
    g_assert_true(reaches(3, LOAD | MISSES));
    g_assert_true(reaches(8, LOAD | MISSES));
    g_assert_true(reaches(0, STORE | MISSES));
    g_assert_true(reaches(0, LOAD | MISSES));
    g_assert_false(reaches(1, LOAD | MISSES));
    g_assert_false(reaches(3, LOAD | DC_MISS));
    g_assert_false(reaches(0, STORE));
    g_assert_false(reaches(3, MISSES));
    g_assert_false(reaches(3, LOAD | MISSES | UNCACHED));
    g_assert_false(reaches(7, LOAD | MISSES));
}

/* Of models before 10h of family 19h, misses of L2 and sources are not to be believed for some ops. */
static void test_erratum(void)
{
    struct raw raw = raw_of(OLD_CAPS);
    struct ibs_op op;

    set_bits(&raw, DATA2, 0, 2);
    set_bits(&raw, DATA3, 0, LOAD | DC_MISS | NO_MAB);
    g_assert_cmpint(decode(&raw).from, ==, IBS_FROM_L2);
    g_assert_null(ibs_decode(raw.byte, raw.size, true, &op));
    g_assert_cmpint(op.from, ==, IBS_FROM_UNKNOWN);
    g_assert_cmpuint(op.source, ==, 0);
    raw = raw_of(OLD_CAPS);
    set_bits(&raw, DATA2, 0, 2);
    set_bits(&raw, DATA3, 0, LOAD | MISSES);
    g_assert_null(ibs_decode(raw.byte, raw.size, true, &op));
    g_assert_cmpint(op.from, ==, IBS_FROM_NEAR_CACHE);
    g_assert_true(ibs_has_erratum_1293("AuthenticAMD,25,1,1"));
    g_assert_true(ibs_has_erratum_1293("AuthenticAMD,25,15,0"));
    g_assert_false(ibs_has_erratum_1293("AuthenticAMD,25,17,1"));
    g_assert_false(ibs_has_erratum_1293("AuthenticAMD,26,2,1"));
    g_assert_false(ibs_has_erratum_1293("GenuineIntel,6,69,1"));
    g_assert_false(ibs_has_erratum_1293(NULL));
}

/* The example of perf-amd-ibs(1), by AMD: the registers, and what its text says of them. */
static void test_published(void)
{
    static const guint64 registers[] = {
        0x000002c30006186a, 0xffffffff8204aea7, 0x0000010002550001, 0x0000000000000013, 0x0000000031960092,
        0xff110008a5398920, 0x00000008a5398920, 0, 0,
    };
    struct raw raw = raw_of(ALL_CAPS);
    struct ibs_op op;

    for (guint reg = 0; reg < REGISTERS; reg++)
        set_bits(&raw, reg, 0, registers[reg]);
    op = decode(&raw);
    g_assert_cmpuint(op.max_count, ==, 100000);
    g_assert_true(op.valid && op.rip_valid && op.store && op.dc_miss && op.l2_miss && op.remote);
    g_assert_true(op.linear_valid && op.physical_valid);
    g_assert_false(op.load || op.counts_ops || op.tlb_miss || op.tlb2_miss || op.misaligned || op.locked ||
                   op.write_combining || op.uncached || op.no_mab || op.prefetch || op.target_valid);
    g_assert_cmpuint(op.source, ==, 3);
    g_assert_cmpuint(op.width, ==, 32);
    g_assert_cmpuint(op.miss_latency, ==, 0);
    g_assert_cmphex(op.rip, ==, 0xffffffff8204aea7);
    g_assert_cmphex(op.linear, ==, 0xff110008a5398920);
    g_assert_cmphex(op.physical, ==, 0x8a5398920);
    g_assert_true(ibs_reached_memory(&op));
}

static void test_refused(void)
{
    static const guint32 caps[] = { 0x1f, ALL_CAPS, OLD_CAPS, 0x5ff };
    struct raw raw;
    struct ibs_op op;

    for (guint i = 0; i < G_N_ELEMENTS(caps); i++) {
        raw = raw_of(caps[i]);
        for (gsize size = 0; size < raw.size; size++)
            g_assert_nonnull(ibs_decode(raw.byte, size, false, &op));
        g_assert_null(ibs_decode(raw.byte, raw.size, false, &op));
    }
    raw = raw_of(OLD_CAPS);
    g_assert_nonnull(ibs_decode(raw.byte, raw.size + 1, false, &op));
    g_assert_null(ibs_decode(raw.byte, raw.size + 8, false, &op));      /* one that a later kernel adds */
    raw.byte[4 + 2] = 0x02;
    g_assert_nonnull(ibs_decode(raw.byte, raw.size, false, &op));
    raw.byte[4 + 2] = 0x04;
    g_assert_nonnull(ibs_decode(raw.byte, raw.size, false, &op));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/perf-ibs/bits", test_bits);
    g_test_add_func("/perf-ibs/sources", test_sources);
    g_test_add_func("/perf-ibs/memory", test_memory);
    g_test_add_func("/perf-ibs/erratum", test_erratum);
    g_test_add_func("/perf-ibs/published", test_published);
    g_test_add_func("/perf-ibs/refused", test_refused);
    return g_test_run();
}
