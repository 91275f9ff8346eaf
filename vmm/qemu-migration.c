// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What vmtier has to know of QEMU's migration: the third file that touches QEMU's symbols.
 *
 * All of it is optional. Only functions without arguments are asked for settings, whose results mean
 * the same in every release that has them, and enum values are looked up by name.
 *
 * What differs between releases:
 *   before a migration starts   7.2 to 8.1 call notifiers that cannot refuse, so such a migration is
 *                               cancelled, and its error set; from 9.0 on notifiers can refuse, and
 *                               each mode has notifiers of its own. What lies between is not served.
 *   locked memory               a flag in 7.2, a setting with three values in 10.0.
 */
#include "vmm/qemu-symbols.h"
#include "vmm/qemu.h"

#include <errno.h>
#include <stdlib.h>

struct notifier {                       /* QEMU's Notifier and NotifierWithReturn begin alike */
    int (*notify)(struct notifier *self, void *data, void **errp);
    void *entry[2];
    void *slack[4];
};

#define OPTIONAL(F) \
    F(int, qapi_enum_parse, (void *, const char *, int, void **)) \
    F(void, error_setg_internal, (void **, const char *, int, const char *, const char *, ...)) \
    F(void, error_free, (void *)) \
    F(bool, runstate_check, (int)) \
    F(bool, migrate_ignore_shared, (void)) \
    F(bool, migrate_postcopy_ram, (void)) \
    F(int, migrate_mode, (void)) \
    F(int, cpr_get_incoming_mode, (void)) \
    F(bool, should_mlock, (int)) \
    F(void, add_migration_state_change_notifier, (struct notifier *)) \
    F(bool, migration_in_setup, (void *)) \
    F(void, migrate_set_error, (void *, void *)) \
    F(void, qmp_migrate_cancel, (void **)) \
    F(void, migration_add_notifier_mode, \
      (struct notifier *, int (*)(struct notifier *, void *, void **), int))

#define DECLARE(ret, name, args) static ret(*q_##name) args;
OPTIONAL(DECLARE)
#undef DECLARE

#define ROW(ret, name, args) { #name, &q_##name },
static const struct qemu_symbol symbols[] = { OPTIONAL(ROW) };
#undef ROW

#define MODE_NORMAL 0
#define NOTIFIERS_REFUSE 9              /* the first QEMU in which a notifier can refuse */

static void *run_states, *modes;
static const bool *enable_mlock;
static const int *mlock_state;
static int in_migrate = -1;
static int (*before_fn)(struct vt_err *err);

static int value_of(void *lookup, const char *name)
{
    return lookup && q_qapi_enum_parse ? q_qapi_enum_parse(lookup, name, -1, NULL) : -1;
}

void qemu_bind_migration(void)
{
    qemu_find_symbols(symbols, sizeof(symbols) / sizeof(symbols[0]), false, NULL);
    run_states = qemu_find_data("RunState_lookup");
    modes = qemu_find_data("MigMode_lookup");
    enable_mlock = qemu_find_data("enable_mlock");
    mlock_state = qemu_find_data("mlock_state");
    in_migrate = value_of(run_states, "inmigrate");
}

bool qemu_incoming(void)
{
    return q_runstate_check && in_migrate >= 0 && q_runstate_check(in_migrate);
}

bool qemu_incoming_files(void)
{
    return q_cpr_get_incoming_mode && q_cpr_get_incoming_mode() > MODE_NORMAL;
}

bool qemu_postcopy(void)
{
    return q_migrate_postcopy_ram && q_migrate_postcopy_ram();
}

const char *qemu_hands_over_files(void)
{
    static const char *const names[] = { "cpr-reboot", "cpr-transfer", "cpr-exec" };
    int mode = q_migrate_mode ? q_migrate_mode() : MODE_NORMAL;

    if (q_migrate_ignore_shared && q_migrate_ignore_shared())
        return "capability x-ignore-shared";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (mode != MODE_NORMAL && mode == value_of(modes, names[i]))
            return names[i];
    return mode == MODE_NORMAL ? NULL : "a mode other than normal";
}

bool qemu_locks_memory(void)
{
    if (q_should_mlock && mlock_state)
        return *mlock_state != 0;       /* off is the first of its values */
    return enable_mlock && *enable_mlock;
}

/* --- before a migration reads RAM ----------------------------------------------------------------- */

/* 7.2: `state` is the MigrationState; called at the start and at the end. What it returns is not seen. */
static int run_old(struct notifier *self, void *state, void **unused)
{
    struct vt_err err = { 0 };
    void *error = NULL;

    (void)self;
    (void)unused;
    if (!q_migration_in_setup(state) || !before_fn(&err))
        return 0;
    q_error_setg_internal(&error, __FILE__, __LINE__, __func__, "%s", err.text);
    q_migrate_set_error(state, error);
    q_error_free(error);
    q_qmp_migrate_cancel(NULL);
    qemu_say("migration cancelled: %s", err.text);
    return 0;
}

/* Later: the event's one member is its kind, of which the first is the start. */
static int run_new(struct notifier *self, void *event, void **errp)
{
    struct vt_err err = { 0 };

    (void)self;
    if (*(const int *)event != 0 || !before_fn(&err))
        return 0;
    q_error_setg_internal(errp, __FILE__, __LINE__, __func__, "%s", err.text);
    return -err.code;
}

static bool watch_modes(void)
{
    static const char *const names[] = { "normal", "cpr-reboot", "cpr-transfer", "cpr-exec" };
    static struct notifier n[sizeof(names) / sizeof(names[0])];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int mode = value_of(modes, names[i]);

        if (mode >= 0)
            q_migration_add_notifier_mode(&n[i], run_new, mode);
    }
    return true;
}

bool qemu_before_migration(unsigned major, int (*fn)(struct vt_err *err))
{
    static struct notifier old = { .notify = run_old };

    before_fn = fn;
    if (q_migration_add_notifier_mode && modes && major >= NOTIFIERS_REFUSE)
        return watch_modes();
    if (!q_add_migration_state_change_notifier || !q_migration_in_setup || !q_migrate_set_error ||
        !q_qmp_migrate_cancel || !q_error_setg_internal || !q_error_free)
        return false;
    q_add_migration_state_change_notifier(&old);
    return true;
}
