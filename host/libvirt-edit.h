// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Edits of XML as text: what is not edited keeps its bytes, quotes, blanks and comments included.
 *
 * An element is added on a line of its own behind the last one in its parent; taking it away takes that
 * line's break and blanks, too, so that adding and removing leaves nothing.
 */
#ifndef VMTIER_LIBVIRT_EDIT_H
#define VMTIER_LIBVIRT_EDIT_H

#include "host/libvirt-xml.h"

struct edits;

struct edits *edits_new(const struct xml *xml);
void edits_free(struct edits *edits);
typedef struct edits Edits;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Edits, edits_free)

/*
 * Adds lines of XML (no break at the end; further lines are indented like the first) as the last child, or
 * behind a child.
 */
void edit_append(struct edits *edits, xmlNode *parent, const char *lines);
void edit_insert_after(struct edits *edits, xmlNode *child, const char *lines);
void edit_remove(struct edits *edits, xmlNode *node);

/* Turns <a></a>, empty but for what is removed, into <a/>. */
void edit_close(struct edits *edits, xmlNode *node);

/* NULL: takes it away. `name` is as it stands in the text, with its prefix. */
void edit_attribute(struct edits *edits, xmlNode *node, const char *name, const char *value);

/* The text with all edits. */
char *edits_apply(const struct edits *edits);

#endif
