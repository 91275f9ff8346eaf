// SPDX-License-Identifier: GPL-2.0-or-later
/* Domain metadata: what is taken, what is refused and how it is named, and the schema beside it. */
#include "host/libvirt-metadata.h"

#include <libxml/parser.h>
#include <libxml/relaxng.h>
#include <string.h>

#define MIB (1024 * 1024ull)
#define NS "xmlns:vmtier='" XML_NS_VMTIER "'"
#define SCHEMA "libvirt-hooks/vmtier-tiering.rng"
#define OPEN "<vmtier:tiering " NS ">"
#define CLOSE "</vmtier:tiering>"

/* The element begins in line 5. */
static char *domain_with(const char *metadata)
{
    return g_strdup_printf("<domain type='kvm'>\n  <name>web1</name>\n  <memory unit='GiB'>4</memory>\n"
                           "  <metadata>\n%s\n  </metadata>\n</domain>\n", metadata);
}

static struct tiering read_good(const char *metadata)
{
    g_autofree char *text = domain_with(metadata);
    g_autoptr(GError) error = NULL;
    struct domain_facts facts;
    struct tiering t;

    domain_read(text, strlen(text), &facts, &t, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(facts.name, ==, "web1");
    g_assert_cmpuint(facts.memory, ==, 4096 * MIB);
    domain_facts_clear(&facts);
    return t;
}

static const char everything[] =
    "<vmtier:tiering " NS " mode='observe' required='yes'>\n"
    "  <dram min='512' max='1024' weight='3' unit='MiB'/>\n"
    "  <!-- said with care --><granule unit='MiB'>4</granule>\n"
    "  <vmtier:pin tier='dram' gpa='0x40000000' size='64M'/>\n"
    "  <pin tier='cxl1' gpa='4194304' size='8' unit='MiB'/>\n"
    "  <interleave dram='3' cxl='1'/>\n" CLOSE;

static void test_all(void)
{
    const struct tiering t = read_good(everything);

    g_assert_true(t.given && t.required);
    g_assert_cmpint(t.line, ==, 5);
    g_assert_cmpint(t.mode, ==, VM_OBSERVE);
    g_assert_cmpuint(t.min.bytes, ==, 512 * MIB);
    g_assert_cmpuint(t.max.bytes, ==, 1024 * MIB);
    g_assert_cmpuint(t.weight, ==, 3);
    g_assert_cmpuint(t.granule, ==, 4 * MIB);
    g_assert_cmpuint(t.n_pins, ==, 2);
    g_assert_cmpstr(t.pin[1].tier, ==, "cxl1");
    g_assert_cmpuint(t.pin[1].gpa, ==, 4 * MIB);
    g_assert_cmpuint(t.pin[1].size, ==, 8 * MIB);
    g_assert_cmpuint(t.n_interleave, ==, 2);
    g_assert_cmpstr(t.interleave[0].tier, ==, "dram");
    g_assert_cmpuint(t.interleave[0].share, ==, 3);
}

static void test_little(void)
{
    struct tiering t = read_good("<vmtier:tiering " NS "/>");

    g_assert_true(t.given);
    g_assert_cmpint(t.mode, ==, VM_ON);
    g_assert_true(!t.required && !t.max.bytes && !t.granule);
    t = read_good("<vmtier:tiering " NS "><dram max='12.5%'/></vmtier:tiering>");
    g_assert_cmpfloat(t.max.share, ==, 0.125);
    t = read_good("<other xmlns='urn:other'><dram/></other>");
    g_assert_false(t.given);
    t = read_good("<t:tiering xmlns:t='" XML_NS_VMTIER "'><t:dram max='1.5GiB'/></t:tiering>");
    g_assert_cmpuint(t.max.bytes, ==, 1536 * MIB);
    t = read_good(OPEN "<dram min='25%' max='1G'/><interleave dram='3' slow.tier-1_a='1'/>" CLOSE);
    g_assert_cmpstr(t.interleave[1].tier, ==, "slow.tier-1_a");
}

/* What is refused, and what the error says of it besides the line. */
static const struct {
    const char *metadata, *said;
    int line;
    bool schema;                /* the schema refuses it, too */
} bad[] = {
    { "<vmtier:tiering " NS " mod='on'/>", "unknown attribute 'mod'", 5, true },
    { "<vmtier:tiering " NS " mode='auto'/>", "mode='auto': it is one of off, observe, on", 5, true },
    { "<vmtier:tiering " NS " required='true'/>", "required='true': it is one of no, yes", 5, true },
    { OPEN "\n<dramm max='1G'/>" CLOSE, "<dramm>: unknown element", 6, true },
    { OPEN "\n\n<x:dram xmlns:x='urn:x' max='1G'/>" CLOSE, "<dram>: unknown element", 7, true },
    { OPEN "\n<dram maxx='1G'/>" CLOSE, "unknown attribute 'maxx'", 6, true },
    { OPEN "\n<dram max='1024'/>" CLOSE, "max '1024' has no unit", 6, false },
    { OPEN "\n<dram max='1' unit='GiBi'/>" CLOSE, "the unit 'GiBi'", 6, true },
    { OPEN "\n<dram max='-1' unit='GiB'/>" CLOSE, "max '-1'", 6, true },
    { OPEN "\n<dram max='99999999999' unit='TiB'/>" CLOSE, "max '99999999999'", 6, false },
    { OPEN "\n<dram max='0'/>" CLOSE, "max is 0", 6, false },
    { OPEN "\n<dram max='101%'/>" CLOSE, "max: quota '101%'", 6, false },
    { OPEN "\n<dram min='2G' max='1G'/>" CLOSE, "min is more than max", 6, false },
    { OPEN "\n<dram min='5G'/>" CLOSE, "min of <dram> is more than the domain's memory", 5, false },
    { OPEN "\n<dram weight='0'/>" CLOSE, "weight='0': a whole number from 1 to 10000", 6, true },
    { OPEN "\n<dram/>\n<dram/>" CLOSE, "there is one already", 7, true },
    { OPEN "\n<dram>1G</dram>" CLOSE, "text '1G' where none belongs", 6, true },
    { OPEN "\n<dram><max/></dram>" CLOSE, "<max>: no such element in <dram>", 6, true },
    { OPEN "1G" CLOSE, "text '1G", 5, true },
    { OPEN "\n<granule>3M</granule>" CLOSE, "'3M': a power of two", 6, false },
    { OPEN "\n<granule>big</granule>" CLOSE, "size 'big'", 6, true },
    { OPEN "\n<pin gpa='0' size='2M'/>" CLOSE, "tier='': the name of a tier", 6, true },
    { OPEN "\n<pin tier='dram' size='2M'/>" CLOSE, "gpa is missing", 6, true },
    { OPEN "\n<pin tier='dram' gpa='0'/>" CLOSE, "size is missing", 6, true },
    { OPEN "\n<pin tier='dram' gpa='0x' size='2M'/>" CLOSE, "gpa='0x'", 6, true },
    { OPEN "\n<pin tier='dram' gpa='1' size='2M'/>" CLOSE, "multiples of 4 KiB", 6, false },
    { OPEN "\n<pin tier='dram' gpa='0x7ffffffffffff000' size='2M'/>" CLOSE, "beyond any guest", 6, false },
    { OPEN "<pin tier='dram' gpa='0' size='4M'/>\n<pin tier='cxl' gpa='2097152' size='2M'/>" CLOSE,
      "overlaps an earlier <pin>", 6, false },
    { OPEN "<granule>2M</granule><pin tier='dram' gpa='4096' size='2M'/>" CLOSE, "not of whole granules",
      5, false },
    { OPEN "\n<interleave dram='1'/>" CLOSE, "shares of two tiers", 6, false },
    { OPEN "\n<interleave dram='3' cxl='0'/>" CLOSE, "cxl='0'", 6, true },
    { OPEN "\n<interleave dram='3' _ssd='1'/>" CLOSE, "unknown attribute '_ssd'", 6, false },
    { OPEN "\n<interleave dram='3' x:cxl='1' xmlns:x='urn:x'/>" CLOSE, "unknown attribute 'cxl'", 6, false },
    { OPEN "\n<pin tier='-cxl' gpa='0' size='2M'/>" CLOSE, "tier='-cxl': the name of a tier", 6, true },
    { OPEN "\n<dram min='2G' max='25%'/>" CLOSE, "min of <dram> is more than max, in a domain with 4.0", 5, false },
    { OPEN "\n<dram min='75%' max='2G'/>" CLOSE, "min of <dram> is more than max, in a domain with 4.0", 5, false },
    { OPEN "<granule>2M</granule>\n<dram max='1M'/>" CLOSE, "less than one granule", 5, false },
    { "<vmtier:tiering mode='on'/>", "vmtier", 5, true },   /* the prefix is not declared */
    { OPEN "</tiering>", "tiering", 5, true },
};

static void test_bad(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text = domain_with(bad[i].metadata), *line = NULL;
        g_autoptr(GError) error = NULL;
        struct domain_facts facts;
        struct tiering t, zero = { 0 };

        line = g_strdup_printf("line %d: ", bad[i].line);
        g_test_message("%s", bad[i].metadata);
        g_assert_false(domain_read(text, strlen(text), &facts, &t, &error));
        g_assert_nonnull(error);
        g_test_message("-> %s", error->message);
        g_assert_true(g_str_has_prefix(error->message, line));
        g_assert_nonnull(strstr(error->message, bad[i].said));
        g_assert_true(!t.given && tiering_equal(&t, &zero));
        domain_facts_clear(&facts);
    }
}

/* --- hostile ---------------------------------------------------------------------------------------------- */

static void refuse(const char *text, gsize size, const char *said)
{
    g_autoptr(GError) error = NULL;
    struct domain_facts facts;
    struct tiering t;

    g_assert_false(domain_read(text, size, &facts, &t, &error));
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, said));
    domain_facts_clear(&facts);
}

static void test_doctype(void)
{
    static const char xxe[] = "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\n"
                              "<domain><name>&x;</name></domain>";
    static const char bomb[] = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'>"
                               "<!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;&b;&b;'>]>\n"
                               "<domain><name x='&c;&c;&c;'/></domain>";

    refuse(xxe, strlen(xxe), "line 1: a document type");
    refuse(bomb, strlen(bomb), "line 1: a document type");
}

static void test_deep(void)
{
    GString *s = g_string_new("<domain>\n");

    for (int i = 0; i < 100; i++)
        g_string_append(s, "<a>");
    for (int i = 0; i < 100; i++)
        g_string_append(s, "</a>");
    g_string_append(s, "</domain>");
    refuse(s->str, s->len, "line 2: elements are nested too deeply");
    g_string_free(s, TRUE);
}

static void test_odd(void)
{
    g_autofree char *large = g_strnfill(XML_MOST + 1, ' ');
    static const char latin[] = "<?xml version='1.0' encoding='ISO-8859-1'?><domain/>";

    refuse(large, XML_MOST + 1, "more than");
    refuse("", 0, "line ");
    refuse("<domain>\0</domain>", 18, "not UTF-8");
    refuse("<domain>\xff</domain>", 18, "not UTF-8");
    refuse(latin, strlen(latin), "encoding 'ISO-8859-1'");
    refuse("<network/>", 10, "<network>: it is no libvirt <domain>");
    refuse("<domain>&nope;</domain>", 23, "nope");
}

/* --- as text, and the schema ------------------------------------------------------------------------------ */

static void test_round_trip(void)
{
    struct tiering t = read_good(everything), again;
    struct domain_facts facts = { .name = g_strdup("a&b"), .uuid = g_strdup("u"), .memory = 4 << 20 }, f;
    g_autofree char *text = NULL, *summary = tiering_summary(&t);
    g_autoptr(GError) error = NULL;

    g_assert_cmpstr(summary, ==, "mode observe, dram min 512.0\u00a0MiB, dram max 1.0\u00a0GiB, weight 3, "
                    "granule 4.0\u00a0MiB, 2 pinned ranges, interleave dram 3:cxl 1, required");
    t.min.bytes = 1 << 20;
    text = tiering_write(&t, &facts);
    domain_read(text, strlen(text), &f, &again, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(f.name, ==, "a&b");
    g_assert_true(tiering_equal(&t, &again));
    domain_facts_clear(&facts);
    domain_facts_clear(&f);
}

static bool schema_takes(xmlRelaxNG *schema, const char *element)
{
    xmlDoc *doc = xmlReadMemory(element, (int)strlen(element), NULL, NULL, XML_PARSE_NOERROR);
    xmlRelaxNGValidCtxt *valid = xmlRelaxNGNewValidCtxt(schema);
    bool taken;

    xmlRelaxNGSetValidErrors(valid, NULL, NULL, NULL);
    taken = doc && xmlRelaxNGValidateDoc(valid, doc) == 0;
    xmlRelaxNGFreeValidCtxt(valid);
    xmlFreeDoc(doc);
    return taken;
}

static void ignore(void *data, const char *format, ...)
{
    (void)data, (void)format;
}

/* The schema takes all that is right, and refuses what it can. */
static void test_schema(void)
{
    xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewParserCtxt(SCHEMA);
    xmlRelaxNG *schema = xmlRelaxNGParse(parser);

    g_assert_nonnull(schema);
    xmlSetGenericErrorFunc(NULL, ignore);
    g_assert_true(schema_takes(schema, everything));
    g_assert_true(schema_takes(schema, "<vmtier:tiering " NS "/>"));
    g_assert_true(schema_takes(schema, OPEN "<interleave dram='3' slow.tier-1_a='1'/>"
                               "<pin tier='slow.tier-1_a' gpa='0' size='2M'/>" CLOSE));
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i].metadata);
        g_assert_true(schema_takes(schema, bad[i].metadata) == !bad[i].schema);
    }
    xmlSetGenericErrorFunc(NULL, NULL);
    xmlRelaxNGFree(schema);
    xmlRelaxNGFreeParserCtxt(parser);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libvirt/metadata/all", test_all);
    g_test_add_func("/libvirt/metadata/little", test_little);
    g_test_add_func("/libvirt/metadata/bad", test_bad);
    g_test_add_func("/libvirt/metadata/doctype", test_doctype);
    g_test_add_func("/libvirt/metadata/deep", test_deep);
    g_test_add_func("/libvirt/metadata/odd", test_odd);
    g_test_add_func("/libvirt/metadata/round-trip", test_round_trip);
    g_test_add_func("/libvirt/metadata/schema", test_schema);
    return g_test_run();
}
