// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of what is read of libvirt's XML: domain metadata, and `vmtier domxml` there and back.
 *
 * Beyond not crashing: a refusal has a text that names a line; metadata that was taken is the same after
 * having been written; a domain that was made tierable is XML, does not change when that is done again, and
 * comes back the same bytes. (With entities or blanks in values it need not: these are written anew.)
 */
#include "host/libvirt-domxml.h"
#include "host/libvirt-metadata.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(const GError *error)
{
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, "line "));
}

static bool same_share(const struct quota *a, const struct quota *b)
{
    return a->bytes == b->bytes && a->share - b->share < 1e-9 && b->share - a->share < 1e-9;
}

static void check_metadata(const char *text, gsize size)
{
    struct domain_facts facts, facts2;
    struct tiering t, again;
    g_autoptr(GError) error = NULL;
    g_autofree char *written = NULL, *summary = NULL;

    if (!domain_read(text, size, &facts, &t, &error)) {
        check_error(error);
        g_assert_false(t.given);
    } else {
        summary = tiering_summary(&t);
        g_assert_nonnull(summary);
        written = tiering_write(&t, &facts);
        g_assert_true(domain_read(written, strlen(written), &facts2, &again, NULL));
        g_assert_true(same_share(&t.min, &again.min) && same_share(&t.max, &again.max));
        g_assert_cmpint(t.mode, ==, again.mode);
        g_assert_cmpuint(t.granule, ==, again.granule);
        g_assert_true(!memcmp(t.pin, again.pin, sizeof(t.pin)));
        g_assert_true(!memcmp(t.interleave, again.interleave, sizeof(t.interleave)));
        domain_facts_clear(&facts2);
    }
    domain_facts_clear(&facts);
}

static void check_domxml(const char *text, gsize size)
{
    static const struct domxml_options options = { .plugin = "/usr/lib/vmtier/vmtier-qemu.so" };
    g_autoptr(GError) error = NULL;
    g_autofree char *removed = domxml_remove(text, size, NULL);
    g_autofree char *changed = domxml_add(text, size, &options, &error);
    g_autofree char *again = NULL, *back = NULL;

    if (!changed) {
        check_error(error);
        return;
    }
    if (strlen(changed) > XML_MOST)
        return;
    again = domxml_add(changed, strlen(changed), &options, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again, ==, changed);
    back = domxml_remove(changed, strlen(changed), &error);
    g_assert_no_error(error);
    if (!memchr(text, '&', size) && !strchr(changed, '%') && !strstr(removed, XML_NS_UNDO) && !g_strcmp0(removed, text))
        g_assert_cmpstr(back, ==, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);

    check_metadata((const char *)data, size);
    if (strlen(text) == size)
        check_domxml(text, size);
    return 0;
}
