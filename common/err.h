// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Errors in plain C code: a code and a sentence.
 *
 * A function that can fail takes a `struct vt_err *` last, returns 0 or a negative errno value, and
 * fills the error only when it fails. vt_wrap() puts context in front on the way up.
 */
#ifndef VMTIER_ERR_H
#define VMTIER_ERR_H

struct vt_err {
    int code;           /* errno value, positive */
    char text[256];
};

/* Fills *err (which may be NULL) and returns -code, so that a caller can `return vt_fail(...)`. */
int vt_fail(struct vt_err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of what *err says and returns -err->code. */
int vt_wrap(struct vt_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
