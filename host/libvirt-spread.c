// SPDX-License-Identifier: GPL-2.0-or-later
/* A domain's <pin> and <interleave> elements name tiers: what they are on this host. */
#include "host/error.h"
#include "host/libvirt-metadata.h"

#include <errno.h>

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EINVAL, __VA_ARGS__), false)

static bool add_share(const struct tiering_share *s, const char *const *names, struct weights *weights,
                      GError **error)
{
    int tier = tier_number(s->tier, names, error);

    if (tier >= 0)
        weights->of[tier] = s->share;
    return tier >= 0;
}

static bool add_pin(const struct tiering_pin *p, const char *const *names, struct pins *pins, GError **error)
{
    int tier = tier_number(p->tier, names, error);
    const struct pin pin = { .gpa = p->gpa, .size = p->size, .tier = (guint8)tier };

    return tier >= 0 && pins_add(pins, &pin, error);
}

bool tiering_spread(const struct tiering *t, const char *const *names, struct weights *weights,
                    struct pins *pins, GError **error)
{
    struct weights w = { 0 };
    struct pins p = { 0 };

    *weights = w;
    *pins = p;
    for (guint i = 0; i < t->n_interleave; i++)
        if (!add_share(&t->interleave[i], names, &w, error)) {
            g_prefix_error(error, "line %ld: <tiering>: <interleave>: ", t->line);
            return false;
        }
    for (guint i = 0; i < t->n_pins; i++)
        if (!add_pin(&t->pin[i], names, &p, error)) {
            g_prefix_error(error, "line %ld: <tiering>: <pin>: ", t->line);
            return false;
        }
    *weights = w;
    *pins = p;
    return true;
}

bool tiering_check_pins(const struct tiering *t, const struct pins *pins, guint64 granule, guint64 memory,
                        GError **error)
{
    guint64 max = quota_in_bytes(&t->max, memory);

    for (guint i = 0; i < pins->n; i++)
        if ((pins->pin[i].gpa | pins->pin[i].size) % granule)
            return FAIL(error, "line %ld: <tiering>: the <pin> at 0x%" G_GINT64_MODIFIER "x is not of whole "
                        "granules of %" G_GUINT64_FORMAT " bytes", t->line, pins->pin[i].gpa, granule);
    if (!max || pins_bytes(pins, 0) <= max)
        return true;
    return FAIL(error, "line %ld: <tiering>: pins to dram of %" G_GUINT64_FORMAT " bytes, and max of <dram> is %"
                G_GUINT64_FORMAT, t->line, pins_bytes(pins, 0), max);
}
