// SPDX-License-Identifier: GPL-2.0-or-later
/* What a guest's agent has said: see agent-table.h. */
#include "host/source/agent-table.h"

#include <string.h>

/*
 * What one report says is free may be on its way to somebody; what the next one says, too, was free all the
 * time, or is in a place where memory comes and goes. By then free page reporting, which takes two seconds,
 * has made a hole of it, and to move it costs nothing.
 */
#define FREE_TIMES 2

/*
 * With one page in use a block is not free for the guest's kernel, which reports whole ones only: none of its
 * pages is a hole, and all would be copied. So what is nearly free is no more than cold.
 */
#define NEARLY_ALL (AGENT_WHOLE / 10 * 9)
#define MOST_OF    (AGENT_WHOLE / 2)        /* of a granule that is cold */

void agent_table_resize(struct agent_table *t, guint32 n)
{
    if (n <= t->n)
        return;
    t->cell = g_renew(struct agent_cell, t->cell, n);
    memset(t->cell + t->n, 0, (n - t->n) * sizeof(t->cell[0]));
    t->n = n;
}

void agent_table_clear(struct agent_table *t)
{
    if (t->n)
        memset(t->cell, 0, t->n * sizeof(t->cell[0]));
}

void agent_table_free(struct agent_table *t)
{
    g_free(t->cell);
    t->cell = NULL;
    t->n = 0;
}

static guint16 age_of(const struct agent_said *s, guint32 now_s)
{
    return (guint16)(now_s - s->at_s);
}

static bool is_fresh(const struct agent_table *t, const struct agent_said *s, guint32 now_s)
{
    return s->level && age_of(s, now_s) <= t->life_s / 2;
}

/* At least 1: a single page of a large granule was meant, too. */
static guint16 level_of(const struct agent_table *t, guint64 bytes, guint8 share)
{
    guint64 level = MIN(bytes, t->granule) * share / VTA_SHARE;

    return (guint16)CLAMP(level * (AGENT_WHOLE + 1ull) / t->granule, 1, AGENT_WHOLE);
}

void agent_table_say(struct agent_table *t, guint32 granule, const struct vta_range *r,
                     guint64 bytes, guint32 report, guint32 now_s)
{
    guint16 level = level_of(t, bytes, r->share);
    struct agent_said *s;

    if (r->kind == VTA_NONE) {
        memset(&t->cell[granule], 0, sizeof(t->cell[0]));
        return;
    }
    s = &t->cell[granule].said[r->kind - 1];
    if (r->weight < s->weight && is_fresh(t, s, now_s))
        return;
    if (!s->level || r->weight != s->weight)
        s->times = 0;
    if (!s->times || (guint16)report != s->report) {
        s->level = 0;
        s->times = (guint8)MIN(s->times + 1, 255);
    }
    s->level = (guint16)MIN((guint32)s->level + level, AGENT_WHOLE);
    s->report = (guint16)report;
    s->weight = r->weight;
    s->at_s = (guint16)(now_s - MIN(r->age_ms / 1000, t->life_s));
}

static const struct agent_said *of_kind(const struct agent_cell *c, enum vta_kind kind)
{
    return &c->said[kind - 1];
}

/* Was `a` said after `b`, or b not at all? What was said by somebody who knows counts as newer. */
static bool overrules(const struct agent_said *a, const struct agent_said *b, guint32 now_s)
{
    if (!a->level || !b->level || a->weight != b->weight)
        return a->level && (!b->level || a->weight > b->weight);
    return age_of(a, now_s) <= age_of(b, now_s);
}

/*
 * Who watches says how many pages are hot; who knows, that the buffer is, whether a page or all of the
 * granule is its.
 */
static double heat_of(const struct agent_said *s)
{
    return s->weight == AGENT_SURE ? 1 : s->weight / 255.0 * s->level / AGENT_WHOLE;
}

struct agent_verdict agent_table_judge(struct agent_table *t, guint32 granule, guint32 now_s)
{
    struct agent_cell *c = &t->cell[granule];
    const struct agent_said *hot = of_kind(c, VTA_HOT), *cold = of_kind(c, VTA_COLD);
    const struct agent_said *empty = of_kind(c, VTA_FREE);
    bool stays_free;

    for (int k = 0; k < VTA_KIND_END - 1; k++)
        if (c->said[k].level && age_of(&c->said[k], now_s) > t->life_s)
            c->said[k].level = 0;
    stays_free = empty->times >= FREE_TIMES && overrules(empty, hot, now_s);
    if (of_kind(c, VTA_PIN)->level)
        return (struct agent_verdict){ VTA_PIN, 0 };
    if (stays_free && empty->level == AGENT_WHOLE)
        return (struct agent_verdict){ VTA_FREE, 0 };
    if ((cold->level >= MOST_OF && overrules(cold, hot, now_s)) ||
        (stays_free && empty->level >= NEARLY_ALL))
        return (struct agent_verdict){ VTA_COLD, 0 };
    if (hot->level)
        return (struct agent_verdict){ VTA_HOT, heat_of(hot) };
    return (struct agent_verdict){ VTA_NONE, 0 };
}
