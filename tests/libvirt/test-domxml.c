// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier domxml` and a real libvirt: what it makes of domains of different shapes is valid by libvirt's schema,
 * is accepted, can be done again to what libvirt has made of it without a change, and can be undone then.
 *
 * No VM is started. Domains that this host's QEMU cannot have anyway (KVM, SPICE) are made ones that it can.
 *
 * timeout: 120
 */
#include "host/libvirt-domxml.h"
#include "host/libvirt-module.h"
#include "tests/libvirt/lv.h"

#include <libxml/parser.h>
#include <libxml/relaxng.h>
#include <string.h>

#define DOMAINS "tests/libvirt/domains"
#define SCHEMA  "/usr/share/libvirt/schemas/domain.rng"

extern const struct libvirt_module vmtier_libvirt;

static struct lab *lab;
static struct lv *lv;
static xmlRelaxNG *schema;
static unsigned accepted;

static void ignore(void *data, const char *format, ...)
{
    (void)data, (void)format;
}

static bool is_valid(const char *text)
{
    xmlDoc *doc = xmlReadMemory(text, (int)strlen(text), NULL, NULL, 0);
    xmlRelaxNGValidCtxt *valid = xmlRelaxNGNewValidCtxt(schema);
    bool good;

    xmlRelaxNGSetValidErrors(valid, ignore, ignore, NULL);
    good = doc && xmlRelaxNGValidateDoc(valid, doc) == 0;
    xmlRelaxNGFreeValidCtxt(valid);
    xmlFreeDoc(doc);
    return good;
}

/* --- what libvirt makes of it ---------------------------------------------------------------------------- */

static char *replaced(char *text, const char *pattern, const char *with)
{
    g_autoptr(GRegex) regex = g_regex_new(pattern, G_REGEX_DOTALL, 0, NULL);
    char *out = g_regex_replace(regex, text, -1, 0, with, 0, NULL);

    g_free(text);
    return out;
}

/* KVM and SPICE may be missing here, and are no matter. */
static char *for_this_host(const char *text)
{
    char *s = replaced(g_strdup(text), "type *= *(['\"])kvm['\"]", "type=\\1qemu\\1");

    s = replaced(s, "<cpu mode=(['\"])host-passthrough\\1[^>]*?/>", "");
    s = replaced(s, "<cpu mode=(['\"])host-passthrough\\1.*?</cpu>", "");
    s = replaced(s, "<graphics[^>]*/>|<graphics[^>]*[^/]>.*?</graphics>", "");
    s = replaced(s, "<channel type=(['\"])spicevmc\\1>.*?</channel>", "");
    s = replaced(s, "<redirdev[^>]*/>", "");
    s = replaced(s, "<sound[^>]*/>", "");
    return replaced(s, "<tpm .*?</tpm>", "");
}

static void define(const char *text)
{
    g_autoptr(GError) error = NULL;

    vmtier_libvirt.define(lv->uri, text, &error);
    g_assert_no_error(error);
}

static char *read_back(const char *name)
{
    g_autoptr(GError) error = NULL;
    char *text = vmtier_libvirt.read(lv->uri, name, &error);

    g_assert_no_error(error);
    return text;
}

static char *name_in(const char *text)
{
    g_autoptr(Xml) xml = xml_read(text, strlen(text), NULL);

    return xml_text(xml_child(xml_root(xml), NULL, "name"));
}

static char *change(char *(*how)(const char *text, GError **error), const char *text)
{
    g_autoptr(GError) error = NULL;
    char *changed = how(text, &error);

    g_assert_no_error(error);
    return changed;
}

static char *add(const char *text, GError **error)
{
    static const struct domxml_options o = { .plugin = "/usr/lib/vmtier/vmtier-qemu.so", .max = "32M" };

    return domxml_add(text, strlen(text), &o, error);
}

static char *take_away(const char *text, GError **error)
{
    return domxml_remove(text, strlen(text), error);
}

/* What libvirt itself adds for the channel at the first definition stays: its controller, and PCI ports. */
static char *without_controllers(char *text)
{
    return replaced(text, "\\s*<(controller|address)[^>]*?(/>|>.*?</controller>)", "");
}

static void assert_same(const char *a, const char *b)
{
    g_autofree char *x = without_controllers(g_strdup(a)), *y = without_controllers(g_strdup(b));

    g_assert_cmpstr(x, ==, y);
}

static bool can_be_defined(const char *text, const char *what)
{
    g_autoptr(GError) error = NULL;

    if (vmtier_libvirt.define(lv->uri, text, &error))
        return true;
    g_test_message("%s: not on this host: %s", what, error->message);
    return false;
}

static void there_and_back(const char *text, const char *what)
{
    g_autofree char *plain = for_this_host(text), *name = name_in(plain), *uuid = NULL, *before = NULL;
    g_autofree char *changed = NULL, *tiered = NULL, *again = NULL, *back = NULL, *after = NULL;

    if (!can_be_defined(plain, what))
        return;
    before = read_back(name);
    changed = change(add, before);
    define(changed);
    tiered = read_back(name);
    again = change(add, tiered);
    g_assert_cmpstr(again, ==, tiered);
    back = change(take_away, tiered);
    define(back);
    after = read_back(name);
    assert_same(after, before);
    uuid = g_strdup_printf("'%s'", name);
    g_free(lv_virsh(lv, "undefine %s", uuid));
    accepted++;
}

/* --- the tests --------------------------------------------------------------------------------------------- */

/* All that validate without us validate with us. */
static void test_schema(void)
{
    g_autoptr(GDir) dir = g_dir_open(DOMAINS, 0, NULL);
    const char *name;
    unsigned n = 0;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(DOMAINS, name, NULL), *text = NULL, *changed = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        if (strstr(name, "prepared") || !is_valid(text)) {
            g_test_message("%s is not valid by itself", name);
            continue;
        }
        changed = domxml_add(text, strlen(text), &(struct domxml_options){ .max = "1G" }, NULL);
        g_assert_nonnull(changed);
        g_test_message("%s", name);
        g_assert_true(is_valid(changed));
        n++;
    }
    g_assert_cmpuint(n, >=, 13);
}

static void test_define(void)
{
    g_autoptr(GDir) dir = g_dir_open(DOMAINS, 0, NULL);
    const char *name;

    if (!lv) {
        g_test_skip("there is no libvirtd");
        return;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(DOMAINS, name, NULL), *text = NULL;

        if (strstr(name, "prepared"))       /* it has other settings */
            continue;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_test_message("%s", name);
        there_and_back(text, name);
    }
    g_test_message("%u domains were defined, changed and changed back", accepted);
    g_assert_cmpuint(accepted, >=, 15);
}

static void test_combinations(void)
{
    static const char *const backings[] = {
        "", "<memoryBacking><nosharepages/></memoryBacking>",
        "<memoryBacking><source type='anonymous'/></memoryBacking>",
        "<memoryBacking><access mode='private'/><source type='file'/></memoryBacking>",
        "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
    };
    static const char *const cpus[] = {
        "", "<cpu><numa><cell id='0' cpus='0' memory='65536' memAccess='private'/></numa></cpu>",
        "<cpu><numa><cell id='0' cpus='0' memory='65536' memAccess='shared'/></numa></cpu>",
    };
    static const char *const machines[] = { "pc", "q35" };
    static const char *const lines[] = { "", "<q:commandline><q:arg value='-no-hpet'/></q:commandline>" };
    static const char *const metadatas[] = { "", "<metadata><a:b xmlns:a='urn:a'/></metadata>" };
    unsigned n = 0;

    accepted = 0;
    for (guint i = 0; lv && i < 5 * 3 * 2 * 2 * 2; i++) {
        g_autofree char *text = g_strdup_printf(
            "<domain type='qemu' xmlns:q='" XML_NS_QEMU "'><name>c%u</name><memory>65536</memory>%s<vcpu>1</vcpu>%s"
            "<os><type machine='%s'>hvm</type></os>%s%s</domain>", i, backings[i % 5], cpus[i / 5 % 3],
            machines[i / 15 % 2], lines[i / 30 % 2], metadatas[i / 60 % 2]);

        there_and_back(text, text);
        n++;
    }
    if (!lv)
        g_test_skip("there is no libvirtd");
    g_assert_cmpuint(accepted, ==, n);
}

/* The command itself, against libvirt. */
static void test_command(void)
{
    g_autofree char *out = NULL, *after = NULL;
    static const char text[] = "<domain type='qemu'><name>cmd</name><memory>65536</memory>"
                               "<os><type>hvm</type></os></domain>";

    if (!lv) {
        g_test_skip("there is no libvirtd");
        return;
    }
    define(text);
    out = lv_vmtier(lab, NULL, 0, "domxml cmd --connect '%s' --max 32M --diff", lv->uri);
    g_assert_nonnull(strstr(out, "+    <access mode='shared'/>"));
    g_free(lv_vmtier(lab, NULL, 0, "domxml cmd --connect '%s' --max 32M --define", lv->uri));
    after = read_back("cmd");
    g_assert_nonnull(strstr(after, "vmtier-qemu.so"));
    g_free(lv_vmtier(lab, NULL, 0, "domxml cmd --connect '%s' --remove --define", lv->uri));
    g_free(after);
    after = read_back("cmd");
    g_assert_null(strstr(after, "vmtier"));
    g_free(lv_vmtier(lab, NULL, 1, "domxml nosuch --connect '%s'", lv->uri));
    g_free(lv_virsh(lv, "undefine cmd"));
}

static void end(void)
{
    g_clear_pointer(&schema, xmlRelaxNGFree);
    g_clear_pointer(&lv, lv_free);
    g_clear_pointer(&lab, lab_free);
}

int main(int argc, char **argv)
{
    xmlRelaxNGParserCtxt *parser;

    g_test_init(&argc, &argv, NULL);
    lab = lab_new("domxml");
    lv = lv_start(lab, "lv");
    parser = xmlRelaxNGNewParserCtxt(SCHEMA);
    schema = xmlRelaxNGParse(parser);
    xmlRelaxNGFreeParserCtxt(parser);
    g_test_add_func("/libvirt/domxml/schema", test_schema);
    g_test_add_func("/libvirt/domxml/define", test_define);
    g_test_add_func("/libvirt/domxml/combinations", test_combinations);
    g_test_add_func("/libvirt/domxml/command", test_command);
    g_test_add_func("/libvirt/domxml/end", end);
    return g_test_run();
}
