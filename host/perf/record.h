// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records of perf events, as the kernel writes them to a ring and perf(1) to files: perf_event_open(2).
 *
 * What a sample has in it depends on the event's attributes alone, so whoever decodes one needs these; a
 * record that does not fit them exactly is rejected, by name.
 */
#ifndef VMTIER_PERF_RECORD_H
#define VMTIER_PERF_RECORD_H

#include <glib.h>
#include <linux/perf_event.h>
#include <stdbool.h>

/* Why a record is rejected. */
enum perf_bad {
    PERF_GOOD,
    PERF_BAD_SIZE,              /* its header's size is less than a header, or more than there is */
    PERF_BAD_SHORT,             /* it ends within a field */
    PERF_BAD_LONG,              /* it goes on after the last field */
    PERF_BAD_COUNT,             /* a count or size in it is beyond its end */
    PERF_BAD_KIND,              /* a field that this kernel or file has and we do not know */
    PERF_BAD_ID,                /* of an event that is not in the file */
    PERF_BAD_COMPRESSED,        /* a compressed piece of a file */
    PERF_BAD_OVERRUN,           /* the ring claims more than it holds */
    PERF_BAD_END
};
const char *perf_bad_name(enum perf_bad bad);       /* "short" */

/* What an event's attributes say about its samples. */
struct perf_layout {
    guint64 sample_type, read_format, branch_type, regs_user, regs_intr;
    bool id_all;
};
struct perf_layout perf_layout_of(const struct perf_event_attr *attr);

/* Only what `have` (PERF_SAMPLE_*) names is set. */
struct perf_sample {
    guint64 have;
    guint16 misc;
    guint32 pid, tid, cpu;
    guint64 ip, time, addr, id, stream, period, weight, data_src, phys_addr, data_page, code_page;
    const guint8 *raw;          /* within the record, not aligned */
    guint32 raw_size;
};

/* `record` is a whole PERF_RECORD_SAMPLE of `size` bytes, header included. */
enum perf_bad perf_decode(const struct perf_layout *layout, const guint8 *record, size_t size,
                          struct perf_sample *sample);

/* The event's id in a sample of one of several events; false: its layout has none. */
bool perf_peek_id(const struct perf_layout *layout, const guint8 *record, size_t size, guint64 *id);

/* Was the guest running? Then `addr` is an address of the guest's, and no business of ours. */
bool perf_in_guest(const struct perf_sample *sample);

struct perf_counts {
    guint64 samples, lost, throttled, other;    /* other: records that are no samples */
    guint64 bad[PERF_BAD_END];
};
guint64 perf_counts_bad(const struct perf_counts *counts);      /* of all kinds */

/* Counts a record that is no sample. `record` has at least a header. */
void perf_count_other(struct perf_counts *counts, const guint8 *record, size_t size);

#endif
