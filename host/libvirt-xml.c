// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Careful XML: see libvirt-xml.h.
 *
 * libxml2 makes the tree; its SAX callbacks are wrapped to note where elements are, and to stop the
 * parser at what is not wanted before it does anything about it: entities of a document type would be
 * expanded in attributes whatever the options say.
 */
#include "host/libvirt-xml.h"

#include "host/error.h"

#include <errno.h>
#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <stdarg.h>
#include <string.h>

/* What the callbacks need; libxml2's own `_private` leads to it. */
struct reading {
    struct xml *xml;
    const char *why;            /* why we stopped the parser, or NULL */
    int line;
};

static void stop(xmlParserCtxt *ctxt, const char *why)
{
    struct reading *r = ctxt->_private;

    if (!r->why) {
        r->why = why;
        r->line = ctxt->input ? ctxt->input->line : 0;
    }
    xmlStopParser(ctxt);
}

static void refuse_doctype(void *data, const xmlChar *name, const xmlChar *id, const xmlChar *uri)
{
    (void)name, (void)id, (void)uri;
    stop(data, "a document type (<!DOCTYPE>) is not accepted");
}

/* --- where elements are ------------------------------------------------------------------------------- */

/* The parser stands in the start tag, behind its last attribute: at '>' or "/>", or blanks before. */
static struct xml_span span_from(const struct xml *xml, gsize at)
{
    struct xml_span s = { .begin = MIN(at, xml->size), .inner = MIN(at, xml->size) };

    while (s.begin > 0 && xml->text[s.begin] != '<')
        s.begin--;
    while (s.inner < xml->size && xml->text[s.inner] != '>')
        s.inner++;
    s.closed = s.inner > 0 && s.inner < xml->size && xml->text[s.inner - 1] == '/';
    s.inner = MIN(s.inner + 1, xml->size);
    return s;
}

static void start_element(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                          int n_ns, const xmlChar **ns, int n_attributes, int n_defaulted,
                          const xmlChar **attributes)
{
    xmlParserCtxt *ctxt = data;
    struct reading *r = ctxt->_private;
    struct xml_span span;

    if (ctxt->nodeNr >= XML_DEPTH) {
        stop(ctxt, "elements are nested too deeply");
        return;
    }
    xmlSAX2StartElementNs(data, name, prefix, uri, n_ns, ns, n_attributes, n_defaulted, attributes);
    if (!ctxt->node)
        return;
    span = span_from(r->xml, (gsize)MAX(xmlByteConsumed(ctxt), 0));
    g_array_append_val(r->xml->spans, span);
    ctxt->node->_private = GUINT_TO_POINTER(r->xml->spans->len);
}

static void end_element(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    xmlParserCtxt *ctxt = data;
    struct reading *r = ctxt->_private;
    guint index = ctxt->node ? GPOINTER_TO_UINT(ctxt->node->_private) : 0;

    if (index)
        g_array_index(r->xml->spans, struct xml_span, index - 1).end =
            MIN((gsize)MAX(xmlByteConsumed(ctxt), 0), r->xml->size);
    xmlSAX2EndElementNs(data, name, prefix, uri);
}

/* What the callbacks noted is what the text says; else no edit could be trusted. */
static bool spans_hold(const struct xml *xml)
{
    for (guint i = 0; i < xml->spans->len; i++) {
        const struct xml_span *s = &g_array_index(xml->spans, struct xml_span, i);

        if (xml->text[s->begin] != '<' || s->inner <= s->begin || s->end < s->inner ||
            xml->text[s->inner - 1] != '>' || xml->text[s->end - 1] != '>' ||
            (s->closed && s->end != s->inner))
            return false;
    }
    return xml->spans->len > 0;
}

/* --- reading ------------------------------------------------------------------------------------------ */

static bool said(GError **error, const struct reading *r, xmlParserCtxt *ctxt)
{
    const xmlError *e = xmlCtxtGetLastError(ctxt);
    g_autofree char *text = g_strdup(e && e->message ? e->message : "it is no XML");

    if (r->why)
        g_set_error(error, VMT_ERROR, EINVAL, "line %d: %s", r->line, r->why);
    else
        g_set_error(error, VMT_ERROR, EINVAL, "line %d: %s", e ? e->line : 1, g_strstrip(text));
    return false;
}

static bool is_utf8(const xmlDoc *doc)
{
    const char *e = (const char *)doc->encoding;

    return !e || !g_ascii_strcasecmp(e, "UTF-8") || !g_ascii_strcasecmp(e, "US-ASCII") ||
           !g_ascii_strcasecmp(e, "ASCII");
}

static bool parse(struct xml *xml, GError **error)
{
    struct reading r = { .xml = xml };
    xmlParserCtxt *ctxt = xmlNewParserCtxt();
    bool good;

    ctxt->_private = &r;
    ctxt->sax->internalSubset = refuse_doctype;
    ctxt->sax->startElementNs = start_element;
    ctxt->sax->endElementNs = end_element;
    xml->doc = xmlCtxtReadMemory(ctxt, xml->text, (int)xml->size, NULL, NULL,
                                 XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                 XML_PARSE_BIG_LINES);
    good = (xml->doc && ctxt->wellFormed && ctxt->nsWellFormed && !r.why) || said(error, &r, ctxt);
    xmlFreeParserCtxt(ctxt);
    if (good && (!is_utf8(xml->doc) || !spans_hold(xml))) {
        g_set_error(error, VMT_ERROR, EINVAL, "line 1: the encoding '%s' is not accepted: it has to "
                    "be UTF-8", xml->doc->encoding ? (const char *)xml->doc->encoding : "?");
        return false;
    }
    return good;
}

struct xml *xml_read(const char *text, gsize size, GError **error)
{
    g_autoptr(Xml) xml = g_new0(struct xml, 1);

    xml->spans = g_array_new(FALSE, TRUE, sizeof(struct xml_span));
    if (size > XML_MOST) {
        g_set_error(error, VMT_ERROR, EFBIG, "line 1: more than %d bytes of XML", XML_MOST);
        return NULL;
    }
    if (memchr(text, '\0', size) || !g_utf8_validate_len(text, size, NULL)) {
        g_set_error(error, VMT_ERROR, EINVAL, "line 1: it is not UTF-8");
        return NULL;
    }
    xml->text = g_strndup(text, size);
    xml->size = size;
    return parse(xml, error) ? g_steal_pointer(&xml) : NULL;
}

void xml_free(struct xml *xml)
{
    if (!xml)
        return;
    if (xml->doc)
        xmlFreeDoc(xml->doc);
    g_array_unref(xml->spans);
    g_free(xml->text);
    g_free(xml);
}

/* --- looking -------------------------------------------------------------------------------------------- */

xmlNode *xml_root(const struct xml *xml)
{
    return xmlDocGetRootElement(xml->doc);
}

struct xml_span xml_span_of(const struct xml *xml, const xmlNode *node)
{
    return g_array_index(xml->spans, struct xml_span, GPOINTER_TO_UINT(node->_private) - 1);
}

xmlNode *xml_element(xmlNode *node)
{
    while (node && node->type != XML_ELEMENT_NODE)
        node = node->next;
    return node;
}

bool xml_is(const xmlNode *node, const char *ns, const char *name)
{
    return !strcmp((const char *)node->name, name) &&
           !g_strcmp0(node->ns ? (const char *)node->ns->href : NULL, ns);
}

xmlNode *xml_child(const xmlNode *parent, const char *ns, const char *name)
{
    xmlNode *n = parent ? xml_element(parent->children) : NULL;

    while (n && !xml_is(n, ns, name))
        n = xml_element(n->next);
    return n;
}

char *xml_attribute(const xmlNode *node, const char *name)
{
    xmlChar *value = node ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy;
}

bool xml_attribute_is(const xmlNode *node, const char *name, const char *value)
{
    g_autofree char *is = xml_attribute(node, name);

    return is && !strcmp(is, value);
}

char *xml_text(const xmlNode *node)
{
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    char *copy = g_strdup(text ? (const char *)text : "");

    xmlFree(text);
    return g_strstrip(copy);
}

bool xml_is_plugin(const xmlNode *node)
{
    g_autofree char *value = xml_attribute(node, "value");

    return value && xml_is(node, XML_NS_QEMU, "arg") && strstr(value, XML_PLUGIN);
}

xmlNode *xml_plugin(const xmlNode *domain)
{
    const xmlNode *commandline = xml_child(domain, XML_NS_QEMU, "commandline");
    xmlNode *n = commandline ? xml_element(commandline->children) : NULL;

    while (n && !xml_is_plugin(n))
        n = xml_element(n->next);
    return n;
}

long xml_line(const xmlNode *node)
{
    return xmlGetLineNo(node);
}

bool xml_fail(const xmlNode *node, GError **error, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VMT_ERROR, EINVAL, "line %ld: <%s>: %s", xml_line(node),
                (const char *)node->name, text);
    return false;
}

/* No more than has to be: g_markup_escape_text() would write control characters as references, too. */
char *xml_escape(const char *text)
{
    GString *s = g_string_new(NULL);

    for (; *text; text++)
        switch (*text) {
        case '&': g_string_append(s, "&amp;"); break;
        case '<': g_string_append(s, "&lt;"); break;
        case '>': g_string_append(s, "&gt;"); break;
        case '"': g_string_append(s, "&quot;"); break;
        case '\'': g_string_append(s, "&apos;"); break;
        default: g_string_append_c(s, *text);
        }
    return g_string_free(s, FALSE);
}

/* --- numbers with units ------------------------------------------------------------------------------------ */

/* libvirt's units: K, KiB and KB are three spellings of two sizes. Case does not count. */
bool xml_scale(const char *number, const char *unit, const char *usual, guint64 *bytes)
{
    static const char letters[] = "kmgtpe";
    guint64 n, base = 1024, scale = 1;
    const char *letter;

    if (!unit || !unit[0])
        unit = usual;
    if (!g_ascii_string_to_unsigned(number, 10, 0, G_MAXUINT64, &n, NULL))
        return false;
    if (g_ascii_strcasecmp(unit, "b") && g_ascii_strcasecmp(unit, "bytes")) {
        letter = strchr(letters, g_ascii_tolower(unit[0]));
        if (!unit[0] || !letter)
            return false;
        if (!g_ascii_strcasecmp(unit + 1, "b"))
            base = 1000;
        else if (unit[1] && g_ascii_strcasecmp(unit + 1, "ib"))
            return false;
        for (long i = letter - letters; i >= 0; i--)
            scale *= base;
    }
    *bytes = n * scale;
    return n <= G_MAXINT64 / scale;
}
