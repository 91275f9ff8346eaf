// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM's heat over time as text.
 *
 * With colour, a character holds two rows (the upper half block has a foreground and a background);
 * without, heat is a shade and the share of DRAM at the last moment stands to the right.
 */
#include "host/cli/format.h"
#include "host/cli/heatmap.h"

#include <assert.h>
#include <math.h>

#define LABEL 10                /* cells for the address */
#define MARGIN 12               /* cells to the right, for the share in DRAM */
#define LINES_AROUND 4          /* title, time axis, legend, prompt */

/* The hottest cell and the mean share of DRAM in a block of cells. */
struct block {
    double heat, dram;
};

/* A picture of columns x lines blocks laid over the history. */
struct grid {
    const struct heatmap *h;
    unsigned columns, lines;
};

static struct block block_at(const struct grid *g, unsigned column, unsigned line)
{
    const struct heatmap *h = g->h;
    gsize c0 = (gsize)column * h->columns / g->columns, r0 = (gsize)line * h->rows / g->lines;
    gsize c1 = MAX((gsize)(column + 1) * h->columns / g->columns, c0 + 1);
    gsize r1 = MAX((gsize)(line + 1) * h->rows / g->lines, r0 + 1);
    struct block block = { 0 };

    for (gsize c = c0; c < c1; c++) {
        for (gsize r = r0; r < r1; r++) {
            block.heat = MAX(block.heat, h->heat[c * h->rows + r] / 255.0);
            block.dram += h->tier[c * h->rows + r] / 255.0;
        }
    }
    block.dram /= (double)((c1 - c0) * (r1 - r0));
    return block;
}

static void set_colour(GString *out, int layer, struct block block)
{
    guint32 rgb = heatmap_colour(block.heat, block.dram);

    g_string_append_printf(out, "\033[%d;2;%u;%u;%um", layer, rgb >> 16, rgb >> 8 & 255, rgb & 255);
}

static void coloured_line(const struct grid *g, unsigned line, GString *out)
{
    for (unsigned column = 0; column < g->columns; column++) {
        set_colour(out, 38, block_at(g, column, line + 1));
        set_colour(out, 48, block_at(g, column, line));
        g_string_append(out, "▀");
    }
    g_string_append(out, "\033[0m");
}

static void shaded_line(const struct grid *g, unsigned line, GString *out)
{
    static const char *const blocks[] = { " ", "░", "▒", "▓", "█" };
    static const char *const letters[] = { " ", ".", "+", "x", "#" };
    static_assert(G_N_ELEMENTS(blocks) == 5 && G_N_ELEMENTS(letters) == 5, "five shades");
    const char *const *shades = g_get_charset(NULL) ? blocks : letters;

    for (unsigned column = 0; column < g->columns; column++) {
        double heat = block_at(g, column, line).heat;

        g_string_append(out, shades[MIN((int)(heat * 5), 4)]);
    }
    g_string_append_printf(out, " DRAM %3.0f%%", 100 * block_at(g, g->columns - 1, line).dram);
}

static void label_line(const struct grid *g, unsigned line, GString *out)
{
    guint64 granule = (guint64)line * g->h->rows / g->lines * g->h->row_granules;
    g_autofree char *label = fmt_size((gint64)heatmap_gpa(g->h, granule));

    g_string_append_printf(out, "%*s ", LABEL - 1, label);
}

static void title(const struct heatmap *h, GString *out)
{
    g_autofree char *vm = fmt_safe(h->vm), *quota = fmt_size((gint64)h->quota_bytes);
    g_autofree char *used = fmt_size((gint64)heatmap_dram_bytes(h, h->columns - 1));

    g_string_append_printf(out, "%s: heat by guest-physical address; %s in DRAM", vm, used);
    g_string_append_printf(out, h->quota_bytes ? ", quota %s\n" : "\n", quota);
}

static void time_axis(const struct grid *g, GString *out)
{
    g_autofree char *ago = fmt_duration(g->h->columns * g->h->period_s);
    glong length = g_utf8_strlen(ago, -1) + 4;

    g_string_append_printf(out, "%*s-%s%*snow\n", LABEL, "", ago,
                           (int)MAX(1, (glong)g->columns - length), "");
}

static void legend_ramp(double dram, GString *out)
{
    for (int i = 0; i < 16; i++) {
        set_colour(out, 48, (struct block) { i / 15.0, dram });
        g_string_append_c(out, ' ');
    }
    g_string_append(out, "\033[0m");
}

static void legend(const struct heatmap *h, bool colour, GString *out)
{
    const char *cxl = h->cxl_emulated ? "cxl (emulated)" : "cxl";

    g_string_append_printf(out, "%*s", LABEL, "");
    if (!colour) {
        g_string_append_printf(out, "darker is hotter; what is not in DRAM is on %s\n", cxl);
        return;
    }
    g_string_append(out, "dram ");
    legend_ramp(1, out);
    g_string_append_printf(out, "  %s ", cxl);
    legend_ramp(0, out);
    g_string_append(out, "  cold to hot\n");
}

void heatmap_term_draw(const struct heatmap *h, const struct heatmap_term *term, GString *out)
{
    int wide = (int)term->width - LABEL - (term->colour ? 1 : MARGIN);
    int high = (int)term->height - LINES_AROUND;
    unsigned half = term->colour ? 2 : 1;
    struct grid g = { .h = h };

    g.columns = MIN(h->columns, (unsigned)MAX(wide, 8));
    g.lines = MAX(MIN(h->rows, (unsigned)MAX(high, 4) * half) / half, 1) * half;
    title(h, out);
    for (unsigned line = g.lines; line > 0; line -= half) {
        label_line(&g, line - half, out);
        (term->colour ? coloured_line : shaded_line)(&g, line - half, out);
        g_string_append_c(out, '\n');
    }
    time_axis(&g, out);
    legend(h, term->colour, out);
}
