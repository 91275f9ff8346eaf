// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What tests of VMs without the plugin share: a lab with a daemon (quota 16M) and a VM that runs the test
 * ROM, which the daemon knows as "vm" once it has been attached by its pid.
 */
#ifndef VT_TEST_PIDVM_H
#define VT_TEST_PIDVM_H

#include "rig.h"

#define TIMEOUT 60.0            /* also in a machine that is emulated itself, on a busy one */
#define GIB (1024 * MIB)

struct pidvm {
    struct rig *rig;
    char *monitor;              /* QEMU's second one, for the daemon */
};

struct pidvm *pidvm_new(struct vm_options options);
void pidvm_free(struct pidvm *n);
typedef struct pidvm Pidvm;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pidvm, pidvm_free)
void pidvm_start(struct pidvm *n, struct vm_options options);
struct vm *pidvm_start_named(struct pidvm *n, const char *name, struct vm_options options);

/* Gives the command; `monitor` may be NULL. */
void pidvm_try_attach(struct pidvm *n, const char *monitor);
/* And waits until its memory is known. `ask`: its monitor. */
void pidvm_attach(struct pidvm *n, bool ask);
bool pidvm_is_known(JsonObject *vm, void *unused);
bool pidvm_is_gone(void *daemon);
void pidvm_expect_gone(struct pidvm *n, const char *reason);     /* a pattern */

gint64 pidvm_tier_of(struct pidvm *n, gint64 granule);

#endif
