// SPDX-License-Identifier: GPL-2.0-or-later
/* The table of policies, and what they share. */
#include "host/policy/policy.h"

#include <string.h>

#define WRITTEN 0.02    /* share of its pages written per second: a granule that is being written */
#define ANYHOW  4       /* one round in so many it moves all the same */

static const struct policy *const policies[] = { &policy_cbx, &policy_lru };

const struct policy *policy_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(policies); i++)
        if (!strcmp(name, policies[i]->name))
            return policies[i];
    return NULL;
}

char *policy_names(void)
{
    GString *names = g_string_new(policies[0]->name);

    for (size_t i = 1; i < G_N_ELEMENTS(policies); i++)
        g_string_append_printf(names, ", %s", policies[i]->name);
    return g_string_free(names, FALSE);
}

/* The same in every run: by granule and round. */
static guint32 dice(guint32 granule, double now)
{
    guint64 x = ((guint64)granule << 32) ^ (guint64)(now * 4);

    x *= 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return (guint32)(x >> 32);
}

bool policy_may_move(const struct outlook *look, guint32 granule)
{
    if (look->ready && !look->ready(look->of, granule))
        return false;
    return heat_write_share(look->heat, granule, look->pages) < WRITTEN ||
           dice(granule, look->now) % ANYHOW == 0;
}
