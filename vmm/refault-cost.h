// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What probes may cost, and how much there is to be seen: the budgets of the source "refault" and the
 * process's count of page faults. Link thread only.
 */
#ifndef VMTIER_REFAULT_COST_H
#define VMTIER_REFAULT_COST_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A harvest begins: so much CPU time more may be spent. What was not is kept, up to as much again. The
 * first call measures what a touch costs on this machine.
 */
void refault_cost_begin(uint32_t budget_us);

/* May the walk go on? */
bool refault_cost_cpu_left(void);

/* The harvest is over: `found` touches were seen in it. */
void refault_cost_end(uint64_t found);

/*
 * The guest's time. Pages are paid for when they are unmapped, as if all were touched; what was not
 * touched is not given back, as it stays unmapped and may be any time. False: there is no budget left.
 * What costs much and can wait asks first whether there is plenty.
 */
bool refault_cost_pay(uint32_t pages, bool huge);
bool refault_cost_guest_left(void);
bool refault_cost_some_left(void);   /* for what is no hurry */
bool refault_cost_plenty(void);

/* So many touches have happened; a range was unmapped, which took us so much CPU time. */
void refault_cost_touched(uint32_t pages, bool huge);
void refault_cost_unmapped(uint64_t took_ns);

/* So many pages were touched and not paid for. */
void refault_cost_owe(uint32_t pages);

/*
 * Far more pages came back than were seen to: probes that had been silent must be looked at now. Until
 * the walk has been through all of them.
 */
bool refault_cost_alarm(void);
void refault_cost_walked(void);

/* Page faults are few, and many would be an alarm at once. */
bool refault_cost_calm(void);

/* Spent since the start: our CPU time, and what the guest's vCPUs lost by estimate. */
void refault_cost_get(uint64_t *cpu, uint64_t *vcpu);

#endif
