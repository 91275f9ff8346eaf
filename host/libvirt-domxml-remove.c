// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier domxml --remove`: undoes what the domain's notes say was done (libvirt-undo.c), and nothing else.
 *
 * What somebody has added to an element of ours since then keeps that element.
 */
#include "host/libvirt-domxml.h"

#include "host/libvirt-edit.h"
#include "host/libvirt-metadata.h"

#include <string.h>

struct removal {
    const struct xml *xml;
    xmlNode *domain;
    struct edits *edits;
    const struct undo *undo;
    GHashTable *gone;           /* nodes that go away */
};

static void drop(struct removal *r, xmlNode *node)
{
    if (!node || g_hash_table_contains(r->gone, node))
        return;
    g_hash_table_add(r->gone, node);
    edit_remove(r->edits, node);
}

static void drop_noted(struct removal *r, const char *note, xmlNode *node)
{
    if (undo_has(r->undo, note))
        drop(r, node);
}

static bool is_blank(const xmlNode *node)
{
    g_autofree char *text = node->type == XML_TEXT_NODE ? xml_text(node) : NULL;

    return text && !text[0];
}

/* Nothing would be left in it: no element, no comment, no text. */
static bool is_left_empty(const struct removal *r, const xmlNode *parent)
{
    for (xmlNode *n = parent->children; n; n = n->next)
        if (!is_blank(n) && !g_hash_table_contains(r->gone, n))
            return false;
    return true;
}

/* An element that we made goes with its last child; one that was <a/> becomes that again. */
static void tidy(struct removal *r, xmlNode *parent)
{
    g_autofree char *name = parent ? g_strdup((const char *)parent->name) : NULL;
    g_autofree char *open = g_strconcat(name ? name : "", "-open", NULL);

    if (!parent || !is_left_empty(r, parent))
        return;
    if (undo_has(r->undo, name))
        drop(r, parent);
    else if (undo_has(r->undo, open))
        edit_close(r->edits, parent);
}

/* --- the parts ---------------------------------------------------------------------------------------------- */

static void reset_attribute(struct removal *r, xmlNode *node, const char *name, const char *key)
{
    g_autofree char *was = g_uri_unescape_string(undo_value(r->undo, key), NULL);

    if (node && was)
        edit_attribute(r->edits, node, name, was[0] ? was : NULL);
}

static void reset_each(struct removal *r, xmlNode *parent, const char *name, const char *attribute)
{
    int n = 0;

    for (xmlNode *i = parent ? xml_element(parent->children) : NULL; i; i = xml_element(i->next)) {
        g_autofree char *key = NULL;

        if (!xml_is(i, NULL, name))
            continue;
        key = g_strdup_printf("%s%d", name, n++);
        reset_attribute(r, i, attribute, key);
    }
}

static void restore_memory(struct removal *r)
{
    xmlNode *backing = xml_child(r->domain, NULL, "memoryBacking");
    bool ours = undo_has(r->undo, "memoryBacking");
    static const char *const names[] = { "hugepages", "source", "access" };

    reset_each(r, xml_child(xml_child(r->domain, NULL, "cpu"), NULL, "numa"), "cell", "memAccess");
    reset_each(r, xml_child(r->domain, NULL, "devices"), "memory", "access");
    if (!backing)
        return;
    reset_attribute(r, xml_child(backing, NULL, "source"), "type", "source");
    reset_attribute(r, xml_child(backing, NULL, "access"), "mode", "access");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (ours || undo_has(r->undo, names[i]))
            drop(r, xml_child(backing, NULL, names[i]));
    tidy(r, backing);
}

static void restore_commandline(struct removal *r)
{
    xmlNode *commandline = xml_child(r->domain, XML_NS_QEMU, "commandline"), *before = NULL;

    if (!commandline || !undo_has(r->undo, "args"))
        return;
    for (xmlNode *n = xml_element(commandline->children); n; n = xml_element(n->next)) {
        if (xml_is_plugin(n) && before && xml_attribute_is(before, "value", "-plugin")) {
            drop(r, before);
            drop(r, n);
        }
        before = n;
    }
    tidy(r, commandline);
}

/* QEMU's namespace stays declared if anything else is in it. */
static void restore_namespace(struct removal *r)
{
    if (!undo_has(r->undo, "qemu-ns"))
        return;
    for (xmlNode *n = xml_element(r->domain->children); n; n = xml_element(n->next))
        if (n->ns && !strcmp((const char *)n->ns->href, XML_NS_QEMU) && !g_hash_table_contains(r->gone, n))
            return;
    edit_attribute(r->edits, r->domain, "xmlns:qemu", NULL);
}

static void restore_channel(struct removal *r)
{
    xmlNode *devices = xml_child(r->domain, NULL, "devices");

    for (xmlNode *n = devices ? xml_element(devices->children) : NULL; n; n = xml_element(n->next)) {
        const xmlNode *target = xml_child(n, NULL, "target");

        if (xml_is(n, NULL, "channel") && target && xml_attribute_is(target, "name", DOMXML_CHANNEL))
            drop_noted(r, "channel", n);
    }
    tidy(r, devices);
}

static void restore_metadata(struct removal *r)
{
    drop_noted(r, "tiering", tiering_element(r->domain));
    drop(r, undo_element(r->domain));
    tidy(r, xml_child(r->domain, NULL, "metadata"));
}

char *domxml_remove(const char *text, gsize size, GError **error)
{
    g_autoptr(Xml) xml = xml_read(text, size, error);
    g_autoptr(Edits) edits = xml ? edits_new(xml) : NULL;
    g_autoptr(GHashTable) gone = g_hash_table_new(NULL, NULL);
    g_autoptr(Undo) undo = NULL;
    struct removal r = { .xml = xml, .edits = edits, .gone = gone };

    if (!xml)
        return NULL;
    r.domain = xml_root(xml);
    if (!xml_is(r.domain, NULL, "domain")) {
        xml_fail(r.domain, error, "it is no libvirt <domain>");
        return NULL;
    }
    undo = undo_read(undo_element(r.domain));
    r.undo = undo;
    restore_memory(&r);
    restore_commandline(&r);
    restore_namespace(&r);
    restore_channel(&r);
    restore_metadata(&r);
    return edits_apply(edits);
}
