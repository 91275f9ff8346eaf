// SPDX-License-Identifier: GPL-2.0-or-later
/* Migrating a VM of the lab: to a file, to another QEMU; and comparing the two's memory. */
#ifndef VT_TEST_MIGRATE_H
#define VT_TEST_MIGRATE_H

#include "harness.h"

/* The migration's status, as query-migrate says; "none" if there was none. */
char *migration_status(struct vm *vm);

/* Waits until it has ended. Asserts that it has completed, or ended like that. */
void migration_wait(struct vm *vm);
void migration_wait_for(struct vm *vm, const char *status);

/* Passes over RAM so far. */
int64_t migration_rounds(struct vm *vm);

void migration_set_limits(struct vm *vm, uint64_t bytes_per_s, unsigned downtime_ms);
void migration_enable(struct vm *vm, const char *capability);

/* Starts it. */
void migrate_to(struct vm *vm, const char *uri);
void migrate_to_file(struct vm *vm, const char *file);

/* Pages of guest RAM, from 0 up to `ram`, that differ, through each QEMU's own mapping. */
uint64_t differing_pages(struct vm *a, struct vm *b, uint64_t ram);

#endif
