// SPDX-License-Identifier: GPL-2.0-or-later
/* A VM's heat over time: from JSON, and what the pictures share. See heatmap.h. */
#include "host/cli/cli.h"
#include "host/cli/heatmap.h"
#include "host/cli/json.h"

#include <math.h>
#include <string.h>

#define MAX_SIDE (1 << 20)
#define MAX_CELLS (64 * 1024 * 1024)

static bool malformed(GError **error, const char *what)
{
    g_set_error(error, CLI_ERROR, CLI_REFUSED, "the daemon's heat map is malformed: %s", what);
    return false;
}

static bool read_range(struct heatmap *h, JsonObject *range, GError **error)
{
    struct heatmap_range *to = &h->ranges[h->range_count];
    gint64 gpa = js_int(range, "gpa"), first = js_int(range, "first"), count = js_int(range, "count");

    if (gpa < 0 || count <= 0 || count > G_MAXINT64 / (gint64)h->granule_bytes - (gint64)h->granules ||
        (guint64)first != h->granules) {
        return malformed(error, "ranges");
    }
    *to = (struct heatmap_range) { g_strdup(js_str(range, "block")), gpa, first, count };
    h->granules += count;
    h->range_count++;
    return true;
}

static bool read_ranges(struct heatmap *h, JsonArray *ranges, GError **error)
{
    h->ranges = g_new0(struct heatmap_range, js_len(ranges));
    for (guint i = 0; i < js_len(ranges); i++) {
        if (!read_range(h, js_at(ranges, i), error)) {
            return false;
        }
    }
    return h->granules > 0 || malformed(error, "no ranges");
}

static bool read_cells(const struct heatmap *h, JsonObject *history, const char *name, guint8 **cells,
                       GError **error)
{
    const char *text = js_str(history, name);
    gsize length = 0;

    *cells = text ? g_base64_decode(text, &length) : NULL;
    return (*cells && length == (gsize)h->columns * h->rows) || malformed(error, name);
}

static bool side(JsonObject *history, const char *name, unsigned *to)
{
    gint64 value = js_int(history, name);

    *to = (unsigned)value;
    return value > 0 && value <= MAX_SIDE;
}

static bool read_history(struct heatmap *h, JsonObject *history, GError **error)
{
    if (history && js_int(history, "columns") == 0) {
        g_set_error(error, CLI_ERROR, CLI_REFUSED, "VM \"%s\" has no history yet; try again soon",
                    h->vm);
        return false;
    }
    if (!side(history, "rows", &h->rows) || !side(history, "columns", &h->columns) ||
        !side(history, "row_granules", &h->row_granules) ||
        (guint64)h->rows * h->columns > MAX_CELLS) {
        return malformed(error, "rows, columns or row_granules");
    }
    if ((h->granules + h->row_granules - 1) / h->row_granules != h->rows) {
        return malformed(error, "the rows do not make up the granules");
    }
    h->period_s = js_num(history, "period_s");
    h->start_unix = (gint64)js_num(history, "start_unix");
    if (!(h->period_s > 0 && h->period_s < 1e6)) {
        return malformed(error, "period_s");
    }
    return read_cells(h, history, "heat", &h->heat, error) &&
           read_cells(h, history, "tier", &h->tier, error);
}

static bool read_all(struct heatmap *h, JsonObject *reply, GError **error)
{
    gint64 granule = js_int(reply, "granule_bytes");

    if (granule <= 0 || (granule & (granule - 1))) {
        return malformed(error, "granule_bytes");
    }
    h->vm = g_strdup(js_str(reply, "vm"));
    h->granule_bytes = granule;
    if (!h->vm) {
        return malformed(error, "vm");
    }
    return read_ranges(h, js_arr(reply, "ranges"), error) &&
           read_history(h, js_obj(reply, "history"), error);
}

struct heatmap *heatmap_from_json(JsonObject *reply, GError **error)
{
    struct heatmap *h = g_new0(struct heatmap, 1);

    if (!read_all(h, reply, error)) {
        g_clear_pointer(&h, heatmap_free);
    }
    return h;
}

void heatmap_free(struct heatmap *h)
{
    for (unsigned i = 0; i < h->range_count; i++) {
        g_free(h->ranges[i].block);
    }
    for (unsigned i = 0; i < h->mark_count; i++) {
        g_free(h->marks[i].label);
    }
    g_free(h->ranges);
    g_free(h->marks);
    g_free(h->heat);
    g_free(h->tier);
    g_free(h->vm);
    g_free(h);
}

void heatmap_add_mark(struct heatmap *h, double at_s, const char *label)
{
    h->marks = g_renew(struct heatmap_mark, h->marks, h->mark_count + 1);
    h->marks[h->mark_count++] = (struct heatmap_mark) { at_s, g_strdup(label) };
}

guint64 heatmap_gpa(const struct heatmap *h, guint64 granule)
{
    const struct heatmap_range *range = h->ranges;

    for (unsigned i = 1; i < h->range_count && h->ranges[i].first <= granule; i++) {
        range = &h->ranges[i];
    }
    return range->gpa + (granule - range->first) * h->granule_bytes;
}

guint64 heatmap_dram_bytes(const struct heatmap *h, unsigned column)
{
    const guint8 *tier = h->tier + (gsize)column * h->rows;
    guint64 granules = 0;

    for (unsigned row = 0; row < h->rows; row++) {
        guint64 first = (guint64)row * h->row_granules;
        guint64 count = MIN(h->row_granules, h->granules - first);

        granules += llround((double)count * tier[row] / 255);
    }
    return granules * h->granule_bytes;
}

/* Oklab (Björn Ottosson): equal steps of its lightness look equal. */
struct oklch {
    double lightness, chroma, hue;      /* hue in degrees */
};

static double srgb(double linear)
{
    linear = CLAMP(linear, 0, 1);
    return linear <= 0.0031308 ? 12.92 * linear : 1.055 * pow(linear, 1 / 2.4) - 0.055;
}

static void oklch_to_rgb(const struct oklch *c, double rgb[3])
{
    double a = c->chroma * cos(c->hue * G_PI / 180), b = c->chroma * sin(c->hue * G_PI / 180);
    double l = pow(c->lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
    double m = pow(c->lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
    double s = pow(c->lightness - 0.0894841775 * a - 1.2914855480 * b, 3);

    rgb[0] = srgb(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s);
    rgb[1] = srgb(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s);
    rgb[2] = srgb(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s);
}

/* Both ramps climb alike in lightness; DRAM is warm and CXL cool. */
static void ramp(double heat, bool dram, double rgb[3])
{
    struct oklch c = { .lightness = (dram ? 0.36 : 0.21) + (dram ? 0.57 : 0.70) * heat };

    c.chroma = (dram ? 0.095 : 0.045) + (dram ? 0.085 : 0.10) * sin(G_PI * MIN(heat * 0.85 + 0.05, 1));
    c.hue = dram ? 38 + 60 * heat : 268 - 70 * heat;
    oklch_to_rgb(&c, rgb);
}

guint32 heatmap_colour(double heat, double dram)
{
    double warm[3], cool[3];
    guint32 colour = 0;

    ramp(heat, true, warm);
    ramp(heat, false, cool);
    for (int i = 0; i < 3; i++) {
        colour = colour << 8 | (guint32)lround(255 * (dram * warm[i] + (1 - dram) * cool[i]));
    }
    return colour;
}
