// SPDX-License-Identifier: GPL-2.0-or-later
/* perf.data files, and records for them, made byte for byte; for tests. */
#ifndef VMTIER_TESTS_PERF_FILE_H
#define VMTIER_TESTS_PERF_FILE_H

#include <glib.h>
#include <linux/perf_event.h>

#define FILE_HEADER 104u        /* bytes of the header; where the data section's place and size are told */
#define FILE_DATA   40u
#define FILE_ATTRS  24u

struct file_event {
    const char *name;
    guint32 type;
    guint64 config, sample_type;
    guint64 ids[2];             /* 0: no more */
};

void put_bytes(GByteArray *b, const void *from, gsize n);
void put_u64(GByteArray *b, guint64 value);
void put_u32s(GByteArray *b, guint32 first, guint32 second);

/* A record of `type` with this body. */
GByteArray *record_new(guint32 type, guint16 misc, const GByteArray *body /* or NULL */);

/* A file with these events and data; `cpuid` and `zen4` are told as features. */
GByteArray *file_new(const struct file_event *events, guint n, const GByteArray *data, const char *cpuid,
                     gboolean zen4);

/* Writes it to a new file of this name in a new directory; both are the caller's. */
char *file_write(const GByteArray *file);

#endif
