// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier record`: writes down what a VM's sources see.
 *
 * The daemon sends the recording on a connection of its own; here it only goes to the file, which so is the
 * user's. A second connection asks how far it is, and ends it on Ctrl-C: then the daemon still sends the rest.
 */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"
#include "host/trace-read.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS 500

static char *output;
static double seconds;
static volatile sig_atomic_t interrupted;

static const GOptionEntry options[] = {
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &output, NULL, NULL },
    { "seconds", 's', 0, G_OPTION_ARG_DOUBLE, &seconds, NULL, NULL },
    { 0 },
};

struct recording {
    const char *vm;
    Client *stream, *control;
    int in, out;
    guint64 bytes;
    bool stopping;
    JsonObject *state;              /* what the daemon said last of it; NULL: nothing yet */
};

static bool fail(GError **error, const char *what, const char *why)
{
    g_set_error(error, CLI_ERROR, CLI_REFUSED, "%s: %s", what, why);
    return false;
}

/* --- the daemon ----------------------------------------------------------------------------------------- */

static bool ask_to_record(struct recording *r, GError **error)
{
    JsonObject *args = json_object_new();
    g_autoptr(JsonNode) reply = NULL;

    json_object_set_string_member(args, "vm", r->vm);
    if (seconds > 0)
        json_object_set_double_member(args, "seconds", seconds);
    reply = client_call(r->stream, "vmtier-record-start", args, error);
    return reply;
}

/* The recording goes on whether or not the daemon can say how far it is. */
static void look(struct recording *r)
{
    g_autoptr(JsonNode) reply = client_call(r->control, "query-vmtier-recordings", NULL, NULL);
    JsonArray *list = reply && JSON_NODE_HOLDS_ARRAY(reply) ? json_node_get_array(reply) : NULL;

    for (guint i = 0; i < js_len(list); i++) {
        JsonObject *o = js_at(list, i);

        if (g_strcmp0(js_str(o, "vm"), r->vm))
            continue;
        g_clear_pointer(&r->state, json_object_unref);
        r->state = json_object_ref(o);
    }
    client_drop_events(r->control);
}

static void stop(struct recording *r)
{
    JsonObject *args = json_object_new();
    JsonNode *reply;

    r->stopping = true;
    json_object_set_string_member(args, "vm", r->vm);
    reply = client_call(r->control, "vmtier-record-stop", args, NULL);
    if (reply)
        json_node_unref(reply);
}

/* --- progress ------------------------------------------------------------------------------------------- */

static void show_progress(const struct recording *r, bool last)
{
    g_autofree char *time = fmt_duration(js_num(r->state, "seconds")), *size = fmt_size((gint64)r->bytes);
    g_autofree char *vm = fmt_safe(r->vm);
    const gint64 lost = js_int(r->state, "lost_rounds");

    if (!isatty(STDERR_FILENO))
        return;
    g_printerr("\r%s: %s, %" G_GINT64_FORMAT " rounds, %" G_GINT64_FORMAT " observations, %s", vm, time,
               js_int(r->state, "rounds"), js_int(r->state, "observations"), size);
    if (lost)
        g_printerr(", %" G_GINT64_FORMAT " rounds LOST", lost);
    g_printerr("\033[K%s", last ? "\n" : "");
}

/* --- bytes ---------------------------------------------------------------------------------------------- */

static bool write_out(struct recording *r, const char *bytes, gsize length, GError **error)
{
    while (length) {
        gssize n = write(r->out, bytes, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(error, output, g_strerror(errno));
        bytes += n;
        length -= (gsize)n;
        r->bytes += (guint64)n;
    }
    return true;
}

/* 1: more may come; 0: that was all; -1: an error. */
static int take_some(struct recording *r, GError **error)
{
    char bytes[65536];
    gssize n = read(r->in, bytes, sizeof(bytes));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 1;
    if (n < 0 && errno != ECONNRESET)
        return fail(error, "the daemon's connection", g_strerror(errno)) - 1;
    if (n <= 0)
        return 0;
    return write_out(r, bytes, (gsize)n, error) ? 1 : -1;
}

static bool copy(struct recording *r, GError **error)
{
    gint64 due = 0;
    int rc = 1;

    while (rc > 0) {
        struct pollfd p = { .fd = r->in, .events = POLLIN };

        if (interrupted && !r->stopping)
            stop(r);
        if (poll(&p, 1, LOOK_MS) > 0)
            rc = take_some(r, error);
        if (g_get_monotonic_time() >= due) {
            look(r);
            show_progress(r, false);
            due = g_get_monotonic_time() + LOOK_MS * 1000;
        }
    }
    look(r);
    show_progress(r, true);
    return rc == 0;
}

/* --- the end -------------------------------------------------------------------------------------------- */

static const char *const reasons[] = {
    [TRACE_ASKED] = "as asked", [TRACE_TIME_OVER] = "the time is over",
    [TRACE_VM_GONE] = "the VM is gone", [TRACE_DAEMON_ENDS] = "the daemon has ended",
};
G_STATIC_ASSERT(G_N_ELEMENTS(reasons) == TRACE_REASON_END);

/* Reads it once more: what is in the file is what counts. */
static bool read_end(struct trace_item *end, GError **error)
{
    struct vt_err err = { 0 };
    g_autoptr(Trace) t = trace_open(output, &err);
    int rc = t ? TRACE_ROUND : -1;

    while (rc > TRACE_END)
        rc = trace_next(t, end, &err);
    return rc == TRACE_END || (g_set_error(error, CLI_ERROR, CLI_REFUSED, "%s", err.text), false);
}

static void print_json(const struct recording *r, const struct trace_item *end)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "vm", r->vm);
    json_object_set_string_member(o, "file", output);
    json_object_set_int_member(o, "bytes", (gint64)r->bytes);
    json_object_set_double_member(o, "seconds", (double)end->end.totals.duration_us / 1e6);
    json_object_set_int_member(o, "rounds", (gint64)end->end.totals.rounds);
    json_object_set_int_member(o, "observations", (gint64)end->end.totals.observations);
    json_object_set_int_member(o, "lost_rounds", (gint64)end->end.totals.lost_rounds);
    json_object_set_int_member(o, "lost_observations", (gint64)end->end.totals.lost_observations);
    json_object_set_boolean_member(o, "cut", end->end.cut);
    json_object_set_string_member(o, "reason", end->end.cut ? "cut" : reasons[end->end.totals.reason]);
    json_node_take_object(node, o);
    cli_print_json(node);
}

static void print_text(const struct recording *r, const struct trace_item *end)
{
    const struct trace_footer *t = &end->end.totals;
    g_autofree char *time = fmt_duration((double)t->duration_us / 1e6), *size = fmt_size((gint64)r->bytes);

    g_print("%s: %s, %" G_GUINT64_FORMAT " rounds, %" G_GUINT64_FORMAT " observations, %s: %s\n", output,
            time, t->rounds, t->observations, size,
            end->end.cut ? "cut short" : reasons[t->reason]);
    if (t->lost_rounds || t->lost_observations)
        g_print("%" G_GUINT64_FORMAT " rounds and %" G_GUINT64_FORMAT " observations were lost, as "
                "this end could not keep up\n", t->lost_rounds, t->lost_observations);
}

static bool report(struct cli *cli, const struct recording *r, GError **error)
{
    const char *why = js_str(r->state, "error");
    struct trace_item end;

    if (!read_end(&end, error))
        return false;
    (cli->json ? print_json : print_text)(r, &end);
    return !end.end.cut ||
           fail(error, output, why ? why : "the daemon hung up; what there is can be replayed");
}

/* --- the command ---------------------------------------------------------------------------------------- */

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* The second time the usual happens. */
static void watch_interrupts(void)
{
    struct sigaction act = { .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND };

    interrupted = 0;
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

/* Only what can be begun replaces an older file. */
static bool record(struct cli *cli, struct recording *r, GError **error)
{
    const char *first;
    gsize length;

    if (!ask_to_record(r, error))
        return false;
    if (ftruncate(r->out, 0) && errno != EINVAL)
        return fail(error, output, g_strerror(errno));
    watch_interrupts();
    r->in = client_stream(r->stream, &first, &length);
    return write_out(r, first, length, error) && copy(r, error) && report(cli, r, error);
}

static bool run_record(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) stream = NULL, control = NULL;
    struct recording r = { .vm = args[0] };
    bool ok;

    if (!output || seconds < 0) {
        g_set_error(error, CLI_ERROR, CLI_USAGE, "%s", output ? "--seconds takes a number above 0"
                                                              : "-o, the file to write, is missing");
        return false;
    }
    stream = cli_connect(cli, error);
    control = stream ? cli_connect(cli, error) : NULL;
    if (!control)
        return false;
    r.stream = stream;
    r.control = control;
    r.out = open(output, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (r.out < 0)
        return fail(error, output, g_strerror(errno));
    ok = record(cli, &r, error);
    if (close(r.out) && ok)
        ok = fail(error, output, g_strerror(errno));
    g_clear_pointer(&r.state, json_object_unref);
    return ok;
}

const struct cli_command cli_record = {
    .name = "record",
    .usage = "VM -o F.vmtrace",
    .summary = "write down what a VM's sources see, for replay and capacity",
    .details = "Records all observations of the VM's sources until Ctrl-C, --seconds or the VM's end. The\n"
               "VM is not slowed down; what a slow disk does not take is lost, and counted.\n\n"
               "  -o, --output F    the file\n"
               "  -s, --seconds N   end by itself",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_record,
};
