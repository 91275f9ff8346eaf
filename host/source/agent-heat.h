// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What heat is told of the granules that a guest's agent calls hot.
 *
 * A hint says how things are, not what happened since the last one. So what heat remembers of it is topped up
 * to what is said: it counts from the moment it comes, and saying it more often adds nothing.
 */
#ifndef VMTIER_AGENT_HEAT_H
#define VMTIER_AGENT_HEAT_H

#include <glib.h>

struct vm;

struct agent_heat {
    guint32 n;
    float *said;                /* [n] 0..1 of a granule as hot as the VM's hot ones are */
    float *told;                /* [n] what of that heat remembers */
};

void agent_heat_resize(struct agent_heat *h, guint32 n);
void agent_heat_free(struct agent_heat *h);
void agent_heat_forget(struct agent_heat *h);       /* nothing is said to be hot */

/* Tells heat, `seconds` after the last time. */
void agent_heat_tell(struct agent_heat *h, struct vm *vm, double seconds);

#endif
