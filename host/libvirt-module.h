// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libvirt's client library, behind a module that is loaded when it is wanted (vmtier-libvirt.so): so the
 * daemon and the command run on hosts that have no libvirt, and one that hangs in libvirt is a thread only.
 */
#ifndef VMTIER_LIBVIRT_MODULE_H
#define VMTIER_LIBVIRT_MODULE_H

#include <glib.h>
#include <stdbool.h>

#define LIBVIRT_MODULE_VERSION  1
#define LIBVIRT_URI             "qemu:///system"

/* What a watch tells; all of it in the thread that runs the default main context. Texts are lent. */
struct libvirt_watcher {
    /* Connected: the domains that run have been told of before this. Else `text` says why not. */
    void (*connection)(gpointer opaque, bool connected, const char *text);
    /* A domain runs and has this XML: when connected, and whenever something of it may have changed. */
    void (*domain)(gpointer opaque, const char *uuid, const char *xml);
    /* `event`: "started", "resumed", ...; the domain's XML comes besides, if it runs. */
    void (*lifecycle)(gpointer opaque, const char *uuid, const char *name, const char *event);
};

struct libvirt_watch;

struct libvirt_module {
    int version;                /* LIBVIRT_MODULE_VERSION */
    /* The definition of a domain (name or UUID), g_free() it; the same for the next start. They block. */
    char *(*read)(const char *uri, const char *domain, GError **error);
    bool (*define)(const char *uri, const char *xml, GError **error);
    /* Connects, and again whenever the connection is lost, in a thread of its own. */
    struct libvirt_watch *(*watch)(const char *uri, const struct libvirt_watcher *watcher, gpointer opaque);
    /* Nothing is told any more. Waits a moment for the thread; one that hangs in libvirt is left behind. */
    void (*unwatch)(struct libvirt_watch *watch);
};

/* The module; NULL with an error that says what is missing. */
const struct libvirt_module *libvirt_module(GError **error);

#endif
