// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier domxml`: makes of a libvirt domain one that can be tiered, and back.
 *
 * What is added is RAM that is a shared file, QEMU's -plugin, the agent's channel and a <tiering> element;
 * what was there before is noted in the metadata (libvirt-undo.c), so that it can be undone even after
 * libvirt has written the XML anew. Text that is not concerned keeps its bytes.
 */
#ifndef VMTIER_LIBVIRT_DOMXML_H
#define VMTIER_LIBVIRT_DOMXML_H

#include "host/libvirt-xml.h"

#define DOMXML_CHANNEL  "org.vmtier.agent.0"
#define DOMXML_SOCKET   "/run/vmtier/vmm.sock"

struct domxml_options {
    const char *plugin, *socket;        /* NULL: the usual */
    /* For <tiering>; NULL: not said. */
    const char *mode, *min, *max, *weight, *granule;
    bool required;
    bool hugepages;                     /* RAM of hugetlb pages */
    bool no_agent;
};

/* The path of the plugin that is used if none is given. */
const char *domxml_plugin(void);

/* The domain's text, changed. Idempotent. A refusal names each element that is in the way, and its line. */
char *domxml_add(const char *text, gsize size, const struct domxml_options *options, GError **error);

/* Takes away what domxml_add() put there, <tiering> included if that was not there before. */
char *domxml_remove(const char *text, gsize size, GError **error);

/* What a KubeVirt VMI (JSON) asks for by its annotations vmtier.org/...; false with *error. */
bool domxml_vmi_options(const char *json, struct domxml_options *options, GError **error);

/* --- libvirt-obstacles.c ------------------------------------------------------------------------------ */

/* What keeps this domain from being tiered: lines of text; NULL: nothing. g_free() it. */
char *domxml_obstacles(xmlNode *domain);

/* --- libvirt-undo.c ------------------------------------------------------------------------------------ */

/* What was added ("channel") or had another value ("access=private"; "source=": there was none). */
struct undo {
    GPtrArray *notes;           /* of char * */
};

struct undo *undo_new(void);
void undo_free(struct undo *undo);
typedef struct undo Undo;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Undo, undo_free)

void undo_note(struct undo *undo, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool undo_has(const struct undo *undo, const char *note);
/* The value noted of `key`, or NULL. */
const char *undo_value(const struct undo *undo, const char *key);

xmlNode *undo_element(const xmlNode *domain);
struct undo *undo_read(const xmlNode *element);         /* NULL: an empty one */
char *undo_text(const struct undo *undo);               /* the words */
char *undo_write(const struct undo *undo);              /* as an element */

#endif
