// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a guest's agent has said of its granules, and what it comes to.
 *
 * For each granule and kind of hint: how much of the granule is meant, how sure, since when. A newer
 * report replaces an older one, unless that was surer and is still fresh; what is not said again is
 * over after `life_s`. The memory is bounded by the number of granules, and the work for a range by the
 * granules it touches, which whoever calls has to limit.
 */
#ifndef VMTIER_AGENT_TABLE_H
#define VMTIER_AGENT_TABLE_H

#include "vmtier/agent.h"

#include <glib.h>
#include <stdbool.h>

#define AGENT_WHOLE 65535u      /* a level: all of a granule */

/* What somebody said who knows: by a rule or a user, not by watching. */
#define AGENT_SURE  255

struct agent_said {
    guint16 level;              /* part of the granule, of AGENT_WHOLE; 0: nothing was said */
    guint16 report;
    guint16 at_s;               /* the table's clock, its lower bits */
    guint8 weight, times;       /* reports in a row that said so */
};
static_assert(sizeof(struct agent_said) == 8, "32 bytes per granule");

struct agent_cell {
    struct agent_said said[VTA_KIND_END - 1];
};

struct agent_table {
    guint32 n;
    struct agent_cell *cell;
    guint64 granule;            /* bytes */
    guint32 life_s;
};

/* What is to be made of a granule. */
struct agent_verdict {
    enum vta_kind kind;
    double heat;                /* of HOT: 0..1 */
};

void agent_table_resize(struct agent_table *t, guint32 n);
void agent_table_clear(struct agent_table *t);      /* nothing was said; the room stays */
void agent_table_free(struct agent_table *t);

/* `bytes` of the granule are meant by the hint. */
void agent_table_say(struct agent_table *t, guint32 granule, const struct vta_range *range,
                     guint64 bytes, guint32 report, guint32 now_s);

/* Forgets what is too old, and weighs the rest. */
struct agent_verdict agent_table_judge(struct agent_table *t, guint32 granule, guint32 now_s);

#endif
