// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of sizes as users write them. */
#include "host/size.h"

#include <string.h>

static const struct {
    const char *text;
    guint64 bytes;
} good[] = {
    { "0", 0 },                         { "4096", 4096 },
    { "1K", 1024 },                     { "1k", 1024 },
    { "256M", 256ull << 20 },           { "256MiB", 256ull << 20 },
    { "256MB", 256ull << 20 },          { "1.5G", 3ull << 29 },
    { "0.5K", 512 },                    { "2T", 2ull << 40 },
    { "100B", 100 },                    { "8388607T", 8388607ull << 40 },
};

static const char *const bad[] = {
    "", " ", "M", "-1", "+1", "-1M", " 1M", "1M ", "1 M", "1MM", "1iB", "1Mi B", "1P", "12x", "0x10",
    "0X10M", "1,5G", "1.5.5G", "nan", "inf", "infinity", "1e400", "8388608T", "9223372036854775808",
    "99999999999999999999", "one", "25%", "1M/s",
};

static void test_good(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GError) error = NULL;
        guint64 bytes = 1;

        g_assert_true(size_parse(good[i].text, &bytes, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(bytes, ==, good[i].bytes);
    }
}

/* The error repeats what was written; what the caller had stays. */
static void test_bad(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *quoted = g_strdup_printf("'%s' is no size", bad[i]);
        g_autoptr(GError) error = NULL;
        guint64 bytes = 77;

        if (size_parse(bad[i], &bytes, &error))
            g_error("'%s' was taken for %" G_GUINT64_FORMAT, bad[i], bytes);
        g_assert_nonnull(strstr(error->message, quoted));
        g_assert_cmpuint(bytes, ==, 77);
    }
}

static void test_format(void)
{
    g_autofree char *mib = size_format(256 << 20), *half = size_format(3ull << 29);
    g_autofree char *bytes = size_format(1);

    g_assert_cmpstr(mib, ==, "256.0\302\240MiB");
    g_assert_cmpstr(half, ==, "1.5\302\240GiB");
    g_assert_cmpstr(bytes, ==, "1 byte");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/size/good", test_good);
    g_test_add_func("/size/bad", test_bad);
    g_test_add_func("/size/format", test_format);
    return g_test_run();
}
