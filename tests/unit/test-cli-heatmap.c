// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of the heat map: from JSON to a PNG and to text. */
#include "host/cli/cli.h"
#include "host/cli/heatmap.h"

#include <cairo.h>
#include <glib/gstdio.h>
#include <string.h>

#define ROWS 8
#define COLUMNS 6

/* A reply of the daemon in which one member may be replaced (by a JSON text). */
static JsonNode *reply(const char *where, const char *name, const char *value)
{
    guint8 heat[ROWS * COLUMNS], tier[ROWS * COLUMNS];
    g_autofree char *heat64 = NULL, *tier64 = NULL, *text = NULL;
    JsonNode *node;
    JsonObject *object;

    for (int i = 0; i < ROWS * COLUMNS; i++) {
        heat[i] = (guint8)(i * 5);
        tier[i] = i % ROWS < 2 ? 255 : 0;
    }
    heat64 = g_base64_encode(heat, sizeof(heat));
    tier64 = g_base64_encode(tier, sizeof(tier));
    text = g_strdup_printf(
        "{\"vm\":\"a\",\"granule_bytes\":2097152,\"ranges\":["
        "{\"block\":\"ram0\",\"gpa\":0,\"first\":0,\"count\":10},"
        "{\"block\":\"ram0\",\"gpa\":4294967296,\"first\":10,\"count\":5}],"
        "\"history\":{\"period_s\":0.5,\"rows\":8,\"row_granules\":2,\"columns\":6,"
        "\"heat\":\"%s\",\"tier\":\"%s\",\"start_unix\":1700000000}}", heat64, tier64);
    node = json_from_string(text, NULL);
    object = json_node_get_object(node);
    if (name) {
        object = *where ? json_object_get_object_member(object, where) : object;
        json_object_set_member(object, name, json_from_string(value, NULL));
    }
    return node;
}

static struct heatmap *good(void)
{
    g_autoptr(JsonNode) node = reply("", NULL, NULL);
    g_autoptr(GError) error = NULL;
    struct heatmap *h = heatmap_from_json(json_node_get_object(node), &error);

    g_assert_no_error(error);
    return h;
}

static void test_from_json(void)
{
    struct heatmap *h = good();

    g_assert_cmpstr(h->vm, ==, "a");
    g_assert_cmpuint(h->granules, ==, 15);
    g_assert_cmpuint(h->rows, ==, ROWS);
    g_assert_cmpuint(heatmap_gpa(h, 3), ==, 3 * 2097152);
    g_assert_cmpuint(heatmap_gpa(h, 11), ==, 4294967296 + 2097152);
    g_assert_cmpuint(heatmap_dram_bytes(h, 0), ==, 4 * 2097152);
    heatmap_free(h);
}

static const struct {
    const char *where, *name, *value, *why;
} bad[] = {
    { "", "granule_bytes", "0", "granule_bytes" },
    { "", "granule_bytes", "3000", "granule_bytes" },
    { "", "vm", "7", "vm" },
    { "", "ranges", "[]", "no ranges" },
    { "", "ranges", "7", "no ranges" },
    { "", "ranges", "[{\"gpa\":0,\"first\":1,\"count\":15}]", "ranges" },
    { "", "ranges", "[{\"gpa\":0,\"first\":0,\"count\":-1}]", "ranges" },
    { "", "ranges", "[{\"gpa\":0,\"first\":0,\"count\":9223372036854775807}]", "ranges" },
    { "", "history", "7", "rows" },
    { "history", "rows", "7", "do not make up" },
    { "history", "rows", "-8", "rows" },
    { "history", "rows", "4294967304", "rows" },
    { "history", "columns", "5", "heat" },
    { "history", "columns", "0", "no history yet" },
    { "history", "row_granules", "0", "row_granules" },
    { "history", "period_s", "0", "period_s" },
    { "history", "period_s", "-1.5", "period_s" },
    { "history", "heat", "\"AAAA\"", "heat" },
    { "history", "heat", "null", "heat" },
    { "history", "tier", "\"\"", "tier" },
};

static void test_malformed(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(JsonNode) node = reply(bad[i].where, bad[i].name, bad[i].value);
        g_autoptr(GError) error = NULL;

        g_test_message("%s = %s", bad[i].name, bad[i].value);
        g_assert_null(heatmap_from_json(json_node_get_object(node), &error));
        g_assert_error(error, CLI_ERROR, CLI_REFUSED);
        g_assert_nonnull(strstr(error->message, bad[i].why));
    }
    g_assert_null(heatmap_from_json(NULL, NULL));
}

/* How many pixels of the picture differ from the one to their left. */
static int count_edges(cairo_surface_t *picture)
{
    int width = cairo_image_surface_get_width(picture), edges = 0;

    for (int y = 0; y < cairo_image_surface_get_height(picture); y++) {
        const guint32 *row = (const guint32 *)(cairo_image_surface_get_data(picture) +
                                               (gsize)y * cairo_image_surface_get_stride(picture));

        for (int x = 1; x < width; x++) {
            edges += row[x] != row[x - 1];
        }
    }
    return edges;
}

static void check_picture(const char *path)
{
    g_autofree char *bytes = NULL;
    gsize length;
    cairo_surface_t *picture;

    g_assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    g_assert_cmpuint(length, >, 1000);
    g_assert_cmpmem(bytes, 8, "\x89PNG\r\n\x1a\n", 8);
    picture = cairo_image_surface_create_from_png(path);
    g_assert_cmpint(cairo_surface_status(picture), ==, CAIRO_STATUS_SUCCESS);
    g_assert_cmpint(cairo_image_surface_get_width(picture), ==, 1600);
    g_assert_cmpint(cairo_image_surface_get_height(picture), >, 600);
    g_assert_cmpint(count_edges(picture), >, 1000);
    cairo_surface_destroy(picture);
}

static void test_png(void)
{
    g_autofree char *dir = g_dir_make_tmp("vmtier-heatmap-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "h.png", NULL);
    g_autoptr(GError) error = NULL;
    struct heatmap *h = good();

    h->quota_bytes = 8 << 20;
    heatmap_add_mark(h, 1, "first");
    heatmap_add_mark(h, 1.1, "second");
    heatmap_add_mark(h, 99, "outside");
    g_assert_true(heatmap_png_draw(h, path, &error));
    g_assert_no_error(error);
    check_picture(path);
    g_unlink(path);
    g_rmdir(dir);
    heatmap_free(h);
}

static void test_png_unwritable(void)
{
    g_autoptr(GError) error = NULL;
    struct heatmap *h = good();

    g_assert_false(heatmap_png_draw(h, "/nonexistent/h.png", &error));
    g_assert_error(error, CLI_ERROR, CLI_REFUSED);
    g_assert_nonnull(strstr(error->message, "/nonexistent/h.png"));
    heatmap_free(h);
}

static void test_term(void)
{
    struct heatmap *h = good();

    for (unsigned width = 1; width < 200; width += 13) {
        for (unsigned high = 1; high < 60; high += 7) {
            for (int colour = 0; colour < 2; colour++) {
                struct heatmap_term term = { width, high, colour };
                g_autoptr(GString) out = g_string_new(NULL);

                heatmap_term_draw(h, &term, out);
                g_assert_nonnull(strstr(out->str, "4 GiB"));
            }
        }
    }
    heatmap_free(h);
}

static int luma(guint32 rgb)
{
    return (int)(2126 * (rgb >> 16) + 7152 * (rgb >> 8 & 255) + 722 * (rgb & 255));
}

/* Hotter is lighter, in either tier. */
static void test_ramps(void)
{
    for (int dram = 0; dram < 2; dram++) {
        for (int i = 1; i < 64; i++) {
            g_assert_cmpint(luma(heatmap_colour(i / 63.0, dram)), >=,
                            luma(heatmap_colour((i - 1) / 63.0, dram)));
        }
    }
}

#ifdef __SANITIZE_ADDRESS__
/* fontconfig keeps its patterns until the process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}
#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli-heatmap/from-json", test_from_json);
    g_test_add_func("/cli-heatmap/malformed", test_malformed);
    g_test_add_func("/cli-heatmap/png", test_png);
    g_test_add_func("/cli-heatmap/png-unwritable", test_png_unwritable);
    g_test_add_func("/cli-heatmap/term", test_term);
    g_test_add_func("/cli-heatmap/ramps", test_ramps);
    return g_test_run();
}
