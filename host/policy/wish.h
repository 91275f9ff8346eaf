// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Wishes: what is to be respected in placing granules, whatever the policy and the heat say. Somebody who
 * knows tells of a granule that it is empty, cold, or to be kept in dram.
 *
 * A policy's plan is amended before it is carried out: what is kept comes into dram and does not leave it,
 * what is empty leaves it first and does not come, what is cold leaves before what is equally warm. The
 * number of moves, and the quota, stay what they are; so a wish can only change which granules of a VM have
 * the VM's dram.
 */
#ifndef VMTIER_WISH_H
#define VMTIER_WISH_H

#include "host/policy/policy.h"

enum wish { WISH_NONE, WISH_EMPTY, WISH_COLD, WISH_KEEP, WISH_END };

struct wishes {
    guint32 n;
    guint8 *of;                 /* [n] enum wish; NULL: there are none */
    guint32 count[WISH_END];
};

void wishes_clear(struct wishes *w);
/* Makes room for granules [0, n); of new ones nothing is wished. */
void wishes_resize(struct wishes *w, guint32 n);
void wish_set(struct wishes *w, guint32 granule, enum wish wish);

static inline enum wish wish_of(const struct wishes *w, guint32 granule)
{
    return granule < w->n ? (enum wish)w->of[granule] : WISH_NONE;
}

/* For who leaves dram: the greatest first. `rate`: the granule's heat. */
float wish_key(const struct wishes *w, guint32 granule, double rate);

/* Room for look->moves_most granules in either list of the plan. */
void wishes_amend(const struct wishes *w, const struct outlook *look, struct plan *plan);

#endif
