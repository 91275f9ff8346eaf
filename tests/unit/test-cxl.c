// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of CXL's address decoders, with a sysfs made for it. The right answers come from dealing out a
 * region's pieces to its targets one after the other, as the hardware does, and not from the formula.
 */
#include "host/cxl.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define BASE 0x2000000000ull
#define DPA  0x10000000ull

static char *root;

static void put(const char *device, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void put(const char *device, const char *key, const char *format, ...)
{
    g_autofree char *dir = g_build_filename(root, device, NULL);
    g_autofree char *path = g_build_filename(dir, key, NULL);
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    g_remove(path);
}

static void put_endpoint(guint port, guint device)
{
    g_autofree char *dir = g_strdup_printf("%s/endpoint%u", root, port);
    g_autofree char *link = g_build_filename(dir, "uport", NULL);
    g_autofree char *target = g_strdup_printf("../../pci0000:0c/0000:0%u:00.0/mem%u", device, device);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_cmpint(symlink(target, link), ==, 0);
}

static void put_decoder(guint port, guint64 dpa, guint64 size, const char *region)
{
    g_autofree char *name = g_strdup_printf("decoder%u.0", port);

    put(name, "start", "0x%" G_GINT64_MODIFIER "x\n", (guint64)BASE);
    put(name, "interleave_ways", "1\n");
    put(name, "interleave_granularity", "4096\n");
    put(name, "dpa_resource", "0x%" G_GINT64_MODIFIER "x\n", dpa);
    put(name, "dpa_size", "0x%" G_GINT64_MODIFIER "x\n", size);
    put(name, "region", "%s\n", region);
}

/* A region over `ways` devices, whose order is not that of their numbers. */
static void put_region(guint ways, guint64 granularity, guint64 share)
{
    put("region0", "resource", "0x%" G_GINT64_MODIFIER "x\n", (guint64)BASE);
    put("region0", "interleave_ways", "%u\n", ways);
    put("region0", "interleave_granularity", "%" G_GUINT64_FORMAT "\n", granularity);
    for (guint i = 0; i < ways; i++) {
        g_autofree char *target = g_strdup_printf("target%u", i);
        guint port = 10 + (ways - 1 - i);

        put("region0", target, "decoder%u.0\n", port);
        put_endpoint(port, ways - 1 - i);
        put_decoder(port, DPA, share, "region0");
    }
    put("decoder0.0", "start", "0x0\n");    /* a root decoder has no dpa_size */
}

static void setup(void)
{
    root = g_dir_make_tmp("vmtier-cxl-XXXXXX", NULL);
    g_assert_nonnull(root);
}

static void teardown(void)
{
    remove_tree(root);
    g_clear_pointer(&root, g_free);
}

static void check(const GArray *shares, guint device, guint64 dpa, guint64 wanted, guint64 wanted_left)
{
    g_autofree char *name = g_strdup_printf("mem%u", device);
    g_autoptr(GError) error = NULL;
    guint64 hpa = 0, left = 0;

    cxl_hpa(shares, name, dpa, &hpa, &left, &error);
    g_assert_no_error(error);
    g_assert_cmphex(hpa, ==, wanted);
    g_assert_cmpuint(left, ==, wanted_left);
}

static void test_interleave(gconstpointer data)
{
    const guint ways = GPOINTER_TO_UINT(data) >> 16;
    const guint64 g = GPOINTER_TO_UINT(data) & 0xffff, pieces = 12;
    g_autoptr(GArray) shares = NULL;
    guint64 dealt[16] = { 0 };

    setup();
    put_region(ways, g, pieces * g);
    shares = cxl_shares(root, NULL);
    g_assert_cmpuint(shares->len, ==, ways);
    for (guint64 i = 0; i < pieces * ways; i++) {
        guint device = ways - 1 - (guint)(i % ways);
        guint64 dpa = DPA + dealt[device], left = ways == 1 ? pieces * g - dealt[device] : g;

        check(shares, device, dpa, BASE + i * g, left);
        check(shares, device, dpa + 100, BASE + i * g + 100, left - 100);
        dealt[device] += g;
    }
    teardown();
}

static void test_alone(void)
{
    g_autoptr(GArray) shares = NULL;

    setup();
    put_endpoint(3, 7);
    put_decoder(3, DPA, 1 << 20, "");
    shares = cxl_shares(root, NULL);
    check(shares, 7, DPA + 12345, BASE + 12345, (1 << 20) - 12345);
    teardown();
}

static void refused(const GArray *shares, const char *device, guint64 dpa, const char *why)
{
    g_autoptr(GError) error = NULL;
    guint64 hpa, left;

    g_assert_false(cxl_hpa(shares, device, dpa, &hpa, &left, &error));
    if (!strstr(error->message, why))
        g_error("'%s' does not say '%s'", error->message, why);
}

static void test_none(void)
{
    g_autoptr(GArray) shares = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_null(cxl_shares("/nonexistent", &error));
    g_assert_nonnull(strstr(error->message, "no CXL devices"));
    setup();
    put_region(2, 4096, 1 << 20);
    shares = cxl_shares(root, NULL);
    refused(shares, "mem5", DPA, "no CXL device 'mem5'");
    refused(shares, "mem0", DPA - 1, "no decoder maps address 0xfffffff of mem0");
    refused(shares, "mem0", DPA + (1 << 20), "no decoder maps");
    refused(shares, "mem0", G_MAXUINT64, "no decoder maps");
    teardown();
}

/* Decoders that make no sense are as if they were not there. */
static void test_nonsense(void)
{
    static const struct {
        const char *device, *key, *value;
    } bad[] = {
        { "region0", "interleave_ways", "0" },        { "region0", "interleave_ways", "17" },
        { "region0", "interleave_ways", "4294967297" }, { "region0", "interleave_ways", "x" },
        { "region0", "interleave_granularity", "0" }, { "region0", "interleave_granularity", "3000" },
        { "region0", "interleave_granularity", "2097152" }, { "region0", "resource", "-1" },
        { "region0", "resource", "0xffffffffffffffff" }, { "region0", "resource", "" },
        { "region0", "target0", "decoder11.1" },      { "decoder10.0", "dpa_size", "0" },
        { "decoder10.0", "dpa_size", "0xffffffffffffffff" },
        { "decoder10.0", "dpa_resource", "99999999999999999999" },
        { "decoder10.0", "region", "../region0" },    { "decoder10.0", "region", "region1" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GArray) shares = NULL;

        setup();
        put_region(1, 4096, 1 << 20);
        put(bad[i].device, bad[i].key, "%s\n", bad[i].value);
        shares = cxl_shares(root, NULL);
        if (shares->len)
            g_error("%s/%s = %s was taken", bad[i].device, bad[i].key, bad[i].value);
        teardown();
    }
}

int main(int argc, char **argv)
{
    static const guint ways[] = { 1, 2, 3, 4, 6, 8, 12, 16 };
    static const guint granularities[] = { 256, 4096, 16384 };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++)
        for (gsize k = 0; k < G_N_ELEMENTS(granularities); k++) {
            g_autofree char *path = g_strdup_printf("/cxl/interleave/%u/%u", ways[i], granularities[k]);

            g_test_add_data_func(path, GUINT_TO_POINTER(ways[i] << 16 | granularities[k]), test_interleave);
        }
    g_test_add_func("/cxl/alone", test_alone);
    g_test_add_func("/cxl/none", test_none);
    g_test_add_func("/cxl/nonsense", test_nonsense);
    return g_test_run();
}
