// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the demo leaves behind: report.json, series.json and the heat map.
 *
 * Keys of the report carry their unit. A ratio that was not measured is null, never a guess.
 */
#include "demo.h"

#include "host/cli/heatmap.h"
#include "host/cli/json.h"

#include <cairo.h>
#include <string.h>
#include <sys/utsname.h>

/* --- builders -------------------------------------------------------------------------------- */

static void put_int(JsonObject *o, const char *key, uint64_t value)
{
    json_object_set_int_member(o, key, (gint64)value);
}

/* Negative: not known. Rounded, as the digits behind are noise. */
static void put_num(JsonObject *o, const char *key, double value)
{
    g_autofree char *text = g_strdup_printf("%.4f", value);

    if (value < 0)
        json_object_set_null_member(o, key);
    else
        json_object_set_double_member(o, key, g_ascii_strtod(text, NULL));
}

static void put_text(JsonObject *o, const char *key, const char *value)
{
    if (value)
        json_object_set_string_member(o, key, value);
    else
        json_object_set_null_member(o, key);
}

/* json-glib writes 0.29 as 0.28999999999999998. */
static gboolean shorten(const GMatchInfo *match, GString *out, gpointer unused)
{
    g_autofree char *digits = g_match_info_fetch(match, 0);
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    (void)unused;
    g_ascii_formatd(text, sizeof(text), "%.10g", g_ascii_strtod(digits, NULL));
    g_string_append(out, text);
    return FALSE;
}

static char *to_text(JsonNode *node, GError **error)
{
    g_autofree char *text = json_to_string(node, TRUE);
    g_autoptr(GRegex) number = g_regex_new("\\b\\d+\\.\\d{12,}\\b", 0, 0, error);

    return number ? g_regex_replace_eval(number, text, -1, 0, 0, shorten, NULL, error) : NULL;
}

static bool write_json(const char *name, JsonObject *take, GError **error)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    g_autofree char *path = lab_built(name), *text = NULL, *line = NULL;

    json_node_take_object(node, take);
    text = to_text(node, error);
    if (!text)
        return false;
    line = g_strconcat(text, "\n", NULL);
    return g_file_set_contents(path, line, -1, error);
}

/* --- report.json ----------------------------------------------------------------------------- */

/* Without samples there is no hit ratio; where the hot set is has another name. */
static void put_hits(JsonObject *o, const struct demo *d)
{
    const struct {
        const char *key, *placed, *samples;
        const struct hit *hit;
    } hits[] = {
        { "dram_hit_first_touch", "hot_set_in_dram_first_touch", "samples_first_touch",
          &d->first_touch },
        { "dram_hit_steady", "hot_set_in_dram_steady", "samples_steady", &d->steady },
        { "dram_hit_after_shift", "hot_set_in_dram_after_shift", "samples_after_shift",
          &d->after_shift },
    };

    put_text(o, "dram_hit_how", measure_how(d));
    for (gsize i = 0; i < G_N_ELEMENTS(hits); i++) {
        put_num(o, hits[i].key, hits[i].hit->ratio);
        put_num(o, hits[i].placed, hits[i].hit->placed);
        put_int(o, hits[i].samples, hits[i].hit->samples);
    }
}

static void put_memory(JsonObject *o, const struct demo *d)
{
    put_int(o, "dram_bytes_peak", d->peak_bytes);
    put_int(o, "quota_bytes", QUOTA_BYTES);
    put_int(o, "dram_looks", d->looks);
    put_num(o, "dram_looks_per_s", d->looks_per_s);
    put_num(o, "dram_look_longest_gap_s", d->look_gap_s);
}

static void put_guest(JsonObject *o, const struct demo *d)
{
    put_int(o, "guest_bad_pages", MAX(d->guest.sweep_bad, d->guest.bad));
    put_int(o, "guest_swept_pages", d->guest.sweep_pages);
    put_int(o, "guest_verified_pages", d->guest.verified);
    put_int(o, "guest_visits", d->guest.ops);
    put_int(o, "guest_boot_ms", d->guest.boot_ms);
    put_int(o, "guest_populate_ms", d->guest.populate_ms);
    put_num(o, "heartbeat_gap_max_ms", d->heartbeat_gap_ms);
}

static double fastest_moves(const struct demo *d)
{
    double most = 0;

    for (guint i = 0; i < d->points->len; i++) {
        const struct point *p = &g_array_index(d->points, struct point, i);

        most = MAX(most, p->t > d->ready ? p->move_bytes_per_s : 0);
    }
    return most;
}

static void put_moves(JsonObject *o, const struct demo *d)
{
    const struct point *p = measure_last(d);

    put_int(o, "page_moves", p->pages - d->pages_at_ready);
    put_int(o, "moved_bytes", p->moved_bytes - d->moved_at_ready);
    put_int(o, "moves_failed", p->failed);
    put_int(o, "moves_deferred", p->deferred);
    put_num(o, "move_max_mb_per_s", fastest_moves(d) / 1e6);
    put_num(o, "time_to_95_after_start_s", measure_time_to_hit(d, d->ready, d->shifted));
    put_num(o, "time_to_95_after_moves_on_s", measure_time_to_hit(d, d->moves_on, d->shifted));
    put_num(o, "time_to_95_after_shift_s",
            measure_time_to_hit(d, d->shifted, d->runs[PHASE_SHIFT].end));
}

static void put_costs(JsonObject *o, const struct demo *d)
{
    JsonArray *sources = js_arr(d->vm_now, "sources");

    put_num(o, "daemon_cpu_s", d->daemon_cpu_s);
    put_num(o, "qemu_cpu_s", d->qemu_cpu_s);
    put_num(o, "run_s", demo_now(d));
    put_int(o, "rounds", measure_last(d)->rounds);
    put_num(o, "round_p50_ms", js_num(d->vm_now, "round_ms_p50"));
    put_int(o, "ledger_mismatches", (uint64_t)js_int(d->vm_now, "ledger_mismatches"));
    for (guint i = 0; i < js_len(sources); i++) {
        JsonObject *s = js_at(sources, i);
        g_autofree char *cpu = g_strdup_printf("%s_cpu_ms", js_str(s, "name"));
        g_autofree char *events = g_strdup_printf("%s_events", js_str(s, "name"));

        put_num(o, cpu, js_num(s, "cpu_ms"));
        put_int(o, events, (uint64_t)js_int(s, "events"));
    }
}

static JsonObject *environment(const struct demo *d)
{
    JsonObject *o = json_object_new();
    JsonArray *tiers = js_arr(d->vm_now, "tiers");
    struct utsname host;

    put_text(o, "qemu", js_str(d->vm_now, "qemu"));
    put_text(o, "accel", js_str(d->vm_now, "accel"));
    put_text(o, "accel_why", d->accel_why);
    json_object_set_boolean_member(o, "cxl_emulated", js_bool(js_at(tiers, 1), "emulated"));
    put_text(o, "kernel", uname(&host) == 0 ? host.release : NULL);
    put_int(o, "granule_bytes", (uint64_t)js_int(d->vm_now, "granule_bytes"));
    put_int(o, "host_cpus", g_get_num_processors());
    put_text(o, "policy", js_str(d->vm_now, "policy"));
    put_text(o, "sample_use", d->options.sample_use);
    put_int(o, "rate_bytes_per_s", (uint64_t)js_int(d->vm_now, "rate_bytes_per_s"));
    put_int(o, "ram_bytes", RAM_BYTES);
    put_int(o, "footprint_bytes", FOOT_BYTES);
    put_int(o, "hot_bytes", HOT_BYTES);
    put_int(o, "hot_share_percent", HOT_SHARE);
    return o;
}

/* --- series.json ----------------------------------------------------------------------------- */

static JsonObject *phase_object(const struct demo *d, enum phase phase)
{
    JsonObject *o = json_object_new();

    put_text(o, "phase", phase_key(phase));
    put_num(o, "start_s", d->runs[phase].start);
    put_num(o, "end_s", d->runs[phase].end);
    return o;
}

static JsonObject *point_object(const struct point *p)
{
    JsonObject *o = json_object_new();

    put_num(o, "t_s", p->t);
    put_text(o, "phase", phase_key(p->phase));
    put_num(o, "dram_hit",
            p->hot_samples ? (double)p->hot_dram_samples / (double)p->hot_samples : -1);
    put_int(o, "hot_samples", p->hot_samples);
    put_num(o, "hot_set_in_dram", p->hot_in_dram);
    put_int(o, "dram_bytes", p->dram_bytes);
    put_int(o, "cxl_bytes", p->cxl_bytes);
    put_int(o, "page_moves", p->pages);
    put_num(o, "move_mb_per_s", p->move_bytes_per_s / 1e6);
    put_int(o, "rounds", p->rounds);
    return o;
}

static bool write_series(const struct demo *d, GError **error)
{
    JsonObject *o = json_object_new();
    JsonArray *runs = json_array_new(), *points = json_array_new();

    for (enum phase p = 0; p < PHASE_COUNT; p++)
        if (d->runs[p].start > 0)
            json_array_add_object_element(runs, phase_object(d, p));
    for (guint i = 0; i < d->points->len; i++)
        json_array_add_object_element(points,
                                      point_object(&g_array_index(d->points, struct point, i)));
    json_object_set_array_member(o, "phases", runs);
    json_object_set_array_member(o, "points", points);
    return write_json(SERIES_FILE, o, error);
}

bool report_write(const struct demo *d, GError **error)
{
    JsonObject *o = json_object_new();

    put_hits(o, d);
    put_memory(o, d);
    put_guest(o, d);
    put_moves(o, d);
    put_costs(o, d);
    json_object_set_object_member(o, "environment", environment(d));
    return write_json(REPORT_FILE, o, error) && write_series(d, error);
}

/* --- the heat map ---------------------------------------------------------------------------- */

static void add_mark(struct heatmap *map, double start_unix, double at_unix, const char *label)
{
    if (at_unix > 0)
        heatmap_add_mark(map, at_unix - start_unix, label);
}

static void add_marks(struct heatmap *map, const struct demo *d, JsonObject *answer)
{
    double start = js_num(js_obj(answer, "history"), "start_unix");

    add_mark(map, start, d->runs[PHASE_FIRST_TOUCH].unix_start, "workload");
    add_mark(map, start, d->runs[PHASE_SETTLE].unix_start, "moves on");
    add_mark(map, start, d->runs[PHASE_SHIFT].unix_start, "another hot set");
    add_mark(map, start, d->runs[PHASE_STRESS].unix_start, "more moves");
    add_mark(map, start, d->runs[PHASE_SWEEP].unix_start, "every page is read");
}

bool report_draw_heatmap(const struct demo *d, GError **error)
{
    g_autoptr(JsonNode) node = qmp_try(d->daemon->qmp, error, "query-vmtier-heatmap",
                                       "{\"vm\":\"" DEMO_VM "\"}");
    g_autofree char *path = lab_built(HEATMAP_FILE);
    struct heatmap *map = node ? heatmap_from_json(json_node_get_object(node), error) : NULL;
    bool ok;

    if (!map)
        return false;
    map->quota_bytes = QUOTA_BYTES;
    map->cxl_emulated = js_bool(js_at(js_arr(d->vm_now, "tiers"), 1), "emulated");
    add_marks(map, d, json_node_get_object(node));
    ok = heatmap_png_draw(map, path, error);
    heatmap_free(map);
    return ok;
}

/* --- are the files good? --------------------------------------------------------------------- */

bool report_is_valid(void)
{
    static const char *const keys[] = {
        "dram_hit_first_touch", "dram_hit_steady", "dram_hit_after_shift", "dram_bytes_peak",
        "quota_bytes", "guest_bad_pages", "page_moves", "environment",
    };
    g_autofree char *path = lab_built(REPORT_FILE);
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;

    if (!json_parser_load_from_file(parser, path, NULL))
        return false;
    root = json_parser_get_root(parser);
    if (!root || !JSON_NODE_HOLDS_OBJECT(root))
        return false;
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!json_object_has_member(json_node_get_object(root), keys[i]))
            return false;
    return true;
}

bool report_heatmap_is_valid(void)
{
    g_autofree char *path = lab_built(HEATMAP_FILE);
    cairo_surface_t *image = cairo_image_surface_create_from_png(path);
    bool ok = cairo_surface_status(image) == CAIRO_STATUS_SUCCESS &&
              cairo_image_surface_get_width(image) >= 800 &&
              cairo_image_surface_get_height(image) >= 400;

    cairo_surface_destroy(image);
    return ok;
}
