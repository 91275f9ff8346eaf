// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Child processes that have memory, for tests that look at or move another process's pages.
 *
 * `memory` is reserved before any child is made, so it is at the same address in all of them; what a child
 * touches there is its own.
 */
#ifndef VMTIER_TESTS_KID_H
#define VMTIER_TESTS_KID_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#define KID_PAGE  4096u
#define KID_PAGES 4096u
#define KID_BYTES ((gsize)KID_PAGES * KID_PAGE)

extern char *memory;            /* KID_BYTES, aligned to 2 MiB */
void kid_prepare(void);         /* once, first */

struct kid {
    pid_t pid;
    int pidfd, to, from;        /* pipes */
};

/* What a child does: first `set_up`, then what each byte asks for; NULL: check that all is stamped. */
struct role {
    bool (*set_up)(void);
    bool (*obey)(char command);
};

/* Writes each page's own number into it; is it still there? */
void stamp(guint first, guint n);
bool is_stamped(guint first, guint n);

/* Its set_up has been done. `like`: the pid it is to have; the kid's pid is -1 if that cannot be. */
struct kid kid_start(const struct role *role);
struct kid kid_start_as(const struct role *role, pid_t like);
bool kid_does(const struct kid *kid, char command);
void kid_reap(struct kid *kid);         /* kills it; the pidfd stays */
void kid_end(struct kid *kid);

#endif
