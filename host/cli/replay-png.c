// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A replay as a PNG: on one time axis, the share of accesses that DRAM serves, with the oracle's, and
 * below it how much is moved. What does not count, at the beginning, is shaded.
 */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/replay.h"

#include <cairo.h>
#include <math.h>

#define WIDTH   1600.0
#define HEIGHT  760.0
#define LEFT    110.0
#define RIGHT   40.0
#define TOP     120.0
#define UPPER   380.0           /* heights of the two panels */
#define GAP     50.0
#define LOWER   120.0

static const guint32 ink = 0x1f2430, soft = 0x667085, grid = 0xe4e7ec, hits = 0xd9691e,
                     oracle = 0x1d6fb8, moves = 0x667085;

struct canvas {
    cairo_t *cr;
    const struct replay_result *r;
    double seconds;
    double most;                /* bytes per second */
};

static void set_rgb(cairo_t *cr, guint32 rgb, double alpha)
{
    cairo_set_source_rgba(cr, (rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0, alpha);
}

static void write_at(const struct canvas *c, double x, double y, double size, guint32 rgb,
                     const char *text)
{
    cairo_set_font_size(c->cr, size);
    set_rgb(c->cr, rgb, 1);
    cairo_move_to(c->cr, x, y);
    cairo_show_text(c->cr, text);
}

static double x_of(const struct canvas *c, double at_s)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * at_s / c->seconds;
}

static const struct replay_point *point(const struct canvas *c, guint i)
{
    return &g_array_index(c->r->points, struct replay_point, i);
}

static void draw_grid(const struct canvas *c)
{
    for (int i = 0; i <= 4; i++) {
        const double y = TOP + UPPER * i / 4;
        g_autofree char *text = g_strdup_printf("%d %%", 100 - 25 * i);

        set_rgb(c->cr, grid, 1);
        cairo_rectangle(c->cr, LEFT, y, WIDTH - LEFT - RIGHT, 1);
        cairo_fill(c->cr);
        write_at(c, 40, y + 6, 17, soft, text);
    }
    for (int i = 0; i <= 8; i++) {
        g_autofree char *text = fmt_duration(round(c->seconds * i / 8));

        write_at(c, x_of(c, c->seconds * i / 8) - 20, HEIGHT - 40, 17, soft, text);
    }
    set_rgb(c->cr, grid, 0.5);
    cairo_rectangle(c->cr, LEFT, TOP, x_of(c, MIN(c->r->skip_s, c->seconds)) - LEFT, UPPER);
    cairo_fill(c->cr);
}

/* A step for each window that has accesses. */
static void draw_line(const struct canvas *c, guint32 rgb, bool is_oracle)
{
    bool begun = false;

    for (guint i = 0; i < c->r->points->len; i++) {
        const struct replay_point *p = point(c, i);
        const double part = is_oracle ? p->oracle : p->hits;
        const double y = p->accesses > 0 ? TOP + UPPER * (1 - part / p->accesses) : 0;

        if (!(p->accesses > 0)) {
            begun = false;
            continue;
        }
        (begun ? cairo_line_to : cairo_move_to)(c->cr, x_of(c, p->at_s), y);
        cairo_line_to(c->cr, x_of(c, p->at_s + p->seconds), y);
        begun = true;
    }
    set_rgb(c->cr, rgb, 1);
    cairo_set_line_width(c->cr, 3);
    cairo_stroke(c->cr);
}

static double speed(const struct replay_point *p)
{
    return p->seconds > 0 ? (double)p->moved / p->seconds : 0;
}

static void draw_moves(const struct canvas *c)
{
    const double bottom = TOP + UPPER + GAP + LOWER;
    g_autofree char *most = g_strdup_printf("%.1f MB/s", c->most / 1e6);

    set_rgb(c->cr, moves, 1);
    for (guint i = 0; i < c->r->points->len && c->most > 0; i++) {
        const struct replay_point *p = point(c, i);
        const double h = LOWER * speed(p) / c->most;

        cairo_rectangle(c->cr, x_of(c, p->at_s), bottom - h, x_of(c, p->at_s + p->seconds) -
                        x_of(c, p->at_s), h);
    }
    cairo_fill(c->cr);
    write_at(c, 10, TOP + UPPER + GAP + 6, 17, soft, most);
    write_at(c, LEFT, TOP + UPPER + GAP - 8, 17, soft, "moved");
}

static void draw_title(const struct canvas *c, const char *policy)
{
    const struct replay_result *r = c->r;
    g_autofree char *vm = fmt_safe(r->header.vm);
    g_autofree char *dram = fmt_size((gint64)(r->dram_granules * r->header.granule));
    g_autofree char *ram = fmt_size((gint64)(r->granules * r->header.granule));
    g_autofree char *title = g_strdup_printf("%.60s: %s of %s in DRAM, placed by %s", vm, dram, ram,
                                             policy);

    write_at(c, LEFT, 50, 30, ink, title);
    write_at(c, LEFT, 90, 19, hits, "accesses that DRAM serves");
    write_at(c, LEFT + 300, 90, 19, oracle, "the best in each window, known beforehand");
}

bool replay_png_draw(const struct replay_result *r, const char *policy, const char *path, GError **error)
{
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)WIDTH, (int)HEIGHT);
    struct canvas c = { .cr = cairo_create(surface), .r = r, .seconds = 1e-3 };
    cairo_status_t status;

    for (guint i = 0; i < r->points->len; i++) {
        c.seconds = MAX(c.seconds, point(&c, i)->at_s + point(&c, i)->seconds);
        c.most = MAX(c.most, speed(point(&c, i)));
    }
    cairo_select_font_face(c.cr, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_source_rgb(c.cr, 1, 1, 1);
    cairo_paint(c.cr);
    draw_grid(&c);
    draw_line(&c, oracle, true);
    draw_line(&c, hits, false);
    draw_moves(&c);
    draw_title(&c, policy);
    cairo_destroy(c.cr);
    status = cairo_surface_write_to_png(surface, path);
    cairo_surface_destroy(surface);
    if (status != CAIRO_STATUS_SUCCESS) {
        g_set_error(error, CLI_ERROR, CLI_REFUSED, "cannot write %s: %s", path,
                    cairo_status_to_string(status));
    }
    return status == CAIRO_STATUS_SUCCESS;
}
