// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Moves under writers and device I/O: is a single update lost, or torn?
 *
 * A page's first half belongs to the writers: each has a number in each of four places of it, one to
 * a cache line, and knows what they must hold; all together have a counter, added to atomically. The
 * second half belongs to the devices: O_DIRECT reads into it and writes out of it, in flight while
 * the mover works and announced to the fence as QEMU's engines do.
 */
#ifndef VMTIER_BENCH_TORN_H
#define VMTIER_BENCH_TORN_H

#include "bench/lib/tune.h"

enum torn_mode { TORN_KEPT, TORN_PUNCHED, TORN_EXCHANGED, TORN_MODES };
extern const char *const torn_mode_names[TORN_MODES];

/* What is done wrong on purpose, so that the detector has something to find. */
enum torn_harm { TORN_NO_HARM, TORN_NO_FENCE, TORN_REWIND };

struct torn_case {
    enum bench_backing backing;
    guint64 granule;
    enum torn_mode mode;
    enum torn_harm harm;
    guint64 pages;              /* moves of 4 KiB pages to be made */
    guint seconds;              /* or until then */
    bool until_damage;          /* or until there is some */
    int disk;                   /* O_DIRECT; from torn_disk() */
};

struct torn_result {
    bool ok;                    /* it ran to its end; says nothing of damage */
    char why[200];
    guint64 pages, granules;    /* moved */
    guint64 deferred;           /* granules a DMA was in flight into, or too many mappings */
    guint64 writes;             /* updates of pages by the writers */
    guint64 reads_in, writes_out;       /* device I/O */
    guint64 lost, torn;         /* seen by writers, on the way */
    guint64 wrong_at_end;       /* pages with a wrong number or sum, after all has stopped */
    guint64 bad_reads, bad_writes;      /* device I/O with wrong data */
    double seconds;
};

/* A file without a name in `directory` for the devices; -1 with *err if there is no O_DIRECT. */
int torn_disk(const char *directory, struct vt_err *err);

/* For bench_child(): `what` is a struct torn_case, `result` a struct torn_result. */
void torn_run(const void *what, void *result);

static inline guint64 torn_damage(const struct torn_result *r)
{
    return r->lost + r->torn + r->wrong_at_end + r->bad_reads + r->bad_writes;
}

#endif
