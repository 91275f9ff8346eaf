// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Faults on purpose (common/fault.h) in the daemons and QEMUs of a lab: the rules that they follow,
 * and what they say when a point acts.
 *
 * All processes follow one file of rules, which may change at any time; points of the daemon are
 * never passed by QEMU and the other way round. A process that is to pause at a point goes on at once
 * unless the test waits for just that point.
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
 * Waits until `point` acts, in a thread with this name (NULL: any). A process that pauses there does
 * so until faults_go_on(). False: it did not within the time.
 */
bool faults_wait(struct faults *faults, const char *point, const char *thread, double timeout);
void faults_go_on(struct faults *faults);

#endif
