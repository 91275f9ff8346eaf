// SPDX-License-Identifier: GPL-2.0-or-later
/* Decoding a sampled op's registers: see ibs.h. */
#include "host/perf/ibs.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* The registers' places in the record. */
enum { OP_CTL, OP_RIP, OP_DATA, OP_DATA2, OP_DATA3, DC_LINADDR, DC_PHYSADDR, ALWAYS };

/* IBS_OP_CTL, MSRC001_1033 */
struct op_ctl {
    guint64 max_count : 16, l3_miss_only : 1, enabled : 1, valid : 1, counts_ops : 1, max_count_high : 7,
            reserved : 5, count : 27, latency_threshold : 4, latency_filter : 1;
};
/* IBS_OP_DATA, MSRC001_1035 */
struct op_data {
    guint64 completion_to_retire : 16, tag_to_retire : 16, reserved : 2, is_return : 1, taken : 1,
            mispredicted : 1, branch : 1, rip_invalid : 1, fused : 1, microcode : 1, reserved2 : 23;
};
/* IBS_OP_DATA2, MSRC001_1036 */
struct op_data2 {
    guint64 source_low : 3, reserved : 1, remote : 1, owned : 1, source_high : 2, streaming : 1,
            remote_socket : 1, reserved2 : 54;
};
/* IBS_OP_DATA3, MSRC001_1037 */
struct op_data3 {
    guint64 load : 1, store : 1, tlb_miss : 1, tlb2_miss : 1, tlb_hit_2m : 1, tlb_hit_1g : 1,
            tlb2_hit_2m : 1, dc_miss : 1, misaligned : 1, reserved : 4, write_combining : 1, uncached : 1,
            locked : 1, no_mab : 1, linear_valid : 1, physical_valid : 1, tlb2_hit_1g : 1, l2_miss : 1,
            prefetch : 1, width : 4, open_requests : 6, miss_latency : 16, tlb_latency : 16;
};
static_assert(sizeof(struct op_ctl) == 8 && sizeof(struct op_data) == 8 &&
              sizeof(struct op_data2) == 8 && sizeof(struct op_data3) == 8, "IBS: registers have 64 bits");

static const char *const from_names[] = {
    "unknown", "l1", "l2", "near-cache", "far-cache", "dram", "extended", "pmem", "peer", "io", "uncached",
};
static_assert(G_N_ELEMENTS(from_names) == IBS_FROM_END, "IBS: a data source has no name");

const char *ibs_from_name(enum ibs_from from)
{
    return from_names[from];
}

/* Data sources of Zen 4 and later (5 bits), and before (3 bits). */
static const guint8 wide_sources[32] = {
    [1] = IBS_FROM_NEAR_CACHE, [2] = IBS_FROM_FAR_CACHE, [3] = IBS_FROM_DRAM, [5] = IBS_FROM_FAR_CACHE,
    [6] = IBS_FROM_PMEM, [7] = IBS_FROM_IO, [8] = IBS_FROM_EXTENDED, [12] = IBS_FROM_PEER,
};
static const guint8 narrow_sources[8] = {
    [2] = IBS_FROM_NEAR_CACHE, [3] = IBS_FROM_DRAM, [4] = IBS_FROM_FAR_CACHE, [7] = IBS_FROM_IO,
};

/* Misses and sources mean nothing for uncached accesses; sources are of loads. */
static enum ibs_from served_by(const struct ibs_op *op)
{
    enum ibs_from from = op->caps & IBS_CAP_ZEN4 ? wide_sources[op->source] :
                         narrow_sources[op->source & 7];

    if (!op->load && !op->store)
        return IBS_FROM_UNKNOWN;
    if (op->uncached)
        return from == IBS_FROM_IO ? from : IBS_FROM_UNCACHED;
    if (!op->dc_miss)
        return IBS_FROM_L1;
    if (!op->l2_miss)
        return IBS_FROM_L2;
    return op->load ? from : IBS_FROM_UNKNOWN;
}

static void take_data3(struct ibs_op *op, struct op_data3 d)
{
    op->load = d.load;
    op->store = d.store;
    op->tlb_miss = d.tlb_miss;
    op->tlb2_miss = d.tlb2_miss;
    op->dc_miss = d.dc_miss;
    op->misaligned = d.misaligned;
    op->write_combining = d.write_combining;
    op->uncached = d.uncached;
    op->locked = d.locked;
    op->no_mab = d.no_mab;
    op->linear_valid = d.linear_valid;
    op->physical_valid = d.physical_valid;
    op->l2_miss = d.l2_miss;
    op->prefetch = d.prefetch;
    op->width = d.width ? (guint16)(1u << (d.width - 1)) : 0;
    op->miss_latency = d.miss_latency;
    op->tlb_latency = d.tlb_latency;
}

static void take_data2(struct ibs_op *op, struct op_data2 d)
{
    op->source = (guint8)(op->caps & IBS_CAP_ZEN4 ? d.source_high << 3 | d.source_low : d.source_low);
    op->remote = d.remote;
}

static void decode_registers(struct ibs_op *op, const guint64 *reg, bool erratum_1293)
{
    struct op_ctl ctl;
    struct op_data data;
    struct op_data2 data2;
    struct op_data3 data3;

    memcpy(&ctl, &reg[OP_CTL], sizeof(ctl));
    memcpy(&data, &reg[OP_DATA], sizeof(data));
    memcpy(&data2, &reg[OP_DATA2], sizeof(data2));
    memcpy(&data3, &reg[OP_DATA3], sizeof(data3));
    op->valid = ctl.valid && ctl.enabled;
    op->counts_ops = ctl.counts_ops;
    op->max_count = (guint32)(ctl.max_count | ctl.max_count_high << 16) << 4;
    op->rip = reg[OP_RIP];
    op->rip_valid = !(op->caps & IBS_CAP_RIP_INVALID && data.rip_invalid);
    take_data3(op, data3);
    if (erratum_1293 && (op->prefetch || op->no_mab))
        op->l2_miss = op->dc_miss;      /* and there is no source */
    else
        take_data2(op, data2);
    op->from = served_by(op);
    op->linear = reg[DC_LINADDR];
    op->physical = reg[DC_PHYSADDR];
    if (op->caps & IBS_CAP_BRANCH_TARGET) {
        op->target = reg[ALWAYS];
        op->target_valid = data.branch && op->target;
    }
}

const char *ibs_decode(const void *raw, gsize size, bool erratum_1293, struct ibs_op *op)
{
    guint64 reg[ALWAYS + 2] = { 0 };
    gsize n = ALWAYS;

    *op = (struct ibs_op){ 0 };
    if (size < sizeof(op->caps))
        return "the raw part has no capabilities";
    memcpy(&op->caps, raw, sizeof(op->caps));
    n += !!(op->caps & IBS_CAP_BRANCH_TARGET);
    n += !!(op->caps & IBS_CAP_DATA4);
    if (size < sizeof(op->caps) + n * sizeof(*reg) || (size - sizeof(op->caps)) % sizeof(*reg))
        return "the raw part has not the registers that its capabilities say";
    memcpy(reg, (const guint8 *)raw + sizeof(op->caps), n * sizeof(*reg));
    decode_registers(op, reg, erratum_1293);
    return op->valid ? NULL : "the sample is marked as not valid";
}

bool ibs_reached_memory(const struct ibs_op *op)
{
    switch (op->from) {
    case IBS_FROM_DRAM: case IBS_FROM_EXTENDED: case IBS_FROM_PMEM: case IBS_FROM_PEER:
        return true;
    case IBS_FROM_UNKNOWN:
        return (op->load || op->store) && op->dc_miss && op->l2_miss;
    default:
        return false;
    }
}

bool ibs_has_erratum_1293(const char *cpuid)
{
    unsigned family, model;

    return cpuid && sscanf(cpuid, "AuthenticAMD,%u,%u", &family, &model) == 2 && family == 0x19 &&
           model <= 0xf;
}
