// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtierd for the tests: on private sockets in the lab's directory, stopped, killed and restarted.
 */
#include "harness.h"

#include <signal.h>

#define START_TIMEOUT 20.0
#define STOP_TIMEOUT 20.0

static void launch(struct vt_daemon *d)
{
    g_autofree char *program = lab_built("vmtierd");
    g_autofree char *config = lab_path(d->lab, "vmtierd.conf");
    g_autofree char *name = g_strdup_printf("vmtierd-%u", d->starts++);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    char *own[] = { program, "--config", config, "--vmm-socket", d->vmm_socket,
                    "--qmp-socket", d->qmp_socket };

    for (gsize i = 0; i < G_N_ELEMENTS(own); i++)
        g_ptr_array_add(argv, own[i]);
    for (char **arg = d->extra; arg && *arg; arg++)
        g_ptr_array_add(argv, *arg);
    g_ptr_array_add(argv, NULL);
    d->process = child_start(d->lab, name, (const char *const *)argv->pdata);
    d->qmp = qmp_open(d->qmp_socket, d->process, START_TIMEOUT);
}

/* A configuration file that a test has put there is used; the system's never is. */
static void ensure_config(struct lab *lab)
{
    g_autofree char *config = lab_path(lab, "vmtierd.conf");

    if (!g_file_test(config, G_FILE_TEST_EXISTS))
        g_file_set_contents(config, "", 0, NULL);
}

struct vt_daemon *daemon_start(struct lab *lab, const char *const *extra)
{
    struct vt_daemon *d = g_new0(struct vt_daemon, 1);

    d->lab = lab;
    d->vmm_socket = lab_path(lab, "vmm.sock");
    d->qmp_socket = lab_path(lab, "qmp.sock");
    d->extra = g_strdupv((char **)(gpointer)extra);
    ensure_config(lab);
    launch(d);
    return d;
}

static void forget(struct vt_daemon *d)
{
    if (d->qmp)
        qmp_close(d->qmp);
    if (d->process)
        child_free(d->process);
    d->qmp = NULL;
    d->process = NULL;
}

int daemon_stop(struct vt_daemon *d)
{
    child_kill(d->process, SIGTERM);
    if (!child_wait(d->process, STOP_TIMEOUT))
        g_error("vmtierd goes on %.0f s after SIGTERM", STOP_TIMEOUT);
    int status = d->process->status;

    forget(d);
    return status;
}

void daemon_kill(struct vt_daemon *d)
{
    child_kill(d->process, SIGKILL);
    child_wait(d->process, STOP_TIMEOUT);
    forget(d);
}

void daemon_restart(struct vt_daemon *d)
{
    g_assert_null(d->process);
    launch(d);
}

void daemon_free(struct vt_daemon *d)
{
    forget(d);
    g_free(d->vmm_socket);
    g_free(d->qmp_socket);
    g_strfreev(d->extra);
    g_free(d);
}

char *daemon_plugin(const struct vt_daemon *d, const char *id)
{
    g_autofree char *plugin = lab_built("vmtier-qemu.so");

    return g_strdup_printf("%s,socket=%s,vm=%s", plugin, d->vmm_socket, id);
}

/* --- what it says of a VM ------------------------------------------------------------------- */

JsonObject *daemon_vm(struct vt_daemon *d, const char *vm)
{
    g_autoptr(JsonNode) all = qmp_ok(d->qmp, "query-vmtier-vms", NULL);
    JsonArray *vms = json_node_get_array(all);

    for (guint i = 0; i < json_array_get_length(vms); i++) {
        JsonObject *one = json_array_get_object_element(vms, i);

        if (g_strcmp0(json_object_get_string_member(one, "name"), vm) == 0)
            return json_object_ref(one);
    }
    return NULL;
}

struct vm_wait {
    struct vt_daemon *d;
    const char *vm;
    bool (*ready)(JsonObject *vm, void *arg);
    void *arg;
};

static bool vm_is_ready(void *arg)
{
    struct vm_wait *w = arg;
    g_autoptr(JsonObject) vm = daemon_vm(w->d, w->vm);

    return vm && w->ready(vm, w->arg);
}

bool daemon_wait_vm(struct vt_daemon *d, const char *vm, bool (*ready)(JsonObject *vm, void *arg),
                    void *arg, double timeout)
{
    struct vm_wait w = { d, vm, ready, arg };

    return lab_wait(vm_is_ready, &w, timeout);
}

static bool has_state(JsonObject *vm, void *state)
{
    return g_strcmp0(json_object_get_string_member(vm, "state"), state) == 0;
}

void daemon_wait_vm_state(struct vt_daemon *d, const char *vm, const char *state, double timeout)
{
    if (daemon_wait_vm(d, vm, has_state, (void *)(gpointer)state, timeout))
        return;
    g_autoptr(JsonObject) last = daemon_vm(d, vm);

    g_error("VM %s is not '%s' after %.0f s but %s%s", vm, state, timeout, last ? "" : "unknown",
            last ? json_object_get_string_member(last, "state") : "");
}
