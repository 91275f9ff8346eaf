// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier domxml`, the transformation: see libvirt-domxml.h.
 *
 * Each part of the domain (memory, command line, channel, metadata) is looked at by itself: what is missing
 * is added and noted, what is there is left alone. So it is idempotent, and a domain that was prepared by
 * hand stays as it is.
 */
#include "host/libvirt-domxml.h"

#include "host/error.h"
#include "host/libvirt-edit.h"
#include "host/libvirt-metadata.h"
#include "host/paths.h"
#include "host/vm.h"

#include <errno.h>
#include <string.h>

/* One transformation under way. */
struct change {
    const struct domxml_options *options;
    const struct xml *xml;
    xmlNode *domain;
    struct edits *edits;
    struct undo *undo;
    struct tiering tiering;     /* what the domain will have */
};

const char *domxml_plugin(void)
{
    static char *path;

    if (!path)
        path = paths_library(XML_PLUGIN);
    return path;
}

/* --- memory ------------------------------------------------------------------------------------------------ */

static xmlNode *memory_anchor(xmlNode *domain)
{
    static const char *const names[] = { "currentMemory", "memory", "uuid", "name" };
    xmlNode *node = NULL;

    for (guint i = 0; !node && i < G_N_ELEMENTS(names); i++)
        node = xml_child(domain, NULL, names[i]);
    return node;
}

static void add_child(struct change *c, xmlNode *parent, const char *note, const char *lines)
{
    if (xml_span_of(c->xml, parent).closed)
        undo_note(c->undo, "%s-open", (const char *)parent->name);
    undo_note(c->undo, "%s", note);
    edit_append(c->edits, parent, lines);
}

/* Where an attribute has another value than it is to have; `key` is what it is noted by. */
static void set_attribute(struct change *c, xmlNode *node, const char *name, const char *value,
                          const char *key)
{
    g_autofree char *was = xml_attribute(node, name), *escaped = NULL;

    if (was && !strcmp(was, value))
        return;
    escaped = g_uri_escape_string(was ? was : "", NULL, TRUE);
    undo_note(c->undo, "%s=%s", key, escaped);
    edit_attribute(c->edits, node, name, value);
}

static void change_backing(struct change *c, xmlNode *backing)
{
    xmlNode *source = xml_child(backing, NULL, "source"), *access = xml_child(backing, NULL, "access");
    bool huge = xml_child(backing, NULL, "hugepages") || c->options->hugepages;

    if (c->options->hugepages && !xml_child(backing, NULL, "hugepages"))
        add_child(c, backing, "hugepages", "<hugepages/>");
    if (!source && !huge)
        add_child(c, backing, "source", "<source type='memfd'/>");
    else if (source && !xml_attribute_is(source, "type", "file"))
        set_attribute(c, source, "type", "memfd", "source");
    if (!access)
        add_child(c, backing, "access", "<access mode='shared'/>");
    else
        set_attribute(c, access, "mode", "shared", "access");
}

/* Cells and DIMMs that say otherwise overrule <memoryBacking>. */
static void share_each(struct change *c, xmlNode *parent, const char *name, const char *attribute)
{
    int n = 0;

    for (xmlNode *i = parent ? xml_element(parent->children) : NULL; i; i = xml_element(i->next)) {
        g_autofree char *key = g_strdup_printf("%s%d", name, n);

        if (!xml_is(i, NULL, name))
            continue;
        n++;
        if (xml_attribute_is(i, attribute, "private"))
            set_attribute(c, i, attribute, "shared", key);
    }
}

static bool change_memory(struct change *c, GError **error)
{
    xmlNode *backing = xml_child(c->domain, NULL, "memoryBacking"), *anchor = memory_anchor(c->domain);

    if (!anchor)
        return xml_fail(c->domain, error, "it has no <memory>");
    if (!backing) {
        undo_note(c->undo, "memoryBacking");
        edit_insert_after(c->edits, anchor, c->options->hugepages
            ? "<memoryBacking>\n  <hugepages/>\n  <access mode='shared'/>\n</memoryBacking>"
            : "<memoryBacking>\n  <source type='memfd'/>\n  <access mode='shared'/>\n</memoryBacking>");
    } else {
        change_backing(c, backing);
    }
    share_each(c, xml_child(xml_child(c->domain, NULL, "cpu"), NULL, "numa"), "cell", "memAccess");
    share_each(c, xml_child(c->domain, NULL, "devices"), "memory", "access");
    return true;
}

/* --- QEMU's command line ------------------------------------------------------------------------------------- */

/* QEMU's option parser takes two commas for one. */
static char *doubled(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    return g_strjoinv(",,", parts);
}

/* A name that vmtier would refuse is replaced: by the UUID if there is one. */
static char *name_option(const struct change *c)
{
    g_autofree char *name = xml_text(xml_child(c->domain, NULL, "name"));
    g_autofree char *uuid = xml_text(xml_child(c->domain, NULL, "uuid"));

    if (!name[0] || vm_name_is_good(name))
        return g_strdup("");
    if (uuid[0] && vm_name_is_good(uuid))
        return g_strconcat(",vm=", uuid, NULL);
    g_strcanon(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", '_');
    return g_strdup_printf(",vm=%.60s", name);
}

static char *plugin_value(const struct change *c)
{
    const struct domxml_options *o = c->options;
    g_autofree char *path = doubled(o->plugin ? o->plugin : domxml_plugin());
    g_autofree char *socket = doubled(o->socket ? o->socket : DOMXML_SOCKET);
    g_autofree char *name = name_option(c);
    g_autofree char *value = g_strdup_printf("%s,socket=%s%s%s", path, socket, name,
                                             c->tiering.required ? ",required=on" : "");

    return xml_escape(value);
}

/* The prefix that stands for QEMU's namespace in the domain's children; it is declared if need be. */
static const char *qemu_prefix(struct change *c, GError **error)
{
    for (const xmlNs *ns = c->domain->nsDef; ns; ns = ns->next) {
        if (ns->prefix && !strcmp((const char *)ns->href, XML_NS_QEMU))
            return (const char *)ns->prefix;
        if (ns->prefix && !strcmp((const char *)ns->prefix, "qemu")) {
            xml_fail(c->domain, error, "xmlns:qemu stands for '%s', not for '" XML_NS_QEMU "'", ns->href);
            return NULL;
        }
    }
    undo_note(c->undo, "qemu-ns");
    edit_attribute(c->edits, c->domain, "xmlns:qemu", XML_NS_QEMU);
    return "qemu";
}

static bool change_commandline(struct change *c, GError **error)
{
    xmlNode *commandline = xml_child(c->domain, XML_NS_QEMU, "commandline");
    g_autofree char *value = plugin_value(c), *arguments = NULL, *whole = NULL;
    const char *prefix;

    if (xml_plugin(c->domain))
        return true;
    prefix = commandline && commandline->ns->prefix ? (const char *)commandline->ns->prefix
                                                    : qemu_prefix(c, error);
    if (!prefix)
        return false;
    if (commandline) {
        arguments = g_strdup_printf("<%s:arg value='-plugin'/>\n<%s:arg value='%s'/>", prefix, prefix, value);
        add_child(c, commandline, "args", arguments);
        return true;
    }
    whole = g_strdup_printf("<%s:commandline>\n  <%s:arg value='-plugin'/>\n  <%s:arg value='%s'/>\n"
                            "</%s:commandline>", prefix, prefix, prefix, value, prefix);
    add_child(c, c->domain, "args", whole);
    undo_note(c->undo, "commandline");
    return true;
}

/* --- the agent's channel -------------------------------------------------------------------------------------- */

static xmlNode *agent_channel(const xmlNode *devices)
{
    xmlNode *n = devices ? xml_element(devices->children) : NULL;

    for (; n; n = xml_element(n->next)) {
        const xmlNode *target = xml_child(n, NULL, "target");

        if (xml_is(n, NULL, "channel") && target && xml_attribute_is(target, "name", DOMXML_CHANNEL))
            return n;
    }
    return NULL;
}

/* In the mode "bind", as QEMU would not start if it had to connect to a socket that is not there. */
static void change_channel(struct change *c)
{
    xmlNode *devices = xml_child(c->domain, NULL, "devices");
    static const char channel[] =
        "<channel type='unix'>\n  <target type='virtio' name='" DOMXML_CHANNEL "'/>\n</channel>";

    if (!c->options->no_agent && devices && !agent_channel(devices))
        add_child(c, devices, "channel", channel);
}

/* --- metadata -------------------------------------------------------------------------------------------------- */

static void add_attribute(GString *s, const char *name, const char *value)
{
    g_autofree char *escaped = value ? xml_escape(value) : NULL;

    if (value)
        g_string_append_printf(s, " %s='%s'", name, escaped);
}

/* <tiering> as the options have it. */
static char *element_wanted(const struct domxml_options *o)
{
    GString *s = g_string_new("<vmtier:tiering xmlns:vmtier='" XML_NS_VMTIER "'");
    g_autofree char *granule = o->granule ? xml_escape(o->granule) : NULL;

    add_attribute(s, "mode", o->mode ? o->mode : "on");
    add_attribute(s, "required", o->required ? "yes" : NULL);
    if (!o->min && !o->max && !o->weight && !o->granule)
        return g_string_free(g_string_append(s, "/>"), FALSE);
    g_string_append(s, ">");
    if (o->min || o->max || o->weight) {
        g_string_append(s, "\n  <dram");
        add_attribute(s, "min", o->min);
        add_attribute(s, "max", o->max);
        add_attribute(s, "weight", o->weight);
        g_string_append(s, "/>");
    }
    if (granule)
        g_string_append_printf(s, "\n  <granule>%s</granule>", granule);
    return g_string_free(g_string_append(s, "\n</vmtier:tiering>"), FALSE);
}

static bool settings_given(const struct domxml_options *o)
{
    return o->mode || o->required || o->min || o->max || o->weight || o->granule;
}

/* Reads the element there is, and that the options want; they must not say two things. */
static bool settle_tiering(struct change *c, const char *wanted, GError **error)
{
    xmlNode *element = tiering_element(c->domain);
    struct tiering asked;
    g_autoptr(Xml) xml = xml_read(wanted, strlen(wanted), error);

    if (!xml || !tiering_read(xml_root(xml), &asked, error)) {
        g_prefix_error(error, "the settings that were asked for, ");
        return false;
    }
    if (!element) {
        c->tiering = asked;
        return true;
    }
    if (!tiering_read(element, &c->tiering, error))
        return false;
    return !settings_given(c->options) || tiering_equal(&asked, &c->tiering) ||
           xml_fail(element, error, "the domain has other settings than were asked for: change them here, "
                    "or with `virsh metadata`");
}

/* What has been changed is noted in the element that is there, or in a new one. */
static void note_changes(struct change *c, GString *lines)
{
    xmlNode *was = undo_element(c->domain);
    g_autofree char *element = undo_write(c->undo), *notes = undo_text(c->undo);

    if (was && !xml_attribute_is(was, "changes", notes))
        edit_attribute(c->edits, was, "changes", notes);
    else if (!was && c->undo->notes->len)
        g_string_append_printf(lines, "%s%s", lines->len ? "\n" : "", element);
}

static void change_metadata(struct change *c, const char *wanted)
{
    xmlNode *metadata = xml_child(c->domain, NULL, "metadata"), *anchor = xml_child(c->domain, NULL, "uuid");
    g_autoptr(GString) lines = g_string_new(tiering_element(c->domain) ? NULL : wanted);
    g_autofree char *whole = NULL;

    if (lines->len)
        undo_note(c->undo, "tiering");
    if (!metadata)
        undo_note(c->undo, "metadata");
    else if (xml_span_of(c->xml, metadata).closed)
        undo_note(c->undo, "metadata-open");
    note_changes(c, lines);
    if (metadata && lines->len)
        edit_append(c->edits, metadata, lines->str);
    if (metadata)
        return;
    g_string_replace(lines, "\n", "\n  ", 0);
    whole = g_strdup_printf("<metadata>\n  %s\n</metadata>", lines->str);
    edit_insert_after(c->edits, anchor ? anchor : memory_anchor(c->domain), whole);
}

/* --- all of it -------------------------------------------------------------------------------------------------- */

static bool check_domain(xmlNode *domain, GError **error)
{
    g_autofree char *obstacles = NULL;

    if (!xml_is(domain, NULL, "domain"))
        return xml_fail(domain, error, "it is no libvirt <domain>");
    obstacles = domxml_obstacles(domain);
    if (!obstacles)
        return true;
    g_set_error(error, VMT_ERROR, EINVAL, "this domain cannot be tiered\n%s", obstacles);
    return false;
}

char *domxml_add(const char *text, gsize size, const struct domxml_options *options, GError **error)
{
    g_autoptr(Xml) xml = xml_read(text, size, error);
    g_autoptr(Edits) edits = xml ? edits_new(xml) : NULL;
    g_autoptr(Undo) undo = NULL;
    g_autofree char *wanted = element_wanted(options);
    struct change c = { .options = options, .xml = xml, .edits = edits };

    if (!xml || !check_domain(xml_root(xml), error))
        return NULL;
    c.domain = xml_root(xml);
    undo = undo_read(undo_element(c.domain));
    c.undo = undo;
    if (!settle_tiering(&c, wanted, error) || !change_memory(&c, error) || !change_commandline(&c, error))
        return NULL;
    change_channel(&c);
    change_metadata(&c, wanted);
    return edits_apply(edits);
}
