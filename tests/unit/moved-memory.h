// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory of our own, a block of the mover's, that is moved while threads write to it.
 *
 * A writer has a place of two words in each page, and knows what they must hold: what is lost is
 * seen by the writer itself. It looks at the others' as well: first at the second word, then at the
 * first, which may not be smaller (torn), nor smaller than it was once (backwards). All add to a sum
 * in the page. The first thing found ends the process.
 *
 * What freezes the mover for good cannot be undone, and what hangs is to be a failed test and no
 * more: so a test runs each of its parts in a process of its own, with run_apart().
 */
#ifndef VT_TEST_MOVED_MEMORY_H
#define VT_TEST_MOVED_MEMORY_H

#include "common/fault.h"
#include "two-tiers.h"

#include <glib.h>

#define GRANULE   (64u << 10)
#define GRANULES  48u
#define SIZE      ((size_t)GRANULE * GRANULES)
#define PER       (GRANULE / 4096)      /* pages of a granule, ... */
#define USED      (PER - 4)             /* ... those that are written to; the rest is the test's */
#define PAGES     (GRANULES * USED)

extern struct two_tiers moved;

/* `size` bytes in granules of `granule` bytes, under userfaultfd. Once per process. */
void memory_set_up(size_t size, uint64_t granule);
guint64 memory_allocated(int tier);     /* bytes of the tier's file */

/* What is mapped at the granule is what the mover's table says. */
void memory_check_place(uint32_t g);

/* Moves granules of the block, and checks that every answer is true. */
extern guint32 outcomes[VT_ST_END];     /* how many moves ended so, since outcomes_forget() */
void memory_move(uint32_t first, uint32_t n, uint8_t tier);
void memory_move_about(unsigned times); /* ranges of different lengths, there and back */
void outcomes_forget(void);
guint32 outcomes_but(enum vt_status st);

void writers_start(void);
void writers_wait(void);                /* until each has been to all pages since: nobody hangs */
void writers_end(void);                 /* nothing was lost */

void faults_set(const char *rules);

/* body(data) in a process that has to end well, and in time. False: it called run_missed(). */
bool run_apart(void (*body)(const void *data), const void *data, const char *what);
void run_missed(void) __attribute__((noreturn));    /* ends the process: what it is for did not happen */

/* Can this machine do it? If not, the test is to be skipped. */
bool memory_usable(void);
void memory_skip(void);

#endif
