// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The daemon: what there is once.
 *
 * The main thread runs the GLib main loop: the control socket, new links, and a timer that sends each
 * VM to the worker pool when its round is due. Workers run rounds (round.c). The list of VMs belongs
 * to the main thread.
 */
#ifndef VMTIER_DAEMON_H
#define VMTIER_DAEMON_H

#include "host/config.h"
#include "host/qmp.h"
#include "host/tier.h"
#include "host/vm.h"

#define ROUND_MS 250

struct libvirt;

struct daemon {
    struct config *config;
    struct tiers *tiers;
    int userfault;              /* /dev/userfaultfd, or -1 */
    char *no_userfault;         /* why not */
    QmpServer *qmp;
    GThreadPool *workers;
    GPtrArray *vms;             /* of struct vm */
    GMainLoop *loop;
    int listener;
    bool bound;                 /* the socket's file is ours */
    guint knocks;               /* the source that watches it */
    gint stopping;              /* atomic: links end because we do */
    gint64 started_us;
    guint64 pool;               /* dram that the arbiter divides; 0: there is none */
    struct libvirt *libvirt;    /* what libvirt says of VMs */
};

/* Listens for QEMU on config->vmm_socket. */
bool daemon_listen(struct daemon *d, GError **error);
void daemon_unlisten(struct daemon *d);

/* A new VM: takes it into the list and starts its rounds. Main thread. */
void daemon_take_on(struct daemon *d, struct vm *vm);

/* A worker's job: one step of the VM `data`. */
void daemon_work(gpointer data, gpointer unused);

/* The VM is gone: drops it from the list. Main thread. */
void daemon_forget(struct daemon *d, struct vm *vm);

/* Emits an event with {"vm": name, "reason": text or absent}. Any thread. */
void daemon_emit(struct daemon *d, const char *event, const char *vm, const char *text);

/* The same with another key than "reason". */
void daemon_tell_text(struct daemon *d, const char *event, const char *vm, const char *key, const char *text);

/* The same with other data (taken). */
void daemon_tell(struct daemon *d, const char *event, JsonObject *data);

/* A QEMU that was attached by its pid has the plugin after all: true, and what to tell the plugin. */
bool daemon_switch_over(struct daemon *d, guint32 pid, char *why, size_t size);

/* Attaches VMs whose configuration names a pidfile, whenever their QEMU runs. */
void daemon_watch_pidfiles(struct daemon *d);

struct vm *daemon_find_vm(struct daemon *d, const char *name);

/* The VM that a command's argument "vm" names, or NULL with an error. */
struct vm *daemon_vm_arg(JsonObject *args, struct daemon *d, GError **error);

/* The daemon's commands, for qmp_server_new(). */
extern const struct qmp_command control_commands[], attach_commands[], order_commands[],
    report_commands[], record_commands[], spread_commands[];

/* JSON of one VM, and of the daemon: view.c. */
JsonNode *view_vm(struct vm *vm);
JsonNode *view_status(struct daemon *d);
JsonNode *view_heatmap(struct vm *vm);
JsonNode *view_samples(struct vm *vm);

/* view-sources.c */
JsonArray *view_sources(const struct vm *vm, const struct vm_stats *s);

#endif
