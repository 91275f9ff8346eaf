// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A private libvirtd for tests (ns-init.sh), and what tests do with it: domains with the test guest, virsh.
 */
#ifndef VT_TEST_LV_H
#define VT_TEST_LV_H

#include "tests/vm/harness.h"

#include <stdio.h>

struct lv {
    struct lab *lab;
    char *dir, *uri;            /* of the libvirtd's files; for virsh */
    pid_t process;              /* unshare(1), with which all of it ends */
    int to;                     /* its shell */
    FILE *from;
};

/* NULL where there is no libvirtd or no right to make namespaces. */
struct lv *lv_start(struct lab *lab, const char *name);
void lv_free(struct lv *lv);
typedef struct lv Lv;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Lv, lv_free)

/* A command for ns-init.sh ("crash", "start"); asserts that it succeeds. */
void lv_shell(struct lv *lv, const char *command);

/* virsh with these words; its stdout. lv_fails: asserts that it fails; its stderr. */
char *lv_virsh(struct lv *lv, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *lv_fails(struct lv *lv, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool lv_try(struct lv *lv, char **out, char **err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A path in the lab as QEMU sees it; and one that is the same in every lab, in its own libvirtd. */
char *lv_inside(const struct lab *lab, const char *name);
char *lv_home(const char *name);

/* The test guest as a plain domain; `append` for its kernel. */
char *lv_domain(struct lab *lab, const char *name, const char *append);

/* Through `vmtier domxml` with these words; and then defined. */
char *lv_tierable(struct lab *lab, const char *xml, const char *words);
void lv_define(struct lv *lv, const char *xml, const char *words);

/* What `vmtier` prints, with these words and `input` for stdin; asserts that it exits with `status`. */
char *lv_vmtier(struct lab *lab, const char *input, int status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* "running", "paused", "shut off". */
void lv_assert_state(struct lv *lv, const char *domain, const char *state);

struct guest *lv_guest(struct lab *lab, const char *name, double timeout);

#endif
