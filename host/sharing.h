// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's dram, shared by its VMs: what [host] says, what each VM is granted, and the commands for it.
 * Main thread, but for sharing_note_curve().
 */
#ifndef VMTIER_SHARING_H
#define VMTIER_SHARING_H

#include "host/config.h"
#include "host/qmp.h"

#include <json-glib/json-glib.h>

struct daemon;
struct vm;
struct vm_settings;

/* Finds the pool and starts dividing it, if the configuration wants that. */
bool sharing_start(struct daemon *d, GError **error);

/* A new VM's first share: what is free. Before its first round. */
void sharing_welcome(struct daemon *d, struct vm *vm);

/* How hot the VM's memory is: its worker tells, once in a while. */
void sharing_note_curve(struct vm *vm);

/* Is it the arbiter's to give to and take from? Under vm->lock. */
bool sharing_takes_part(const struct vm *vm);

/* sharing-promise.c: what a VM with this configuration and RAM (0: not known) is promised. */
struct vm_config;
guint64 sharing_promise(const struct daemon *d, const struct vm_config *config, guint64 ram);

/*
 * Can so many bytes be promised to this VM (NULL: it does not run yet) of this UUID (or NULL), beside what
 * others have been promised? NULL, or why not; g_free() it.
 */
char *sharing_refusal(struct daemon *d, const struct vm *vm, const char *uuid, guint64 bytes);

JsonObject *view_quota(const struct vm *vm, const struct vm_settings *want, guint64 ram);
JsonObject *view_sharing(struct daemon *d);

extern const struct qmp_command sharing_commands[];

#endif
