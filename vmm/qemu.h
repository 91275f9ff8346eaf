// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What vmtier uses of QEMU, without QEMU's types.
 *
 * Only qemu.c knows QEMU's symbols; everything else in vmm/ goes through here. "BQL" means: call it
 * with QEMU's big lock held, that is from qemu_plugin_install(), a callback of this file or a bottom
 * half. Functions without that word may be called from any thread.
 */
#ifndef VMTIER_QEMU_H
#define VMTIER_QEMU_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qemu_info {
    unsigned major, minor, micro;
    int accel;                  /* enum vt_accel */
    char name[64];
    uint8_t uuid[16];
};

/* One RAM block of QEMU. Valid only inside the callback. */
struct qemu_ram {
    const char *name;
    uint8_t *host;
    uint64_t length;
    uint64_t ram_addr;          /* QEMU's own address of it: what 7.2 gives to plugins as "physical" */
    size_t page_size;
    int fd;                     /* -1: anonymous */
    bool shared;
};

/* One range of guest-physical addresses that is RAM. */
struct qemu_range {
    uint64_t gpa, length;
    uint8_t *host;
    bool device;                /* a device's memory mapped into the guest (VFIO BAR) */
};

/* Binds every symbol. Fails with the name of the first missing one that is needed. BQL. */
int qemu_bind(struct vt_err *err);

bool qemu_accel_is_kvm(void);

/* Known once the machine is complete. BQL. */
void qemu_get_info(struct qemu_info *info);

/* Calls fn for each RAM block / each RAM range; a non-zero return stops. BQL. */
typedef int (*qemu_ram_fn)(const struct qemu_ram *ram, void *opaque);
typedef int (*qemu_range_fn)(const struct qemu_range *range, void *opaque);
void qemu_each_ram(qemu_ram_fn fn, void *opaque);
void qemu_each_range(qemu_range_fn fn, void *opaque);

/* Calls fn with the QOM type and path of each object; a non-zero return stops. BQL. */
typedef int (*qemu_object_fn)(const char *type, const char *path, void *opaque);
void qemu_each_object(qemu_object_fn fn, void *opaque);

/* Whether the object has a property of this name that is on. BQL. */
bool qemu_object_is(const char *path, const char *property);

/* Calls fn with the driver ("file", "qcow2", "rbd") and node name of each block node. BQL. */
typedef int (*qemu_node_fn)(const char *driver, const char *node, void *opaque);
void qemu_each_block_node(qemu_node_fn fn, void *opaque);

/* Output of a human monitor command, to be freed with free(); NULL on error. BQL. */
char *qemu_monitor(const char *command);

/* Runs fn in QEMU's main loop, with the BQL. */
void qemu_bh(void (*fn)(void *opaque), void *opaque);
bool qemu_have_bql(void);

/* Hooks. fn runs with the BQL. Each can be set once. BQL. */
void qemu_on_machine_done(void (*fn)(void));
void qemu_on_layout_change(void (*fn)(void));
void qemu_on_exit(void (*fn)(void));

/*
 * From now on QEMU refuses devices that pin guest RAM for DMA (VFIO, vDPA, its NVMe driver): they and
 * whoever takes pages away exclude each other. Negative errno: one is there already. BQL.
 */
int qemu_forbid_pinning(void);

/*
 * The dirty log of a block, through QEMU's VGA client (a bitmap of its own, fed by the same sync as
 * live migration's, so neither disturbs the other). BQL.
 */
int qemu_dirty_start(uint8_t *host, bool on);
typedef void (*qemu_dirty_fn)(uint64_t offset, void *opaque);
/* Calls fn (NULL: nobody) for each 4 KiB page of the range written since the last call. BQL. */
int qemu_dirty_take(uint8_t *host, uint64_t offset, uint64_t length, qemu_dirty_fn fn, void *opaque);

/* -accel kvm,dirty-ring-size=: there is no bitmap in the kernel. Only where KVM is in use. */
bool qemu_dirty_ring(void);

/*
 * Migration, as far as it touches what placement stands on (qemu-migration.c). What a QEMU does not
 * have is off. BQL.
 */
bool qemu_incoming(void);               /* waits for this VM, or receives it */
bool qemu_incoming_files(void);         /* ... in RAM files that another QEMU has used, and may use */
bool qemu_postcopy(void);               /* postcopy is switched on */
const char *qemu_hands_over_files(void);    /* what makes migrations leave out shared RAM; or NULL */
bool qemu_locks_memory(void);           /* -overcommit mem-lock */

/*
 * fn runs before each migration that starts: after its settings are known and before RAM is read. An
 * error makes it fail, with that text. False: this QEMU, of that major version, cannot be watched.
 */
bool qemu_before_migration(unsigned major, int (*fn)(struct vt_err *err));

/*
 * Monitor commands. run() gets the arguments and returns a JSON text (malloc'ed) or NULL with *err.
 * `args` is a NULL-ended list of the keys the command knows; others are rejected by name. BQL.
 */
struct qemu_args;
struct qemu_command {
    const char *name;
    const char *const *args;
    char *(*run)(const struct qemu_args *args, struct vt_err *err);
};
void qemu_register_command(const struct qemu_command *command);
bool qemu_arg_string(const struct qemu_args *args, const char *key, const char **value);
bool qemu_arg_number(const struct qemu_args *args, const char *key, uint64_t *value);

/* Emits an event in QEMU's monitors; `data` is a JSON object. BQL. */
void qemu_event(const char *name, const char *data);

/* A line in QEMU's log, "vmtier: " in front. */
void qemu_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Memory accesses of an emulated guest. fn runs in vCPU threads, for every access: it must be cheap.
 * It begins with qemu_access_switch(true), and ends soon after qemu_access_switch(false), from when on
 * the guest is as fast as without; both make QEMU translate the guest's code anew. Any thread.
 * qemu_access_address() gives the address in the space qemu_access_space() names; false: no RAM.
 */
enum qemu_space { QEMU_SPACE_RAM_ADDR, QEMU_SPACE_GPA };
typedef void (*qemu_access_fn)(unsigned cpu, uint32_t info, uint64_t vaddr, void *opaque);
bool qemu_access_start(uint64_t id, qemu_access_fn fn, struct vt_err *err);
void qemu_access_switch(bool on);
bool qemu_access_address(uint32_t info, uint64_t vaddr, uint64_t *address);
enum qemu_space qemu_access_space(void);

/* After qemu_access_start(), whatever that said; 1 if it cannot be told. Any thread. */
unsigned qemu_vcpus(void);

#endif
