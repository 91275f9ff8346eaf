// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * AMD's instruction-based sampling of ops: what a sample's raw part says.
 *
 * The layout is that of AMD's manuals (APM volume 2, "Instruction-Based Sampling"; PPR, MSRC001_1033 to
 * _103D and CPUID Fn8000_001B), in the order in which Linux saves it, without gaps: 32 bits of CPUID
 * Fn8000_001B_EAX, then 64 bits each of IBS_OP_CTL, _RIP, _DATA, _DATA2, _DATA3, IBS_DC_LINADDR and
 * IBS_DC_PHYSADDR; then BP_IBSTGT_RIP and IBS_OP_DATA4, each if that CPUID says that it exists. What a later
 * kernel adds comes behind.
 *
 * Which address is worth something. For an op of a guest the linear address is the guest's own; the
 * physical one is the system's, behind nested paging (which is why KVM, where it lets guests use IBS, has
 * them read 0 there). So this, when its valid bit is set, is what the reverse map is asked for. perf's own
 * PERF_SAMPLE_PHYS_ADDR is not always that: where the register is not valid the kernel translates the
 * linear address as if it were the process' own, which for a guest's is wrong.
 */
#ifndef VMTIER_PERF_IBS_H
#define VMTIER_PERF_IBS_H

#include <glib.h>
#include <stdbool.h>

/* CPUID Fn8000_001B_EAX, of which only these change what a record has and means. */
#define IBS_CAP_BRANCH_TARGET (1u << 5)
#define IBS_CAP_RIP_INVALID   (1u << 7)
#define IBS_CAP_DATA4         (1u << 10)
#define IBS_CAP_ZEN4          (1u << 11)    /* wide data source, misses of L3 only */

enum ibs_from {                 /* who served the access */
    IBS_FROM_UNKNOWN,
    IBS_FROM_L1, IBS_FROM_L2,
    IBS_FROM_NEAR_CACHE,        /* L3, or another core's cache in the same complex */
    IBS_FROM_FAR_CACHE,         /* of another complex or node */
    IBS_FROM_DRAM,
    IBS_FROM_EXTENDED,          /* extension memory: CXL */
    IBS_FROM_PMEM,              /* long-latency DIMM */
    IBS_FROM_PEER,              /* coherent memory of another type of processor */
    IBS_FROM_IO, IBS_FROM_UNCACHED,
    IBS_FROM_END
};
const char *ibs_from_name(enum ibs_from from);

struct ibs_op {
    guint32 caps;
    guint64 rip, linear, physical, target;
    bool valid, rip_valid, linear_valid, physical_valid, target_valid;
    bool counts_ops;            /* the period is in ops, not in cycles */
    bool load, store, locked, prefetch, misaligned, uncached, write_combining;
    bool dc_miss, l2_miss, no_mab;
    bool tlb_miss, tlb2_miss, remote;
    enum ibs_from from;
    guint8 source;              /* the data source's number as it is */
    guint16 width;              /* bytes; 0: not said */
    guint16 miss_latency, tlb_latency;
    guint32 max_count;          /* the period */
};

/*
 * Decodes a record. `erratum_1293`: the CPU is one (family 19h, models 00h-0Fh) of which some fields are not to
 * be believed for prefetches and misses without a buffer. NULL, or why it is none.
 */
const char *ibs_decode(const void *raw, gsize size, bool erratum_1293, struct ibs_op *op);

/* Did memory behind the caches serve it, as far as can be told? Data sources are told for loads alone. */
bool ibs_reached_memory(const struct ibs_op *op);

/* Does this CPU, or the one that perf's CPUID string "AuthenticAMD,25,1,1" names, have that erratum? */
bool ibs_has_erratum_1293(const char *cpuid);

#endif
