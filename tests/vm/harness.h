// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VM test lab: run directories, a stock QEMU with the test guest or the test ROM, its monitor,
 * the guest's workload port, the memory behind it, and the daemon.
 *
 *     harness.c         the run directory, children, waiting, logs
 *     harness-vm.c      QEMU
 *     harness-qmp.c     a QMP client for QEMU's and for the daemon's socket
 *     harness-guest.c   the workload's port (guest/PROTOCOL.txt)
 *     harness-memory.c  guest memory and memfds of a running QEMU, as the host sees them
 *     harness-rom.c     the test ROM's mailbox (rom.h)
 *     harness-daemon.c  vmtierd
 *
 * Whatever a test cannot go on without is asserted here, with the cause in the message; what a test
 * may want to see fail has a variant that returns. Timeouts are seconds. A test that fails prints
 * the end of every log file of its lab. All children die with the test program.
 *
 * Paths start with $BUILD (default "build"), so tests run from the top of the source tree.
 */
#ifndef VT_TEST_HARNESS_H
#define VT_TEST_HARNESS_H

#include <glib.h>
#include <inttypes.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "rom.h"

/* --- harness.c ------------------------------------------------------------------------------ */

struct lab {
    char *dir;
};

struct child {
    char *name;
    char *log;                  /* its stdout and stderr */
    pid_t pid;
    bool running;
    int status;                 /* as from waitpid(), once it does not run any more */
};

struct lab *lab_new(const char *name);
void lab_free(struct lab *lab);
typedef struct lab Lab;         /* for g_autoptr(Lab), which needs a one-word type */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Lab, lab_free)

char *lab_path(const struct lab *lab, const char *name);
char *lab_built(const char *name);              /* $BUILD/name */
void lab_watch_log(const char *path);           /* dump this file, too, when a test fails */
double lab_now(void);               /* seconds, monotonic */
/*
 * When a wait is over. What tests ask for is what a machine with little else to do needs, with some room;
 * they get LAB_PATIENCE times as long, as those where tests run may be busy, and waiting is free where
 * things come to pass.
 */
#define LAB_PATIENCE 3
double lab_deadline(double timeout);
/* How late the machine was at worst, in ms, to run a thread that was ready since the last reset. */
double lab_longest_delay(void);
void lab_reset_delay(void);
void lab_sleep(double seconds);
/* Calls `ready` every 20 ms until it says yes (true) or the time is over (false). */
bool lab_wait(bool (*ready)(void *arg), void *arg, double timeout);
/* Connects to a stream socket that `server` is about to open; -1 if that ended or time is over. */
int lab_connect(const char *path, struct child *server, double timeout);

struct child *child_start(struct lab *lab, const char *name, const char *const *argv);
bool child_wait(struct child *child, double timeout);       /* has it ended? */
bool child_alive(struct child *child);
void child_kill(struct child *child, int signal);
void child_free(struct child *child);                       /* SIGKILLs it if need be */
char *child_output(const struct child *child);

/* --- harness-qmp.c -------------------------------------------------------------------------- */

struct qmp;

struct qmp *qmp_open(const char *path, struct child *server, double timeout);
void qmp_close(struct qmp *qmp);
/* `args`: printf format of the arguments' JSON object, or NULL. Errors read "Class: desc". */
JsonNode *qmp_try(struct qmp *qmp, GError **error, const char *command, const char *args, ...)
    __attribute__((format(printf, 4, 5)));
JsonNode *qmp_ok(struct qmp *qmp, const char *command, const char *args, ...)
    __attribute__((format(printf, 3, 4)));
/* Asserts that the command fails; returns the error's text. */
char *qmp_fails(struct qmp *qmp, const char *command, const char *args, ...)
    __attribute__((format(printf, 3, 4)));
/* The event's whole object, or NULL. Events that came before are seen first, in order. */
JsonObject *qmp_wait_event(struct qmp *qmp, const char *name, double timeout);
/* One line out as it is, one message (no event) back: for malformed input. NULL: none came. */
JsonObject *qmp_raw(struct qmp *qmp, const char *line, double timeout);

/* --- harness-guest.c ------------------------------------------------------------------------ */

struct guest;

struct extent {
    uint64_t gpa, length;
};

struct guest *guest_open(const char *path, struct child *server, double timeout);
void guest_close(struct guest *guest);
void guest_command(struct guest *guest, const char *command);
/* The next unread line with this prefix; lines before it count as read. NULL: none came. */
char *guest_wait_line(struct guest *guest, const char *prefix, double timeout);
char *guest_expect(struct guest *guest, const char *prefix, double timeout);    /* asserts */
/* The number after "name=" in a line; asserts that there is one. */
uint64_t guest_number(const char *line, const char *name);
/* The hot set of this or a later phase: struct extent each. Asserts that it comes. */
GArray *guest_hot(struct guest *guest, unsigned phase, double timeout);
char *guest_beat(struct guest *guest, double timeout);      /* a beat that comes from now on */
/* Host time in ms: the longest between two beats since the start or guest_reset_gap(). */
double guest_longest_gap(struct guest *guest);
void guest_reset_gap(struct guest *guest);                  /* and lab_reset_delay() */
/* Commands, and what follows from them. */
uint64_t guest_sweep(struct guest *guest, double timeout);  /* pages that are bad */
GArray *guest_shift(struct guest *guest, double timeout);   /* the new hot set */
GArray *guest_hot_now(struct guest *guest, double timeout); /* e.g. after loadvm */

/* --- harness-vm.c --------------------------------------------------------------------------- */

/*
 * What every guest's kernel is told. Whether the timer's interrupts arrive is not to be checked: on a
 * busy host an emulated guest may miss those of the moment, and would panic.
 */
#define GUEST_CMDLINE "console=ttyS0 panic=-1 no_timer_check quiet"

struct vm_options {
    const char *qemu;           /* default: the system's; see vm_qemu10() */
    const char *machine;        /* "q35" */
    const char *accel;          /* "tcg,thread=single" */
    const char *ram;            /* "1G" */
    const char *memory;         /* more for -m, e.g. "slots=2,maxmem=4G" */
    const char *backend;        /* -object of the RAM; %s is the size; "": none, QEMU's own RAM */
    const char *rom;            /* a -bios file; then there is no kernel and no guest port */
    const char *append;         /* for the kernel's command line, e.g. "vmt.foot=300M" */
    const char *plugin;         /* the value of -plugin */
    const char *const *extra;   /* further arguments, up to a NULL */
};

struct vm {
    struct child *qemu;
    struct qmp *qmp;
    struct guest *guest;        /* NULL with a ROM */
    char *qmp_path, *port_path;
    uint64_t ram_at;            /* where QEMU has mapped RAM's first byte */
};

/* QEMU is started, no more: for starts that are to fail. */
struct vm *vm_spawn(struct lab *lab, const char *name, const struct vm_options *options);
/* QEMU is started, its monitor and the guest's port are connected. */
struct vm *vm_start(struct lab *lab, const char *name, const struct vm_options *options);
void vm_connect(struct vm *vm);                             /* the second half of vm_start() */
void vm_free(struct vm *vm);                                /* kills it */
/* Leaves it so much memory, by its balloon, and waits until the guest has done that. */
void vm_set_balloon(struct vm *vm, uint64_t bytes);
typedef struct vm Vm;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_free)
char *vm_qemu10(void);          /* asserts that fetch-qemu10.sh has been run */
bool vm_kvm_usable(void);

/* --- harness-memory.c ----------------------------------------------------------------------- */

/* Guest RAM through QEMU's own mapping, so it is what the guest sees, wherever it was moved to.
 * Guest-physical addresses are those below 2 GiB, where they equal the offset in RAM. */
void vm_peek(struct vm *vm, uint64_t gpa, void *to, size_t n);
void vm_poke(struct vm *vm, uint64_t gpa, const void *from, size_t n);
/* All memfds of a process whose name starts so: bytes allocated, and the first one opened. */
uint64_t memfd_bytes(pid_t pid, const char *name);
int memfd_open(pid_t pid, const char *name);

/* --- harness-rom.c -------------------------------------------------------------------------- */

struct rom_range {
    uint32_t base, stride, count;
};

void rom_wait_alive(struct vm *vm, double timeout);
struct rom_mailbox rom_mailbox(struct vm *vm);
/* Carries out a command and returns the mailbox after it; asserts that it ends in time. */
struct rom_mailbox rom_run(struct vm *vm, uint32_t command, struct rom_range range, uint32_t value,
                           double timeout);
void rom_give(struct vm *vm, uint32_t command, struct rom_range range, uint32_t value);
void rom_stop_spin(struct vm *vm, double timeout);

/* --- harness-daemon.c ----------------------------------------------------------------------- */

struct vt_daemon {
    struct lab *lab;
    struct child *process;
    struct qmp *qmp;
    char *vmm_socket, *qmp_socket;
    char **extra;               /* arguments that restarts repeat */
    unsigned starts;
};

struct vt_daemon *daemon_start(struct lab *lab, const char *const *extra);
void daemon_free(struct vt_daemon *d);
typedef struct vt_daemon Daemon;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Daemon, daemon_free)
int daemon_stop(struct vt_daemon *d);                       /* SIGTERM; its wait status */
void daemon_kill(struct vt_daemon *d);                      /* SIGKILL */
void daemon_restart(struct vt_daemon *d);                   /* after either of the two */
char *daemon_plugin(const struct vt_daemon *d, const char *id);     /* for vm_options.plugin */
/* What query-vmtier-vms says of a VM, or NULL if the daemon does not know it. */
JsonObject *daemon_vm(struct vt_daemon *d, const char *vm);
bool daemon_wait_vm(struct vt_daemon *d, const char *vm, bool (*ready)(JsonObject *vm, void *arg),
                    void *arg, double timeout);
void daemon_wait_vm_state(struct vt_daemon *d, const char *vm, const char *state, double timeout);

#endif
