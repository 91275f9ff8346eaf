// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier record` of a VM at work: whatever ends it (time, Ctrl-C, the VM, the daemon's end, a kill, a full
 * disk), the file holds what was seen until then and says how it ended, and the daemon goes on.
 *
 * timeout: 120
 */
#include "rig.h"

#include "host/trace-read.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ANSWER 20.0

/* Three of RAM's granules are hot, all the time. */
static const struct rom_range hot = { .base = 16 * MIB, .stride = 64, .count = 3 * GRANULE / 64 };
static const char *const daemon_args[] = { "--quota", "16M", NULL };

static struct rig *start_rig(void)
{
    struct rig *rig = rig_new("record");

    rig_start_daemon(rig, daemon_args);
    rig_start_vm(rig, (struct vm_options){ 0 });
    rom_wait_alive(rig->vm, ANSWER);
    rig_wait_state(rig, "tiering");
    rom_give(rig->vm, ROM_SPIN, hot, 1);
    return rig;
}

static struct child *run_cli(struct rig *rig, const char *name, const char *const *args)
{
    g_autofree char *vmtier = lab_built("vmtier");
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    g_ptr_array_add(argv, vmtier);
    g_ptr_array_add(argv, (gpointer)"--socket");
    g_ptr_array_add(argv, rig->daemon->qmp_socket);
    for (; *args; args++)
        g_ptr_array_add(argv, (gpointer)*args);
    g_ptr_array_add(argv, NULL);
    return child_start(rig->lab, name, (const char *const *)argv->pdata);
}

static struct child *start_recording(struct rig *rig, const char *file, const char *seconds)
{
    const char *const args[] = { "record", "vm", "-o", file, seconds ? "--seconds" : NULL, seconds, NULL };

    return run_cli(rig, "vmtier-record", args);
}

/* The file has a chunk of rounds beside the first one, of the layout alone. */
static bool has_rounds(void *path)
{
    struct stat st;

    return stat(path, &st) == 0 && st.st_size > (off_t)sizeof(struct trace_header) + 200;
}

static void wait_exit(struct child *cli, int code)
{
    if (!child_wait(cli, ANSWER))
        g_error("vmtier goes on");
    g_autofree char *output = child_output(cli);

    g_test_message("%s", output);
    g_assert_true(WIFEXITED(cli->status));
    g_assert_cmpint(WEXITSTATUS(cli->status), ==, code);
}

struct found {
    struct trace_item end;
    guint rounds;
    double hot, all;                /* accesses */
};

static struct found read_file(const char *path)
{
    struct vt_err err = { 0 };
    g_autoptr(Trace) t = trace_open(path, &err);
    struct found f = { 0 };
    int rc = t ? 0 : -err.code;

    while (!rc || rc > TRACE_END) {
        rc = trace_next(t, &f.end, &err);
        f.rounds += rc == TRACE_ROUND;
        for (guint i = 0; rc == TRACE_OBS && i < f.end.obs.n; i++) {
            const guint32 g = f.end.obs.obs[i].granule;
            const bool sampled = f.end.obs.kind == TRACE_SAMPLES;

            f.all += sampled ? f.end.obs.obs[i].events : 0;
            f.hot += sampled && g >= 8 && g < 11 ? f.end.obs.obs[i].events : 0;
        }
        if (rc == TRACE_END)
            return f;
    }
    g_error("%s", err.text);
}

static void check_found(const struct found *f, bool cut, enum trace_reason reason)
{
    g_test_message("%u rounds, %.0f accesses, of which %.0f of hot granules", f->rounds, f->all, f->hot);
    g_assert_cmpint(f->end.end.cut, ==, cut);
    if (!cut)
        g_assert_cmpuint(f->end.end.totals.reason, ==, reason);
    g_assert_cmpuint(f->rounds, >, 0);
    g_assert_cmpfloat(f->hot, >, 0.5 * f->all);
}

/* --- ends ------------------------------------------------------------------------------------------------ */

static void end_by_time(struct rig *rig, struct child *cli)
{
    (void)rig, (void)cli;
}

static void end_by_interrupt(struct rig *rig, struct child *cli)
{
    (void)rig;
    child_kill(cli, SIGINT);
}

static void end_by_vm(struct rig *rig, struct child *cli)
{
    (void)cli;
    child_kill(rig->vm->qemu, SIGKILL);
}

static void end_by_daemon(struct rig *rig, struct child *cli)
{
    (void)cli;
    daemon_stop(rig->daemon);
}

static void end_by_kill(struct rig *rig, struct child *cli)
{
    (void)cli;
    daemon_kill(rig->daemon);
}

static const struct ending {
    const char *name, *seconds;
    void (*end)(struct rig *rig, struct child *cli);
    int code;
    bool cut, daemon_ends;
    enum trace_reason reason;
} endings[] = {
    { "time", "1.5", end_by_time, 0, false, false, TRACE_TIME_OVER },
    { "interrupt", NULL, end_by_interrupt, 0, false, false, TRACE_ASKED },
    { "vm", NULL, end_by_vm, 0, false, false, TRACE_VM_GONE },
    { "daemon", NULL, end_by_daemon, 0, false, true, TRACE_DAEMON_ENDS },
    { "kill", NULL, end_by_kill, 1, true, true, TRACE_ASKED },
};

static void test_ending(gconstpointer data)
{
    const struct ending *e = data;
    g_autoptr(Rig) rig = start_rig();
    g_autofree char *file = lab_path(rig->lab, "vm.vmtrace");
    struct child *cli = start_recording(rig, file, e->seconds);
    struct found f;

    if (!e->seconds && !lab_wait(has_rounds, file, ANSWER))
        g_error("nothing is recorded");
    e->end(rig, cli);
    wait_exit(cli, e->code);
    f = read_file(file);
    check_found(&f, e->cut, e->reason);
    child_free(cli);
    if (e->daemon_ends)
        daemon_restart(rig->daemon);
}

/* --- what goes wrong --------------------------------------------------------------------------------------- */

static bool recording_ended(void *arg)
{
    struct rig *rig = arg;
    g_autoptr(JsonNode) reply = qmp_ok(rig->daemon->qmp, "query-vmtier-recordings", NULL);
    JsonArray *list = json_node_get_array(reply);

    return json_array_get_length(list) == 1 &&
           json_object_get_boolean_member(json_array_get_object_element(list, 0), "ended");
}

/* A full disk ends the recording; the VM's rounds and the next recording do not mind. */
static void test_disk_full(void)
{
    g_autoptr(Rig) rig = start_rig();
    g_autofree char *file = lab_path(rig->lab, "vm.vmtrace");
    struct child *cli = start_recording(rig, "/dev/full", NULL);
    gint64 rounds;

    wait_exit(cli, 1);
    g_assert_true(log_says(cli, "/dev/full: No space left on device", 5));
    child_free(cli);
    rounds = rig_daemon_int(rig, "rounds");
    g_assert_true(rig_reaches(rig, "rounds", rounds + 4, ANSWER));
    g_assert_true(lab_wait(recording_ended, rig, ANSWER));
    cli = start_recording(rig, file, "1");
    wait_exit(cli, 0);
    child_free(cli);
}

/* Who writes the file stands still: the VM's rounds go on as ever. */
static void test_stopped_reader(void)
{
    g_autoptr(Rig) rig = start_rig();
    g_autofree char *file = lab_path(rig->lab, "vm.vmtrace");
    struct child *cli = start_recording(rig, file, NULL);
    gint64 rounds;
    struct found f;

    if (!lab_wait(has_rounds, file, ANSWER))
        g_error("nothing is recorded");
    child_kill(cli, SIGSTOP);
    rounds = rig_daemon_int(rig, "rounds");
    g_assert_true(rig_reaches(rig, "rounds", rounds + 10, ANSWER));
    child_kill(cli, SIGCONT);
    child_kill(cli, SIGINT);
    wait_exit(cli, 0);
    f = read_file(file);
    check_found(&f, false, TRACE_ASKED);
    child_free(cli);
}

static void test_refused(void)
{
    g_autoptr(Rig) rig = start_rig();
    g_autofree char *file = lab_path(rig->lab, "vm.vmtrace"), *other = lab_path(rig->lab, "other");
    const char *const nobody[] = { "record", "nobody", "-o", other, NULL };
    struct child *cli = start_recording(rig, file, NULL), *second;

    if (!lab_wait(has_rounds, file, ANSWER))
        g_error("nothing is recorded");
    second = start_recording(rig, other, NULL);
    wait_exit(second, 1);
    g_assert_true(log_says(second, "vm is being recorded already", 5));
    child_free(second);
    second = run_cli(rig, "vmtier-nobody", nobody);
    wait_exit(second, 4);
    child_free(second);
    child_kill(cli, SIGINT);
    wait_exit(cli, 0);
    child_free(cli);
    g_autofree char *none = qmp_fails(rig->daemon->qmp, "vmtier-record-stop", "{\"vm\":\"vm\"}");

    says(none, "*vm is not being recorded*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *path = g_strdup_printf("/record/end/%s", endings[i].name);

        g_test_add_data_func(path, &endings[i], test_ending);
    }
    g_test_add_func("/record/disk-full", test_disk_full);
    g_test_add_func("/record/stopped-reader", test_stopped_reader);
    g_test_add_func("/record/refused", test_refused);
    return g_test_run();
}
