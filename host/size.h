// SPDX-License-Identifier: GPL-2.0-or-later
/* Sizes as users write them. */
#ifndef VMTIER_SIZE_H
#define VMTIER_SIZE_H

#include <glib.h>
#include <stdbool.h>

/*
 * "256M", "1.5G", "4096": binary units K M G T, an optional B or iB behind them. Rejects signs,
 * overflow and anything left over.
 */
bool size_parse(const char *text, guint64 *bytes, GError **error);

/* "256 MiB", "1.5 GiB"; g_free() it. */
char *size_format(guint64 bytes);

#endif
