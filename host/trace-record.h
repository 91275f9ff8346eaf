// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records a VM's observations (trace.h) to a descriptor, usually a client's socket.
 *
 * The VM's worker hands in what its sources saw and never waits: a round goes to a thread of the recorder's
 * that codes and writes it. What that thread does not keep up with is dropped, whole rounds at a time,
 * counted, and the recording says so in its place. A descriptor that takes nothing for RECORD_PATIENCE_S
 * ends the recording.
 *
 * Who may call what: recorder_layout() to recorder_commit() the VM's worker, in this order in each round;
 * the others any thread.
 */
#ifndef VMTIER_TRACE_RECORD_H
#define VMTIER_TRACE_RECORD_H

#include "host/trace-read.h"

#define RECORD_PATIENCE_S   30
#define RECORD_QUEUE_MOST   (24u << 20)     /* bytes that wait for the thread */
#define RECORD_ROUND_MOST   (1u << 19)      /* observations of one round; those beyond are lost */

struct recorder;

struct recorder_state {
    guint64 bytes, rounds, observations, lost_rounds, lost_observations;
    double seconds;             /* of rounds handed in */
    bool ended;                 /* all that will be written is */
    char error[256];            /* why it was cut short; empty: it was not */
};

/* Takes fd. `seconds`: when to end by itself; 0: never. */
struct recorder *recorder_new(const struct trace_header *header, int fd, double seconds);
struct recorder *recorder_ref(struct recorder *recorder);
void recorder_unref(struct recorder *recorder);

/* The memory as it is now; only a change is written. */
void recorder_layout(struct recorder *recorder, const struct trace_layout *layout);
/* A round begins; dt seconds have passed, in which these sources ran. */
void recorder_round(struct recorder *recorder, double dt, guint32 sources);
void recorder_observe(struct recorder *recorder, guint8 source, guint8 tier, guint32 granule,
                      double events, double exposure_s);
/* The round is complete. False: the recording is over, and nobody need call again. */
bool recorder_commit(struct recorder *recorder);

/* Is it still to be told of rounds? */
bool recorder_wants(struct recorder *recorder);

/* Ends it: what was handed in is still written, then the footer. */
void recorder_end(struct recorder *recorder, enum trace_reason reason);

void recorder_look(struct recorder *recorder, struct recorder_state *state);

/* Waits until all recorders have written what they have, at most so long. */
void recorders_wait(double seconds);

#endif
