// SPDX-License-Identifier: GPL-2.0-or-later
/* The error object: see err.h. */
#include "common/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int vt_fail(struct vt_err *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;

        va_start(args, format);
        err->code = code ? code : EIO;
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
    }
    return code ? -code : -EIO;
}

int vt_wrap(struct vt_err *err, const char *format, ...)
{
    char context[sizeof(err->text)];
    char whole[2 * sizeof(err->text) + 2];
    va_list args;

    va_start(args, format);
    vsnprintf(context, sizeof(context), format, args);
    va_end(args);
    snprintf(whole, sizeof(whole), "%s: %s", context, err->text);
    memcpy(err->text, whole, sizeof(err->text) - 1);
    err->text[sizeof(err->text) - 1] = '\0';
    return -err->code;
}
