// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reader of what `perf record` writes: a header, the attributes of each event with the ids of its samples, a
 * stream of records, and features (names, the CPU) behind it.
 *
 * Files come from anywhere. What the header says is checked before anything is read: sections lie within
 * the file, and are not larger than a sane file's. Files of another byte order, of version 1 or written
 * to a pipe are rejected by name; so are single records, which are counted, and skipped where it is known how long they
 * are.
 */
#ifndef VMTIER_PERF_DATA_H
#define VMTIER_PERF_DATA_H

#include "host/perf/record.h"

struct perf_data_event {
    char *name;                 /* as perf calls it, or "event 0" */
    struct perf_event_attr attr;
    struct perf_layout layout;
    bool is_ibs;                /* its raw part is that of an IBS op */
};

struct perf_data;

struct perf_data *perf_data_open(const char *path, GError **error);
/* The same of bytes, which have to stay. */
struct perf_data *perf_data_open_bytes(const guint8 *bytes, gsize size, GError **error);
void perf_data_free(struct perf_data *data);
typedef struct perf_data PerfData;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PerfData, perf_data_free)

guint perf_data_events(const struct perf_data *data);
const struct perf_data_event *perf_data_event(const struct perf_data *data, guint i);
const char *perf_data_cpuid(const struct perf_data *data);      /* "AuthenticAMD,25,1,1"; NULL: not told */

/* Returns false to stop. */
typedef bool (*perf_data_take)(const struct perf_data_event *event, const struct perf_sample *sample,
                               gpointer opaque);

/* Goes through all records. False with an error if the rest of the file cannot be read as records. */
bool perf_data_each(struct perf_data *data, perf_data_take take, gpointer opaque,
                    struct perf_counts *counts, GError **error);

#endif
