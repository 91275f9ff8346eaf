// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The runs as a picture: a row per load; on the left the share of accesses that node 0 serves over time, with the
 * oracle's as a dashed line, on the right the bytes that were moved up to then. A colour per system.
 */
#include "peers.h"

#include <cairo.h>
#include <math.h>

#define WIDTH  1280.0
#define ROW    190.0
#define TOP    64.0
#define PLOT_H 132.0
#define LEFT   150.0
#define PLOT_W 480.0
#define RIGHT  (LEFT + PLOT_W + 90.0)
#define FONT   "DejaVu Sans"

static const guint32 colours[] = { 0x98a2b3, 0x475467, 0xb54708, 0x7a5af8, 0x1570ef, 0xd92d20 };

struct plot {
    cairo_t *cr;
    double x, y, seconds, most;
};

static void ink(cairo_t *cr, guint32 rgb)
{
    cairo_set_source_rgb(cr, (rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0);
}

static void text(cairo_t *cr, double x, double y, double align, guint32 rgb, const char *words)
{
    cairo_text_extents_t e;

    cairo_text_extents(cr, words, &e);
    ink(cr, rgb);
    cairo_move_to(cr, round(x - align * e.x_advance), round(y));
    cairo_show_text(cr, words);
}

static void frame(const struct plot *p, const char *top)
{
    g_autofree char *end = g_strdup_printf("%.0f s", p->seconds);

    ink(p->cr, 0xd0d5dd);
    cairo_set_line_width(p->cr, 1);
    cairo_rectangle(p->cr, p->x + 0.5, p->y + 0.5, PLOT_W, PLOT_H);
    cairo_stroke(p->cr);
    text(p->cr, p->x - 6, p->y + 10, 1, 0x667085, top);
    text(p->cr, p->x - 6, p->y + PLOT_H, 1, 0x667085, "0");
    text(p->cr, p->x + PLOT_W, p->y + PLOT_H + 16, 1, 0x667085, end);
}

static void curve(const struct plot *p, JsonObject *run, const char *key, guint32 rgb)
{
    JsonArray *t = json_object_get_array_member(run, "t"), *v = json_object_get_array_member(run, key);

    for (guint i = 0; i < json_array_get_length(t); i++)
        cairo_line_to(p->cr, p->x + PLOT_W * json_array_get_double_element(t, i) / p->seconds,
                      p->y + PLOT_H * (1 - json_array_get_double_element(v, i) / p->most));
    ink(p->cr, rgb);
    cairo_set_line_width(p->cr, 2);
    cairo_stroke(p->cr);
}

static void oracle(const struct plot *p, JsonObject *run)
{
    static const double dashes[] = { 4, 4 };
    JsonArray *phases = json_object_get_array_member(run, "phases");
    double share = json_object_get_double_member(json_array_get_object_element(phases, 0), "oracle");

    cairo_set_dash(p->cr, dashes, 2, 0);
    ink(p->cr, 0x12b76a);
    cairo_move_to(p->cr, p->x, p->y + PLOT_H * (1 - share));
    cairo_rel_line_to(p->cr, PLOT_W, 0);
    cairo_stroke(p->cr);
    cairo_set_dash(p->cr, NULL, 0, 0);
}

/* --- rows ----------------------------------------------------------------------------------------------- */

static double last_of(JsonObject *run, const char *key)
{
    JsonArray *list = json_object_get_array_member(run, key);

    return json_array_get_double_element(list, json_array_get_length(list) - 1);
}

/* The largest last value of a load's runs. */
static double most_of(JsonArray *runs, const char *load, const char *key)
{
    double most = 1;

    for (guint i = 0; i < json_array_get_length(runs); i++) {
        JsonObject *run = json_array_get_object_element(runs, i);

        if (g_str_equal(json_object_get_string_member(run, "load"), load))
            most = MAX(most, last_of(run, key));
    }
    return most;
}

static guint colour_of(JsonObject *run)
{
    const char *name = json_object_get_string_member(run, "system");

    for (guint s = 0; s < peers_n_systems; s++)
        if (g_str_equal(peers_systems[s].name, name))
            return colours[s % G_N_ELEMENTS(colours)];
    return 0;
}

/* The reference serves everything and moves nothing. */
static void draw_load(cairo_t *cr, JsonArray *runs, const struct peers_load *load, double y)
{
    double seconds = most_of(runs, load->name, "t"), moved = most_of(runs, load->name, "moved_kib");
    struct plot share = { cr, LEFT, y, seconds, 1 }, bytes = { cr, RIGHT, y, seconds, moved };
    g_autofree char *top = g_strdup_printf("%.0f MiB", moved / 1024);

    text(cr, 12, y + 12, 0, 0x1f2430, load->name);
    frame(&share, "1");
    frame(&bytes, top);
    for (guint i = 0; i < json_array_get_length(runs); i++) {
        JsonObject *run = json_array_get_object_element(runs, i);

        if (!g_str_equal(json_object_get_string_member(run, "load"), load->name) ||
            g_str_equal(json_object_get_string_member(run, "system"), "dram"))
            continue;
        oracle(&share, run);
        curve(&share, run, "share", colour_of(run));
        curve(&bytes, run, "moved_kib", colour_of(run));
    }
}

static void legend(cairo_t *cr)
{
    double x = LEFT;

    for (guint s = 1; s < peers_n_systems; s++) {
        cairo_text_extents_t e;

        ink(cr, colours[s % G_N_ELEMENTS(colours)]);
        cairo_rectangle(cr, x, 14, 14, 10);
        cairo_fill(cr);
        text(cr, x + 20, 24, 0, 0x1f2430, peers_systems[s].title);
        cairo_text_extents(cr, peers_systems[s].title, &e);
        x += 44 + e.x_advance;
    }
    text(cr, LEFT, 50, 0, 0x667085, "share of accesses served from node 0 (dashed: oracle)");
    text(cr, RIGHT, 50, 0, 0x667085, "MiB moved since the guest was ready");
}

static bool has_load(JsonArray *runs, const char *load)
{
    for (guint i = 0; i < json_array_get_length(runs); i++)
        if (g_str_equal(json_object_get_string_member(json_array_get_object_element(runs, i), "load"), load))
            return true;
    return false;
}

bool picture_draw(JsonObject *report, const char *file)
{
    JsonArray *runs = json_object_get_array_member(report, "runs");
    cairo_surface_t *surface;
    cairo_status_t status;
    cairo_t *cr;
    guint rows = 0;

    for (guint l = 0; l < peers_n_loads; l++)
        rows += has_load(runs, peers_loads[l].name);
    surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)WIDTH, (int)(TOP + ROW * rows));
    cr = cairo_create(surface);
    ink(cr, 0xffffff);
    cairo_paint(cr);
    cairo_select_font_face(cr, FONT, CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr, 12);
    legend(cr);
    for (guint l = 0, row = 0; l < peers_n_loads; l++)
        if (has_load(runs, peers_loads[l].name))
            draw_load(cr, runs, &peers_loads[l], TOP + ROW * row++);
    status = cairo_surface_write_to_png(surface, file);
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    if (status)
        g_printerr("peers: %s: %s\n", file, cairo_status_to_string(status));
    return !status;
}
