// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the daemon knows from libvirt: which domains want what.
 *
 * It is told by libvirt's hook (a QMP command, before a VM starts), by libvirtd itself if configured
 * (libvirt=URI: changes while a VM runs), and by files of its own, so that a daemon that was restarted gives a
 * VM the same quota again before anybody tells. A VM is found by its UUID. All in the main thread.
 */
#ifndef VMTIER_LIBVIRT_H
#define VMTIER_LIBVIRT_H

#include "host/daemon.h"

struct libvirt;

/* Reads what was kept, and connects if so configured. Never fails: there is tiering without libvirt. */
void libvirt_start(struct daemon *d);
void libvirt_stop(struct daemon *d);

/* A VM's configuration: what its domain says goes before what the file says. */
struct vm_config libvirt_vm_config(struct daemon *d, const char *name, const guint8 uuid[16]);

/* Bytes of dram promised to domains that are about to start, but for the one with this UUID. */
guint64 libvirt_promised(struct daemon *d, const char *but);

/* "libvirt" of a VM's view, or NULL; and of the daemon's. */
JsonObject *libvirt_view_vm(struct daemon *d, const struct vm *vm);
JsonObject *libvirt_view(struct daemon *d);

extern const struct qmp_command libvirt_commands[];

#endif
