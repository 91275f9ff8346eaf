// SPDX-License-Identifier: GPL-2.0-or-later
/* Names of the sources, for the configuration, which knows nothing else of them. */
#include "host/source/id.h"

#include <string.h>

static const char *const names[] = {
    [SRC_REFAULT] = "refault", [SRC_DIRTY] = "dirty", [SRC_SAMPLE] = "sample", [SRC_IBS] = "ibs",
    [SRC_IDLE] = "idle", [SRC_DAMON] = "damon", [SRC_REPORT] = "report", [SRC_AGENT] = "agent",
};
static_assert(G_N_ELEMENTS(names) == SRC_END, "a source has no name");

const char *source_name(enum source_id id)
{
    return names[id];
}

bool source_parse(const char *name, enum source_id *id)
{
    for (int i = 0; i < SRC_END; i++)
        if (!strcmp(names[i], name)) {
            *id = (enum source_id)i;
            return true;
        }
    return false;
}

char *source_names(void)
{
    GString *text = g_string_new(names[0]);

    for (int i = 1; i < SRC_END; i++)
        g_string_append_printf(text, ", %s", names[i]);
    return g_string_free(text, FALSE);
}
