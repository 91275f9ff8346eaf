// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that is being tiered, for tests of what happens to it: lab, daemon and VM together, a
 * thread that looks at the memory all the time, another that keeps moves going, and the check that
 * the daemon's account is right.
 */
#ifndef VT_TEST_TIERED_H
#define VT_TEST_TIERED_H

#include "harness.h"

#define MIB (1ull << 20)
#define BOOT_TIMEOUT 90.0
/*
 * The longest a guest may seem to stand still: what is no busy machine any more, but a guest that hangs, and
 * what this machine is late anyway, which may happen at both ends. Tests print what it was.
 */
#define GAP_MS (2500.0 + 2 * lab_longest_delay())

/* --- what the files hold -------------------------------------------------------------------- */

/* Samples the bytes a QEMU's RAM really has in DRAM, 20 times a second. */
struct watch;

struct watch *watch_start(pid_t qemu, uint64_t quota);
/* Asserts that it was looked at once a second at least, and never found above the quota. */
void watch_end(struct watch *watch);

unsigned memfd_count(pid_t pid, const char *name);  /* different files, by the start of their name */

/* --- a tiered VM ---------------------------------------------------------------------------- */

struct tiered {
    struct lab *lab;
    struct vt_daemon *daemon;
    struct vm *vm;
    const char *name;
    uint64_t quota;
    struct watch *watch;
    char *monitor;                  /* path of QEMU's second monitor */
};

struct tiered_options {
    const char *lab, *qemu, *ram, *memory, *append;
    const char *quota, *rate;       /* the daemon's; default 1G */
    const char *const *extra;       /* for QEMU */
};

/* Waits until the guest works and the daemon's account is right. */
struct tiered *tiered_new(const struct tiered_options *o);
void tiered_free(struct tiered *t);     /* ends the watch, too */
typedef struct tiered Tiered;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Tiered, tiered_free)

/* Another QEMU under the same daemon, up to its monitor. Asserts nothing of the guest. */
struct vm *tiered_vm(struct tiered *t, const char *name, const struct tiered_options *o);

/*
 * Asserts that the daemon's account of the VM is right before the timeout is over: state tiering,
 * no tier's files above the ledger and as large as seen from here, DRAM's granules as many as QEMU's
 * part says. The daemon's moves are stopped for the look, and go on afterwards.
 */
void tiered_check(struct tiered *t, double timeout);
uint64_t tiered_granules(struct vm *vm, const char *tier);      /* as QEMU's part says */
uint64_t tiered_pages(struct vm *vm);       /* copied since QEMU's start, as its part says */

/* No page is bad, and the guest has not stood still since guest_reset_gap(). */
void tiered_check_guest(struct vm *vm);
uint64_t tiered_guest_gap(struct vm *vm);   /* ms, the longest of the beats not yet read */

/* --- moves all the time --------------------------------------------------------------------- */

/* Sends ranges of RAM to CXL, from where the daemon brings back what is hot. */
struct stir;

struct stir *stir_start(struct tiered *t);
void stir_end(struct stir *stir);

#endif
