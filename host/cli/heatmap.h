// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM's heat over time, and its pictures. Plain data: the command fills it from the daemon's JSON,
 * other programs may fill it themselves (heatmap_free() wants everything from g_malloc()).
 */
#ifndef VMTIER_CLI_HEATMAP_H
#define VMTIER_CLI_HEATMAP_H

#include <json-glib/json-glib.h>
#include <stdbool.h>

/* Granules [first, first + count) lie at guest-physical address gpa and up. */
struct heatmap_range {
    char *block;
    guint64 gpa, first, count;
};

/* A moment to be marked in the picture; marks are added in the order of time. */
struct heatmap_mark {
    double at_s;                    /* since the first column */
    char *label;
};

/*
 * Column c of the history is a moment, row r a run of row_granules granules (the last row may be
 * shorter); heat[c * rows + r] is 0..255 in log scale against the hottest of its column, and tier[...]
 * the share, of 255, of the row's granules that is in DRAM.
 */
struct heatmap {
    char *vm;
    guint64 granule_bytes, granules;
    guint64 quota_bytes;            /* 0: unknown */
    bool cxl_emulated;
    unsigned range_count;
    struct heatmap_range *ranges;
    double period_s;                /* from column to column */
    gint64 start_unix;              /* of the first column */
    unsigned rows, columns, row_granules;
    guint8 *heat, *tier;
    unsigned mark_count;
    struct heatmap_mark *marks;
};

/* From what query-vmtier-heatmap returns; rejects what does not fit together. */
struct heatmap *heatmap_from_json(JsonObject *reply, GError **error);
void heatmap_free(struct heatmap *heatmap);

void heatmap_add_mark(struct heatmap *heatmap, double at_s, const char *label);

/* Draws the history into a PNG file. */
bool heatmap_png_draw(const struct heatmap *heatmap, const char *path, GError **error);

/* Draws the history as text of at most width x height cells. */
struct heatmap_term {
    unsigned width, height;
    bool colour;                    /* else heat is drawn with shades */
};
void heatmap_term_draw(const struct heatmap *heatmap, const struct heatmap_term *term, GString *out);

/* The guest-physical address of a granule (of the end of memory: one behind the last). */
guint64 heatmap_gpa(const struct heatmap *heatmap, guint64 granule);

/* Bytes in DRAM at a column. */
guint64 heatmap_dram_bytes(const struct heatmap *heatmap, unsigned column);

/* Colour of heat 0..1 for a share of DRAM 0..1, as 0xRRGGBB: one ramp for each tier. */
guint32 heatmap_colour(double heat, double dram);

#endif
