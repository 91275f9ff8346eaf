// SPDX-License-Identifier: GPL-2.0-or-later
/* Running code in QEMU's main thread from the link thread, also while that waits for the link. */
#ifndef VMTIER_BQL_H
#define VMTIER_BQL_H

#include <stdbool.h>

/* Runs fn(opaque) with the BQL and waits for it. From the link thread, holding no lock. */
void bql_call(void (*fn)(void *opaque), void *opaque);

/*
 * Main thread: serves bql_call() until *done or timeout_ms have passed; returns *done. For the one moment
 * in which the main thread waits for the link: before the guest's first instruction.
 */
bool bql_serve(const bool *done, int timeout_ms);

/* Wakes bql_serve(), after *done was set under no lock of its own: sets it here. */
void bql_done(bool *done);

#endif
