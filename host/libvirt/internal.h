// SPDX-License-Identifier: GPL-2.0-or-later
/* What the files of vmtier-libvirt.so share. */
#ifndef VMTIER_LIBVIRT_INTERNAL_H
#define VMTIER_LIBVIRT_INTERNAL_H

#include "host/libvirt-module.h"

#include <libvirt/libvirt.h>

/* Sets an error from libvirt's last one; returns false. */
bool lv_fail(GError **error, const char *what);
/* What libvirt said last. */
const char *lv_last_error(void);

struct libvirt_watch *lv_watch(const char *uri, const struct libvirt_watcher *watcher, gpointer opaque);
void lv_unwatch(struct libvirt_watch *watch);

#endif
