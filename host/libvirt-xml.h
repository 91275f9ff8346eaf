// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * XML of libvirt's, read with care: a domain's owner wrote it, who may be less trusted than we are.
 *
 * What is not read at all: a document type, and so no entity but the five of XML itself; more than
 * XML_MOST bytes; elements nested deeper than XML_DEPTH; another encoding than UTF-8.
 *
 * For each element it is known where it stands in the text, so that an edit changes these bytes and no
 * others. Errors begin with "line N: ".
 */
#ifndef VMTIER_LIBVIRT_XML_H
#define VMTIER_LIBVIRT_XML_H

#include <glib.h>
#include <libxml/tree.h>
#include <stdbool.h>

#define XML_MOST    (1024 * 1024)
#define XML_DEPTH   64

#define XML_PLUGIN  "vmtier-qemu.so"

#define XML_NS_VMTIER   "urn:vmtier:libvirt:1"
#define XML_NS_UNDO     "urn:vmtier:domxml:1"
#define XML_NS_QEMU     "http://libvirt.org/schemas/domain/qemu/1.0"

/* <a b="c">text</a>: `begin` is at "<a", `inner` behind the '>' that ends the start tag, `end` behind "</a>". */
struct xml_span {
    gsize begin, inner, end;
    bool closed;                /* <a/>: inner == end */
};

struct xml {
    char *text;
    gsize size;
    xmlDoc *doc;
    GArray *spans;              /* of struct xml_span; a node's _private is the index + 1 */
};

struct xml *xml_read(const char *text, gsize size, GError **error);
void xml_free(struct xml *xml);
typedef struct xml Xml;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Xml, xml_free)

xmlNode *xml_root(const struct xml *xml);
struct xml_span xml_span_of(const struct xml *xml, const xmlNode *node);

bool xml_is(const xmlNode *node, const char *ns, const char *name);  /* ns NULL: in no namespace */
xmlNode *xml_child(const xmlNode *parent, const char *ns, const char *name);
/* The next sibling that is an element, `node` included. */
xmlNode *xml_element(xmlNode *node);
/* g_free() it; NULL: there is none. */
char *xml_attribute(const xmlNode *node, const char *name);
bool xml_attribute_is(const xmlNode *node, const char *name, const char *value);
/* Text of the node and all below, without blanks at its ends. g_free() it. */
char *xml_text(const xmlNode *node);

/* Is it the argument of QEMU's that loads our plugin? The first of these in a domain, or NULL. */
bool xml_is_plugin(const xmlNode *node);
xmlNode *xml_plugin(const xmlNode *domain);

long xml_line(const xmlNode *node);
/* Sets "line N: <element>: ..." and returns false. */
bool xml_fail(const xmlNode *node, GError **error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Text for between quotes or tags. g_free() it. */
char *xml_escape(const char *text);

/* A number with one of libvirt's units ("KiB", "M", "gb", ...; NULL or "": `usual`) as bytes. */
bool xml_scale(const char *number, const char *unit, const char *usual, guint64 *bytes);

#endif
