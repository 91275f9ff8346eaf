// SPDX-License-Identifier: GPL-2.0-or-later
/* vmtierd: start, options, stop. */
#include "host/daemon.h"
#include "host/sharing.h"
#include "host/error.h"
#include "host/libvirt.h"
#include "host/libvirt-module.h"
#include "host/source/damon.h"
#include "host/trace-record.h"
#include "common/fault.h"
#include "common/version.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <locale.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* As many as it takes: a VM has one job at most, and one whose QEMU does not answer, and so holds its
 * worker for LINK_MS, must not keep the others waiting. */
#define WORKERS (-1)

#define RECORDS_END_S 2.0       /* what recordings may take to end when the daemon does */

/* --- things other files ask for ------------------------------------------------------------------------ */

struct vm *daemon_find_vm(struct daemon *d, const char *name)
{
    for (guint i = 0; i < d->vms->len; i++) {
        struct vm *vm = g_ptr_array_index(d->vms, i);

        if (!strcmp(vm->name, name) && !g_atomic_int_get(&vm->gone))
            return vm;
    }
    return NULL;
}

void daemon_forget(struct daemon *d, struct vm *vm)
{
    g_ptr_array_remove_fast(d->vms, vm);
}

/* An event on its way from a worker to the main thread. */
struct news {
    struct daemon *daemon;
    const char *event;
    JsonObject *data;
};

static gboolean deliver(gpointer data)
{
    struct news *n = data;
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, n->data);
    qmp_server_emit(n->daemon->qmp, n->event, node);
    g_free(n);
    return G_SOURCE_REMOVE;
}

void daemon_tell(struct daemon *d, const char *event, JsonObject *data)
{
    struct news *n = g_new0(struct news, 1);

    n->daemon = d;
    n->event = event;
    n->data = data;
    g_main_context_invoke(NULL, deliver, n);
}

void daemon_emit(struct daemon *d, const char *event, const char *vm, const char *text)
{
    daemon_tell_text(d, event, vm, "reason", text);
}

/* --- options ---------------------------------------------------------------------------------------------- */

struct flags {
    char *config, *vmm_socket, *qmp_socket, *log_level, *quota, *mode, *rate, *granule;
    char *vmm_group, *libvirt;
    gboolean version;
};

static bool parse_flags(struct flags *f, int *argc, char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        { "config", 'c', 0, G_OPTION_ARG_FILENAME, &f->config,
          "Configuration (default: " CONFIG_FILE ")", "FILE" },
        { "vmm-socket", 0, 0, G_OPTION_ARG_FILENAME, &f->vmm_socket,
          "Where QEMU finds the daemon", "PATH" },
        { "qmp-socket", 0, 0, G_OPTION_ARG_FILENAME, &f->qmp_socket,
          "Where vmtier and QMP clients find it", "PATH" },
        { "vmm-group", 0, 0, G_OPTION_ARG_STRING, &f->vmm_group,
          "Whose members may connect there", "GROUP" },
        { "libvirt", 0, 0, G_OPTION_ARG_STRING, &f->libvirt,
          "Whose domains' settings to follow (" LIBVIRT_URI "), or off", "URI" },
        { "log-level", 'l', 0, G_OPTION_ARG_STRING, &f->log_level,
          "error, warning, message, info or debug", "LEVEL" },
        { "quota", 'q', 0, G_OPTION_ARG_STRING, &f->quota,
          "DRAM of a VM that has no quota of its own", "SIZE|PCT%" },
        { "mode", 'm', 0, G_OPTION_ARG_STRING, &f->mode, "on, observe or off", "MODE" },
        { "rate", 'r', 0, G_OPTION_ARG_STRING, &f->rate, "Bytes moved per second", "SIZE" },
        { "granule", 'g', 0, G_OPTION_ARG_STRING, &f->granule, "Unit of placement", "SIZE" },
        { "version", 'V', 0, G_OPTION_ARG_NONE, &f->version, "Print the version", NULL },
        { NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_set_summary(context, "Keeps the hot memory of virtual machines in DRAM and the "
                                 "rest on CXL.");
    g_option_context_set_description(context, "See vmtierd(8), vmtierd.conf(5) and vmtier(1).");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error))
        return false;
    if (*argc > 1) {
        g_set_error(error, VMT_ERROR, EINVAL, "unexpected argument '%s'", (*argv)[1]);
        return false;
    }
    return true;
}

static void overrule(char **to, char *flag)
{
    if (!flag)
        return;
    g_free(*to);
    *to = g_strdup(flag);
}

static bool set_for_all(struct config *c, const char *key, const char *value, GError **error)
{
    GHashTableIter iter;
    gpointer vm;

    if (!value)
        return true;
    g_hash_table_iter_init(&iter, c->vms);
    while (g_hash_table_iter_next(&iter, NULL, &vm))
        if (!vm_config_set(vm, key, value, error))
            return false;
    return vm_config_set(&c->defaults, key, value, error);
}

static struct config *load(const struct flags *f, GError **error)
{
    g_autoptr(Config) c = config_load(f->config, error);

    if (!c)
        return NULL;
    overrule(&c->vmm_socket, f->vmm_socket);
    overrule(&c->qmp_socket, f->qmp_socket);
    overrule(&c->vmm_group, f->vmm_group);
    overrule(&c->libvirt, f->libvirt);
    if (!g_strcmp0(c->libvirt, "off"))
        g_clear_pointer(&c->libvirt, g_free);
    if ((f->log_level && !log_level_parse(f->log_level, &c->log_level, error)) ||
        !set_for_all(c, "quota", f->quota, error) || !set_for_all(c, "mode", f->mode, error) ||
        !set_for_all(c, "rate", f->rate, error) || !set_for_all(c, "granule", f->granule, error) ||
        !config_check(c, error))
        return NULL;
    return g_steal_pointer(&c);
}

static void free_flags(struct flags *f)
{
    char **const all[] = { &f->config, &f->vmm_socket, &f->qmp_socket, &f->log_level,
                           &f->quota, &f->mode, &f->rate, &f->granule, &f->vmm_group, &f->libvirt };

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        g_clear_pointer(all[i], g_free);
}

/* --- log ---------------------------------------------------------------------------------------------------- */

static GLogLevelFlags most_verbose;

static GLogWriterOutput write_log(GLogLevelFlags level, const GLogField *fields, gsize n,
                                  gpointer unused)
{
    (void)unused;
    if ((level & G_LOG_LEVEL_MASK) > most_verbose)
        return G_LOG_WRITER_HANDLED;
    for (gsize i = 0; i < n; i++)
        if (!strcmp(fields[i].key, "MESSAGE"))
            g_printerr("vmtierd: %s\n", (const char *)fields[i].value);
    return G_LOG_WRITER_HANDLED;
}

/* Events of workers that ended just now; bounded, as a client may be talking all the time. */
static void deliver_rest(void)
{
    for (int i = 0; i < 100 && g_main_context_iteration(NULL, FALSE); i++)
        ;
}

/* --- start and stop ------------------------------------------------------------------------------------------- */

static void open_userfault(struct daemon *d)
{
    d->userfault = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (d->userfault >= 0)
        return;
    d->no_userfault = g_strdup_printf("/dev/userfaultfd: %s: run vmtierd as root, or give its user "
                                      "access to that device", g_strerror(errno));
    g_warning("%s; VMs will be refused", d->no_userfault);
}

/* Each VM's block has a file per tier, which the daemon keeps open. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool make_directory(const char *socket, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(socket);

    if (g_mkdir_with_parents(dir, 0755) == 0)
        return true;
    g_set_error(error, VMT_ERROR, errno, "%s: %s", dir, g_strerror(errno));
    return false;
}

static bool start_faults(GError **error)
{
    struct vt_err err;
    int rc = fault_init(&err);

    if (rc < 0)
        g_set_error(error, VMT_ERROR, err.code, "%s", err.text);
    if (rc > 0)
        g_warning("VMTIER_TEST_FAULT is set: calls will FAIL and the daemon will DIE on purpose");
    return rc >= 0;
}

static bool start(struct daemon *d, GError **error)
{
    static const struct qmp_command *const tables[] = {
        control_commands, sharing_commands, attach_commands, order_commands, report_commands,
        record_commands, spread_commands, libvirt_commands, NULL,
    };

    most_verbose = d->config->log_level;
    g_log_set_writer_func(write_log, NULL, NULL);
    d->started_us = g_get_monotonic_time();
    d->listener = d->userfault = -1;
    d->vms = g_ptr_array_new_with_free_func((GDestroyNotify)vm_unref);
    d->tiers = tiers_new(d->config, error);
    if (!d->tiers || !start_faults(error) || !make_directory(d->config->qmp_socket, error) ||
        !make_directory(d->config->vmm_socket, error))
        return false;
    raise_file_limit();
    damon_recover(d->config);
    open_userfault(d);
    d->workers = g_thread_pool_new(daemon_work, NULL, WORKERS, FALSE, error);
    if (!d->workers)
        return false;
    d->qmp = qmp_server_new(d->config->qmp_socket, tables, d, error);
    if (!d->qmp || !sharing_start(d, error))
        return false;
    libvirt_start(d);           /* before a VM attaches */
    return daemon_listen(d, error);
}

static void stop(struct daemon *d)
{
    g_atomic_int_set(&d->stopping, 1);
    daemon_unlisten(d);
    libvirt_stop(d);
    for (guint i = 0; d->vms && i < d->vms->len; i++)   /* so that no worker waits for QEMU */
        shutdown(((struct vm *)g_ptr_array_index(d->vms, i))->link, SHUT_RDWR);
    if (d->workers)
        g_thread_pool_free(d->workers, FALSE, TRUE);
    deliver_rest();
    g_clear_pointer(&d->vms, g_ptr_array_unref);
    recorders_wait(RECORDS_END_S);
    g_clear_pointer(&d->qmp, qmp_server_free);
    g_clear_pointer(&d->tiers, tiers_free);
    if (d->userfault >= 0)
        close(d->userfault);
    g_free(d->no_userfault);
    g_clear_pointer(&d->config, config_free);
}

static gboolean asked_to_stop(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_CONTINUE;
}

static int run(struct daemon *d, GError **error)
{
    if (!start(d, error)) {
        stop(d);
        return 2;
    }
    d->loop = g_main_loop_new(NULL, FALSE);
    g_unix_signal_add(SIGTERM, asked_to_stop, d->loop);
    g_unix_signal_add(SIGINT, asked_to_stop, d->loop);
    for (guint t = 1; t < d->tiers->n; t++)
        if (d->tiers->tier[t].emulated)
            g_message("tier %s is emulated: %s", d->tiers->tier[t].name, d->tiers->tier[t].reason);
    daemon_watch_pidfiles(d);
    g_message("ready: QEMU at %s, control at %s", d->config->vmm_socket, d->config->qmp_socket);
    g_main_loop_run(d->loop);
    g_main_loop_unref(d->loop);
    stop(d);
    return 0;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    struct daemon daemon = { 0 };
    struct flags flags = { 0 };
    int rc = 2;

    setlocale(LC_ALL, "");
    if (parse_flags(&flags, &argc, &argv, &error) && flags.version) {
        g_print("vmtierd %s\n", VMTIER_VERSION);
        rc = 0;
    } else if (!error && (daemon.config = load(&flags, &error))) {
        rc = run(&daemon, &error);
    }
    if (error)
        g_printerr("vmtierd: %s\n", error->message);
    free_flags(&flags);
    return rc;
}
