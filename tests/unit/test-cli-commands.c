// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the `vmtier` command as a user sees it: output and exit codes, against a small daemon in
 * this process that is made of the real QMP server. The command runs as a child: this program, started
 * with --as-vmtier.
 */
#include "host/cli/cli.h"
#include "host/qmp.h"

#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>

static const struct cli_command *const commands[] = {
    &cli_status, &cli_top, &cli_quota, &cli_mode, &cli_rate, &cli_interleave, &cli_pin, &cli_heatmap,
    &cli_events, &cli_sources, &cli_attach, &cli_detach, &cli_report, &cli_qmp, &cli_version, NULL,
};

static const char vm_json[] =
    "{'name':'web1','uuid':null,'pid':42,'qemu':'7.2.22','accel':'tcg','state':'tiering',"
    "'reason':null,'mode':'on','ram_bytes':1073741824,'granule_bytes':2097152,'granules':512,"
    "'backing':'memfd 4 KiB pages','quota':{'max_bytes':268435456,'default':true,"
    "'min_bytes':67108864,'weight':100,'now_bytes':134217728},"
    "'rate_bytes_per_s':268435456,'tiers':["
    "{'name':'dram','ledger_bytes':268435456,'file_bytes':251658240,'spare_bytes':0,'granules':128,'emulated':false},"
    "{'name':'cxl','ledger_bytes':805306368,'file_bytes':0,'spare_bytes':0,'granules':384,'emulated':true}],"
    "'interleave':{'weights':'dram=3 cxl=1','tiers':["
    "{'name':'dram','weight':3,'granules':90,'target_granules':96},"
    "{'name':'cxl','weight':1,'granules':38,'target_granules':32}]},"
    "'pins':[{'tier':'dram','gpa':2097152,'size':4194304,'granules':2,'arrived':1,'problem':null},"
    "{'tier':'cxl','gpa':1073741824,'size':4194304,'granules':2,'arrived':2,'problem':null},"
    "{'tier':'cxl','gpa':0,'size':4096,'granules':0,'arrived':0,'problem':'it is not of whole granules'}],"
    "'dram_bytes_peak':268435456,"
    "'dram_hit':{'ratio':null,'how':'absent','window_s':4,'samples':0,'reason':'nothing samples'},"
    "'moves':{'promoted':3,'demoted':2,'bytes':10485760,'pages':2560,'failed':0,'deferred':1,"
    "'per_s':1.5,'last_error':null},'rounds':100,'round_ms_p50':2.5,'plan':{'wanted':4,'done':3},"
    "'sources':[{'name':'refault','state':'running','available':true,'active':true,'reason':null,"
    "'enable':null,'last_error':'no room','unit':'pages touched','resolution_bytes':4096,'events':99,"
    "'events_per_s':3.5,'cpu_percent':1.25,'vcpu_percent':0.001,'drives_placement':true},"
    "{'name':'sample','state':'unavailable','available':false,'active':false,'reason':'KVM has no callbacks',"
    "'enable':'use accel=tcg','events':0,'events_per_s':0,'cpu_ms':0,'drives_placement':false}],"
    "'memslots':[{'gpa':0,'size':1073741824,'block':'ram0','offset':0}],"
    "'blocks':[{'name':'ram0','bytes':1073741824,'align_bytes':4096,'tiers':["
    "{'name':'dram','kind':'memfd','page_bytes':4096,'offset':0,'mapped_bytes':251658240,"
    "'huge_bytes':62914560,'note':null},{'name':'cxl','kind':'tmpfs, huge=advise','page_bytes':4096,"
    "'offset':2097152,'mapped_bytes':null,'huge_bytes':null,'note':'no 2 MiB pages: why'}],"
    "'hint':'add align=2M'}],'attached_s':61,"
    "'agent':{'connected':true,'speaks':true,'muted':false,'mutes':2,'channel':'/run/a','name':'vmtier-agent 1',"
    "'version':1,'features':['ask','pin'],'frames':9,'ranges':77,'replayed_frames':3,'free_bytes':8388608,"
    "'free_dram_bytes':0,'cold_bytes':0,'hot_bytes':2097152,'pinned_bytes':4194304,'pinned_dram_bytes':2097152,"
    "'pin_most_bytes':4194304,'pin_refused_bytes':6291456}}";

static const char status_json[] =
    "{'version':'0.1.0','pid':7,'uptime_s':3,'userfaultfd':{'available':true},'tiers':["
    "{'name':'dram','nodes':'0','emulated':false,'bytes_used':251658240},"
    "{'name':'cxl','nodes':null,'emulated':true,'bytes_used':0,'path':'/mnt/cxl/all',"
    "'path_bytes':1073741824,'path_unused_bytes':268435456,'reason':'no CXL node'}],'vms':[%s]}";

static const char heatmap_json[] =
    "{'vm':'web1','granule_bytes':2097152,'ranges':[{'block':'ram0','gpa':0,'first':0,'count':3}],"
    "'heat':[0,1,2],'tier':[0,1,0],'history':{'period_s':0.5,'rows':3,'row_granules':1,'columns':1,"
    "'heat':'AH//','tier':'AP8A','start_unix':1700000000}}";

static struct {
    char *dir, *path, *picture;
    QmpServer *server;
    bool detached;
    gint64 weight, min;              /* web1 is gone from now on, until it is asked for once */
} fake;

static JsonNode *parse(const char *quoted)
{
    g_autofree char *text = g_strdelimit(g_strdup(quoted), "'", '"');
    JsonNode *node = json_from_string(text, NULL);

    g_assert_nonnull(node);
    return node;
}

static bool known(JsonObject *args, GError **error)
{
    const char *vm = json_object_get_string_member(args, "vm");

    if (!g_str_equal(vm, "web1") || fake.detached) {
        fake.detached = false;
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_DEVICE_NOT_FOUND, "no VM \"%s\"", vm);
        return false;
    }
    return true;
}

static JsonNode *run_status(JsonObject *args, gpointer opaque, GError **error)
{
    g_autofree char *text = g_strdup_printf(status_json, vm_json);

    (void)args, (void)opaque, (void)error;
    return parse(text);
}

static JsonNode *run_vms(JsonObject *args, gpointer opaque, GError **error)
{
    g_autofree char *text = g_strdup_printf("[%s]", vm_json);

    (void)opaque;
    if (json_object_has_member(args, "vm") &&
        g_str_equal(json_object_get_string_member(args, "vm"), "bad1")) {
        return parse("[{'name':'bad1','state':'refused','reason':'its RAM is not to be found'}]");
    }
    return !json_object_has_member(args, "vm") || known(args, error) ? parse(text) : NULL;
}

static JsonNode *run_heatmap(JsonObject *args, gpointer opaque, GError **error)
{
    (void)opaque;
    return known(args, error) ? parse(heatmap_json) : NULL;
}

static JsonNode *run_quota(JsonObject *args, gpointer opaque, GError **error)
{
    (void)opaque;
    fake.weight = json_object_get_int_member_with_default(args, "weight", 0);
    fake.min = json_object_get_int_member_with_default(args, "min", -1);
    if (known(args, error) && json_object_get_int_member_with_default(args, "max", 0) > 1 << 30) {
        g_set_error_literal(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, "above the VM's RAM");
    }
    return NULL;
}

static JsonNode *run_set(JsonObject *args, gpointer opaque, GError **error)
{
    (void)opaque;
    known(args, error);
    return NULL;
}

/* Pids below 100 are VMs, of which 2 cannot be tiered. */
static JsonNode *run_attach(JsonObject *args, gpointer opaque, GError **error)
{
    gint64 pid = json_object_get_int_member(args, "pid");

    (void)opaque;
    if (pid >= 100) {
        g_set_error_literal(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, "which is no QEMU");
        return NULL;
    }
    if (json_object_has_member(args, "qmp") &&
        !g_path_is_absolute(json_object_get_string_member(args, "qmp"))) {
        g_set_error_literal(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, "a relative path");
        return NULL;
    }
    return parse(pid == 2 ? "{'vm':'bad1'}" : "{'vm':'web1'}");
}

static JsonNode *run_detach(JsonObject *args, gpointer opaque, GError **error)
{
    (void)opaque;
    fake.detached = known(args, error);
    return NULL;
}

static const struct qmp_arg attach_args[] = {
    { "pid", QMP_INT, true }, { "vm", QMP_STRING, false }, { "qmp", QMP_STRING, false }, { 0 },
};
static const struct qmp_arg detach_args[] = {
    { "vm", QMP_STRING, true }, { "home", QMP_BOOL, false }, { 0 },
};
static const struct qmp_arg vms_args[] = { { "vm", QMP_STRING, false }, { 0 } };
static const struct qmp_arg vm_args[] = { { "vm", QMP_STRING, true }, { 0 } };
static const struct qmp_arg quota_args[] = {
    { "vm", QMP_STRING, true }, { "max", QMP_INT, false }, { "min", QMP_INT, false },
    { "weight", QMP_INT, false }, { 0 },
};
static const struct qmp_arg mode_args[] = {
    { "vm", QMP_STRING, true }, { "mode", QMP_STRING, true }, { 0 },
};
static const struct qmp_arg rate_args[] = {
    { "vm", QMP_STRING, true }, { "bytes_per_s", QMP_INT, true }, { 0 },
};
static const struct qmp_arg interleave_args[] = {
    { "vm", QMP_STRING, true }, { "weights", QMP_STRING, true }, { 0 },
};
static const struct qmp_arg pin_args[] = {
    { "vm", QMP_STRING, true }, { "tier", QMP_STRING, true }, { "gpa", QMP_INT, true },
    { "size", QMP_INT, true }, { 0 },
};
static const struct qmp_arg unpin_args[] = { { "vm", QMP_STRING, true }, { "gpa", QMP_INT, true }, { 0 } };
static const struct qmp_arg report_args[] = {
    { "vm", QMP_STRING, true },     { "space", QMP_STRING, true }, { "device", QMP_STRING, false },
    { "age_s", QMP_NUMBER, false }, { "accesses", QMP_LIST, true }, { 0 },
};

/* Says in its error what it was given, as the command line does not print it. */
static JsonNode *run_report(JsonObject *args, gpointer opaque, GError **error)
{
    JsonArray *list = json_object_get_array_member(args, "accesses");
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), args);
    g_autofree char *text = json_to_string(node, FALSE);

    (void)opaque;
    if (!known(args, error)) {
        return NULL;
    }
    if (json_array_get_length(list) == 2) {
        g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, "got %s", text);
        return NULL;
    }
    g_free(text);
    text = g_strdup_printf("{'queued':%u}", json_array_get_length(list));
    return parse(text);
}

static const struct qmp_command table[] = {
    { "query-vmtier-status", NULL, run_status },
    { "query-vmtier-vms", vms_args, run_vms },
    { "query-vmtier-heatmap", vm_args, run_heatmap },
    { "vmtier-set-quota", quota_args, run_quota },
    { "vmtier-set-mode", mode_args, run_set },
    { "vmtier-set-rate", rate_args, run_set },
    { "vmtier-set-interleave", interleave_args, run_set },
    { "vmtier-pin", pin_args, run_set },
    { "vmtier-unpin", unpin_args, run_set },
    { "vmtier-attach", attach_args, run_attach },
    { "vmtier-detach", detach_args, run_detach },
    { "vmtier-report", report_args, run_report },
    { 0 },
};
static const struct qmp_command *const tables[] = { table, NULL };

struct outcome {
    char *out, *err;
    bool done;
    int status;
};

static void on_done(GObject *source, GAsyncResult *result, gpointer opaque)
{
    struct outcome *outcome = opaque;
    GSubprocess *child = G_SUBPROCESS(source);

    g_assert_true(g_subprocess_communicate_utf8_finish(child, result, &outcome->out, &outcome->err,
                                                       NULL));
    g_assert_true(g_subprocess_get_if_exited(child));
    outcome->status = g_subprocess_get_exit_status(child);
    outcome->done = true;
}

/* Runs `vmtier` with a line of arguments, while the daemon of this process answers it. */
static struct outcome vmtier(const char *line, const char *in)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(
        G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *all = g_strdup_printf("'%s' --as-vmtier %s", self, line);
    g_auto(GStrv) argv = NULL;
    g_autoptr(GSubprocess) child = NULL;
    struct outcome outcome = { 0 };

    g_assert_true(g_shell_parse_argv(all, NULL, &argv, NULL));
    g_subprocess_launcher_setenv(launcher, "VMTIER_SOCKET", fake.path, TRUE);
    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C.UTF-8", TRUE);
    child = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv, NULL);
    g_assert_nonnull(child);
    g_subprocess_communicate_utf8_async(child, in, NULL, on_done, &outcome);
    while (!outcome.done) {
        g_main_context_iteration(NULL, TRUE);
    }
    return outcome;
}

struct command_case {
    const char *name, *line;
    int status;
    const char *out, *err;          /* must occur; NULL: nothing there */
};

static const struct command_case cases[] = {
    { "help", "--help", 0, "Exit codes", NULL },
    { "help-quota", "quota --help", 0, "PCT%", NULL },
    { "no-command", "", 2, NULL, "a command is missing" },
    { "unknown-command", "frob", 2, NULL, "unknown command \"frob\"" },
    { "unknown-option", "status --frob", 2, NULL, "Unknown option --frob" },
    { "missing-argument", "quota", 2, NULL, "an argument is missing" },
    { "extra-argument", "mode web1 on off", 2, NULL, "too many arguments" },
    { "no-daemon", "--socket /nonexistent/s status", 3, NULL, "no vmtierd at /nonexistent/s" },
    { "status", "status", 0, "cxl (emulated)", NULL },
    { "status-reason", "status", 0, "web1: no hit ratio: nothing samples", NULL },
    { "status-vm", "status web1", 0, "1 GiB in 512 granules of 2 MiB", NULL },
    { "status-vm-hit", "status web1", 0, "- (nothing samples)", NULL },
    { "status-path", "status", 0, "in /mnt/cxl/all, 256 MiB of 1 GiB left", NULL },
    { "status-vm-backing", "status web1", 0,
      "ram0, dram: memfd; 240 MiB mapped, 25 % of it by 2 MiB or more\n", NULL },
    { "status-vm-note", "status web1", 0, "ram0, cxl: tmpfs, huge=advise; no 2 MiB pages: why\n", NULL },
    { "status-vm-hint", "status web1", 0, "\n  hint: add align=2M\n", NULL },
    { "status-vm-agent", "status web1", 0, "vmtier-agent 1: protocol 1 with ask, pin\n", NULL },
    { "status-vm-agent-came", "status web1", 0,
      "9 frames with 77 ranges came, 3 frames sent before; muted 2 times\n", NULL },
    { "status-vm-agent-hints", "status web1", 0, "free 8 MiB (0 B of it in DRAM), cold 0 B, hot 2 MiB\n", NULL },
    { "status-vm-agent-pins", "status web1", 0,
      "pinned 4 MiB (2 MiB of it in DRAM) of at most 4 MiB, refused 6 MiB\n", NULL },
    { "status-vm-agent-json", "status web1 --json", 0, "\"pin_refused_bytes\" : 6291456", NULL },
    { "status-json", "status --json", 0, "\"bytes_used\" : 251658240", NULL },
    { "status-vm-json", "--json status web1", 0, "\"accel\" : \"tcg\"", NULL },
    { "status-no-vm", "status nope", 4, NULL, "no VM \"nope\"" },
    { "top-once", "top --once", 0, "240 MiB", NULL },
    { "top-bad-delay", "top -d -3", 2, NULL, "--delay" },
    { "quota", "quota web1", 0, "web1: quota 256 MiB of 1 GiB, 128 MiB now; 64 MiB guaranteed, weight 100", NULL },
    { "quota-min", "quota web1 --min 0 --weight 7", 0, "web1: changed", NULL },
    { "quota-min-bad", "quota web1 --min much", 2, NULL, "\"much\" is not a size" },
    { "quota-set", "quota web1 512M", 0, "web1: quota 512 MiB, was 256 MiB", NULL },
    { "quota-percent", "quota web1 50%", 0, "quota 512 MiB", NULL },
    { "quota-refused", "quota web1 2G", 1, NULL, "vmtier: above the VM's RAM" },
    { "quota-bad", "quota web1 lots", 2, NULL, "\"lots\" is not a size" },
    { "quota-no-vm", "quota nope 1G", 4, NULL, "no VM" },
    { "quota-json", "quota web1 --json", 0, "\"max_bytes\" : 268435456", NULL },
    { "mode", "mode web1", 0, "web1: mode on, state tiering", NULL },
    { "mode-set", "mode web1 observe", 0, "web1: mode observe", NULL },
    { "mode-bad", "mode web1 fast", 2, NULL, "on, observe or off" },
    { "mode-no-vm", "mode nope off", 4, NULL, "no VM" },
    { "rate", "rate web1", 0, "web1: moves up to 256 MiB/s", NULL },
    { "rate-set", "rate web1 1G/s", 0, "web1: moves up to 1 GiB/s", NULL },
    { "rate-stop", "rate web1 0", 0, "moves nothing for now", NULL },
    { "interleave", "interleave web1", 0,
      "web1: interleave dram=3 cxl=1: dram 90 of 96 granules, cxl 38 of 32 granules\n", NULL },
    { "interleave-set", "interleave web1 dram=1 cxl=1", 0, "web1: interleave dram=1 cxl=1\n", NULL },
    { "interleave-json", "interleave web1 --json", 0, "\"target_granules\" : 96", NULL },
    { "interleave-no-vm", "interleave nope off", 4, NULL, "no VM" },
    { "pin", "pin web1", 0, "dram 0x200000, 4 MiB: 1 of 2 granules are there\ncxl 0x40000000, 4 MiB: there\n"
      "cxl 0x0, 4 KiB: not pinned: it is not of whole granules\n", NULL },
    { "pin-add", "pin web1 dram 0x200000 4M", 0, "web1: pinned\n", NULL },
    { "pin-remove", "pin web1 --remove 2097152", 0, "web1: not pinned any more\n", NULL },
    { "pin-half", "pin web1 dram 0x200000", 2, NULL, "a pin is TIER GPA SIZE" },
    { "pin-both", "pin web1 dram 0x200000 4M --remove 0", 2, NULL, "a pin is TIER GPA SIZE" },
    { "pin-bad-address", "pin web1 dram here 4M", 2, NULL, "\"here\" is no guest-physical address" },
    { "pin-bad-size", "pin web1 dram 0 lots", 2, NULL, "\"lots\" is not a size" },
    { "pin-no-vm", "pin nope dram 0 2M", 4, NULL, "no VM" },
    { "status-vm-pin", "status web1", 0, "dram 0x200000, 4 MiB: 1 of 2 granules are there\n", NULL },
    { "rate-bad", "rate web1 -- -5", 2, NULL, "is not a size" },
    { "sources", "sources", 0, "KVM has no callbacks; to enable: use accel=tcg", NULL },
    { "sources-cost", "sources", 0, "pages touched  4 KiB   1.25%  <0.01%  stopped before: no room", NULL },
    { "sources-json", "sources web1 --json", 0, "\"drives_placement\" : true", NULL },
    { "heatmap", "heatmap web1", 0, "cxl (emulated)", NULL },
    { "heatmap-json", "heatmap web1 --json", 0, "\"row_granules\" : 1", NULL },
    { "heatmap-unwritable", "heatmap web1 -o /nonexistent/h.png", 1, NULL, "cannot write" },
    { "heatmap-no-vm", "heatmap nope", 4, NULL, "no VM" },
    { "events", "events", 0, "VMTIER_QUOTA_CHANGED     web1  max=5", NULL },
    { "events-json", "events --json", 0, "\"seq\" : 1", NULL },
    { "attach", "attach 5", 0, "web1: attached, 1 GiB, state tiering", NULL },
    { "attach-options", "attach 5 -n web1 -q q.sock", 0, "web1: attached", NULL },
    { "attach-json", "attach 5 --json", 0, "\"mode\" : \"on\"", NULL },
    { "attach-refused", "attach 100", 1, NULL, "which is no QEMU" },
    { "attach-untierable", "attach 2", 1, NULL, "bad1: its RAM is not to be found" },
    { "attach-bad-pid", "attach web1", 2, NULL, "\"web1\" is not a pid" },
    { "detach", "detach web1", 0, "web1: detached", NULL },
    { "detach-home", "detach web1 --home", 0, "web1: detached", NULL },
    { "detach-no-vm", "detach nope", 4, NULL, "no VM" },
    { "report", "report web1", 0, "web1: 1 reports taken", NULL },
    { "report-none", "report web1", 0, "web1: 0 reports taken", NULL },
    { "report-lines", "report web1", 1, NULL, "got {\"accesses\":[{\"address\":4096,\"weight\":7.0,"
      "\"age_s\":1.5},{\"address\":12}],\"vm\":\"web1\",\"space\":\"gpa\"}" },
    { "report-options", "report web1 -s dpa -D mem0 -a 3", 1, NULL,
      "\"space\":\"dpa\",\"device\":\"mem0\",\"age_s\":3.0}" },
    { "report-list", "report web1", 1, NULL, "got {\"accesses\":[5,{\"address\":6}],\"vm\"" },
    { "report-object", "report web1", 1, NULL,
      "got {\"space\":\"hva\",\"accesses\":[5,6],\"vm\":\"web1\"}" },
    { "report-json", "report web1 --json", 0, "\"queued\" : 3", NULL },
    { "report-bad-line", "report web1", 2, NULL, "line 2 is no ADDRESS [WEIGHT [AGE]]" },
    { "report-bad-weight", "report web1", 2, NULL, "line 1 is no ADDRESS" },
    { "report-too-many", "report web1", 2, NULL, "line 1 is no ADDRESS" },
    { "report-negative", "report web1", 2, NULL, "line 1 is no ADDRESS" },
    { "report-huge", "report web1", 2, NULL, "line 1 is no ADDRESS" },
    { "report-bad-json", "report web1", 2, NULL, "standard input: " },
    { "report-no-vm", "report nope", 4, NULL, "no VM" },
    { "qmp", "qmp query-version", 0, "\"package\" : \"vmtier 0.1.0\"", NULL },
    { "qmp-args", "qmp vmtier-set-rate '{\"vm\":\"web1\",\"bytes_per_s\":1}'", 0, "{}", NULL },
    { "qmp-refused", "qmp vmtier-set-rate '{\"vm\":\"web1\"}'", 1, NULL,
      "Parameter 'bytes_per_s' is missing" },
    { "qmp-unknown", "qmp quit", 1, NULL, "has not been found" },
    { "qmp-bad-json", "qmp query-version '{'", 2, NULL, "not a JSON object" },
    { "version", "version", 0, "daemon: vmtier 0.1.0", NULL },
    { "version-alone", "version --socket /nonexistent/s", 0, "daemon: no vmtierd at", NULL },
    { "version-json", "version --json", 0, "\"vmtierd\"", NULL },
};

/* What is on the standard input of those that read it. */
static const struct {
    const char *name, *in;
} inputs[] = {
    { "report", "0x1000\n" },
    { "report-none", "# nothing\n\n" },
    { "report-lines", " 0x1000 7\t1.5 # hot\n12" },
    { "report-options", "1\n2\n" },
    { "report-list", " [5, {\"address\": 6}]" },
    { "report-object", "{\"space\":\"hva\",\"accesses\":[5,6]}" },
    { "report-json", "1\n2\n3\n" },
    { "report-bad-line", "1\nx\n" },
    { "report-bad-weight", "1 x\n" },
    { "report-too-many", "1 2 3 4\n" },
    { "report-negative", "-1\n" },
    { "report-huge", "99999999999999999999\n" },
    { "report-bad-json", "[1,\n" },
    { "report-no-vm", "1\n" },
};

static const char *input_of(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(inputs); i++) {
        if (g_str_equal(inputs[i].name, name)) {
            return inputs[i].in;
        }
    }
    return NULL;
}

static void expect(const char *text, const char *wanted, const char *where)
{
    if (wanted ? !strstr(text, wanted) : *text) {
        g_error("%s: expected \"%s\", got: %s", where, wanted ? wanted : "", text);
    }
}

static void test_command(gconstpointer data)
{
    const struct command_case *c = data;
    struct outcome outcome = vmtier(c->line, input_of(c->name));

    expect(outcome.err, c->err, "stderr");
    expect(outcome.out, c->out, "stdout");
    g_assert_cmpint(outcome.status, ==, c->status);
    g_free(outcome.out);
    g_free(outcome.err);
}

static void test_picture(void)
{
    g_autofree char *line = g_strdup_printf("heatmap web1 -o %s", fake.picture);
    struct outcome outcome = vmtier(line, NULL);

    g_assert_cmpint(outcome.status, ==, 0);
    g_assert_true(g_file_test(fake.picture, G_FILE_TEST_IS_REGULAR));
    g_unlink(fake.picture);
    g_free(outcome.out);
    g_free(outcome.err);
}

/* Something listens but never says a word. */
static void test_mute_daemon(void)
{
    g_autofree char *path = g_build_filename(fake.dir, "mute.sock", NULL);
    g_autofree char *line = g_strdup_printf("status --timeout 1 --socket %s", path);
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    g_autoptr(GSocket) mute = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, NULL);
    struct outcome outcome;

    g_assert_true(g_socket_bind(mute, address, FALSE, NULL) && g_socket_listen(mute, NULL));
    outcome = vmtier(line, NULL);
    g_assert_cmpint(outcome.status, ==, CLI_NO_DAEMON);
    expect(outcome.err, "did not answer within 1 s", "stderr");
    g_free(outcome.out);
    g_free(outcome.err);
    g_unlink(path);
}

static gboolean emit_detached(gpointer opaque)
{
    (void)opaque;
    qmp_server_emit(fake.server, "VMTIER_VM_DETACHED", parse("{'vm':'web1'}"));
    return G_SOURCE_REMOVE;
}

static gboolean end_server(gpointer opaque)
{
    (void)opaque;
    g_clear_pointer(&fake.server, qmp_server_free);
    return G_SOURCE_REMOVE;
}

/* What happened before comes once, then what happens; when the daemon ends, so does the command. */
static void test_follow(void)
{
    struct outcome outcome;
    const char *old, *news;

    g_timeout_add(1500, emit_detached, NULL);
    g_timeout_add(2500, end_server, NULL);
    outcome = vmtier("events -f", NULL);
    old = strstr(outcome.out, "VMTIER_QUOTA_CHANGED");
    news = strstr(outcome.out, "VMTIER_VM_DETACHED");
    g_assert_true(old && news && old < news);
    g_assert_null(strstr(news + 1, "VMTIER_VM_DETACHED"));
    g_assert_cmpint(outcome.status, ==, CLI_NO_DAEMON);
    g_free(outcome.out);
    g_free(outcome.err);
}

static void set_up(void)
{
    fake.dir = g_dir_make_tmp("vmtier-cli-XXXXXX", NULL);
    fake.path = g_build_filename(fake.dir, "qmp.sock", NULL);
    fake.picture = g_build_filename(fake.dir, "h.png", NULL);
    fake.server = qmp_server_new(fake.path, tables, NULL, NULL);
    g_assert_nonnull(fake.server);
    qmp_server_emit(fake.server, "VMTIER_QUOTA_CHANGED", parse("{'vm':'web1','max':5}"));
}

static void tear_down(void)
{
    g_clear_pointer(&fake.server, qmp_server_free);
    g_assert_cmpint(g_rmdir(fake.dir), ==, 0);
    g_free(fake.picture);
    g_free(fake.path);
    g_free(fake.dir);
}

#ifdef __SANITIZE_ADDRESS__
/* fontconfig keeps its patterns until the process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}
#endif

int main(int argc, char **argv)
{
    int failed;

    if (argc > 1 && g_str_equal(argv[1], "--as-vmtier")) {
        return cli_run(commands, argc - 1, argv + 1);
    }
    g_test_init(&argc, &argv, NULL);
    set_up();
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/cli-commands/%s", cases[i].name);

        g_test_add_data_func(path, &cases[i], test_command);
    }
    g_test_add_func("/cli-commands/picture", test_picture);
    g_test_add_func("/cli-commands/mute-daemon", test_mute_daemon);
    g_test_add_func("/cli-commands/follow", test_follow);
    failed = g_test_run();
    tear_down();
    return failed;
}
