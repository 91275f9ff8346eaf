// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "report": accesses that somebody else saw (a kernel daemon, the driver of a CXL hotness unit,
 * another agent) and pushes over the control socket.
 *
 * The command (report-command.c, main thread) checks a batch, leaves all of it or nothing in the VM's queue,
 * and never waits; the VM's round takes from there as much as its budget allows. The queue is bounded, which
 * also bounds the rate: what does not fit is refused, and who pushes has to come again.
 */
#ifndef VMTIER_SOURCE_REPORT_H
#define VMTIER_SOURCE_REPORT_H

#include "host/vm.h"

#define REPORT_QUEUE  65536     /* reports that wait, per VM */
#define REPORT_PAGES  512       /* of 4 KiB that one report in physical addresses may span */
#define REPORT_SPAN   4096      /* granules that one in other addresses may */

enum report_space { REPORT_GPA, REPORT_HVA, REPORT_HPA, REPORT_SPACES };

struct report {
    guint64 address, size;      /* bytes; at least 1 */
    gint64 at_us;               /* when it happened; monotonic */
    float weight;               /* accesses */
    guint32 space;              /* enum report_space */
};

/* Leaves a batch with the VM, or fails and changes nothing. Main thread. */
bool report_push(struct vm *vm, const struct report *batch, guint n, GError **error);

/* How many wait; 0 if it takes none. Any thread. */
guint report_waiting(struct vm *vm);

/* Where CXL decoders are looked up, for tests; NULL: in sysfs. */
void report_set_cxl_root(const char *path);

#endif
