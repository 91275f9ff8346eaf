// SPDX-License-Identifier: GPL-2.0-or-later
/* What `status`, `top` and `sources` show, as text made of the daemon's JSON. */
#ifndef VMTIER_CLI_VIEW_H
#define VMTIER_CLI_VIEW_H

#include <json-glib/json-glib.h>

/* The daemon and its tiers. */
void view_daemon(JsonObject *status, GString *out);

/* One row for each VM, under a heading, and below why something is missing. */
void view_vms(JsonArray *vms, GString *out);

/* All about one VM. */
void view_vm(JsonObject *vm, GString *out);

/* The sources of one VM. */
void view_sources(JsonArray *sources, GString *out);

/* "dram", or "cxl (emulated)" where the host has no such memory. */
char *view_tier_name(JsonObject *tier);

/* "97.2 %", or "-" when the daemon cannot tell. */
char *view_hit(JsonObject *vm);

/* "dram=3 cxl=1: 120 of 120 granules on dram, 40 of 40 on cxl", or NULL: there is none. */
char *view_interleave(JsonObject *vm);

/* "dram 0x40000000, 64 MiB: there", or how far it is, or what is wrong. */
char *view_pin(JsonObject *pin);

/* The tier of that name, or NULL. */
JsonObject *view_find_tier(JsonObject *vm, const char *name);

#endif
