// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What `vmtier domxml` has changed in a domain, kept in its <metadata> as
 * <undo:domxml xmlns:undo="urn:vmtier:domxml:1" changes="..."/>: words, a blank between two.
 *
 * libvirt keeps such an element as it is. It has a namespace of its own, as libvirt wants one element of
 * each at most.
 */
#include "host/libvirt-domxml.h"

#include <stdarg.h>
#include <string.h>

struct undo *undo_new(void)
{
    struct undo *undo = g_new0(struct undo, 1);

    undo->notes = g_ptr_array_new_with_free_func(g_free);
    return undo;
}

void undo_free(struct undo *undo)
{
    if (!undo)
        return;
    g_ptr_array_unref(undo->notes);
    g_free(undo);
}

void undo_note(struct undo *undo, const char *format, ...)
{
    g_autofree char *note = NULL;
    va_list args;

    va_start(args, format);
    note = g_strdup_vprintf(format, args);
    va_end(args);
    if (!undo_has(undo, note))
        g_ptr_array_add(undo->notes, g_steal_pointer(&note));
}

bool undo_has(const struct undo *undo, const char *note)
{
    for (guint i = 0; i < undo->notes->len; i++)
        if (!strcmp(g_ptr_array_index(undo->notes, i), note))
            return true;
    return false;
}

const char *undo_value(const struct undo *undo, const char *key)
{
    size_t n = strlen(key);

    for (guint i = 0; i < undo->notes->len; i++) {
        const char *note = g_ptr_array_index(undo->notes, i);

        if (!strncmp(note, key, n) && note[n] == '=')
            return note + n + 1;
    }
    return NULL;
}

xmlNode *undo_element(const xmlNode *domain)
{
    return xml_child(xml_child(domain, NULL, "metadata"), XML_NS_UNDO, "domxml");
}

struct undo *undo_read(const xmlNode *element)
{
    struct undo *undo = undo_new();
    g_autofree char *changes = element ? xml_attribute(element, "changes") : NULL;
    g_auto(GStrv) words = g_strsplit(changes ? changes : "", " ", -1);

    for (char **w = words; *w; w++)
        if (**w)
            undo_note(undo, "%s", *w);
    return undo;
}

char *undo_text(const struct undo *undo)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < undo->notes->len; i++)
        g_string_append_printf(s, "%s%s", i ? " " : "", (const char *)g_ptr_array_index(undo->notes, i));
    return g_string_free(s, FALSE);
}

char *undo_write(const struct undo *undo)
{
    g_autofree char *notes = undo_text(undo), *escaped = xml_escape(notes);

    return g_strdup_printf("<undo:domxml xmlns:undo='" XML_NS_UNDO "' changes='%s'/>", escaped);
}
