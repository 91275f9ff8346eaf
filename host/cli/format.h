// SPDX-License-Identifier: GPL-2.0-or-later
/* Text for people: sizes, times, bars, tables; and sizes that people type. */
#ifndef VMTIER_CLI_FORMAT_H
#define VMTIER_CLI_FORMAT_H

#include <glib.h>
#include <stdbool.h>

/* "256 MiB", "1.5 GiB", "0 B". */
char *fmt_size(gint64 bytes);

/* "42 s", "3 min 5 s", "2 h 7 min", "3 d 4 h". */
char *fmt_duration(double seconds);

/* Three significant digits: "0.03", "3.14", "128". */
char *fmt_number(double value);

/* A bar of `width` cells of which `share` (0..1) is filled; of # where the terminal has no UTF-8. */
char *fmt_bar(double share, unsigned width);

/* The text without what could steer a terminal; NULL gives "-". Names come from guests' owners. */
char *fmt_safe(const char *text);

/* "256M", "1.5G", "4096", "2MiB"; K, M, G and T are binary. */
bool fmt_parse_size(const char *text, gint64 *bytes, GError **error);

/* A size, or "25%" of `ram`, which is rounded down to whole granules. */
bool fmt_parse_quota(const char *text, gint64 ram, gint64 granule, gint64 *bytes, GError **error);

/* A table: rows of `columns` texts; columns are as wide as their widest text. */
struct fmt_table {
    unsigned columns;
    GPtrArray *cells;
};

void fmt_table_init(struct fmt_table *table, unsigned columns);
void fmt_table_add(struct fmt_table *table, char *cell /* take */);
void fmt_table_pair(struct fmt_table *table, const char *key, char *value /* take */);     /* a row of two */

/* Appends the table with `indent` spaces before each row, and empties it. */
void fmt_table_print(struct fmt_table *table, unsigned indent, GString *out);

#endif
