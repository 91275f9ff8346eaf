// SPDX-License-Identifier: GPL-2.0-or-later
/* What is shown of a VM's guest agent. */
#ifndef VMTIER_AGENT_STATS_H
#define VMTIER_AGENT_STATS_H

#include "vmtier/agent.h"

#include <json-glib/json-glib.h>
#include <stdbool.h>

struct agent_stats {
    bool connected;             /* to the channel */
    bool hello;                 /* an agent that we understand has spoken */
    bool muted;
    char channel[VTA_TEXT];     /* the socket's path, or what is wrong with it */
    char name[VTA_TEXT];        /* what the agent says it is */
    char reason[VTA_TEXT];      /* why it is or was muted, or not understood */
    guint32 version, features;  /* features: that both know */
    guint64 frames, bytes, ranges;
    guint64 garbage_bytes, bad_frames, unknown_frames, replayed_frames;
    guint64 outside_ranges;     /* not in RAM, or nonsense */
    guint64 dropped_ranges;     /* beyond a limit */
    guint64 mutes;
    double muted_s;             /* all of it */
    guint64 free_bytes, cold_bytes, hot_bytes;      /* as hinted now */
    guint64 free_dram_bytes, pinned_dram_bytes;     /* of these, in dram */
    guint64 pinned_bytes, pin_refused_bytes, pin_most_bytes;
};

/* As vmtier-qmp(7) has it. */
JsonObject *agent_view(const struct agent_stats *stats);

#endif
