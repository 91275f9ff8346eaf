// SPDX-License-Identifier: GPL-2.0-or-later
/* Weights and pins of a VM as text. */
#include "host/cli/format.h"
#include "host/cli/json.h"
#include "host/cli/view.h"

char *view_interleave(JsonObject *vm)
{
    JsonObject *interleave = js_obj(vm, "interleave");
    JsonArray *tiers = js_arr(interleave, "tiers");
    const char *before = ": ";
    GString *text;

    if (!interleave) {
        return NULL;
    }
    text = g_string_new(js_str(interleave, "weights"));
    for (guint i = 0; i < js_len(tiers); i++) {
        JsonObject *tier = js_at(tiers, i);
        g_autofree char *name = fmt_safe(js_str(tier, "name"));

        if (js_int(tier, "weight") || js_int(tier, "granules")) {
            g_string_append_printf(text, "%s%s %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " granules", before,
                                   name, js_int(tier, "granules"), js_int(tier, "target_granules"));
            before = ", ";
        }
    }
    return g_string_free(text, FALSE);
}

char *view_pin(JsonObject *pin)
{
    g_autofree char *tier = fmt_safe(js_str(pin, "tier")), *size = fmt_size(js_int(pin, "size"));
    g_autofree char *problem = fmt_safe(js_str(pin, "problem"));
    GString *text = g_string_new(NULL);
    gint64 all = js_int(pin, "granules"), there = js_int(pin, "arrived");

    g_string_printf(text, "%s 0x%" G_GINT64_MODIFIER "x, %s: ", tier, js_int(pin, "gpa"), size);
    if (js_str(pin, "problem")) {
        g_string_append_printf(text, "not pinned: %s", problem);
    } else if (there == all) {
        g_string_append(text, "there");
    } else {
        g_string_append_printf(text, "%" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " granules are there", there,
                               all);
    }
    return g_string_free(text, FALSE);
}
