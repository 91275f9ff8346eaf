// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file format of recordings: what the sources of one VM saw, round by round (*.vmtrace).
 *
 * This description and the structures below are all that another reader needs. Integers are
 * little-endian. A file is
 *
 *      trace_header
 *      { trace_chunk, payload }        of type TRACE_RECORDS, any number of them
 *      trace_chunk, trace_footer       of type TRACE_FOOTER, and nothing behind it
 *
 * Chunks are numbered from 0, the footer's as well. `crc` of the header is the CRC-32 of zlib over the
 * header with `crc` 0; of a chunk, over the trace_chunk with `crc` 0 and the payload as it is stored.
 * A payload is stored as it is, or deflated (a zlib stream of exactly `length` bytes that gives exactly
 * `raw` bytes). A file that ends before its footer, within a chunk or between two, was cut short: its
 * writer was killed. What it holds up to the last whole chunk is good.
 *
 * A payload is a sequence of whole records; none goes on in the next chunk. Each begins with a byte,
 * its type. Two codings are used in records:
 *
 *      varint  unsigned, 7 bits a byte, the lowest first; the top bit says that more follow. At most
 *              10 bytes, at most 64 bits.
 *      number  a varint v, at most TRACE_NUMBER_MOST. Even: the number is v / 2. Odd: (v >> 1) / 1024.
 *
 *      TRACE_R_ROUND   varint  microseconds since the round before (or the start)
 *                      varint  mask of the sources that ran in that time: bit i is source[i]
 *
 *      TRACE_R_OBS     what one source saw in the round that began last:
 *                      byte    which source
 *                      byte    the tier that the granules were in (0: dram), 255: not known
 *                      byte    TRACE_EXPOSURE_...: how exposures are coded
 *                      varint  n, 1 to TRACE_OBS_MOST
 *                      number  TRACE_EXPOSURE_SAME: milliseconds of exposure of each
 *                      n times
 *                        varint  granule less the one before; of the first: granule
 *                        number  events, in units of source[i].scale
 *                        number  TRACE_EXPOSURE_EACH: milliseconds of exposure
 *
 *      TRACE_R_LAYOUT  the VM's memory from now on; the first record of a file is one.
 *                      varint  number of granules: they are numbered below it
 *                      varint  blocks, at most VT_BLOCKS, in ascending order, not overlapping
 *                      each    varint first granule, varint count (>= 1)
 *                              varint bytes (more than count - 1 granules, at most count)
 *                              varint length of the name, at most VT_NAME - 1, and the name
 *                      varint  slots: guest-physical ranges over blocks, at most TRACE_SLOTS_MOST
 *                      each    varint guest-physical address, varint bytes,
 *                              varint offset in the block, varint index into the blocks above
 *
 *      TRACE_R_GAP     rounds that the recorder could not keep, as the file's reader was slow
 *                      varint  rounds, varint observations, varint microseconds
 *
 * What the kinds of a source mean by events and exposure is what host/heat.h says:
 *      samples     accesses (events x scale); every granule is exposed all the time the source runs
 *      probes      4 KiB pages touched; page-milliseconds that armed pages were watched
 *      writes      4 KiB pages written; milliseconds
 *      hints       weight in accesses, for what somebody expects
 */
#ifndef VMTIER_TRACE_H
#define VMTIER_TRACE_H

#include "vmtier/wire.h"

#include <assert.h>
#include <stdint.h>

#define TRACE_MAGIC         "VMTRACE\n"
#define TRACE_VERSION       1
#define TRACE_CHUNK_MAGIC   0x4b435456u     /* "VTCK" */
#define TRACE_SOURCES       16
#define TRACE_CHUNK_MOST    (1u << 18)      /* bytes of a payload, stored or not */
#define TRACE_OBS_MOST      4096            /* observations in one record */
#define TRACE_SLOTS_MOST    64
#define TRACE_TIER_UNKNOWN  255
#define TRACE_NUMBER_MOST   ((1ull << 33) - 1)  /* so numbers fit 32 bits */

enum trace_kind { TRACE_SAMPLES, TRACE_PROBES, TRACE_WRITES, TRACE_HINTS, TRACE_KIND_END };
enum trace_type { TRACE_RECORDS = 1, TRACE_FOOTER };
enum trace_method { TRACE_STORED, TRACE_DEFLATED, TRACE_METHOD_END };
enum trace_exposure { TRACE_EXPOSURE_NONE, TRACE_EXPOSURE_SAME, TRACE_EXPOSURE_EACH,
                      TRACE_EXPOSURE_END };
enum trace_record { TRACE_R_ROUND = 'R', TRACE_R_OBS = 'O', TRACE_R_LAYOUT = 'L', TRACE_R_GAP = 'G' };

/* Why a recording ended. */
enum trace_reason { TRACE_ASKED, TRACE_TIME_OVER, TRACE_VM_GONE, TRACE_DAEMON_ENDS,
                    TRACE_REASON_END };

struct trace_source {
    char     name[16];          /* its NUL included; empty: there is no such source */
    uint32_t kind;              /* enum trace_kind */
    uint32_t scale;             /* what an event of 1 stands for, at least 1 */
};
static_assert(sizeof(struct trace_source) == 24, "trace: source");

struct trace_header {
    char     magic[8];
    uint16_t version;
    uint16_t size;              /* of this structure */
    uint32_t crc;
    uint64_t granule;           /* bytes, a power of two */
    uint64_t start_us;          /* when it began: microseconds since 1970, UTC */
    uint64_t quota;             /* bytes of dram the VM might have, then */
    uint32_t places;            /* mask of the sources that placement followed, then */
    uint32_t round_ms;          /* how often a round is due */
    char     vm[VT_NAME];       /* its NUL included */
    char     qemu[32];
    struct trace_source source[TRACE_SOURCES];
};
static_assert(sizeof(struct trace_header) == 16 + 24 + 8 + VT_NAME + 32 + 16 * 24, "trace: header");

struct trace_chunk {
    uint32_t magic;
    uint16_t type;              /* enum trace_type */
    uint16_t method;            /* enum trace_method */
    uint32_t number;
    uint32_t length;            /* bytes stored behind this */
    uint32_t raw;               /* bytes of the payload */
    uint32_t crc;
};
static_assert(sizeof(struct trace_chunk) == 24, "trace: chunk");

/* What the writer had counted when it ended; a reader that counted otherwise has a bad file. */
struct trace_footer {
    uint64_t rounds, observations;
    uint64_t lost_rounds, lost_observations;    /* as the gaps say */
    uint64_t duration_us;       /* of rounds and gaps */
    uint32_t reason;            /* enum trace_reason */
    uint32_t pad;
};
static_assert(sizeof(struct trace_footer) == 48, "trace: footer");

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "trace: structures are written as they are");

#endif
