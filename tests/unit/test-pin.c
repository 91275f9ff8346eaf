// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of pins: the list, its text, and what each error names. */
#include "host/pin.h"

static const char *const names[] = { "dram", "cxl0", "cxl1", NULL };

static void bad(const char *text, const char *pattern)
{
    g_autoptr(GError) error = NULL;
    struct pins pins = { .n = 3 };

    g_assert_false(pins_parse(text, names, &pins, &error));
    if (!g_pattern_match_simple(pattern, error->message))
        g_error("'%s': '%s'", text, error->message);
    g_assert_cmpuint(pins.n, ==, 0);
}

static void test_text(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *one = NULL;
    struct pins pins;

    g_assert_true(pins_parse(" cxl1 0x40000000  64M;dram 4096 4K ; ", names, &pins, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(pins.n, ==, 2);
    g_assert_cmpuint(pins_bytes(&pins, 0), ==, 4096);
    g_assert_cmpuint(pins_bytes(&pins, 1), ==, 0);
    g_assert_cmpuint(pins_bytes(&pins, 2), ==, 64 << 20);
    one = pin_format(&pins.pin[0], names);
    g_assert_cmpstr(one, ==, "cxl1 0x40000000 64M");
    g_assert_true(pins_parse("", names, &pins, &error));
    g_assert_cmpuint(pins.n, ==, 0);
}

static void test_bad(void)
{
    bad("dram 0", "'dram 0': it is TIER GPA SIZE, like dram 0x40000000 64M");
    bad("dram 0 2M now", "'dram 0 2M now': it is TIER GPA SIZE*");
    bad("cxl 0 2M", "there is no tier 'cxl'; there are dram, cxl0, cxl1");
    bad("dram -4096 2M", "'-4096' is no guest-physical address*");
    bad("dram 0x 2M", "'0x' is no guest-physical address*");
    bad("dram 0xffffffffffffffff 2M", "'0xffffffffffffffff' is no guest-physical address*");
    bad("dram 0 2Q", "'2Q' is no size*");
    bad("dram 0 0", "a pin of 0 bytes at 0x0: *size is not 0");
    bad("dram 1 4096", "a pin of 4096 bytes at 0x1: *multiples of 4 KiB*");
    bad("dram 0x7ffffffffffff000 2M", "*no guest has memory there");
    bad("dram 0 2M; cxl0 1M 2M", "'1M' is no guest-physical address*");
    bad("dram 0 2M; cxl0 0x100000 2M", "the pin at 0x100000 overlaps the one at 0x0");
}

static void test_list(void)
{
    struct pins pins = { 0 }, other = { 0 };
    struct pin pin = { .size = 4096, .tier = 1 };

    for (guint i = 0; i < PINS_MOST; i++, pin.gpa += 8192)
        g_assert_true(pins_add(&pins, &pin, NULL));
    g_assert_false(pins_add(&pins, &pin, NULL));
    g_assert_false(pins_equal(&pins, &other));
    other = pins;
    g_assert_true(pins_equal(&pins, &other));
    g_assert_false(pins_remove(&pins, 4096, NULL));
    g_assert_true(pins_remove(&pins, 8192, NULL));
    g_assert_false(pins_remove(&pins, 8192, NULL));
    g_assert_cmpuint(pins.n, ==, PINS_MOST - 1);
    g_assert_cmpuint(pins.pin[1].gpa, ==, 2 * 8192);
    g_assert_false(pins_equal(&pins, &other));
    g_assert_true(pins_add(&pins, &pin, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pin/text", test_text);
    g_test_add_func("/pin/bad", test_bad);
    g_test_add_func("/pin/list", test_list);
    return g_test_run();
}
