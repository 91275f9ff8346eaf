// SPDX-License-Identifier: GPL-2.0-or-later
/* A guest's agent in `status`: see view-agent.h. */
#include "host/cli/view-agent.h"

#include "host/cli/format.h"
#include "host/cli/json.h"

/* What is only worth a word if there was some. */
static const struct {
    const char *key, *text;
} troubles[] = {
    { "garbage_bytes", "bytes of garbage" },
    { "bad_frames", "bad frames" },
    { "unknown_frames", "frames of a type not known" },
    { "replayed_frames", "frames sent before" },
    { "outside_ranges", "ranges outside of RAM" },
    { "dropped_ranges", "ranges too many" },
};

static char *features_of(JsonObject *agent)
{
    g_autoptr(GString) text = g_string_new(NULL);
    JsonArray *list = js_arr(agent, "features");

    for (guint i = 0; i < js_len(list); i++) {
        g_autofree char *name = fmt_safe(json_array_get_string_element(list, i));

        g_string_append_printf(text, "%s%s", i ? ", " : "", name);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* Who is there, or why nobody is. */
static char *who(JsonObject *agent)
{
    g_autofree char *name = fmt_safe(js_str(agent, "name")), *channel = fmt_safe(js_str(agent, "channel"));
    g_autofree char *reason = fmt_safe(js_str(agent, "reason")), *features = features_of(agent);

    if (!js_bool(agent, "connected")) {
        return js_str(agent, "channel") ? g_strdup_printf("not connected: %s", channel) : g_strdup("not connected");
    }
    if (js_bool(agent, "muted")) {
        return g_strdup_printf("%s: muted: %s", name, reason);
    }
    if (!js_bool(agent, "speaks")) {
        return js_str(agent, "name") && js_str(agent, "reason")
                   ? g_strdup_printf("%s: not understood: %s", name, reason)
                   : g_strdup_printf("no agent speaks at %s", channel);
    }
    return g_strdup_printf("%s: protocol %" G_GINT64_FORMAT " with %s", name, js_int(agent, "version"),
                           features[0] ? features : "nothing more");
}

static char *came(JsonObject *agent)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "%" G_GINT64_FORMAT " frames with %" G_GINT64_FORMAT " ranges came",
                           js_int(agent, "frames"), js_int(agent, "ranges"));
    for (gsize i = 0; i < G_N_ELEMENTS(troubles); i++) {
        gint64 n = js_int(agent, troubles[i].key);

        if (n) {
            g_string_append_printf(text, ", %" G_GINT64_FORMAT " %s", n, troubles[i].text);
        }
    }
    if (js_int(agent, "mutes")) {
        g_string_append_printf(text, "; muted %" G_GINT64_FORMAT " times", js_int(agent, "mutes"));
    }
    return g_string_free(text, FALSE);
}

static char *hints(JsonObject *agent)
{
    g_autofree char *empty = fmt_size(js_int(agent, "free_bytes")), *cold = fmt_size(js_int(agent, "cold_bytes"));
    g_autofree char *empty_dram = fmt_size(js_int(agent, "free_dram_bytes"));
    g_autofree char *hot = fmt_size(js_int(agent, "hot_bytes"));

    return g_strdup_printf("free %s (%s of it in DRAM), cold %s, hot %s", empty, empty_dram, cold, hot);
}

static char *pins(JsonObject *agent)
{
    g_autofree char *pinned = fmt_size(js_int(agent, "pinned_bytes"));
    g_autofree char *dram = fmt_size(js_int(agent, "pinned_dram_bytes"));
    g_autofree char *most = fmt_size(js_int(agent, "pin_most_bytes"));
    g_autofree char *refused = fmt_size(js_int(agent, "pin_refused_bytes"));
    bool any = js_int(agent, "pin_refused_bytes") > 0;

    return g_strdup_printf("pinned %s (%s of it in DRAM) of at most %s%s%s", pinned, dram, most,
                           any ? ", refused " : "", any ? refused : "");
}

void view_agent(JsonObject *vm, struct fmt_table *table)
{
    JsonObject *agent = js_obj(vm, "agent");

    if (!agent) {
        return;
    }
    fmt_table_pair(table, "agent", who(agent));
    if (js_int(agent, "frames") || js_int(agent, "garbage_bytes")) {
        fmt_table_pair(table, "", came(agent));
    }
    if (js_bool(agent, "speaks")) {
        fmt_table_pair(table, "", hints(agent));
        fmt_table_pair(table, "", pins(agent));
    }
}
