// SPDX-License-Identifier: GPL-2.0-or-later
/* The few best of many: see top.h. */
#include "host/top.h"

#include <stdlib.h>

void top_init(struct top *top)
{
    *top = (struct top){ 0 };
}

void top_clear(struct top *top)
{
    g_free(top->entry);
    top_init(top);
}

void top_begin(struct top *top, guint32 most)
{
    if (most > top->most)
        top->entry = g_renew(struct top_entry, top->entry, most);
    top->most = most;
    top->n = 0;
}

static void swap(struct top_entry *a, struct top_entry *b)
{
    struct top_entry was = *a;

    *a = *b;
    *b = was;
}

static void sift_up(struct top_entry *e, guint32 at)
{
    for (guint32 parent; at && e[parent = (at - 1) / 2].key > e[at].key; at = parent)
        swap(&e[parent], &e[at]);
}

static void sift_down(struct top_entry *e, guint32 n, guint32 at)
{
    for (;;) {
        guint32 child = 2 * at + 1, least = at;

        if (child < n && e[child].key < e[least].key)
            least = child;
        if (child + 1 < n && e[child + 1].key < e[least].key)
            least = child + 1;
        if (least == at)
            return;
        swap(&e[at], &e[least]);
        at = least;
    }
}

void top_insert(struct top *top, guint32 granule, float key)
{
    if (top->n < top->most) {
        top->entry[top->n] = (struct top_entry){ key, granule };
        sift_up(top->entry, top->n++);
    } else if (top->n && key > top->entry[0].key) {
        top->entry[0] = (struct top_entry){ key, granule };
        sift_down(top->entry, top->n, 0);
    }
}

static int by_key(const void *a, const void *b)
{
    const struct top_entry *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? 1 : -1;
    return (x->granule > y->granule) - (x->granule < y->granule);
}

void top_sort(struct top *top)
{
    if (top->n)
        qsort(top->entry, top->n, sizeof(top->entry[0]), by_key);
}
