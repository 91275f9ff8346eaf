// SPDX-License-Identifier: GPL-2.0-or-later
/* A VM's sources as JSON: what each could do, does, has cost, and why one does not run. */
#include "host/daemon.h"
#include "host/source/source.h"

static const char *const kinds[] = { "accesses", "touches", "writes", "hints" };
static_assert(G_N_ELEMENTS(kinds) == HEAT_KINDS, "a kind of evidence has no name");

static void put_text(JsonObject *o, const char *key, const char *value)
{
    if (value && value[0])
        json_object_set_string_member(o, key, value);
    else
        json_object_set_null_member(o, key);
}

static const char *state(const struct source_stats *s, bool wanted)
{
    if (s->running)
        return "running";
    if (!s->available)
        return "unavailable";
    return wanted && s->error[0] ? "failed" : "available";
}

static JsonObject *view(const struct source *source, const struct source_stats *s, bool wanted)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "name", source->name);
    json_object_set_string_member(o, "state", state(s, wanted));
    json_object_set_boolean_member(o, "configured", wanted);
    json_object_set_boolean_member(o, "available", s->available);
    json_object_set_boolean_member(o, "active", s->running);
    put_text(o, "reason", s->available ? NULL : s->reason);
    put_text(o, "enable", s->available ? NULL : source->enable);
    put_text(o, "last_error", s->error);
    put_text(o, "detail", s->detail);
    json_object_set_string_member(o, "summary", source->summary);
    json_object_set_string_member(o, "kind", kinds[source->kind]);
    json_object_set_string_member(o, "unit", source->unit);
    json_object_set_int_member(o, "resolution_bytes", (gint64)s->resolution);
    json_object_set_int_member(o, "events", (gint64)s->events);
    json_object_set_int_member(o, "missed", (gint64)s->missed);
    json_object_set_double_member(o, "events_per_s", s->events_per_s);
    json_object_set_double_member(o, "cpu_ms", (double)s->cpu_ns / 1e6);
    json_object_set_double_member(o, "cpu_percent", 100 * s->cpu_share);
    json_object_set_double_member(o, "vcpu_ms", (double)s->vcpu_ns / 1e6);
    json_object_set_double_member(o, "vcpu_percent", 100 * s->vcpu_share);
    json_object_set_boolean_member(o, "drives_placement", s->drives);
    return o;
}

JsonArray *view_sources(const struct vm *vm, const struct vm_stats *s)
{
    JsonArray *list = json_array_new();

    for (int i = 0; i < SRC_END; i++)
        if (sources[i])
            json_array_add_object_element(list, view(sources[i], &s->source[i],
                                                     vm->config.sources & (1u << i)));
    return list;
}
