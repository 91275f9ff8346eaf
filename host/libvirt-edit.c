// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Edits of XML as text: see libvirt-edit.h.
 *
 * Each edit replaces some bytes of the original text. Those at one place are applied by rank: what comes
 * into <a/>, then its new end tag, then what comes behind it; those of one rank in the order in which they
 * were asked for. An edit within what another one takes away is dropped.
 */
#include "host/libvirt-edit.h"

#include <string.h>

enum rank { INSIDE, CLOSING, BEHIND };

struct edit {
    gsize at, gone;             /* bytes that go away */
    enum rank rank;
    char *text;                 /* what comes there */
};

struct edits {
    const struct xml *xml;
    GArray *list;               /* of struct edit */
    GHashTable *opened;         /* nodes that were <a/> and have been opened: their closing tag */
};

static void clear_edit(gpointer data)
{
    g_free(((struct edit *)data)->text);
}

struct edits *edits_new(const struct xml *xml)
{
    struct edits *edits = g_new0(struct edits, 1);

    edits->xml = xml;
    edits->list = g_array_new(FALSE, FALSE, sizeof(struct edit));
    g_array_set_clear_func(edits->list, clear_edit);
    edits->opened = g_hash_table_new(NULL, NULL);
    return edits;
}

void edits_free(struct edits *edits)
{
    if (!edits)
        return;
    g_array_unref(edits->list);
    g_hash_table_unref(edits->opened);
    g_free(edits);
}

static void add_ranked(struct edits *edits, gsize at, gsize gone, enum rank rank, char *text)
{
    const struct edit edit = { at, gone, rank, text };

    g_array_append_val(edits->list, edit);
}

static void add(struct edits *edits, gsize at, gsize gone, char *text)
{
    add_ranked(edits, at, gone, INSIDE, text);
}

/* --- blanks ---------------------------------------------------------------------------------------------- */

/* The blanks before a place, if nothing but them is there in its line; "" else. */
static char *indent_at(const struct xml *xml, gsize at)
{
    gsize from = at;

    while (from > 0 && (xml->text[from - 1] == ' ' || xml->text[from - 1] == '\t'))
        from--;
    return from && xml->text[from - 1] == '\n' ? g_strndup(xml->text + from, at - from) : g_strdup("");
}

static xmlNode *last_element(const xmlNode *parent)
{
    xmlNode *n = parent->last;

    while (n && n->type != XML_ELEMENT_NODE)
        n = n->prev;
    return n;
}

/* How deep a child of this element stands: like its other children, or two more than itself. */
static char *indent_in(const struct xml *xml, xmlNode *parent)
{
    const xmlNode *last = last_element(parent);
    g_autofree char *own = NULL;

    if (last)
        return indent_at(xml, xml_span_of(xml, last).begin);
    own = indent_at(xml, xml_span_of(xml, parent).begin);
    return g_strconcat(own, "  ", NULL);
}

static char *indented(const char *lines, const char *indent)
{
    g_auto(GStrv) line = g_strsplit(lines, "\n", -1);
    GString *s = g_string_new(NULL);

    for (char **l = line; *l; l++)
        g_string_append_printf(s, "\n%s%s", indent, *l);
    return g_string_free(s, FALSE);
}

/* --- elements -------------------------------------------------------------------------------------------- */

static const char *prefix_of(const xmlNode *node)
{
    return node->ns && node->ns->prefix ? (const char *)node->ns->prefix : NULL;
}

/* <a/> becomes <a>LINES, and </a> in the end, in edits_apply(). */
static void open_up(struct edits *edits, xmlNode *parent)
{
    const struct xml_span span = xml_span_of(edits->xml, parent);

    if (!g_hash_table_contains(edits->opened, parent))
        add(edits, span.inner - 2, 2, g_strdup(">"));
    g_hash_table_add(edits->opened, parent);
}

void edit_append(struct edits *edits, xmlNode *parent, const char *lines)
{
    const struct xml_span span = xml_span_of(edits->xml, parent);
    g_autofree char *indent = indent_in(edits->xml, parent);
    xmlNode *last = last_element(parent);

    if (last) {
        edit_insert_after(edits, last, lines);
        return;
    }
    if (span.closed)
        open_up(edits, parent);
    add(edits, span.inner, 0, indented(lines, indent));
}

void edit_insert_after(struct edits *edits, xmlNode *child, const char *lines)
{
    const struct xml_span span = xml_span_of(edits->xml, child);
    g_autofree char *indent = indent_at(edits->xml, span.begin);

    add_ranked(edits, span.end, 0, BEHIND, indented(lines, indent));
}

void edit_remove(struct edits *edits, xmlNode *node)
{
    const struct xml_span span = xml_span_of(edits->xml, node);
    const char *text = edits->xml->text;
    gsize from = span.begin;

    while (from > 0 && (text[from - 1] == ' ' || text[from - 1] == '\t'))
        from--;
    if (from && text[from - 1] == '\n')
        from--;
    else
        from = span.begin;
    add(edits, from, span.end - from, g_strdup(""));
}

/* The children are removed along with the end tag, so their own edits must not be there, too. */
void edit_close(struct edits *edits, xmlNode *node)
{
    const struct xml_span span = xml_span_of(edits->xml, node);

    for (guint i = edits->list->len; i-- > 0;) {
        const struct edit *e = &g_array_index(edits->list, struct edit, i);

        if (e->at >= span.inner && e->at + e->gone <= span.end)
            g_array_remove_index(edits->list, i);
    }
    add(edits, span.inner - 1, span.end - span.inner + 1, g_strdup("/>"));
}

/* --- attributes ------------------------------------------------------------------------------------------ */

struct place {
    gsize name, value, end;     /* of the name; behind the opening quote; of the closing quote */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Where in its start tag an attribute stands; the tag is well-formed, as libxml2 has read it. */
static bool find_attribute(const struct xml *xml, const xmlNode *node, const char *name,
                           struct place *place)
{
    const struct xml_span span = xml_span_of(xml, node);
    const char *t = xml->text;
    gsize i = span.begin;

    while (i < span.inner && !is_blank(t[i]))
        i++;
    while (i < span.inner) {
        gsize from, n;

        while (i < span.inner && is_blank(t[i]))
            i++;
        from = i;
        while (i < span.inner && t[i] != '=' && !is_blank(t[i]))
            i++;
        n = i - from;
        while (i < span.inner && t[i] != '\'' && t[i] != '"')
            i++;
        if (i >= span.inner)
            return false;
        *place = (struct place){ .name = from, .value = i + 1 };
        for (i++; i < span.inner && t[i] != t[place->value - 1]; i++)
            ;
        place->end = i++;
        if (n == strlen(name) && !strncmp(t + from, name, n))
            return true;
    }
    return false;
}

static gsize end_of_name(const struct xml *xml, const xmlNode *node)
{
    const struct xml_span span = xml_span_of(xml, node);
    gsize i = span.begin;

    while (i < span.inner && !is_blank(xml->text[i]) && xml->text[i] != '>' && xml->text[i] != '/')
        i++;
    return i;
}

void edit_attribute(struct edits *edits, xmlNode *node, const char *name, const char *value)
{
    g_autofree char *escaped = value ? xml_escape(value) : NULL;
    struct place p;

    if (!find_attribute(edits->xml, node, name, &p)) {
        if (value)
            add(edits, end_of_name(edits->xml, node), 0, g_strdup_printf(" %s='%s'", name, escaped));
    } else if (value) {
        add(edits, p.value, p.end - p.value, g_steal_pointer(&escaped));
    } else {        /* with the one blank before it */
        add(edits, p.name - 1, p.end + 1 - (p.name - 1), g_strdup(""));
    }
}

/* --- the outcome ----------------------------------------------------------------------------------------- */

static gint by_place(gconstpointer a, gconstpointer b)
{
    const struct edit *x = a, *y = b;

    if (x->at != y->at)
        return x->at > y->at ? 1 : -1;
    return (int)x->rank - (int)y->rank;
}

static void close_opened(struct edits *copy, const struct edits *edits)
{
    GHashTableIter iter;
    gpointer node;

    g_hash_table_iter_init(&iter, edits->opened);
    while (g_hash_table_iter_next(&iter, &node, NULL)) {
        const struct xml_span span = xml_span_of(edits->xml, node);
        g_autofree char *indent = indent_at(edits->xml, span.begin);
        const char *prefix = prefix_of(node);

        add_ranked(copy, span.end, 0, CLOSING,
                   g_strdup_printf("\n%s</%s%s%s>", indent, prefix ? prefix : "", prefix ? ":" : "",
                                   ((xmlNode *)node)->name));
    }
}

char *edits_apply(const struct edits *edits)
{
    g_autoptr(Edits) all = edits_new(edits->xml);
    GString *s = g_string_new(NULL);
    gsize at = 0;

    for (guint i = 0; i < edits->list->len; i++) {
        const struct edit *e = &g_array_index(edits->list, struct edit, i);

        add_ranked(all, e->at, e->gone, e->rank, g_strdup(e->text));
    }
    close_opened(all, edits);
    g_array_sort(all->list, by_place);          /* it is stable */
    for (guint i = 0; i < all->list->len; i++) {
        const struct edit *e = &g_array_index(all->list, struct edit, i);

        if (e->at < at)         /* within what is gone already */
            continue;
        g_string_append_len(s, edits->xml->text + at, (gssize)(e->at - at));
        g_string_append(s, e->text);
        at = e->at + e->gone;
    }
    g_string_append(s, edits->xml->text + at);
    return g_string_free(s, FALSE);
}
