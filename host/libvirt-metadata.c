// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Domain metadata: see libvirt-metadata.h.
 *
 * Each element has a table of the attributes that it may have; whatever is in no table is refused by its
 * name, so that a misspelt max is not a missing one. A number without a unit is refused as well: libvirt
 * would take KiB for it, most people would not.
 *
 * Children may be in our namespace or in none: libvirt moves only the outer element into the namespace
 * when metadata is set by `virsh metadata`.
 */
#include "host/libvirt-metadata.h"

#include "host/error.h"
#include "host/size.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* --- attributes ----------------------------------------------------------------------------------------- */

static bool is_known(const char *name, const char *const *known)
{
    for (; *known; known++)
        if (!strcmp(name, *known))
            return true;
    return false;
}

static bool check_attributes(const xmlNode *node, const char *const *known, GError **error)
{
    g_autofree char *list = g_strjoinv(", ", (char **)known);

    for (const xmlAttr *a = node->properties; a; a = a->next)
        if (a->ns || !is_known((const char *)a->name, known))
            return xml_fail(node, error, "unknown attribute '%s': there are %s",
                            (const char *)a->name, list);
    return true;
}

static bool check_empty(const xmlNode *node, GError **error)
{
    const xmlNode *child = xml_element(node->children);
    g_autofree char *text = xml_text(node);

    if (child)
        return xml_fail(child, error, "no such element in <%s>", (const char *)node->name);
    return !text[0] || xml_fail(node, error, "text '%.40s' where none belongs", text);
}

static bool parse_choice(const xmlNode *node, const char *name, const char *const *words, int *index,
                         GError **error)
{
    g_autofree char *value = xml_attribute(node, name);
    g_autofree char *list = g_strjoinv(", ", (char **)words);

    for (int i = 0; value && words[i]; i++)
        if (!strcmp(value, words[i])) {
            *index = i;
            return true;
        }
    return !value || xml_fail(node, error, "%s='%s': it is one of %s", name, value, list);
}

static bool parse_size(const xmlNode *node, const char *what, const char *value, const char *unit,
                       guint64 *bytes, GError **error)
{
    g_autoptr(GError) inner = NULL;
    size_t n = strlen(value);

    if (unit)
        return xml_scale(value, unit, "", bytes) ||
               xml_fail(node, error, "%s '%s' with the unit '%s': a whole number, and a unit like KiB, "
                        "MiB or GiB", what, value, unit);
    if (n && g_ascii_isdigit(value[n - 1]) && strcmp(value, "0"))
        return xml_fail(node, error, "%s '%s' has no unit: write unit='MiB', or %sM", what, value,
                        value);
    return size_parse(value, bytes, &inner) || xml_fail(node, error, "%s '%s': %s", what, value,
                                                         inner->message);
}

/* A size, or "25%" of the VM's RAM. */
static bool parse_amount(const xmlNode *node, const char *name, const char *unit, struct quota *amount,
                         GError **error)
{
    g_autofree char *value = xml_attribute(node, name);
    g_autoptr(GError) inner = NULL;
    size_t n = value ? strlen(value) : 0;

    if (!value)
        return true;
    if (n && value[n - 1] == '%')
        return quota_parse(value, amount, &inner) || xml_fail(node, error, "%s: %s", name, inner->message);
    return parse_size(node, name, value, unit, &amount->bytes, error);
}

static bool parse_number(const xmlNode *node, const char *name, guint64 most, guint32 *number,
                         GError **error)
{
    g_autofree char *value = xml_attribute(node, name);
    guint64 n;

    if (!value)
        return true;
    if (!g_ascii_string_to_unsigned(value, 10, 1, most, &n, NULL))
        return xml_fail(node, error, "%s='%s': a whole number from 1 to %" G_GUINT64_FORMAT, name,
                        value, most);
    *number = (guint32)n;
    return true;
}

/* --- elements ------------------------------------------------------------------------------------------- */

static bool read_dram(const xmlNode *node, struct tiering *t, GError **error)
{
    static const char *const known[] = { "min", "max", "weight", "unit", NULL };
    g_autofree char *unit = xml_attribute(node, "unit");

    if (!check_attributes(node, known, error) || !check_empty(node, error) ||
        !parse_amount(node, "min", unit, &t->min, error) ||
        !parse_amount(node, "max", unit, &t->max, error) ||
        !parse_number(node, "weight", VM_WEIGHT_MOST, &t->weight, error))
        return false;
    if (xml_attribute_is(node, "max", "0") || (!quota_is_given(&t->max) && xmlHasProp(node, (const xmlChar *)"max")))
        return xml_fail(node, error, "max is 0: a VM needs some dram; use mode='off' to leave it alone");
    if ((t->min.bytes && t->max.bytes && t->min.bytes > t->max.bytes) ||
        (t->max.share > 0 && t->min.share > t->max.share))
        return xml_fail(node, error, "min is more than max");
    return true;
}

static bool read_granule(const xmlNode *node, struct tiering *t, GError **error)
{
    static const char *const known[] = { "unit", NULL };
    g_autofree char *unit = xml_attribute(node, "unit"), *text = xml_text(node);
    const xmlNode *child = xml_element(node->children);

    if (child)
        return xml_fail(child, error, "no such element in <granule>");
    if (!check_attributes(node, known, error) ||
        !parse_size(node, "size", text, unit, &t->granule, error))
        return false;
    if (t->granule < VT_GRANULE_MIN || t->granule > VT_GRANULE_MAX || (t->granule & (t->granule - 1)))
        return xml_fail(node, error, "'%s': a power of two from 4 KiB to 1 GiB, usually 2 MiB", text);
    return true;
}

static bool parse_address(const xmlNode *node, guint64 *address, GError **error)
{
    g_autofree char *value = xml_attribute(node, "gpa");
    bool hex = value && g_str_has_prefix(value, "0x");

    if (!value)
        return xml_fail(node, error, "gpa is missing: where in the guest it begins");
    return g_ascii_string_to_unsigned(hex ? value + 2 : value, hex ? 16 : 10, 0, G_MAXINT64, address,
                                      NULL) ||
           xml_fail(node, error, "gpa='%s': an address, like 0x40000000", value);
}

static bool pins_overlap(const struct tiering *t, const struct tiering_pin *pin)
{
    for (guint i = 0; i < t->n_pins; i++)
        if (pin->gpa < t->pin[i].gpa + t->pin[i].size && t->pin[i].gpa < pin->gpa + pin->size)
            return true;
    return false;
}

static bool check_pin(const xmlNode *node, const struct tiering *t, const struct tiering_pin *pin,
                      GError **error)
{
    if (!pin->size || (pin->size | pin->gpa) % VT_GRANULE_MIN)
        return xml_fail(node, error, "gpa and size are multiples of 4 KiB, and size is not 0");
    if (pin->size > (guint64)G_MAXINT64 - pin->gpa)
        return xml_fail(node, error, "gpa and size go beyond any guest's memory");
    return !pins_overlap(t, pin) || xml_fail(node, error, "overlaps an earlier <pin>");
}

static bool read_pin(const xmlNode *node, struct tiering *t, GError **error)
{
    static const char *const known[] = { "tier", "gpa", "size", "unit", NULL };
    g_autofree char *tier = xml_attribute(node, "tier"), *size = xml_attribute(node, "size");
    g_autofree char *unit = xml_attribute(node, "unit");
    struct tiering_pin pin = { 0 };

    if (!check_attributes(node, known, error) || !check_empty(node, error))
        return false;
    if (t->n_pins == TIERING_PINS)
        return xml_fail(node, error, "more than %d of them", TIERING_PINS);
    if (!tier || !tier_name_is_good(tier))
        return xml_fail(node, error, "tier='%s': the name of a tier, dram or cxl", tier ? tier : "");
    if (!size)
        return xml_fail(node, error, "size is missing");
    g_strlcpy(pin.tier, tier, sizeof(pin.tier));
    if (!parse_address(node, &pin.gpa, error) ||
        !parse_size(node, "size", size, unit, &pin.size, error) || !check_pin(node, t, &pin, error))
        return false;
    t->pin[t->n_pins++] = pin;
    return true;
}

/* The attributes are tiers' names; which there are is known on the host. */
static bool read_interleave(const xmlNode *node, struct tiering *t, GError **error)
{
    if (!check_empty(node, error))
        return false;
    for (const xmlAttr *a = node->properties; a; a = a->next) {
        const char *name = (const char *)a->name;
        struct tiering_share *s = &t->interleave[t->n_interleave];

        if (a->ns || !tier_name_is_good(name))
            return xml_fail(node, error, "unknown attribute '%s': there are tiers, like dram and cxl", name);
        if (t->n_interleave == VT_TIERS)
            return xml_fail(node, error, "more than %d tiers", VT_TIERS);
        if (!parse_number(node, name, 100, &s->share, error))
            return false;
        g_strlcpy(s->tier, name, sizeof(s->tier));
        t->n_interleave++;
    }
    return t->n_interleave >= 2 || xml_fail(node, error, "shares of two tiers at least, like dram='3' "
                                            "cxl='1'");
}

/* --- the element ------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    bool many;
    bool (*read)(const xmlNode *node, struct tiering *t, GError **error);
} elements[] = {
    { "dram", false, read_dram },
    { "granule", false, read_granule },
    { "pin", true, read_pin },
    { "interleave", false, read_interleave },
};

static bool in_our_hands(const xmlNode *node)
{
    return !node->ns || !strcmp((const char *)node->ns->href, XML_NS_VMTIER);
}

static bool read_child(const xmlNode *node, struct tiering *t, guint *seen, GError **error)
{
    for (guint i = 0; in_our_hands(node) && i < G_N_ELEMENTS(elements); i++) {
        if (strcmp((const char *)node->name, elements[i].name))
            continue;
        if (*seen & 1u << i && !elements[i].many)
            return xml_fail(node, error, "there is one already");
        *seen |= 1u << i;
        return elements[i].read(node, t, error);
    }
    return xml_fail(node, error, "unknown element: there are <dram>, <granule>, <pin> and <interleave>");
}

/* Between elements there is nothing but blanks and comments. */
static bool check_between(const xmlNode *element, GError **error)
{
    for (const xmlNode *n = element->children; n; n = n->next) {
        if (n->type != XML_TEXT_NODE && n->type != XML_CDATA_SECTION_NODE)
            continue;
        for (const xmlChar *c = n->content; c && *c; c++)
            if (!g_ascii_isspace(*c))
                return xml_fail(element, error, "text '%.40s' where none belongs", (const char *)c);
    }
    return true;
}

static bool check_whole(const xmlNode *element, const struct tiering *t, GError **error)
{
    guint64 granule = t->granule ? t->granule : VT_GRANULE_MIN;

    if (t->max.bytes && t->max.bytes < granule)
        return xml_fail(element, error, "max of <dram> is less than one granule");
    for (guint i = 0; i < t->n_pins; i++)
        if ((t->pin[i].gpa | t->pin[i].size) % granule)
            return xml_fail(element, error, "a <pin> is not of whole granules");
    return true;
}

static bool read_all(const xmlNode *element, struct tiering *t, GError **error)
{
    static const char *const known[] = { "mode", "required", NULL };
    static const char *const modes[] = { "off", "observe", "on", NULL };
    static const char *const truth[] = { "no", "yes", NULL };
    int mode = VM_ON, required = 0;
    guint seen = 0;

    static_assert(G_N_ELEMENTS(modes) == VM_MODE_COUNT + 1, "a mode has no name");
    if (!check_attributes(element, known, error) || !check_between(element, error) ||
        !parse_choice(element, "mode", modes, &mode, error) ||
        !parse_choice(element, "required", truth, &required, error))
        return false;
    t->given = true;
    t->line = xml_line(element);
    t->mode = (enum vm_mode)mode;
    t->required = required;
    for (xmlNode *n = xml_element(element->children); n; n = xml_element(n->next))
        if (!read_child(n, t, &seen, error))
            return false;
    return check_whole(element, t, error);
}

bool tiering_read(const xmlNode *element, struct tiering *tiering, GError **error)
{
    *tiering = (struct tiering){ 0 };
    if (read_all(element, tiering, error))
        return true;
    *tiering = (struct tiering){ 0 };
    return false;
}

/* --- the domain --------------------------------------------------------------------------------------------- */

xmlNode *tiering_element(const xmlNode *domain)
{
    return xml_child(xml_child(domain, NULL, "metadata"), XML_NS_VMTIER, "tiering");
}

void domain_facts_clear(struct domain_facts *facts)
{
    g_clear_pointer(&facts->name, g_free);
    g_clear_pointer(&facts->uuid, g_free);
}

static guint64 memory_of(const xmlNode *domain, const char *name)
{
    const xmlNode *node = xml_child(domain, NULL, name);
    g_autofree char *unit = node ? xml_attribute(node, "unit") : NULL, *text = xml_text(node);
    guint64 bytes;

    return node && xml_scale(text, unit, "KiB", &bytes) ? bytes : 0;
}

static void read_facts(const xmlNode *domain, struct domain_facts *facts)
{
    facts->name = xml_text(xml_child(domain, NULL, "name"));
    facts->uuid = xml_text(xml_child(domain, NULL, "uuid"));
    facts->memory = MAX(memory_of(domain, "memory"), memory_of(domain, "maxMemory"));
    facts->plugin = xml_plugin(domain) != NULL;
    facts->required = tiering_element(domain) &&
                      xml_attribute_is(tiering_element(domain), "required", "yes");
}

static bool fits_memory(const xmlNode *element, const struct tiering *t, guint64 memory, GError **error)
{
    g_autofree char *size = size_format(memory);

    if (!memory)
        return true;
    if (t->min.bytes > memory)
        return xml_fail(element, error, "min of <dram> is more than the domain's memory of %s", size);
    return !quota_is_given(&t->max) || quota_in_bytes(&t->min, memory) <= quota_in_bytes(&t->max, memory) ||
           xml_fail(element, error, "min of <dram> is more than max, in a domain with %s of memory", size);
}

bool domain_read(const char *text, gsize size, struct domain_facts *facts, struct tiering *tiering,
                 GError **error)
{
    g_autoptr(Xml) xml = xml_read(text, size, error);
    xmlNode *domain = xml ? xml_root(xml) : NULL, *element;

    *facts = (struct domain_facts){ 0 };
    *tiering = (struct tiering){ 0 };
    if (!domain)
        return false;
    if (xml_is(domain, NULL, "domstatus"))
        domain = xml_child(domain, NULL, "domain");
    if (!domain || !xml_is(domain, NULL, "domain"))
        return xml_fail(xml_root(xml), error, "it is no libvirt <domain>");
    read_facts(domain, facts);
    element = tiering_element(domain);
    if (!element)
        return true;
    if (tiering_read(element, tiering, error) &&
        fits_memory(element, tiering, facts->memory, error))
        return true;
    *tiering = (struct tiering){ 0 };
    return false;
}

/* --- as text ------------------------------------------------------------------------------------------------- */

static void add_amount(GString *s, const char *format, const struct quota *amount, bool exact)
{
    g_autofree char *size = exact ? g_strdup_printf("%" G_GUINT64_FORMAT "B", amount->bytes)
                                  : size_format(amount->bytes);
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    if (amount->share > 0) {
        g_autofree char *share = NULL;

        g_ascii_formatd(number, sizeof(number), exact ? "%.17g" : "%g", amount->share * 100);
        share = g_strconcat(number, "%", NULL);
        g_string_append_printf(s, format, share);
    } else if (amount->bytes) {
        g_string_append_printf(s, format, size);
    }
}

char *tiering_summary(const struct tiering *t)
{
    GString *s = g_string_new(NULL);
    g_autofree char *granule = size_format(t->granule);

    if (!t->given)
        return g_string_free(g_string_assign(s, "nothing"), FALSE);
    g_string_printf(s, "mode %s", vm_mode_name(t->mode));
    add_amount(s, ", dram min %s", &t->min, false);
    add_amount(s, ", dram max %s", &t->max, false);
    if (t->weight)
        g_string_append_printf(s, ", weight %u", t->weight);
    if (t->granule)
        g_string_append_printf(s, ", granule %s", granule);
    if (t->n_pins)
        g_string_append_printf(s, ", %u pinned range%s", t->n_pins, t->n_pins > 1 ? "s" : "");
    for (guint i = 0; i < t->n_interleave; i++)
        g_string_append_printf(s, "%s%s %u", i ? ":" : ", interleave ", t->interleave[i].tier,
                               t->interleave[i].share);
    if (t->required)
        g_string_append(s, ", required");
    return g_string_free(s, FALSE);
}

static void write_element(GString *s, const struct tiering *t)
{
    g_string_append_printf(s, "<vmtier:tiering xmlns:vmtier=\"" XML_NS_VMTIER "\" mode=\"%s\" "
                           "required=\"%s\">", vm_mode_name(t->mode), t->required ? "yes" : "no");
    if (quota_is_given(&t->min) || quota_is_given(&t->max) || t->weight) {
        g_string_append(s, "<dram");
        add_amount(s, " min=\"%s\"", &t->min, true);
        add_amount(s, " max=\"%s\"", &t->max, true);
        if (t->weight)
            g_string_append_printf(s, " weight=\"%u\"", t->weight);
        g_string_append(s, "/>");
    }
    if (t->granule)
        g_string_append_printf(s, "<granule>%" G_GUINT64_FORMAT "B</granule>", t->granule);
    for (guint i = 0; i < t->n_pins; i++)
        g_string_append_printf(s, "<pin tier=\"%s\" gpa=\"0x%" G_GINT64_MODIFIER "x\" size=\"%"
                               G_GUINT64_FORMAT "B\"/>", t->pin[i].tier, t->pin[i].gpa, t->pin[i].size);
    for (guint i = 0; i < t->n_interleave; i++)
        g_string_append_printf(s, "%s %s=\"%u\"%s", i ? "" : "<interleave", t->interleave[i].tier,
                               t->interleave[i].share, i + 1 < t->n_interleave ? "" : "/>");
    g_string_append(s, "</vmtier:tiering>");
}

char *tiering_write(const struct tiering *tiering, const struct domain_facts *facts)
{
    g_autofree char *name = xml_escape(facts->name ? facts->name : "");
    g_autofree char *uuid = xml_escape(facts->uuid ? facts->uuid : "");
    GString *s = g_string_new(NULL);

    g_string_printf(s, "<domain><name>%s</name><uuid>%s</uuid><memory unit=\"b\">%" G_GUINT64_FORMAT
                    "</memory><metadata>", name, uuid, facts->memory);
    if (tiering->given)
        write_element(s, tiering);
    g_string_append(s, "</metadata>");
    if (facts->plugin)
        g_string_append(s, "<qemu:commandline xmlns:qemu=\"" XML_NS_QEMU "\"><qemu:arg value=\"" XML_PLUGIN
                        "\"/></qemu:commandline>");
    g_string_append(s, "</domain>\n");
    return g_string_free(s, FALSE);
}

bool tiering_equal(const struct tiering *a, const struct tiering *b)
{
    const struct domain_facts none = { 0 };
    g_autofree char *x = tiering_write(a, &none), *y = tiering_write(b, &none);

    return !strcmp(x, y);
}
