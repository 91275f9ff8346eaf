// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the tests in L1 share: guests under the real kvm_amd, and where the kernel says that their memory
 * is. L1 has two nodes: 0, the DRAM, and 1, the CXL memory; the daemon finds them by itself.
 *
 * All of it is slow and its time is not ours: nothing here, and nothing in the tests, may depend on how long
 * something takes. What is waited for may take TIMEOUT.
 */
#ifndef VT_TEST_NESTED_H
#define VT_TEST_NESTED_H

#include "tests/vm/rig.h"

#define TIMEOUT 120.0

struct rig *nested_daemon(const char *name, const char *config);
/* A QEMU under KVM, up to its monitor; plugin "": without the plugin. The second with the test ROM, 64M. */
struct vm *nested_vm(struct rig *rig, const char *name, struct vm_options o);
struct vm *nested_rom_vm(struct rig *rig, const char *name, struct vm_options o);
/* A daemon with this configuration, and a VM "vm" that runs the test ROM. */
struct rig *nested_rom(const char *name, const char *config, struct vm_options o);

void nested_wait_known(struct rig *rig);             /* the daemon has "vm" and its memory */
/* Has all of "vm"'s memory moved, and waits until that is done; the data of VMTIER_MOVED. */
JsonObject *nested_move(struct rig *rig, const char *tier);
/* Only these, objects as JSON with commas between; asserts that none failed. */
void nested_move_ranges(struct rig *rig, const char *tier, const char *ranges);
void nested_wait_rounds(struct rig *rig, gint64 n);
/* What was written to "vm"'s first `length` bytes since it was last asked: the first time switches our own log on. */
JsonObject *nested_dirty_log(struct rig *rig, uint64_t length);

/* Pages of a VM's RAM on each node. */
struct nested_pages {
    uint64_t on[2];
};

/* Lines of /proc/PID/numa_maps, of the RAM that begins at vm->ram_at. g_strfreev() them. */
char **nested_lines(struct vm *vm, uint64_t ram);
/* Adds what a line of numa_maps says after "N0=" and "N1=", in pages of 4 KiB. */
void nested_add_line(const char *line, struct nested_pages *pages);
/* All of these lines. */
struct nested_pages nested_numa_maps(struct vm *vm, uint64_t ram);
/*
 * Asserts that every page that is there is on the node of the tier which the daemon's ledger has for its
 * granule (by move_pages(2)), and that numa_maps tells the same; the guest stands still for the look. Nothing
 * may be moving.
 */
struct nested_pages nested_check_ledger(struct rig *rig, uint64_t ram);

/*
 * The ROM counts up a word in each page of RAM, round after round, until it is looked whether all are right:
 * a page that is lost, torn or late is one that is wrong. It goes on counting in a VM that was migrated.
 */
#define NESTED_COUNTED (63u * 256)
void nested_count(struct vm *vm);
void nested_wait_counted(struct vm *vm, uint32_t rounds);   /* until it has gone so many more rounds */
void nested_check_counters(struct vm *vm);

/* Programs of the nested tests end with this: skipped outside L1. */
int nested_run(void);

#endif
