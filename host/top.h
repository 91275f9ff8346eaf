// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The few best of many that go by: those with the greatest keys, in memory for the few only.
 */
#ifndef VMTIER_TOP_H
#define VMTIER_TOP_H

#include <glib.h>

struct top_entry {
    float key;
    guint32 granule;
};

struct top {
    struct top_entry *entry;    /* [most]; a heap whose root is the least, until top_sort() */
    guint32 n, most;
};

void top_init(struct top *top);
void top_clear(struct top *top);

/* Starts anew, for the `most` best. */
void top_begin(struct top *top, guint32 most);

void top_insert(struct top *top, guint32 granule, float key);

/* Descending by key; of equals the lower granule first. Then nothing may be offered any more. */
void top_sort(struct top *top);

/* Whatever is not above this need not be offered. */
static inline float top_bar(const struct top *top)
{
    return !top->most ? G_MAXFLOAT : top->n < top->most ? -G_MAXFLOAT : top->entry[0].key;
}

static inline void top_offer(struct top *top, guint32 granule, float key)
{
    if (key > top_bar(top))
        top_insert(top, granule, key);
}

#endif
