// SPDX-License-Identifier: GPL-2.0-or-later
/* Threads inside QEMU. */
#ifndef VMTIER_THREAD_H
#define VMTIER_THREAD_H

/*
 * Starts a thread that nobody waits for. QEMU's signals are its own threads' business: only what the
 * new one itself causes reaches it. 0, or an errno value.
 */
int thread_start(const char *name, void *(*run)(void *), void *arg);

#endif
