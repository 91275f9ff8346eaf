// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The writers, and what they check.
 *
 * A writer writes its number to the four places of a page in order. Whoever reads the places in the
 * opposite order must see numbers that do not fall, and none below one seen before: else an update
 * was torn, or memory went back in time. The writer itself must find its last number in all four:
 * else an update was lost. After a loss it goes on from what it finds, so that one loss counts once.
 */
#include "bench/lib/torn-parts.h"
#include "bench/lib/stat.h"

#define PLACES     4u
#define PLACE_SIZE 512u         /* the four are in the first half of the page */
#define COUNTER_AT 448u

static volatile guint64 *place(const struct torn *t, guint page, guint k, guint id)
{
    return (volatile guint64 *)(void *)(t->m.host + (gsize)page * 4096 + k * PLACE_SIZE + id * 64);
}

static guint64 *counter(const struct torn *t, guint page)
{
    return (guint64 *)(void *)(t->m.host + (gsize)page * 4096 + COUNTER_AT);
}

static void update(struct torn_writer *w, guint page)
{
    guint64 expected = w->mine[page], found = expected;

    for (guint k = 0; k < PLACES; k++) {
        guint64 value = *place(w->t, page, k, w->id);

        if (value != expected)
            found = MAX(found, value);
        w->lost += value != expected && k == 0;
        w->torn += value != expected && k > 0;
        if (value != expected)
            atomic_fetch_add(&w->t->damage, 1);
    }
    for (guint k = 0; k < PLACES; k++)
        *place(w->t, page, k, w->id) = found + 1;
    w->mine[page] = found + 1;
    __atomic_fetch_add(counter(w->t, page), 1, __ATOMIC_SEQ_CST);
    w->added[page]++;
    w->writes++;
}

static void look(struct torn_writer *w, guint page)
{
    guint other = (w->id + 1) % TORN_WRITERS;
    guint64 last = w->seen[page];
    bool bad = false;

    for (guint k = PLACES; k-- > 0;) {
        guint64 value = *place(w->t, page, k, other);

        bad |= value < last;
        if (k == PLACES - 1)
            w->seen[page] = value;
        last = value;
    }
    w->torn += bad;
    if (bad)
        atomic_fetch_add(&w->t->damage, 1);
}

gpointer torn_write(gpointer writer)
{
    struct torn_writer *w = writer;
    guint64 random = w->id + 1;

    while (!atomic_load(&w->t->stop)) {
        guint page = torn_pick_page(w->t, &random);

        update(w, page);
        look(w, page);
    }
    return NULL;
}

guint64 torn_check(const struct torn *t, const struct torn_writer w[TORN_WRITERS])
{
    guint64 wrong = 0;

    for (guint page = 0; page < t->pages; page++) {
        guint64 sum = 0;
        bool bad = false;

        for (guint i = 0; i < TORN_WRITERS; i++) {
            sum += w[i].added[page];
            for (guint k = 0; k < PLACES; k++)
                bad |= *place(t, page, k, i) != w[i].mine[page];
        }
        wrong += bad || *counter(t, page) != sum;
    }
    return wrong;
}
