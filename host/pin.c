// SPDX-License-Identifier: GPL-2.0-or-later
/* Pins: see pin.h. */
#include "host/pin.h"
#include "host/error.h"
#include "host/interleave.h"
#include "host/size.h"

#include <errno.h>
#include <string.h>

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EINVAL, __VA_ARGS__), false)
#define HEX "0x%" G_GINT64_MODIFIER "x"

static bool overlap(const struct pin *a, const struct pin *b)
{
    return a->gpa < b->gpa + b->size && b->gpa < a->gpa + a->size;
}

bool pins_equal(const struct pins *a, const struct pins *b)
{
    if (a->n != b->n)
        return false;
    for (guint i = 0; i < a->n; i++)
        if (a->pin[i].tier != b->pin[i].tier || a->pin[i].gpa != b->pin[i].gpa ||
            a->pin[i].size != b->pin[i].size)
            return false;
    return true;
}

bool pins_add(struct pins *pins, const struct pin *pin, GError **error)
{
    if (!pin->size || (pin->size | pin->gpa) % VT_GRANULE_MIN)
        return FAIL(error, "a pin of %" G_GUINT64_FORMAT " bytes at " HEX ": both are multiples of 4 KiB, "
                    "and the size is not 0", pin->size, pin->gpa);
    if (pin->gpa > G_MAXINT64 || pin->size > (guint64)G_MAXINT64 - pin->gpa)
        return FAIL(error, "a pin of %" G_GUINT64_FORMAT " bytes at " HEX ": no guest has memory there",
                    pin->size, pin->gpa);
    for (guint i = 0; i < pins->n; i++)
        if (overlap(pin, &pins->pin[i]))
            return FAIL(error, "the pin at " HEX " overlaps the one at " HEX, pin->gpa, pins->pin[i].gpa);
    if (pins->n == PINS_MOST)
        return FAIL(error, "the pin at " HEX ": there are %d already, which is the most", pin->gpa,
                    PINS_MOST);
    pins->pin[pins->n++] = *pin;
    return true;
}

bool pins_remove(struct pins *pins, guint64 gpa, GError **error)
{
    for (guint i = 0; i < pins->n; i++)
        if (pins->pin[i].gpa == gpa) {
            memmove(&pins->pin[i], &pins->pin[i + 1], (pins->n - i - 1) * sizeof(pins->pin[0]));
            pins->n--;
            return true;
        }
    return FAIL(error, "no pin begins at " HEX, gpa);
}

guint64 pins_bytes(const struct pins *pins, guint tier)
{
    guint64 sum = 0;

    for (guint i = 0; i < pins->n; i++)
        sum += pins->pin[i].tier == tier ? pins->pin[i].size : 0;
    return sum;
}

/* --- as text --------------------------------------------------------------------------------------------- */

bool pin_parse_address(const char *text, guint64 *gpa, GError **error)
{
    bool hex = g_str_has_prefix(text, "0x");

    return g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0, G_MAXINT64, gpa, NULL) ||
           FAIL(error, "'%s' is no guest-physical address, like 0x40000000", text);
}

/* The words of a text, with no empty ones between them. */
static char **split_words(const char *text)
{
    char **words = g_strsplit_set(text, " \t", -1), **to = words;

    for (char **from = words; *from; from++)
        if (**from)
            *to++ = *from;
        else
            g_free(*from);
    *to = NULL;
    return words;
}

static bool parse_one(const char *text, const char *const *names, struct pins *pins, GError **error)
{
    g_auto(GStrv) word = split_words(text);
    struct pin pin = { 0 };
    int tier;

    if (!word[0])
        return true;
    if (g_strv_length(word) != 3)
        return FAIL(error, "'%s': it is TIER GPA SIZE, like %s 0x40000000 64M", text,
                    names[0]);
    tier = tier_number(word[0], names, error);
    if (tier < 0 || !pin_parse_address(word[1], &pin.gpa, error) ||
        !size_parse(word[2], &pin.size, error))
        return false;
    pin.tier = (guint8)tier;
    return pins_add(pins, &pin, error);
}

bool pins_parse(const char *text, const char *const *names, struct pins *pins, GError **error)
{
    g_auto(GStrv) part = g_strsplit(text, ";", -1);
    struct pins all = { 0 };

    *pins = all;
    for (char **p = part; *p; p++)
        if (!parse_one(*p, names, &all, error))
            return false;
    *pins = all;
    return true;
}

char *pin_format(const struct pin *pin, const char *const *names)
{
    const bool whole = !(pin->size % (1u << 20));

    return g_strdup_printf("%s " HEX " %" G_GUINT64_FORMAT "%s", names[pin->tier], pin->gpa,
                           pin->size >> (whole ? 20 : 10), whole ? "M" : "K");
}
