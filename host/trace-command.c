// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands about recordings. They run in the main thread.
 *
 * A recording goes to whoever asked for it, on the connection of the request: so the daemon opens no file
 * for anybody, and who may control it may record. Whoever it is writes the file; when he goes, it ends.
 */
#include "host/daemon.h"
#include "host/trace-tap.h"

#include <unistd.h>

#define SECONDS_MOST 1e7

#define REFUSE(error, ...) \
    (g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, __VA_ARGS__), NULL)

struct request {
    struct vm *vm;
    double seconds;
};

/* With the VM's lock. */
static bool is_recorded(const struct vm *vm)
{
    struct recorder_state state = { .ended = true };

    if (vm->recorder)
        recorder_look(vm->recorder, &state);
    return !state.ended;
}

/* The client has its reply; what follows on the connection is the recording. */
static void begin(gpointer data, int fd)
{
    g_autofree struct request *request = data;
    g_autoptr(Vm) vm = request->vm;
    const struct trace_header header = tap_header(vm);
    bool free_to_take;

    if (fd < 0)
        return;
    g_mutex_lock(&vm->lock);
    free_to_take = !is_recorded(vm) && !g_atomic_int_get(&vm->gone);
    if (free_to_take) {
        g_clear_pointer(&vm->recorder, recorder_unref);
        vm->recorder = recorder_new(&header, fd, request->seconds);
    }
    g_mutex_unlock(&vm->lock);
    if (free_to_take)
        g_message("%s: its observations are being recorded", vm->name);
    else
        close(fd);
}

static JsonNode *record_start(JsonObject *args, gpointer opaque, GError **error)
{
    const double seconds = json_object_get_double_member_with_default(args, "seconds", 0);
    struct daemon *d = opaque;
    struct vm *vm = daemon_vm_arg(args, d, error);
    struct request *request;
    bool busy;

    if (!vm)
        return NULL;
    if (!(seconds >= 0 && seconds <= SECONDS_MOST))
        return REFUSE(error, "%s: a recording of %g seconds", vm->name, seconds);
    g_mutex_lock(&vm->lock);
    busy = is_recorded(vm);
    g_mutex_unlock(&vm->lock);
    if (busy)
        return REFUSE(error, "%s is being recorded already: wait for its end, or give "
                      "vmtier-record-stop", vm->name);
    request = g_new0(struct request, 1);
    request->vm = vm_ref(vm);
    request->seconds = seconds;
    qmp_server_hand_over(d->qmp, begin, request);
    return NULL;
}

static JsonNode *record_stop(JsonObject *args, gpointer opaque, GError **error)
{
    struct vm *vm = daemon_vm_arg(args, opaque, error);
    bool was;

    if (!vm)
        return NULL;
    g_mutex_lock(&vm->lock);
    was = is_recorded(vm);
    if (was)
        recorder_end(vm->recorder, TRACE_ASKED);
    g_mutex_unlock(&vm->lock);
    return was ? NULL : REFUSE(error, "%s is not being recorded", vm->name);
}

static JsonObject *view_recording(const struct vm *vm)
{
    JsonObject *o = json_object_new();
    struct recorder_state s;

    recorder_look(vm->recorder, &s);
    json_object_set_string_member(o, "vm", vm->name);
    json_object_set_double_member(o, "seconds", s.seconds);
    json_object_set_int_member(o, "rounds", (gint64)s.rounds);
    json_object_set_int_member(o, "observations", (gint64)s.observations);
    json_object_set_int_member(o, "lost_rounds", (gint64)s.lost_rounds);
    json_object_set_int_member(o, "lost_observations", (gint64)s.lost_observations);
    json_object_set_int_member(o, "bytes", (gint64)s.bytes);
    json_object_set_boolean_member(o, "ended", s.ended);
    if (s.error[0])
        json_object_set_string_member(o, "error", s.error);
    else
        json_object_set_null_member(o, "error");
    return o;
}

static JsonNode *query_recordings(JsonObject *args, gpointer opaque, GError **error)
{
    struct daemon *d = opaque;
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);
    JsonArray *list = json_array_new();

    (void)args, (void)error;
    for (guint i = 0; i < d->vms->len; i++) {
        struct vm *vm = g_ptr_array_index(d->vms, i);

        g_mutex_lock(&vm->lock);
        if (vm->recorder)
            json_array_add_object_element(list, view_recording(vm));
        g_mutex_unlock(&vm->lock);
    }
    json_node_take_array(node, list);
    return node;
}

static const struct qmp_arg start_args[] = {
    { "vm", QMP_STRING, true }, { "seconds", QMP_NUMBER, false }, { 0 },
};
static const struct qmp_arg stop_args[] = { { "vm", QMP_STRING, true }, { 0 } };

const struct qmp_command record_commands[] = {
    { "vmtier-record-start", start_args, record_start },
    { "vmtier-record-stop", stop_args, record_stop },
    { "query-vmtier-recordings", NULL, query_recordings },
    { 0 },
};
