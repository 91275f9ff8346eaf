// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pins: ranges of guest-physical memory that stay on a tier, whatever their heat. This is the list that an
 * operator gives; spread.h makes granules of it.
 */
#ifndef VMTIER_PIN_H
#define VMTIER_PIN_H

#include "vmtier/wire.h"

#include <glib.h>
#include <stdbool.h>

#define PINS_MOST 32

struct pin {
    guint64 gpa, size;
    guint8 tier;
};

/* In the order they were given; they do not overlap. */
struct pins {
    guint n;
    struct pin pin[PINS_MOST];
};

bool pins_equal(const struct pins *a, const struct pins *b);

/* Fails on one that is empty, goes beyond any guest's memory, overlaps another, or is one too many. */
bool pins_add(struct pins *pins, const struct pin *pin, GError **error);

/* Takes out the pin that begins there. */
bool pins_remove(struct pins *pins, guint64 gpa, GError **error);

/* Bytes that are pinned to a tier. */
guint64 pins_bytes(const struct pins *pins, guint tier);

/* "0x40000000" or decimal. */
bool pin_parse_address(const char *text, guint64 *gpa, GError **error);

/* "TIER GPA SIZE", with ";" between them; nothing at all is no pins. `names`: see interleave.h. */
bool pins_parse(const char *text, const char *const *names, struct pins *pins, GError **error);

/* "dram 0x40000000 64M"; g_free() it. */
char *pin_format(const struct pin *pin, const char *const *names);

#endif
