// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a source costs: the guest, against none in the same run, and us. In this process, on memory as
 * large as a guest's that is busy or idle; and in guests, through the daemon.
 */
#ifndef VMTIER_BENCH_TRACK_H
#define VMTIER_BENCH_TRACK_H

#include "bench/lib/memory.h"
#include "bench/lib/stat.h"

#define TRACK_PAIRS_MOST 64

struct track_result {
    bool ok;
    char why[200];
    struct bench_spread ratio;      /* speed with the source to speed without, of each pair of phases */
    double error;                   /* standard error of the median */
    struct bench_spread noise;      /* the same of phases without to others without */
    double kernel, kernel_error;    /* in this process: share of the vCPU's time in the kernel, with less without */
    double tracker;                 /* share of a core */
    double vcpu;                    /* share of a vCPU, by the source's own estimate */
    double events_per_s;
    double speed;                   /* without: million accesses per second of vCPU time; rounds; visits */
};

/* Fills in ratio, error and noise from phases in turn without (even) and with (odd). */
void track_compare(const double *speed, guint n, struct track_result *r);

/* --- track-memory.c ------------------------------------------------------------------------- */

enum track_load { TRACK_BUSY, TRACK_IDLE, TRACK_LOADS };
extern const char *const track_load_names[TRACK_LOADS];

struct track_case {
    enum bench_backing backing;
    enum track_load load;
    guint gib, pairs;
    double phase_s;
    bool split;                     /* no source: small pages against huge ones of the same memory */
};

/* For bench_child(): `what` is a struct track_case, `result` a struct track_result. */
void track_memory_run(const void *what, void *result);

/* --- track-guest.c -------------------------------------------------------------------------- */

struct track_guest {
    const char *name, *source;      /* "refault" ...: as the daemon's configuration has it */
    bool kvm, huge;                 /* KVM runs the test ROM, else Linux is emulated */
    guint pairs;
    double phase_s;
};

/* In a test of GLib's, as the lab wants it. */
void track_guest_run(const struct track_guest *what, struct track_result *r);

#endif
