// SPDX-License-Identifier: GPL-2.0-or-later
/* What the daemon's files about libvirt share. */
#ifndef VMTIER_LIBVIRT_DAEMON_H
#define VMTIER_LIBVIRT_DAEMON_H

#include "host/libvirt-metadata.h"
#include "host/libvirt-module.h"
#include "host/libvirt.h"

/* A domain we were told of. */
struct known {
    char *name, *uuid;
    struct tiering tiering;
    guint64 memory;             /* bytes; 0: not known */
    bool plugin, required;      /* required='yes', even if the rest of its metadata is wrong */
    char *text;                 /* what was read, as tiering_write() has it */
    char *problem;              /* what is wrong with its metadata; NULL: nothing */
    const char *from;           /* "hook", "libvirt", "file" */
    bool seen;                  /* since the connection was made */
    bool starting;              /* the hook has told that it starts, libvirtd not yet that it has */
};

struct libvirt {
    struct daemon *daemon;
    char *directory;            /* of the files that outlive us */
    GHashTable *domains;        /* UUID -> struct known */
    const struct libvirt_module *module;
    struct libvirt_watch *watch;
    bool connected;
    char *why_not;
};

/* NULL if the domain has no UUID that is one. `from`: a constant. */
struct known *libvirt_learn(struct libvirt *l, const char *xml, const char *from, GError **error);
void libvirt_forget(struct libvirt *l, const char *uuid);
struct known *libvirt_known(struct libvirt *l, const char *uuid, const char *name);

/* Logged, and told to all who listen: `key` is what `text` is in the event's data. */
void libvirt_announce(struct libvirt *l, const struct known *known, const char *event, const char *key,
                      const char *text);

/* Its VM, if that is attached; its configuration (`known` may be NULL). */
struct vm *libvirt_vm(struct libvirt *l, const struct known *known);
struct vm_config libvirt_config(struct libvirt *l, const struct known *known, const char *name);

/*
 * libvirt-admit.c. May this domain start, which has required='yes'? May the VM of this one have these settings?
 * NULL, or why not; g_free() it.
 */
char *libvirt_admit(struct libvirt *l, const struct known *known);
char *libvirt_overdraws(struct libvirt *l, const struct known *known, const struct tiering *asked);

/* libvirt-files.c */
void libvirt_save(struct libvirt *l, const struct known *known);
void libvirt_drop_file(struct libvirt *l, const char *uuid);
void libvirt_load(struct libvirt *l);

#endif
