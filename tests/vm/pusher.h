// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A daemon that does nothing but move: every granule of the VM, to the other tier and back, as fast as
 * QEMU's part carries it out. It speaks the VMM link and runs in a thread of the test.
 */
#ifndef VT_TEST_PUSHER_H
#define VT_TEST_PUSHER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct pusher;

struct pusher *pusher_start(const char *socket, uint64_t granule);

/* From now on it moves, as fast as it goes. Asserts that a VM has attached. */
void pusher_go(struct pusher *pusher);
/* No move is under way when this returns; pusher_go() goes on. */
void pusher_pause(struct pusher *pusher);
/* From now on so many bytes a second at most; 0: as fast as it goes. */
void pusher_set_rate(struct pusher *pusher, uint64_t bytes_per_s);

/* That tiering is frozen now and then is no failure. */
void pusher_may_freeze(struct pusher *pusher);

/* Moves so far, by outcome. */
struct pusher_count {
    uint64_t moved, busy, frozen, failed, pages;
};
struct pusher_count pusher_get_count(struct pusher *pusher);
/* Waits until it has moved so many more; false: it has not in that time, which lab_deadline() makes longer. */
bool pusher_moves(struct pusher *pusher, uint64_t more, double timeout);

/* Stops and hangs up; asserts that no move failed. */
void pusher_end(struct pusher *pusher);

#endif
