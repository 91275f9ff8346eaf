// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM's heat over time as a PNG.
 *
 * One panel says both things at once: lightness is heat, and the colour the tier (warm: DRAM, cool:
 * CXL), so that hot memory on CXL stands out as bright blue and cold memory in DRAM as dull brown.
 * Below it, on the same time axis, the bytes in DRAM against the quota.
 */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/heatmap.h"

#include <cairo.h>
#include <math.h>

#define FONT "DejaVu Sans"
#define WIDTH 1600.0
#define LEFT 132.0
#define RIGHT 44.0
#define PLOT_WIDTH (WIDTH - LEFT - RIGHT)
#define TOP 176.0
#define GAP 62.0                /* between the panels */
#define STRIP 120.0             /* height of the lower one */
#define BOTTOM 86.0
#define WANTED_HEIGHT 800.0     /* of the upper panel, before it is fitted to whole pixels */

enum ink { INK, INK_SOFT, INK_GRID, INK_DRAM, INK_QUOTA, INK_PAPER, INK_COUNT };

static const guint32 inks[] = {
    [INK] = 0x1f2430, [INK_SOFT] = 0x667085, [INK_GRID] = 0xe4e7ec,
    [INK_DRAM] = 0xd9691e, [INK_QUOTA] = 0xb42318, [INK_PAPER] = 0xffffff,
};
G_STATIC_ASSERT(G_N_ELEMENTS(inks) == INK_COUNT);

struct canvas {
    cairo_t *cr;
    const struct heatmap *h;
    double panel;               /* height of the upper panel */
    double strip_top;
    double span_s;              /* width of the time axis */
};

static void set_rgb(cairo_t *cr, guint32 rgb, double alpha)
{
    cairo_set_source_rgba(cr, (rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0,
                          alpha);
}

static void set_font(cairo_t *cr, double size, bool bold)
{
    cairo_select_font_face(cr, FONT, CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr, size);
}

/* Writes with `align` of the text's width to the left of x. */
static void write_at(cairo_t *cr, double x, double y, double align, enum ink ink, const char *text)
{
    cairo_text_extents_t extents;

    cairo_text_extents(cr, text, &extents);
    set_rgb(cr, inks[ink], 1);
    cairo_move_to(cr, round(x - align * extents.x_advance), round(y));
    cairo_show_text(cr, text);
}

static void line(cairo_t *cr, double x0, double y0, double x1, double y1)
{
    cairo_move_to(cr, round(x0) + 0.5, round(y0) + 0.5);
    cairo_line_to(cr, round(x1) + 0.5, round(y1) + 0.5);
    cairo_stroke(cr);
}

static double x_of(const struct canvas *c, double seconds)
{
    return LEFT + PLOT_WIDTH * seconds / c->span_s;
}

/* Address 0 is at the bottom. */
static double y_of(const struct canvas *c, double granule)
{
    double rows = granule / c->h->row_granules;

    return TOP + c->panel * (1 - rows / c->h->rows);
}

/* The cells as an image of one pixel each; row 0 is its last line. */
static cairo_surface_t *cells_image(const struct heatmap *h)
{
    cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)h->columns,
                                                        (int)h->rows);
    guint8 *pixels = cairo_image_surface_get_data(image);
    int stride = cairo_image_surface_get_stride(image);

    if (!pixels) {
        return image;
    }
    cairo_surface_flush(image);
    for (unsigned column = 0; column < h->columns; column++) {
        for (unsigned row = 0; row < h->rows; row++) {
            gsize cell = (gsize)column * h->rows + row;
            guint32 *pixel = (guint32 *)(pixels + (gsize)(h->rows - 1 - row) * stride) + column;

            *pixel = heatmap_colour(h->heat[cell] / 255.0, h->tier[cell] / 255.0);
        }
    }
    cairo_surface_mark_dirty(image);
    return image;
}

static bool draw_cells(const struct canvas *c, GError **error)
{
    cairo_surface_t *image = cells_image(c->h);
    cairo_status_t status = cairo_surface_status(image);
    bool shrinks = c->h->rows > c->panel || c->h->columns > PLOT_WIDTH;

    cairo_save(c->cr);
    cairo_rectangle(c->cr, LEFT, TOP, PLOT_WIDTH, c->panel);
    cairo_clip(c->cr);
    cairo_translate(c->cr, LEFT, TOP);
    cairo_scale(c->cr, PLOT_WIDTH / c->h->columns, c->panel / c->h->rows);
    cairo_set_source_surface(c->cr, image, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(c->cr), shrinks ? CAIRO_FILTER_GOOD
                                                              : CAIRO_FILTER_NEAREST);
    cairo_paint(c->cr);
    cairo_restore(c->cr);
    cairo_surface_destroy(image);
    if (status != CAIRO_STATUS_SUCCESS) {
        g_set_error(error, CLI_ERROR, CLI_REFUSED, "cannot draw %u x %u cells: %s", c->h->columns,
                    c->h->rows, cairo_status_to_string(status));
    }
    return status == CAIRO_STATUS_SUCCESS;
}

static void address_tick(const struct canvas *c, guint64 granule, guint64 address)
{
    g_autofree char *label = address ? fmt_size((gint64)address) : g_strdup("0");
    double y = y_of(c, (double)granule);

    set_rgb(c->cr, inks[INK_SOFT], 1);
    line(c->cr, LEFT - 7, y, LEFT - 1, y);
    write_at(c->cr, LEFT - 13, y + 5, 1, INK, label);
}

/* Ticks at multiples of a power of two of bytes, about eight; where a range starts behind a hole there
 * is a line through the panel, and its address is told. */
static void address_axis(const struct canvas *c)
{
    const struct heatmap *h = c->h;
    guint64 step = 1;

    set_font(c->cr, 15, false);
    while (step * 9 < h->granules) {
        step *= 2;
    }
    for (guint64 granule = 0; granule < h->granules; granule += step) {
        address_tick(c, granule, heatmap_gpa(h, granule));
    }
    address_tick(c, h->granules, heatmap_gpa(h, h->granules - 1) + h->granule_bytes);
    for (unsigned i = 1; i < h->range_count; i++) {
        double y = y_of(c, (double)h->ranges[i].first);

        set_rgb(c->cr, inks[INK_PAPER], 0.7);
        line(c->cr, LEFT, y, LEFT + PLOT_WIDTH, y);
    }
    cairo_save(c->cr);
    cairo_translate(c->cr, 34, TOP + c->panel / 2);
    cairo_rotate(c->cr, -G_PI / 2);
    write_at(c->cr, 0, 0, 0.5, INK_SOFT, "guest-physical address");
    cairo_restore(c->cr);
}

/* A step of 1, 2 or 5 times a power of ten, or of whole minutes, that gives about ten ticks. */
static double time_step(double span)
{
    static const double steps[] = { 0.1, 0.2, 0.5,  1,    2,    5,    10,   15,    30,   60,
                                    120, 300, 600,  1200, 1800, 3600, 7200, 14400, 28800, 86400 };
    gsize i = 0;

    while (i + 1 < G_N_ELEMENTS(steps) && span / steps[i] > 12) {
        i++;
    }
    return steps[i] * ceil(span / steps[i] / 1000);
}

static void time_axis(const struct canvas *c)
{
    double step = time_step(c->span_s), bottom = c->strip_top + STRIP;

    set_font(c->cr, 15, false);
    for (int i = 0; i * step <= c->span_s + 1e-9; i++) {
        double x = x_of(c, i * step);
        g_autofree char *label = step < 1 ? g_strdup_printf("%.1f", i * step)
                                          : g_strdup_printf("%.0f", i * step);

        set_rgb(c->cr, inks[INK_SOFT], 1);
        line(c->cr, x, bottom + 1, x, bottom + 7);
        line(c->cr, x, TOP + c->panel + 1, x, TOP + c->panel + 6);
        write_at(c->cr, x, bottom + 27, 0.5, INK, label);
    }
    write_at(c->cr, LEFT + PLOT_WIDTH / 2, bottom + 58, 0.5, INK_SOFT, "seconds");
}

static guint64 strip_top_bytes(const struct heatmap *h)
{
    guint64 most = MAX(h->quota_bytes, h->granule_bytes);

    for (unsigned column = 0; column < h->columns; column++) {
        most = MAX(most, heatmap_dram_bytes(h, column));
    }
    return most + most / 5;
}

static double strip_y(const struct canvas *c, guint64 bytes, guint64 top)
{
    return c->strip_top + STRIP * (1 - (double)bytes / (double)top);
}

static void strip_label(const struct canvas *c, guint64 bytes, guint64 top)
{
    g_autofree char *label = bytes ? fmt_size((gint64)bytes) : g_strdup("0");
    double y = strip_y(c, bytes, top);

    set_rgb(c->cr, inks[INK_SOFT], 1);
    line(c->cr, LEFT - 7, y, LEFT - 1, y);
    write_at(c->cr, LEFT - 13, y + 5, 1, INK, label);
}

static void strip_area(const struct canvas *c, guint64 top)
{
    const struct heatmap *h = c->h;

    cairo_move_to(c->cr, LEFT, c->strip_top + STRIP);
    for (unsigned column = 0; column < h->columns; column++) {
        double y = strip_y(c, heatmap_dram_bytes(h, column), top);

        cairo_line_to(c->cr, x_of(c, column * h->period_s), y);
        cairo_line_to(c->cr, x_of(c, (column + 1) * h->period_s), y);
    }
    cairo_line_to(c->cr, LEFT + PLOT_WIDTH, c->strip_top + STRIP);
    cairo_close_path(c->cr);
    set_rgb(c->cr, inks[INK_DRAM], 0.85);
    cairo_fill(c->cr);
}

static void strip_quota(const struct canvas *c, guint64 top)
{
    static const double dashes[] = { 8, 5 };
    double y = strip_y(c, c->h->quota_bytes, top);

    set_rgb(c->cr, inks[INK_QUOTA], 1);
    cairo_set_line_width(c->cr, 2);
    cairo_set_dash(c->cr, dashes, G_N_ELEMENTS(dashes), 0);
    line(c->cr, LEFT, y, LEFT + PLOT_WIDTH, y);
    cairo_set_dash(c->cr, NULL, 0, 0);
    cairo_set_line_width(c->cr, 1);
    set_font(c->cr, 14, true);
    write_at(c->cr, LEFT + PLOT_WIDTH - 8, y - 6, 1, INK_QUOTA, "quota");
}

/* The lower panel: bytes in DRAM, and the quota. */
static void draw_strip(const struct canvas *c)
{
    guint64 top = strip_top_bytes(c->h);

    set_rgb(c->cr, inks[INK_GRID], 0.45);
    cairo_rectangle(c->cr, LEFT, c->strip_top, PLOT_WIDTH, STRIP);
    cairo_fill(c->cr);
    strip_area(c, top);
    set_font(c->cr, 15, false);
    strip_label(c, 0, top);
    if (c->h->quota_bytes) {
        strip_label(c, c->h->quota_bytes, top);
        strip_quota(c, top);
    } else {
        strip_label(c, top, top);
    }
    set_font(c->cr, 16, true);
    write_at(c->cr, LEFT, c->strip_top - 12, 0, INK, "DRAM in use");
}

static double mark_x(const struct canvas *c, unsigned index)
{
    return x_of(c, c->h->marks[index].at_s);
}

/* A label stands to the right of its mark, near the right edge to the left. One that would run into
 * the neighbouring mark moves up to a second line, which that mark does not reach. */
static void mark_label(const struct canvas *c, unsigned index)
{
    const char *label = c->h->marks[index].label;
    double x = mark_x(c, index), width;
    bool leftward = x > LEFT + 0.85 * PLOT_WIDTH, crowded;
    cairo_text_extents_t extents;

    set_font(c->cr, 15, true);
    cairo_text_extents(c->cr, label, &extents);
    width = extents.x_advance + 14;
    crowded = leftward ? index > 0 && mark_x(c, index - 1) > x - width
                       : index + 1 < c->h->mark_count && mark_x(c, index + 1) < x + width;
    line(c->cr, x, TOP - (crowded ? 46 : 24), x, TOP);
    write_at(c->cr, leftward ? x - 7 : x + 7, TOP - (crowded ? 33 : 11), leftward, INK, label);
}

static void draw_mark(const struct canvas *c, unsigned index)
{
    double at_s = c->h->marks[index].at_s, x = x_of(c, at_s);

    if (at_s < 0 || at_s > c->span_s) {
        return;
    }
    set_rgb(c->cr, inks[INK_PAPER], 0.9);
    cairo_set_line_width(c->cr, 2);
    line(c->cr, x, TOP, x, TOP + c->panel);
    set_rgb(c->cr, inks[INK], 1);
    cairo_set_line_width(c->cr, 1);
    line(c->cr, x, c->strip_top, x, c->strip_top + STRIP);
    mark_label(c, index);
}

static void legend_bar(const struct canvas *c, double x, double y, double dram, const char *name)
{
    const double width = 200;

    for (int i = 0; i < (int)width; i++) {
        set_rgb(c->cr, heatmap_colour(i / (width - 1), dram), 1);
        cairo_rectangle(c->cr, x + i, y, 1, 18);
        cairo_fill(c->cr);
    }
    set_font(c->cr, 15, true);
    write_at(c->cr, x - 12, y + 14, 1, INK, name);
}

static void draw_legend(const struct canvas *c)
{
    double x = WIDTH - RIGHT - 200;

    legend_bar(c, x, 34, 1, "DRAM");
    legend_bar(c, x, 60, 0, c->h->cxl_emulated ? "CXL (emulated)" : "CXL");
    set_font(c->cr, 14, false);
    write_at(c->cr, x, 98, 0, INK_SOFT, "cold");
    write_at(c->cr, x + 100, 98, 0.5, INK_SOFT, "log scale");
    write_at(c->cr, x + 200, 98, 1, INK_SOFT, "hottest");
}

static char *subtitle(const struct heatmap *h, double span_s)
{
    g_autofree char *ram = fmt_size((gint64)(h->granules * h->granule_bytes));
    g_autofree char *granule = fmt_size((gint64)h->granule_bytes);
    g_autofree char *quota = fmt_size((gint64)h->quota_bytes), *span = fmt_duration(span_s);
    g_autoptr(GDateTime) start = g_date_time_new_from_unix_utc(h->start_unix);
    g_autofree char *time = start ? g_date_time_format(start, "%F %T UTC") : g_strdup("?");
    g_autofree char *dram = h->quota_bytes ? g_strdup_printf(" · DRAM quota %s", quota)
                                           : g_strdup("");

    return g_strdup_printf("%s of RAM in granules of %s%s · %s from %s", ram, granule, dram, span,
                           time);
}

static void draw_title(const struct canvas *c)
{
    g_autofree char *safe = fmt_safe(c->h->vm), *below = subtitle(c->h, c->span_s);
    g_autofree char *title = g_strdup_printf("%.60s: memory heat and placement", safe);

    set_font(c->cr, 30, true);
    write_at(c->cr, LEFT, 60, 0, INK, title);
    set_font(c->cr, 17, false);
    write_at(c->cr, LEFT, 93, 0, INK_SOFT, below);
}

static bool draw_all(const struct canvas *c, GError **error)
{
    set_rgb(c->cr, inks[INK_PAPER], 1);
    cairo_paint(c->cr);
    cairo_set_line_width(c->cr, 1);
    if (!draw_cells(c, error)) {
        return false;
    }
    draw_title(c);
    draw_legend(c);
    draw_strip(c);
    address_axis(c);
    time_axis(c);
    for (unsigned i = 0; i < c->h->mark_count; i++) {
        draw_mark(c, i);
    }
    return true;
}

/* So that a row is a whole number of pixels where rows are few. */
static double panel_height(unsigned rows)
{
    return rows > 1.5 * WANTED_HEIGHT ? WANTED_HEIGHT
                                      : rows * MAX(1, round(WANTED_HEIGHT / rows));
}

static bool save(cairo_surface_t *surface, const char *path, GError **error)
{
    cairo_status_t status = cairo_surface_write_to_png(surface, path);

    if (status != CAIRO_STATUS_SUCCESS) {
        g_set_error(error, CLI_ERROR, CLI_REFUSED, "cannot write %s: %s", path,
                    cairo_status_to_string(status));
    }
    return status == CAIRO_STATUS_SUCCESS;
}

bool heatmap_png_draw(const struct heatmap *h, const char *path, GError **error)
{
    struct canvas c = { .h = h, .panel = panel_height(h->rows), .span_s = h->columns * h->period_s };
    cairo_surface_t *surface;
    bool ok;

    c.strip_top = TOP + c.panel + GAP;
    surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)WIDTH,
                                         (int)(c.strip_top + STRIP + BOTTOM));
    c.cr = cairo_create(surface);
    ok = draw_all(&c, error) && save(surface, path, error);
    cairo_destroy(c.cr);
    cairo_surface_destroy(surface);
    return ok;
}
