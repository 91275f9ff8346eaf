// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Puts our functions in the place of library functions the main program (QEMU) calls.
 *
 * Only calls of the main program itself are caught: its modules and this plugin have import tables
 * of their own.
 */
#ifndef VMTIER_GOT_H
#define VMTIER_GOT_H

#include <stdbool.h>

/*
 * Replaces every entry for `symbol` in the main program's import tables and stores what they held
 * in *original, before the first entry changes: the replacement may run at once, in any thread.
 * Returns the number of entries replaced, 0 if the program does not import the symbol, or a
 * negative errno value. Hooks on one symbol stack: *original may be an earlier hook.
 */
int got_hook(const char *symbol, void *replacement, void **original);

/* How many entries got_hook() would replace, or a negative errno value. */
int got_count(const char *symbol);

/* Whether the main program itself has, and exports, such a function. */
bool got_defines(const char *symbol);

#endif
