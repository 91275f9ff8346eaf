// SPDX-License-Identifier: GPL-2.0-or-later
/* Sizes as users write them: see size.h. */
#include "host/size.h"
#include "host/error.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static int unit_shift(const char **text)
{
    static const char units[] = "KMGT";
    const char *at = **text ? strchr(units, g_ascii_toupper(**text)) : NULL;

    if (!at)
        return 0;
    (*text)++;
    return (int)(at - units + 1) * 10;
}

bool size_parse(const char *text, guint64 *bytes, GError **error)
{
    char *end = NULL;
    const char *rest;
    double value = g_ascii_isdigit(text[0]) ? g_ascii_strtod(text, &end) : -1;
    int shift;

    rest = end ? end : text;
    shift = unit_shift(&rest);
    if (shift && rest[0] == 'i')
        rest++;
    if (rest[0] == 'B')
        rest++;
    value = ldexp(value, shift);
    if (!end || *rest || !isfinite(value) || value < 0 || value >= 0x1p63 ||
        strpbrk(text, "xX")) {
        g_set_error(error, VMT_ERROR, EINVAL,
                    "'%s' is no size: write a number and K, M, G or T, such as 256M", text);
        return false;
    }
    *bytes = (guint64)value;
    return true;
}

char *size_format(guint64 bytes)
{
    return g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
}
