// SPDX-License-Identifier: GPL-2.0-or-later
/* Cases that run in processes of their own, and huge pages for them. */
#ifndef VMTIER_BENCH_CHILD_H
#define VMTIER_BENCH_CHILD_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Runs fn in a child; what it has put into the `size` bytes at result (plain data) is there
 * afterwards. A child that is not done after `limit` seconds hangs: where its threads are goes to
 * stderr, and it is killed. NULL, or what went wrong; then nothing was changed.
 */
const char *bench_child(void (*fn)(const void *what, void *result), const void *what, void *result,
                        gsize size, guint limit);

/*
 * Sees to it that `pages` huge pages of 2 MiB are free; false with the reason in *why if not. They are
 * given back by bench_huge_give(), which a SIGINT or SIGTERM does, too. The setting is the machine's,
 * so a lock on it is held in between; whoever else changes it must take that as well.
 */
bool bench_huge_take(guint pages, char why[200]);
void bench_huge_give(void);

#endif
