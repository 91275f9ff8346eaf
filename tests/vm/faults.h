// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Faults on purpose (common/fault.h) in the daemons and QEMUs of a lab: the rules that they follow,
 * and what they say when a point acts.
 *
 * All processes follow one file of rules, which may change at any time; points of the daemon are
 * never passed by QEMU and the other way round. A process that is to pause at a point goes on at once
 * unless the test expects it at just that point.
 */
#ifndef VT_TEST_FAULTS_H
#define VT_TEST_FAULTS_H

#include "harness.h"

struct faults;

/* Sets the environment of the children that start from now on. Once per process at a time. */
struct faults *faults_new(void);
void faults_free(struct faults *faults);

/* As VMTIER_TEST_FAULT; "": none. A process looks when it gets the next message. */
void faults_set(struct faults *faults, const char *rules);

/* How many times a point of this name has acted since faults_set(). */
unsigned faults_count(struct faults *faults, const char *point);

/*
 * From now on the first process that pauses at `point`, in a thread with this name (NULL: any), stays there
 * until faults_go_on(). Before faults_set(): it may be there at once, and once only.
 */
void faults_expect(struct faults *faults, const char *point, const char *thread);
bool faults_wait(struct faults *faults, double timeout);    /* Is it there, or does it come in time? */
void faults_go_on(struct faults *faults);

#endif
