// SPDX-License-Identifier: GPL-2.0-or-later
/* What the daemon keeps of each source of observations: its number, and what is counted and shown of it. */
#ifndef VMTIER_SOURCE_ID_H
#define VMTIER_SOURCE_ID_H

#include "vmtier/wire.h"

#include <glib.h>
#include <stdbool.h>

/* A bit number in masks. Those below VT_SRC_END run in QEMU, those after it in the daemon. */
enum source_id {
    SRC_REFAULT = VT_SRC_REFAULT, SRC_DIRTY = VT_SRC_DIRTY, SRC_SAMPLE = VT_SRC_SAMPLE,
    SRC_IBS = VT_SRC_END, SRC_IDLE, SRC_DAMON, SRC_REPORT, SRC_AGENT,
    SRC_END
};
static_assert(SRC_END <= 32, "sources are bits of a guint32");

#define SOURCES_IN_QEMU ((1u << VT_SRC_END) - 1)
/* Not the dirty log: KVM maps memory that is logged by 4 KiB pages, which a guest feels. */
#define SOURCES_BY_DEFAULT (1u << SRC_REFAULT | 1u << SRC_SAMPLE | 1u << SRC_REPORT | 1u << SRC_AGENT)

struct source_stats {
    guint64 events, cpu_ns, vcpu_ns;    /* since the VM was attached; see source_count() */
    guint64 missed;                     /* what was seen elsewhere than in tiered RAM, or too late */
    double events_per_s;
    double cpu_share, vcpu_share;       /* of one core, lately */
    guint64 resolution;                 /* bytes */
    bool available, running, drives;
    char reason[VT_TEXT];               /* why it is not available */
    char detail[VT_TEXT];               /* what else it says of itself; may be empty */
    char error[VT_TEXT];                /* why it was stopped last; empty: never */
};

const char *source_name(enum source_id id);
bool source_parse(const char *name, enum source_id *id);
char *source_names(void);       /* "refault, dirty, ..." */

#endif
