// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The only file that touches QEMU's symbols, with qemu-access.c and qemu-migration.c, its other parts.
 *
 * The plugin is loaded by a stock QEMU: nothing of QEMU is linked, every function is found with
 * dlsym(), and only through exported functions whose signature is the same from 7.2 to 10.x. No
 * field of a QEMU struct is ever read: offsets move between releases. The two structs we hand to
 * QEMU (a notifier and a memory listener) begin with members that have not moved, and are followed
 * by slack.
 *
 * What differs between releases:
 *   plugin API      7.2 takes versions 0..1, 10.0 takes 2..4: the exported version is set in a
 *                   constructor, before the loader reads it.
 *   big lock        qemu_mutex_iothread_locked / bql_locked: one of the two exists.
 */
#include "vmm/qemu.h"
#include "vmm/qemu-symbols.h"
#include "vmm/plugin.h"
#include "vmtier/wire.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef __int128 qemu_int128;
typedef void qmp_fn(void *args, void **ret, void **errp);
typedef bool flatview_fn(qemu_int128 start, qemu_int128 length, void *mr, uint64_t offset,
                         void *opaque);

/* return type, name, arguments */
#define NEEDED(F) \
    F(void, qmp_register_command, (void *, const char *, qmp_fn *, int, uint64_t)) \
    F(void *, qobject_from_json, (const char *, void **)) \
    F(const char *, qdict_get_try_str, (void *, const char *)) \
    F(int64_t, qdict_get_try_int, (void *, const char *, int64_t)) \
    F(void *, qdict_first, (void *)) \
    F(void *, qdict_next, (void *, void *)) \
    F(const char *, qdict_entry_key, (void *)) \
    F(void, error_setg_internal, (void **, const char *, int, const char *, const char *, ...)) \
    F(void, error_free, (void *)) \
    F(void, error_vreport, (const char *, va_list)) \
    F(void, qapi_event_emit, (int, void *)) \
    F(int, qapi_enum_parse, (void *, const char *, int, void **)) \
    F(char *, qmp_human_monitor_command, (const char *, bool, int64_t, void **)) \
    F(void, aio_bh_schedule_oneshot_full, (void *, void (*)(void *), void *, const char *)) \
    F(void *, qemu_get_aio_context, (void)) \
    F(const char *, current_accel_name, (void)) \
    F(int, qemu_ram_foreach_block, (int (*)(void *, void *), void *)) \
    F(const char *, qemu_ram_get_idstr, (void *)) \
    F(void *, qemu_ram_get_host_addr, (void *)) \
    F(uint64_t, qemu_ram_get_offset, (void *)) \
    F(uint64_t, qemu_ram_get_used_length, (void *)) \
    F(int, qemu_ram_get_fd, (void *)) \
    F(size_t, qemu_ram_pagesize, (void *)) \
    F(bool, qemu_ram_is_shared, (void *)) \
    F(void *, address_space_get_flatview, (void *)) \
    F(void, flatview_for_each_range, (void *, flatview_fn *, void *)) \
    F(void, flatview_unref, (void *)) \
    F(uint64_t, memory_region_get_ram_addr, (void *)) \
    F(void *, memory_region_get_ram_ptr, (void *)) \
    F(bool, memory_region_is_ram_device, (void *)) \
    F(void *, memory_region_from_host, (void *, uint64_t *)) \
    F(void, memory_region_set_log, (void *, bool, unsigned)) \
    F(void *, memory_region_snapshot_and_clear_dirty, (void *, uint64_t, uint64_t, unsigned)) \
    F(bool, memory_region_snapshot_get_dirty, (void *, void *, uint64_t, uint64_t)) \
    F(void, memory_listener_register, (void *, void *)) \
    F(void, qemu_add_machine_init_done_notifier, (void *)) \
    F(void, qemu_add_exit_notifier, (void *)) \
    F(int, ram_block_discard_require, (bool)) \
    F(void *, object_get_root, (void)) \
    F(int, object_child_foreach_recursive, (void *, int (*)(void *, void *), void *)) \
    F(const char *, object_get_typename, (void *)) \
    F(char *, object_get_canonical_path, (void *)) \
    F(void *, object_resolve_path, (const char *, bool *)) \
    F(void *, object_property_find, (void *, const char *)) \
    F(bool, object_property_get_bool, (void *, const char *, void **)) \
    F(void *, bdrv_next_node, (void *)) \
    F(const char *, bdrv_get_format_name, (void *)) \
    F(const char *, bdrv_get_node_name, (void *))

/* A missing one turns a feature off, or has a twin under another name. */
#define OPTIONAL(F) \
    F(bool, qemu_mutex_iothread_locked, (void)) \
    F(void, qemu_mutex_lock_iothread_impl, (const char *, int)) \
    F(void, qemu_mutex_unlock_iothread, (void)) \
    F(bool, bql_locked, (void)) \
    F(void, bql_lock_impl, (const char *, int)) \
    F(void, bql_unlock, (void)) \
    F(bool, kvm_dirty_ring_enabled, (void)) \
    F(const char *, qemu_get_vm_name, (void))

#define DECLARE(ret, name, args) static ret(*q_##name) args;
NEEDED(DECLARE)
OPTIONAL(DECLARE)
#undef DECLARE

#define ROW(ret, name, args) { #name, &q_##name },
static const struct qemu_symbol needed[] = { NEEDED(ROW) };
static const struct qemu_symbol optional[] = { OPTIONAL(ROW) };
#undef ROW

static void *qmp_commands, *address_space_memory, *event_lookup;
static int event_kind;
static const uint8_t *vm_uuid;
static const bool *vm_uuid_set;

/* The version the plugin loader reads: see the head of this file. */
VMTIER_EXPORT int qemu_plugin_version = 1;

__attribute__((constructor)) static void choose_plugin_version(void)
{
    if (dlsym(RTLD_DEFAULT, "qemu_plugin_num_vcpus"))
        qemu_plugin_version = 2;
}

void *qemu_find_data(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

int qemu_find_symbols(const struct qemu_symbol *list, size_t n, bool must, struct vt_err *err)
{
    for (size_t i = 0; i < n; i++) {
        void *address = qemu_find_data(list[i].name);

        if (!address && must)
            return vt_fail(err, ENOSYS, "this QEMU does not export %s: vmtier needs a QEMU from 7.2 "
                           "on, built with plugins and without hidden symbols", list[i].name);
        memcpy(list[i].slot, &address, sizeof(address));
    }
    return 0;
}

int qemu_bind(struct vt_err *err)
{
    int rc = qemu_find_symbols(needed, sizeof(needed) / sizeof(needed[0]), true, err);

    if (rc)
        return rc;
    qemu_find_symbols(optional, sizeof(optional) / sizeof(optional[0]), false, NULL);
    qemu_bind_migration();
    qmp_commands = qemu_find_data("qmp_commands");
    address_space_memory = qemu_find_data("address_space_memory");
    event_lookup = qemu_find_data("QAPIEvent_lookup");
    vm_uuid = qemu_find_data("qemu_uuid");
    vm_uuid_set = qemu_find_data("qemu_uuid_set");
    if (!qmp_commands || !address_space_memory || !event_lookup)
        return vt_fail(err, ENOSYS, "this QEMU does not export its command list or address space");
    if (!(q_bql_locked && q_bql_lock_impl && q_bql_unlock) &&
        !(q_qemu_mutex_iothread_locked && q_qemu_mutex_lock_iothread_impl &&
          q_qemu_mutex_unlock_iothread))
        return vt_fail(err, ENOSYS, "this QEMU has no big lock that vmtier knows");
    /* Any event that is not rate limited lends its number; the name is in the dict we give. */
    event_kind = q_qapi_enum_parse(event_lookup, "SHUTDOWN", -1, NULL);
    return event_kind < 0 ? vt_fail(err, ENOSYS, "this QEMU has no SHUTDOWN event") : 0;
}

bool qemu_have_bql(void)
{
    return q_bql_locked ? q_bql_locked() : q_qemu_mutex_iothread_locked();
}

/* --- facts ------------------------------------------------------------------------------- */

int qemu_accel_of(const char *name)
{
    /* They call themselves "KVM" and "tcg". */
    if (name && strcasestr(name, "kvm"))
        return VT_ACCEL_KVM;
    return name && strcasestr(name, "tcg") ? VT_ACCEL_TCG : VT_ACCEL_OTHER;
}

bool qemu_accel_is_kvm(void)
{
    return qemu_accel_of(q_current_accel_name()) == VT_ACCEL_KVM;
}

void qemu_get_info(struct qemu_info *info)
{
    char *version = qemu_monitor("info version");
    const char *name = q_qemu_get_vm_name ? q_qemu_get_vm_name() : NULL;

    memset(info, 0, sizeof(*info));
    if (version)
        sscanf(version, "%u.%u.%u", &info->major, &info->minor, &info->micro);
    free(version);
    info->accel = qemu_accel_of(q_current_accel_name());
    snprintf(info->name, sizeof(info->name), "%s", name ? name : "");
    if (vm_uuid && vm_uuid_set && *vm_uuid_set)
        memcpy(info->uuid, vm_uuid, sizeof(info->uuid));
}

char *qemu_monitor(const char *command)
{
    void *error = NULL;
    char *out = q_qmp_human_monitor_command(command, false, 0, &error);

    if (error)
        q_error_free(error);
    return out;     /* GLib's g_free() is free() */
}

void qemu_say(const char *format, ...)
{
    char line[400];
    va_list args;

    va_start(args, format);
    snprintf(line, sizeof(line), "vmtier: %s", format);
    if (q_error_vreport) {
        q_error_vreport(line, args);
    } else {
        vfprintf(stderr, line, args);
        fputc('\n', stderr);
    }
    va_end(args);
}

/* --- memory ------------------------------------------------------------------------------ */

struct each {
    union {
        qemu_ram_fn ram;
        qemu_range_fn range;
        qemu_object_fn object;
    };
    void *opaque;
};

static int each_block(void *rb, void *opaque)
{
    const struct each *e = opaque;
    struct qemu_ram ram = {
        .name = q_qemu_ram_get_idstr(rb),
        .host = q_qemu_ram_get_host_addr(rb),
        .length = q_qemu_ram_get_used_length(rb),
        .ram_addr = q_qemu_ram_get_offset(rb),
        .page_size = q_qemu_ram_pagesize(rb),
        .fd = q_qemu_ram_get_fd(rb),
        .shared = q_qemu_ram_is_shared(rb),
    };

    return e->ram(&ram, e->opaque);
}

void qemu_each_ram(qemu_ram_fn fn, void *opaque)
{
    struct each e = { .ram = fn, .opaque = opaque };

    q_qemu_ram_foreach_block(each_block, &e);
}

static bool each_range(qemu_int128 start, qemu_int128 length, void *mr, uint64_t offset,
                       void *opaque)
{
    const struct each *e = opaque;
    struct qemu_range range = { .gpa = (uint64_t)start, .length = (uint64_t)length };

    if (q_memory_region_get_ram_addr(mr) == UINT64_MAX)     /* not RAM */
        return false;
    range.host = (uint8_t *)q_memory_region_get_ram_ptr(mr) + offset;
    range.device = q_memory_region_is_ram_device(mr);
    return e->range(&range, e->opaque) != 0;
}

void qemu_each_range(qemu_range_fn fn, void *opaque)
{
    struct each e = { .range = fn, .opaque = opaque };
    void *view = q_address_space_get_flatview(address_space_memory);

    q_flatview_for_each_range(view, each_range, &e);
    q_flatview_unref(view);
}

static int each_object(void *object, void *opaque)
{
    const struct each *e = opaque;
    char *path = q_object_get_canonical_path(object);
    int stop = e->object(q_object_get_typename(object), path ? path : "?", e->opaque);

    free(path);
    return stop;
}

void qemu_each_object(qemu_object_fn fn, void *opaque)
{
    struct each e = { .object = fn, .opaque = opaque };

    q_object_child_foreach_recursive(q_object_get_root(), each_object, &e);
}

bool qemu_object_is(const char *path, const char *property)
{
    void *object = q_object_resolve_path(path, NULL);

    return object && q_object_property_find(object, property) &&
           q_object_property_get_bool(object, property, NULL);
}

void qemu_each_block_node(qemu_node_fn fn, void *opaque)
{
    for (void *bs = q_bdrv_next_node(NULL); bs; bs = q_bdrv_next_node(bs)) {
        const char *driver = q_bdrv_get_format_name(bs);

        if (fn(driver ? driver : "?", q_bdrv_get_node_name(bs), opaque))
            break;
    }
}

int qemu_forbid_pinning(void)
{
    static bool done;
    int rc = done ? 0 : q_ram_block_discard_require(true);

    done |= rc == 0;
    return rc;
}

/* --- dirty log --------------------------------------------------------------------------- */

#define DIRTY_CLIENT_VGA 0

int qemu_dirty_start(uint8_t *host, bool on)
{
    uint64_t offset;
    void *mr = q_memory_region_from_host(host, &offset);

    if (!mr)
        return -ENOENT;
    q_memory_region_set_log(mr, on, DIRTY_CLIENT_VGA);
    return 0;
}

bool qemu_dirty_ring(void)
{
    return q_kvm_dirty_ring_enabled && q_kvm_dirty_ring_enabled();
}

int qemu_dirty_take(uint8_t *host, uint64_t offset, uint64_t length, qemu_dirty_fn fn, void *opaque)
{
    const uint64_t step = 64 * 4096, end = offset + length;
    uint64_t unused;
    void *mr = q_memory_region_from_host(host, &unused), *snap;

    if (!mr)
        return -ENOENT;
    snap = q_memory_region_snapshot_and_clear_dirty(mr, offset, length, DIRTY_CLIENT_VGA);
    for (uint64_t at = offset; fn && at < end; at += step) {
        uint64_t n = end - at < step ? end - at : step;

        if (!q_memory_region_snapshot_get_dirty(mr, snap, at, n))
            continue;
        for (uint64_t page = at; page < at + n; page += 4096)
            if (q_memory_region_snapshot_get_dirty(mr, snap, page, 4096))
                fn(page, opaque);
    }
    free(snap);     /* g_malloc'ed */
    return 0;
}

/* --- main loop and hooks ----------------------------------------------------------------- */

static void take_bql(void)
{
    if (q_bql_lock_impl)
        q_bql_lock_impl(__FILE__, __LINE__);
    else
        q_qemu_mutex_lock_iothread_impl(__FILE__, __LINE__);
}

static void drop_bql(void)
{
    if (q_bql_unlock)
        q_bql_unlock();
    else
        q_qemu_mutex_unlock_iothread();
}

struct bottom_half {
    void (*fn)(void *opaque);
    void *opaque;
};

/* savevm waits for its disk without the big lock, and runs bottom halves meanwhile. */
static void run_bottom_half(void *opaque)
{
    struct bottom_half bh = *(struct bottom_half *)opaque;
    bool had = qemu_have_bql();

    free(opaque);
    if (!had)
        take_bql();
    bh.fn(bh.opaque);
    if (!had)
        drop_bql();
}

void qemu_bh(void (*fn)(void *opaque), void *opaque)
{
    struct bottom_half *bh = malloc(sizeof(*bh));

    if (!bh)
        abort();                /* as QEMU does when memory is out */
    *bh = (struct bottom_half){ fn, opaque };
    q_aio_bh_schedule_oneshot_full(q_qemu_get_aio_context(), run_bottom_half, bh, "vmtier");
}

/* QEMU's Notifier: a function and a list entry of two pointers. */
struct notifier {
    void (*notify)(struct notifier *self, void *data);
    void *entry[2];
    void *slack[4];
};

static void (*machine_done_fn)(void), (*layout_fn)(void), (*exit_fn)(void);

static void run_machine_done(struct notifier *self, void *data)
{
    (void)self;
    (void)data;
    machine_done_fn();
}

static void run_exit(struct notifier *self, void *data)
{
    (void)self;
    (void)data;
    exit_fn();
}

void qemu_on_machine_done(void (*fn)(void))
{
    static struct notifier n = { .notify = run_machine_done };

    machine_done_fn = fn;
    q_qemu_add_machine_init_done_notifier(&n);
}

void qemu_on_exit(void (*fn)(void))
{
    static struct notifier n = { .notify = run_exit };

    exit_fn = fn;
    q_qemu_add_exit_notifier(&n);
}

/*
 * QEMU's MemoryListener: 17 callbacks, a priority, a name, the address space and its links. The
 * order has held from 7.2 to 10.x; only callbacks we leave NULL have changed their arguments.
 */
struct listener {
    void (*begin)(struct listener *self);
    void (*commit)(struct listener *self);
    void *others[15];
    unsigned priority;
    const char *name;
    void *as, *links[4];
    void *slack[16];
};

static void run_commit(struct listener *self)
{
    (void)self;
    layout_fn();
}

void qemu_on_layout_change(void (*fn)(void))
{
    static struct listener l = { .commit = run_commit, .priority = 5, .name = "vmtier" };

    layout_fn = fn;
    q_memory_listener_register(&l, address_space_memory);
}

/* --- monitor ----------------------------------------------------------------------------- */

#define MAX_COMMANDS 8

static const struct qemu_command *commands[MAX_COMMANDS];
static int n_commands;

static bool known(const struct qemu_command *c, const char *key)
{
    for (const char *const *k = c->args; *k; k++)
        if (!strcmp(*k, key))
            return true;
    return false;
}

static const char *unknown_key(const struct qemu_command *c, void *args)
{
    for (void *e = q_qdict_first(args); e; e = q_qdict_next(args, e))
        if (!known(c, q_qdict_entry_key(e)))
            return q_qdict_entry_key(e);
    return NULL;
}

static void run_command(const struct qemu_command *c, void *args, void **ret, void **errp)
{
    struct vt_err err = { 0 };
    const char *stray = unknown_key(c, args);
    char *json = NULL;

    if (stray)
        vt_fail(&err, EINVAL, "Parameter '%s' is unexpected", stray);
    else
        json = c->run((const struct qemu_args *)args, &err);
    if (json)
        *ret = q_qobject_from_json(json, errp);
    else
        q_error_setg_internal(errp, __FILE__, __LINE__, __func__, "%s", err.text);
    free(json);
}

/* QEMU gives a command handler no pointer of ours, so each slot has a handler of its own. */
#define HANDLER(i) \
    static void handler_##i(void *args, void **ret, void **errp) \
    { \
        run_command(commands[i], args, ret, errp); \
    }
HANDLER(0) HANDLER(1) HANDLER(2) HANDLER(3) HANDLER(4) HANDLER(5) HANDLER(6) HANDLER(7)

static qmp_fn *const handlers[MAX_COMMANDS] = {
    handler_0, handler_1, handler_2, handler_3, handler_4, handler_5, handler_6, handler_7,
};

void qemu_register_command(const struct qemu_command *command)
{
    if (n_commands == MAX_COMMANDS)
        abort();
    commands[n_commands] = command;
    q_qmp_register_command(qmp_commands, command->name, handlers[n_commands++], 0, 0);
}

bool qemu_arg_string(const struct qemu_args *args, const char *key, const char **value)
{
    *value = q_qdict_get_try_str((void *)args, key);
    return *value != NULL;
}

bool qemu_arg_number(const struct qemu_args *args, const char *key, uint64_t *value)
{
    int64_t n = q_qdict_get_try_int((void *)args, key, -1);

    *value = (uint64_t)n;
    return n >= 0;
}

void qemu_event(const char *name, const char *data)
{
    struct timespec now;
    char json[1024];
    void *event;

    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(json, sizeof(json),
             "{\"event\": \"%s\", \"data\": %s, "
             "\"timestamp\": {\"seconds\": %lld, \"microseconds\": %ld}}",
             name, data, (long long)now.tv_sec, now.tv_nsec / 1000);
    /* The monitors take references of their own. Ours is lost: dropping it needs QObject's fields.
     * Events are few and small. */
    event = q_qobject_from_json(json, NULL);
    if (event)
        q_qapi_event_emit(event_kind, event);
}
