// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Faults on purpose: a named point in front of every step that can fail, or at which a process can
 * die, so that tests need no luck to get there.
 *
 * Switched off, which it is unless the environment of the process says otherwise, a point costs one
 * branch. It is a switch for tests: whoever sets the environment of QEMU or of the daemon can end
 * them anyway.
 *
 *      VMTIER_TEST_FAULT="POINT=ACTION[:NTH[:COUNT]][,...]"    or "@FILE", which holds such a text
 *                                                              and is read again when it changes
 *      VMTIER_TEST_FAULT_PEER=PATH     a Unix socket (stream) that is told of each point that acts
 *
 * Actions are the name of an errno value (the call is taken to have failed with it), `kill` (SIGKILL
 * to the process itself), `abort`, and `pause`: stay until the peer has sent a byte, or closed, or
 * two seconds are over. It acts when the point is passed for the NTH time (1) and COUNT times in a row
 * (1; 0: from then on always). One rule per point.
 *
 * To each point that acts the peer gets a connection and a line "PID TID POINT ACTION\n".
 */
#ifndef VMTIER_FAULT_H
#define VMTIER_FAULT_H

#include "common/err.h"
#include "vmtier/wire.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum fault_point {
    /* vmm/, a move: each in front of its step. */
    FAULT_FIND_DATA, FAULT_POOL_TAKE, FAULT_CLEAR, FAULT_POPULATE_SOURCE, FAULT_POPULATE_DEST,
    FAULT_MAPS_LIMIT, FAULT_FENCE_HOLD, FAULT_PROTECT, FAULT_COPY, FAULT_WRITE, FAULT_MAP_OVER,
    FAULT_MAP_BACK, FAULT_ADVISE, FAULT_MAP_IN, FAULT_REGISTER, FAULT_WAKE, FAULT_UNPROTECT,
    FAULT_PUNCH,
    FAULT_MOVED,                /* behind the last step */
    /* vmm/, the link */
    FAULT_CONNECT, FAULT_UFFD_OPEN, FAULT_SURVEY, FAULT_WATCH, FAULT_VIEW,
    /* host/ */
    FAULT_ACCEPTED,
    FAULT_FILE_MAKE, FAULT_FILE_MADE,
    FAULT_ATTACH_LAYOUT, FAULT_ATTACH_FILES, FAULT_ATTACH_PLACING, FAULT_ATTACH_PLACED,
    FAULT_ATTACH_READY,
    FAULT_LEDGER_BEFORE, FAULT_LEDGER_AFTER,
    FAULT_ROUND_START, FAULT_ROUND_NEWS, FAULT_ROUND_HARVESTED, FAULT_ROUND_PLANNED,
    FAULT_ROUND_DEMOTED, FAULT_ROUND_MOVED, FAULT_ROUND_ACCOUNTED,
    /* common/, both ends: one for each type of message, e.g. FAULT_SEND + VT_MOVE, "send-MOVE" */
    FAULT_FIXED,
    FAULT_SEND = FAULT_FIXED,                       /* before it is sent */
    FAULT_SENT = FAULT_SEND + VT_TYPE_END,          /* ... after */
    FAULT_RECEIVED = FAULT_SENT + VT_TYPE_END,      /* before anybody has looked at it */
    FAULT_END = FAULT_RECEIVED + VT_TYPE_END
};

extern atomic_bool fault_armed;

int fault_act(enum fault_point point);

/*
 * 0: go on. Else a negative errno, which is to be treated as that of the call that follows, and is in
 * errno as well: `rc = fault_at(FAULT_PROTECT) ?: uffd_protect(...)`, or
 * `if (fault_at(FAULT_CONNECT) || connect(...))`. Neither allocates nor takes a lock, so it may stand
 * where guest memory is protected. May sleep, or not return at all.
 */
static inline int fault_at(enum fault_point point)
{
    if (__builtin_expect(atomic_load_explicit(&fault_armed, memory_order_relaxed), 0))
        return fault_act(point);
    return 0;
}

/* From the environment. 0: not set; 1: faults are on, say so; or a negative errno with *err. */
int fault_init(struct vt_err *err);

/* Reads "@FILE" again if it has changed. For places where nothing is held; cheap when off. */
void fault_refresh(void);

/*
 * Replaces all rules, as VMTIER_TEST_FAULT would; "" ends them. For tests in one process. 0, or
 * -EINVAL with *err and the rules as they were.
 */
int fault_set(const char *text, struct vt_err *err);

/* How often the point has acted since the rules were set. */
uint32_t fault_count(enum fault_point point);

/* `pause` calls this instead of asking the peer; NULL: the peer again. For tests in one process. */
void fault_on_pause(void (*fn)(enum fault_point point));

/* "protect", "send-MOVE"; NULL for a message type that does not exist. */
const char *fault_name(enum fault_point point, char buffer[32]);

#endif
