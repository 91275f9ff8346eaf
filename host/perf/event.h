// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which event to sample, from text as perf(1) takes it, and what can be made of its addresses.
 *
 *     ibs_op/cnt_ctl=1,l3missonly=1/   a PMU and its terms, which /sys/bus/event_source/devices describes
 *     cpu/mem-loads,ldlat=30/P         an event that the PMU names; P: as precise as it can be, p to ppp: at
 *                                      least so
 *     minor-faults                     a software event
 *
 * A PMU's directory has `type`, a number; `format/TERM`, where a term's bits go ("config:0-7,32-35");
 * `events/NAME`, terms that make up an event; `caps/`.
 */
#ifndef VMTIER_PERF_EVENT_H
#define VMTIER_PERF_EVENT_H

#include "host/perf/record.h"

#define EVENT_DEVICES "/sys/bus/event_source/devices"

/* What the samples' addresses are. */
enum event_space {
    EVENT_IBS,                  /* raw registers, which tell a host-physical address */
    EVENT_PHYSICAL,             /* PERF_SAMPLE_PHYS_ADDR */
    EVENT_VIRTUAL,              /* PERF_SAMPLE_ADDR, an address of QEMU's process */
};

struct event {
    char *text;
    struct perf_event_attr attr;    /* without period: that is the pace's */
    enum event_space space;
    bool most_precise;
    guint64 period, period_least, period_step;  /* to begin with; the hardware's smallest; its steps */
};

/* `devices`: EVENT_DEVICES. The error names the PMU or the term, and what there is instead. */
struct event *event_parse(const char *text, const char *devices, GError **error);
void event_free(struct event *event);
typedef struct event Event;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Event, event_free)

/* The best one that this host has for accesses to memory, or NULL with an error that says what would help. */
char *event_default(const char *devices, GError **error);

#endif
