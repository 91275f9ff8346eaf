// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attaching VMs whose QEMU has no plugin, by their pid: the commands vmtier-attach and vmtier-detach,
 * and pidfile= of the configuration.
 *
 * Whoever may talk to the control socket may have such a VM attached, as he may change quotas; but only
 * processes that are a QEMU are taken, and the kernel asks of the daemon what it asks of ptrace(2) before
 * it moves a page of another process. That is tried at once.
 *
 * A VM that names a pidfile is attached whenever its QEMU runs, so also after the daemon was restarted. A
 * pidfile that was left behind may name a process that has nothing to do with it: one that started
 * after the file was written is not taken.
 */
#include "host/daemon.h"
#include "host/error.h"
#include "host/mover/mover.h"
#include "host/process.h"
#include "host/qemu-ram.h"

#include <errno.h>
#include <numaif.h>
#include <string.h>
#include <sys/stat.h>

#define PIDFILE_S 2
#define PID_MOST  (1 << 22)

#define REFUSE(error, ...) \
    (g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, __VA_ARGS__), NULL)

/* --- may it be attached? ------------------------------------------------------------------------------------ */

static struct vm *find_pid(struct daemon *d, pid_t pid)
{
    for (guint i = 0; i < d->vms->len; i++) {
        struct vm *vm = g_ptr_array_index(d->vms, i);

        if (vm->pid == (guint32)pid && !g_atomic_int_get(&vm->gone))
            return vm;
    }
    return NULL;
}

/* The kernel's own check, with a question about a page. */
static bool may_move(const struct process *p, GError **error)
{
    void *page = NULL;
    int status = 0;

    if (move_pages(p->pid, 1, &page, NULL, &status, 0) == 0)
        return true;
    return REFUSE(error, "process %d: move_pages: %s%s", (int)p->pid, g_strerror(errno),
                  errno == EPERM ? ": run vmtierd as its user, or with CAP_SYS_PTRACE" : "");
}

static bool has_no_plugin(const struct process *p, GError **error)
{
    g_autoptr(GArray) maps = process_maps(p, error);

    if (!maps || !qemu_has_plugin(maps))
        return maps != NULL;
    return REFUSE(error, "process %d has the plugin loaded: it attaches by itself, and can do more then",
                  (int)p->pid);
}

static bool name_is_good(struct daemon *d, const char *name, GError **error)
{
    if (!vm_name_is_good(name))
        return REFUSE(error, "the name '%.60s' is empty, too long or has other characters than letters, "
                      "digits and ._:@+-: give another one", name);
    if (daemon_find_vm(d, name))
        return REFUSE(error, "a VM '%s' is attached already: give this one another name", name);
    return true;
}

static bool is_refused(struct vm *vm)
{
    bool refused;

    g_mutex_lock(&vm->lock);
    refused = vm->mover == &mover_numa && vm->shown.state == VM_REFUSED;
    g_mutex_unlock(&vm->lock);
    return refused;
}

static bool pid_is_free(struct daemon *d, gint64 pid, GError **error)
{
    struct vm *vm;

    if (pid <= 0 || pid > PID_MOST)
        return REFUSE(error, "there is no pid %" G_GINT64_FORMAT, pid);
    vm = find_pid(d, (pid_t)pid);
    if (vm && is_refused(vm)) {     /* it may be tried again, with a monitor say */
        g_atomic_int_set(&vm->gone, 1);
        return true;
    }
    return !vm || REFUSE(error, "process %" G_GINT64_FORMAT " is attached already, as VM '%s'", pid,
                         vm->name);
}

static bool quota_has_room(const struct vm_config *c, const char *name, GError **error)
{
    return !c->quota.bytes || c->quota.bytes >= c->granule ||
           REFUSE(error, "%s: its quota is less than a granule", name);
}

/* --- attaching ------------------------------------------------------------------------------------------------ */

static void take_on(struct daemon *d, const char *name, struct process *p /* take */,
                    const char *monitor)
{
    struct vt_hello hello = { .pid = (guint32)p->pid, .page_size = 4096 };
    struct vm *vm;

    hello.accel = process_has_kvm(p) ? VT_ACCEL_KVM : VT_ACCEL_OTHER;
    g_strlcpy(hello.name, name, sizeof(hello.name));
    for (int i = 0; i < VT_SRC_END; i++)
        g_strlcpy(hello.no_source[i], "attached by pid, without the plugin", VT_NAME);
    vm = vm_new(d, &hello, -1);
    g_free(vm->qemu);
    vm->qemu = g_strdup("unknown");
    numa_take(vm, p, monitor);
    daemon_take_on(d, vm);
}

static struct vm *attach(struct daemon *d, gint64 pid, const char *name, const char *monitor,
                         GError **error)
{
    g_autoptr(Process) p = NULL;
    g_autofree char *own = NULL;

    if (monitor && !g_path_is_absolute(monitor))
        return REFUSE(error, "the path of its monitor, '%s', has to begin with /", monitor);
    if (!pid_is_free(d, pid, error) || !(p = process_open((pid_t)pid, error)))
        return NULL;
    if (!process_is_qemu(p))
        return REFUSE(error, "process %d is %s, which is no QEMU", (int)pid, p->exe);
    own = name ? g_strdup(name) : qemu_cmdline_name(p->argv);
    if (!own)
        own = g_strdup_printf("qemu-%d", (int)pid);
    if (!name_is_good(d, own, error) || !may_move(p, error) || !has_no_plugin(p, error) ||
        !quota_has_room(config_for_vm(d->config, own), own, error))
        return NULL;
    if (!monitor)
        monitor = config_for_vm(d->config, own)->monitor;
    take_on(d, own, g_steal_pointer(&p), monitor);
    return daemon_find_vm(d, own);
}

static const char *text_arg(JsonObject *args, const char *name)
{
    return json_object_has_member(args, name) ? json_object_get_string_member(args, name) : NULL;
}

static JsonNode *attach_command(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = attach(opaque, json_object_get_int_member(args, "pid"), text_arg(args, "vm"),
                           text_arg(args, "qmp"), error);
    JsonObject *reply;
    JsonNode *node;

    if (!vm)
        return NULL;
    reply = json_object_new();
    json_object_set_string_member(reply, "vm", vm->name);
    node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, reply);
    return node;
}

/* --- detaching ------------------------------------------------------------------------------------------------- */

/* Its pidfile is not to bring it back at once. */
static void let_go(struct vm *vm, enum vm_leaving how)
{
    struct vm_config *c = g_hash_table_lookup(vm->daemon->config->vms, vm->name);

    if (c)
        c->pid_left = vm->pid;
    g_atomic_int_set(&vm->leaving, how);
}

static JsonNode *detach_command(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = daemon_vm_arg(args, opaque, error);
    bool home = json_object_has_member(args, "home") && json_object_get_boolean_member(args, "home");

    if (!vm)
        return NULL;
    if (vm->mover != &mover_numa)
        return REFUSE(error, "%s attached by itself, with the plugin: use mode off to leave it alone",
                      vm->name);
    let_go(vm, home ? VM_GOES_HOME : VM_LEAVES);
    return NULL;
}

/* The plugin of a VM that was attached by pid knocks. It will knock again. */
bool daemon_switch_over(struct daemon *d, guint32 pid, char *why, size_t size)
{
    struct vm *vm = find_pid(d, (pid_t)pid);

    if (!vm || vm->mover != &mover_numa)
        return false;
    let_go(vm, VM_GOES_HOME);
    g_snprintf(why, size, "pid %u is attached without the plugin as %.60s: its memory is brought to dram "
               "first, then the plugin takes over", pid, vm->name);
    return true;
}

/* --- pidfiles ---------------------------------------------------------------------------------------------------- */

/* 0: nothing there. */
static gint64 read_pidfile(const char *path, double *written)
{
    g_autofree char *text = NULL;
    struct stat st;

    if (stat(path, &st) || st.st_size > 32 || !g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    *written = (double)st.st_mtim.tv_sec + (double)st.st_mtim.tv_nsec / 1e9;
    return g_ascii_strtoll(text, NULL, 10);
}

static bool wrote_it(gint64 pid, double written)
{
    g_autoptr(Process) p = process_open((pid_t)pid, NULL);

    return p && process_started_at(p) <= written + 1;
}

/* What went wrong is said when it is not what went wrong before. */
static void try_pidfile(struct daemon *d, const char *name, struct vm_config *c)
{
    g_autoptr(GError) error = NULL;
    double written = 0;
    gint64 pid;

    if (!c->pidfile || daemon_find_vm(d, name))
        return;
    pid = read_pidfile(c->pidfile, &written);
    if (pid <= 0 || pid > PID_MOST || pid == c->pid_left || !wrote_it(pid, written))
        return;
    if (attach(d, pid, name, c->monitor, &error)) {
        c->pid_refused = 0;
    } else if (c->pid_refused != pid) {
        g_warning("%s: %s: %s", name, c->pidfile, error->message);
        c->pid_refused = pid;
    }
}

static gboolean try_pidfiles(gpointer data)
{
    struct daemon *d = data;
    GHashTableIter iter;
    gpointer name, vm;

    g_hash_table_iter_init(&iter, d->config->vms);
    while (g_hash_table_iter_next(&iter, &name, &vm))
        try_pidfile(d, name, vm);
    return G_SOURCE_CONTINUE;
}

void daemon_watch_pidfiles(struct daemon *d)
{
    GHashTableIter iter;
    gpointer vm;
    bool any = false;

    g_hash_table_iter_init(&iter, d->config->vms);
    while (g_hash_table_iter_next(&iter, NULL, &vm))
        any |= ((struct vm_config *)vm)->pidfile != NULL;
    if (!any)
        return;
    try_pidfiles(d);
    g_timeout_add_seconds(PIDFILE_S, try_pidfiles, d);
}

/* --- the table ------------------------------------------------------------------------------------ */

static const struct qmp_arg attach_args[] = {
    { "pid", QMP_INT, true }, { "vm", QMP_STRING, false }, { "qmp", QMP_STRING, false }, { 0 },
};
static const struct qmp_arg detach_args[] = {
    { "vm", QMP_STRING, true }, { "home", QMP_BOOL, false }, { 0 },
};

const struct qmp_command attach_commands[] = {
    { "vmtier-attach", attach_args, attach_command },
    { "vmtier-detach", detach_args, detach_command },
    { 0 },
};
