// SPDX-License-Identifier: GPL-2.0-or-later
/* A guest's agent as JSON. */
#include "host/source/agent-stats.h"

#include <stddef.h>

static const struct {
    const char *key;
    size_t at;
} numbers[] = {
#define NUMBER(name) { #name, offsetof(struct agent_stats, name) }
    NUMBER(frames), NUMBER(bytes), NUMBER(ranges), NUMBER(garbage_bytes), NUMBER(bad_frames),
    NUMBER(unknown_frames), NUMBER(replayed_frames), NUMBER(outside_ranges), NUMBER(dropped_ranges),
    NUMBER(mutes), NUMBER(free_bytes), NUMBER(cold_bytes), NUMBER(hot_bytes), NUMBER(pinned_bytes),
    NUMBER(pin_refused_bytes), NUMBER(pin_most_bytes), NUMBER(free_dram_bytes), NUMBER(pinned_dram_bytes),
#undef NUMBER
};

static void put_text(JsonObject *o, const char *key, const char *value)
{
    if (value[0])
        json_object_set_string_member(o, key, value);
    else
        json_object_set_null_member(o, key);
}

static JsonArray *features_of(guint32 features)
{
    static const char *const names[] = { "ask", "shares", "pin" };
    static_assert(VTA_F_ALL == (1 << G_N_ELEMENTS(names)) - 1, "a feature has no name");
    JsonArray *list = json_array_new();

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (features >> i & 1)
            json_array_add_string_element(list, names[i]);
    return list;
}

JsonObject *agent_view(const struct agent_stats *s)
{
    JsonObject *o = json_object_new();

    json_object_set_boolean_member(o, "connected", s->connected);
    json_object_set_boolean_member(o, "speaks", s->hello);
    json_object_set_boolean_member(o, "muted", s->muted);
    json_object_set_double_member(o, "muted_s", s->muted_s);
    put_text(o, "channel", s->channel);
    put_text(o, "name", s->name);
    put_text(o, "reason", s->reason);
    json_object_set_int_member(o, "version", s->version);
    json_object_set_array_member(o, "features", features_of(s->features));
    for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++)
        json_object_set_int_member(o, numbers[i].key,
                                   (gint64)G_STRUCT_MEMBER(guint64, s, numbers[i].at));
    return o;
}
