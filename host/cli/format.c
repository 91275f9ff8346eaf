// SPDX-License-Identifier: GPL-2.0-or-later
/* Text for people: see format.h. */
#include "host/cli/format.h"

#include "host/cli/cli.h"

#include <math.h>
#include <string.h>

static const char units[] = "KMGTPE";

char *fmt_number(double value)
{
    double size = fabs(value);

    if (size > 0 && size < 10) {
        g_autofree char *text = g_strdup_printf("%.2f", value);

        return g_str_has_suffix(text, ".00") ? g_strdup_printf("%.0f", value)
                                             : g_steal_pointer(&text);
    }
    return g_strdup_printf(size < 100 && floor(size) != size ? "%.1f" : "%.0f", value);
}

char *fmt_size(gint64 bytes)
{
    g_autofree char *number = NULL;
    double value = (double)bytes;
    int unit = -1;

    while (fabs(value) >= 1024 && unit + 1 < (int)strlen(units)) {
        value /= 1024;
        unit++;
    }
    number = fmt_number(value);
    return unit < 0 ? g_strdup_printf("%s B", number)
                    : g_strdup_printf("%s %ciB", number, units[unit]);
}

char *fmt_duration(double seconds)
{
    static const struct {
        gint64 size;
        const char *name;
    } steps[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } };
    gint64 left = (gint64)CLAMP(seconds, 0, 1e15);
    gsize i = 0;

    while (i + 1 < G_N_ELEMENTS(steps) && left < steps[i].size) {
        i++;
    }
    if (i + 1 == G_N_ELEMENTS(steps) || left % steps[i].size < steps[i + 1].size) {
        return g_strdup_printf("%" G_GINT64_FORMAT " %s", left / steps[i].size, steps[i].name);
    }
    return g_strdup_printf("%" G_GINT64_FORMAT " %s %" G_GINT64_FORMAT " %s", left / steps[i].size,
                           steps[i].name, left % steps[i].size / steps[i + 1].size,
                           steps[i + 1].name);
}

char *fmt_bar(double share, unsigned width)
{
    static const char *const eighths[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
    bool utf8 = g_get_charset(NULL);
    unsigned filled = (unsigned)lround(CLAMP(isfinite(share) ? share : 0, 0, 1) * width * 8);
    GString *bar = g_string_new(NULL);

    for (unsigned i = 0; i < filled / 8; i++) {
        g_string_append(bar, utf8 ? "█" : "#");
    }
    if (filled % 8) {
        g_string_append(bar, utf8 ? eighths[filled % 8] : filled % 8 >= 4 ? "#" : ".");
    }
    for (unsigned i = (filled + 7) / 8; i < width; i++) {
        g_string_append(bar, utf8 ? "░" : ".");
    }
    return g_string_free(bar, FALSE);
}

char *fmt_safe(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text ? text : "-", -1);
    GString *safe = g_string_new(NULL);

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        g_string_append_unichar(safe, g_unichar_isprint(c) ? c : '?');
    }
    return g_string_free(safe, FALSE);
}

/* How far a unit's letter shifts; -1 when it is none. Nothing means bytes. */
static int unit_shift(const char *unit)
{
    const char *letter = strchr(units, g_ascii_toupper(*unit));

    if (!*unit || !g_ascii_strcasecmp(unit, "b")) {
        return 0;
    }
    if (!letter || (unit[1] && g_ascii_strcasecmp(unit + 1, "ib") && strcmp(unit + 1, "B"))) {
        return -1;
    }
    return (int)(letter - units + 1) * 10;
}

static bool not_a_size(GError **error, const char *text)
{
    g_set_error(error, CLI_ERROR, CLI_USAGE,
                "\"%s\" is not a size; give bytes or a number with K, M, G or T, as in 256M", text);
    return false;
}

bool fmt_parse_size(const char *text, gint64 *bytes, GError **error)
{
    char *unit;
    double value;
    int shift;

    if (!g_ascii_isdigit(*text) || g_ascii_toupper(text[1]) == 'X') {
        return not_a_size(error, text);
    }
    value = g_ascii_strtod(text, &unit);
    shift = unit_shift(unit);
    if (shift < 0) {
        return not_a_size(error, text);
    }
    value = ldexp(value, shift);
    if (value >= 0x1p63) {
        g_set_error(error, CLI_ERROR, CLI_USAGE, "\"%s\" is more than any machine has", text);
        return false;
    }
    *bytes = (gint64)value;
    return true;
}

bool fmt_parse_quota(const char *text, gint64 ram, gint64 granule, gint64 *bytes, GError **error)
{
    char *end = NULL;
    double percent;

    if (!g_str_has_suffix(text, "%")) {
        return fmt_parse_size(text, bytes, error);
    }
    percent = g_ascii_isdigit(*text) ? g_ascii_strtod(text, &end) : -1;
    if (!(percent >= 0 && percent <= 100) || g_strcmp0(end, "%") != 0) {
        g_set_error(error, CLI_ERROR, CLI_USAGE, "\"%s\" is not a share of 0%% to 100%%", text);
        return false;
    }
    *bytes = (gint64)((double)ram * percent / 100);
    *bytes -= granule > 0 ? *bytes % granule : 0;
    return true;
}

void fmt_table_init(struct fmt_table *table, unsigned columns)
{
    table->columns = columns;
    table->cells = g_ptr_array_new_with_free_func(g_free);
}

void fmt_table_add(struct fmt_table *table, char *cell)
{
    g_ptr_array_add(table->cells, cell);
}

void fmt_table_pair(struct fmt_table *table, const char *key, char *value)
{
    fmt_table_add(table, g_strdup(key));
    fmt_table_add(table, value);
}

static glong column_width(const struct fmt_table *table, unsigned column)
{
    glong width = 0;

    for (guint i = column; i < table->cells->len; i += table->columns) {
        width = MAX(width, g_utf8_strlen(table->cells->pdata[i], -1));
    }
    return width;
}

static void print_cell(const struct fmt_table *table, guint i, GString *out)
{
    const char *cell = table->cells->pdata[i];
    unsigned column = i % table->columns;
    glong pad = column_width(table, column) - g_utf8_strlen(cell, -1) + 2;

    g_string_append(out, cell);
    if (column + 1 < table->columns) {
        g_string_append_printf(out, "%*s", (int)pad, "");
    }
}

/* Spaces at the end of a row, left by empty cells, are of no use. */
static void end_row(GString *out)
{
    while (out->len && out->str[out->len - 1] == ' ') {
        g_string_truncate(out, out->len - 1);
    }
    g_string_append_c(out, '\n');
}

void fmt_table_print(struct fmt_table *table, unsigned indent, GString *out)
{
    for (guint i = 0; i < table->cells->len; i++) {
        if (i % table->columns == 0) {
            g_string_append_printf(out, "%*s", (int)indent, "");
        }
        print_cell(table, i, out);
        if ((i + 1) % table->columns == 0) {
            end_row(out);
        }
    }
    g_clear_pointer(&table->cells, g_ptr_array_unref);
}
