// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What tests of plugin and daemon share: a lab with a daemon and a VM that runs the test ROM, and
 * short ways to say what is expected of their answers.
 *
 * Paths into JSON are members and indexes with dots: "tiers.0.ledger_bytes".
 */
#ifndef VT_TEST_RIG_H
#define VT_TEST_RIG_H

#include "harness.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GRANULE (2 * MIB)

struct rig {
    struct lab *lab;
    struct vt_daemon *daemon;
    struct vm *vm;              /* the daemon knows it as "vm" */
};

/* An empty lab; a daemon with these arguments (up to NULL); a VM with the ROM (plugin, rom, and
 * what else is not set are filled in: 64M, machine "pc"). Each may be done without the others. */
struct rig *rig_new(const char *name);
void rig_free(struct rig *rig);
typedef struct rig Rig;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)
void rig_start_daemon(struct rig *rig, const char *const *args);
void rig_start_vm(struct rig *rig, struct vm_options options);
struct vm *rig_another_vm(struct rig *rig, const char *name, struct vm_options options);
char *rig_plugin(struct rig *rig, const char *rest);    /* "...so,socket=...,REST" */

/* --- JSON ----------------------------------------------------------------------------------- */

JsonNode *json_at(JsonObject *from, const char *path);  /* NULL: there is no such thing */
gint64 json_int(JsonObject *from, const char *path);    /* these assert that it is there */
const char *json_text(JsonObject *from, const char *path);
bool json_flag(JsonObject *from, const char *path);

/* --- asking --------------------------------------------------------------------------------- */

JsonObject *ask(struct qmp *qmp, const char *command, const char *args);    /* an object comes */
JsonObject *rig_query(struct rig *rig);                 /* x-vmtier-query */
JsonObject *rig_status(struct rig *rig);                /* what the daemon says of "vm" */
gint64 rig_daemon_int(struct rig *rig, const char *path);
bool rig_daemon_flag(struct rig *rig, const char *path);
/* Waits until the daemon's number for "vm" is this; asserts. */
void rig_wait_int(struct rig *rig, const char *path, gint64 wanted, double timeout);
/* Waits until it is at least / at most so much; returns whether it came to be. */
bool rig_reaches(struct rig *rig, const char *path, gint64 least, double timeout);
bool rig_falls_to(struct rig *rig, const char *path, gint64 most, double timeout);
void rig_wait_state(struct rig *rig, const char *state);
/* x-vmtier-move of RAM block ram0; asserts that all granules moved. */
void rig_move(struct rig *rig, uint64_t offset, uint64_t length, const char *tier);
void rig_set_mode(struct rig *rig, const char *mode);
/* vmtier-move, with further arguments ("", or ",\"ranges\":[...]"); returns the event by which it ended. */
JsonObject *rig_order(struct rig *rig, const char *tier, const char *more, double timeout);
/* Asserts that an error says so (a pattern with * and ?). */
void says(const char *error, const char *pattern);
bool log_says(struct child *child, const char *text, double timeout);

/* Bytes of guest RAM in each of its files, as QEMU's descriptors tell. */
uint64_t rig_dram_bytes(struct rig *rig);
uint64_t rig_cxl_bytes(struct rig *rig);

#endif
