// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The agent in a guest, from its collectors to the placement: a stock QEMU's virtio port, the daemon on
 * its other end. The tests share one guest, in order. With VMTIER_AGENT_LONG it is also measured what hints
 * are worth.
 *
 * timeout: 240
 */
#include "agentvm.h"
#include "migrate.h"

#include <stdlib.h>
#include <string.h>

/* A process of its own with 12 MB of memory: a shell with a long variable, which stays (the last
 * command of a shell may take its place). */
#define HOLDER "sh -c 'x=$(yes | head -c 12000000); echo >/held; sleep 1000; :' >/dev/null 2>&1 & echo started"
#define AWAIT_HOLDER "n=0; while [ ! -e /held ] && [ $n -lt 60 ]; do sleep 1; n=$((n + 1)); done; "


static char *agent_status(void)
{
    unsigned status;
    char *text = in_guest("vmtier-agent status 2>&1", &status);

    g_test_message("status %u:\n%s", status, text);
    return text;
}

static bool guest_says(void *text)
{
    g_autofree char *status = agent_status();

    return strstr(status, text) != NULL;
}

static void wait_guest_says(const char *text, double timeout)
{
    if (!lab_wait(guest_says, (gpointer)text, timeout))
        g_error("vmtier-agent status does not say '%s'", text);
}

/* --- they meet -------------------------------------------------------------------------------------- */

static void test_greeting(void)
{
    agentvm_start();
    wait_agent("version", 1, 1, 20);
    wait_agent("frames", 3, G_MAXINT64, 20);
    g_autoptr(JsonObject) agent = agent_of();

    g_assert_true(json_flag(agent, "connected"));
    g_assert_true(json_flag(agent, "speaks"));
    says(json_text(agent, "name"), "vmtier-agent *, Linux *");
    g_assert_cmpint(json_int(agent, "outside_ranges"), ==, 0);
    g_assert_cmpint(json_int(agent, "bad_frames"), ==, 0);
    wait_guest_says("tier dram: ", 15);
    g_autofree char *status = agent_status();

    g_assert_nonnull(strstr(status, "host: connected"));
    g_assert_nonnull(strstr(status, "quota: 167772160 bytes"));
    g_assert_nonnull(strstr(status, "collector free: works"));
    g_assert_nonnull(strstr(status, "collector idle: /sys/kernel/mm/page_idle/bitmap: this kernel has no"));
}

/* --- pins ------------------------------------------------------------------------------------------- */

static void test_pin(void)
{
    unsigned status;
    g_autofree char *started = in_guest(HOLDER, &status);
    g_autofree char *hint = in_guest(AWAIT_HOLDER "vmtier-agent hint --comm sh pin 2>&1",
                                         &status);
    gint64 bytes;

    g_test_message("%s%s", started, hint);
    g_assert_cmpuint(status, ==, 0);
    wait_agent("pinned_bytes", 10 * (gint64)MIB, 80 * (gint64)MIB, 60);
    bytes = agent_int("pinned_bytes");
    wait_agent("pinned_dram_bytes", bytes, G_MAXINT64, 20);
    /* The rest of the guest wants dram all the time. */
    for (int i = 0; i < 12; i++) {
        lab_sleep(0.25);
        g_assert_cmpint(agent_int("pinned_dram_bytes"), >=, bytes - 2 * (gint64)MIB);
    }
    g_assert_cmpint(agent_int("pin_refused_bytes"), ==, 0);
}

/* All of the workload is more than half of the quota. */
static void test_pin_too_much(void)
{
    unsigned status;
    g_autofree char *hint = in_guest("vmtier-agent hint --comm workload pin 2>&1", &status);

    g_assert_cmpuint(status, ==, 0);
    wait_agent("pin_refused_bytes", 100 * (gint64)MIB, G_MAXINT64, 20);
    g_assert_cmpint(agent_int("pinned_bytes"), ==, 80 * (gint64)MIB);
    g_autofree char *said = in_guest("sleep 1; vmtier-agent status 2>&1 | grep refused", &status);

    says(said, "*MiB may be, half of the DRAM quota*");
    g_free(in_guest("vmtier-agent hint --comm workload none; vmtier-agent hint --comm sh none", &status));
    g_assert_cmpuint(status, ==, 0);
    tiered_check(agentvm, 10);                /* the quota held */
}

/* --- hot -------------------------------------------------------------------------------------------- */

/* Part of the extents that are in dram. */
static double in_dram(const GArray *hot)
{
    g_autoptr(JsonNode) node = qmp_ok(agentvm->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    JsonArray *tier = json_object_get_array_member(json_node_get_object(node), "tier");
    guint n = 0;

    for (guint i = 0; i < hot->len; i++)
        n += json_array_get_int_element(tier, (guint)(g_array_index(hot, struct extent, i).gpa /
                                                      GRANULE)) == 0;
    return (double)n / hot->len;
}

/* Only the first page of each 2 MiB is named. */
static void hint(const GArray *hot, const char *kind)
{
    g_autoptr(GString) command = g_string_new("vmtier-agent hint --for 30");
    unsigned status;

    for (guint i = 0; i < hot->len; i++)
        g_string_append_printf(command, " --range 0x%" PRIx64 "+1",
                               g_array_index(hot, struct extent, i).gpa);
    g_string_append_printf(command, " %s >/dev/null", kind);
    g_free(in_guest(command->str, &status));
    g_assert_cmpuint(status, ==, 0);
}

/* Said, and taken back. */
static void say_and_take_back(const GArray *hot)
{
    hint(hot, "hot");
    wait_agent("hot_bytes", 24 * (gint64)MIB, G_MAXINT64, 30);
    hint(hot, "none");
    wait_agent("hot_bytes", 0, 0, 30);
}

#define TIMES 3

static int by_size(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* In the long form: the medians of how long it takes with hints and without, in turn. */
static void compare(double (*how_long)(bool hinted))
{
    double without[TIMES], with[TIMES];

    if (!g_getenv("VMTIER_AGENT_LONG"))
        return;
    for (int i = 0; i < TIMES; i++) {
        without[i] = how_long(false);
        with[i] = how_long(true);
    }
    qsort(without, TIMES, sizeof(without[0]), by_size);
    qsort(with, TIMES, sizeof(with[0]), by_size);
    g_test_message("medians of %d: without %.2f s (%.2f to %.2f), with %.2f s (%.2f to %.2f), %.2f of it", TIMES,
                   without[TIMES / 2], without[0], without[TIMES - 1], with[TIMES / 2], with[0],
                   with[TIMES - 1], with[TIMES / 2] / without[TIMES / 2]);
    g_assert_cmpfloat(with[TIMES / 2], <=, without[TIMES / 2] / 2);
}

/* Seconds from a jump to a new hot set until nine tenths of it are in dram. */
static double settle(bool hinted)
{
    g_autoptr(GArray) hot = guest_shift(agentvm->vm->guest, 20);
    double start = lab_now(), there = in_dram(hot), seconds;

    if (hinted)
        hint(hot, "hot");
    while (in_dram(hot) < 0.9 && lab_now() - start < 120)
        lab_sleep(0.05);
    seconds = lab_now() - start;
    g_test_message("%s: %.2f in dram at the jump, 0.9 after %.2f s", hinted ? "hinted" : "not hinted", there,
                   seconds);
    if (hinted)
        hint(hot, "none");              /* the next jump would make a lie of it */
    return seconds;
}

/* One page of each 2 MiB is enough to name. In the long form, how long it takes with and without. */
static void test_hot(void)
{
    g_autoptr(GArray) hot = guest_hot_now(agentvm->vm->guest, 20);

    say_and_take_back(hot);
    compare(settle);
}

/* --- a process that starts ------------------------------------------------------------------------------- */

/* A process with a buffer of its own, which it does not use yet; where that is. */
static GArray *start_pool(void)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct extent));
    unsigned status;
    g_autofree char *said = in_guest("workload pool 32M >/pool 2>&1 & echo $! >/pool.pid; "
                                     "until grep -q filled /pool; do usleep 100000; done; cat /pool", &status);
    g_auto(GStrv) lines = g_strsplit(said, "\n", -1);

    g_assert_cmpuint(status, ==, 0);
    for (char **l = lines; *l; l++)
        if (g_str_has_prefix(*l, "gpa ")) {
            struct extent e = { g_ascii_strtoull(*l + 4, NULL, 16), GRANULE };

            g_array_append_val(list, e);
        }
    g_assert_cmpuint(list->len, >=, 12);
    return list;
}

static bool is_on_cxl(void *list)
{
    return in_dram(list) == 0;
}

static void send_to_cxl(GArray *list)
{
    g_autoptr(GString) ranges = g_string_new(NULL);

    for (guint i = 0; i < list->len; i++)
        g_string_append_printf(ranges, "%s{\"first\":%u,\"count\":1}", i ? "," : "",
                               (guint)(g_array_index(list, struct extent, i).gpa / GRANULE));
    json_node_unref(qmp_ok(agentvm->daemon->qmp, "vmtier-move", "{\"vm\":\"vm\",\"tier\":\"cxl\",\"ranges\":[%s]}",
                           ranges->str));
    g_assert_true(lab_wait(is_on_cxl, list, 30));
}

/* The greatest heat of the extents; of all granules, if there is no list. */
static double heat_of(const GArray *list)
{
    g_autoptr(JsonNode) node = qmp_ok(agentvm->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    JsonArray *heat = json_object_get_array_member(json_node_get_object(node), "heat");
    double most = 0;

    for (guint i = 0; i < (list ? list->len : json_array_get_length(heat)); i++)
        most = MAX(most, json_array_get_double_element(
                             heat, list ? (guint)(g_array_index(list, struct extent, i).gpa / GRANULE) : i));
    return most;
}

/* Nothing is known to be warm in it, of its last life or from being filled. */
static bool is_cold(void *list)
{
    return heat_of(list) < heat_of(NULL) / 50;
}

static void run(const char *command)
{
    unsigned status;

    g_free(in_guest(command, &status));
    g_assert_cmpuint(status, ==, 0);
}

#define HINT "vmtier-agent hint --pid $(cat /pool.pid) --range $(sed -n 's/^buffer //p' /pool) "

/* A process with a buffer that is on CXL, and of which nothing is known. */
static GArray *start_fresh(void)
{
    GArray *list = start_pool();
    double start = lab_now();
    bool cold = lab_wait(is_cold, list, 60);

    g_test_message("%scold after %.2f s", cold ? "" : "not ", lab_now() - start);
    send_to_cxl(list);
    return list;
}

static void end_fresh(bool hinted)
{
    if (hinted) {
        run(HINT "none >/dev/null");
        wait_agent("hot_bytes", 0, 0, 60);
    }
    run("kill -9 $(cat /pool.pid)");    /* it had found no page bad */
}

static bool is_in_dram(void *list)
{
    return in_dram(list) >= 0.9;
}

/*
 * Seconds from a process's first use of its buffer until nine tenths of it are in dram. It goes on for longer
 * than exchanges wait for their judgement.
 */
static double fresh(bool hinted)
{
    g_autoptr(GArray) list = start_fresh();
    double start = lab_now(), seconds;

    run(hinted ? "kill -USR1 $(cat /pool.pid); " HINT "hot >/dev/null" : "kill -USR1 $(cat /pool.pid)");
    lab_wait(is_in_dram, list, 120);
    seconds = lab_now() - start;
    g_test_message("a process that starts, %s: %u extents, %.2f of them in dram after %.2f s",
                   hinted ? "hinted" : "not hinted", list->len, in_dram(list), seconds);
    lab_sleep(12);
    end_fresh(hinted);
    return seconds;
}

/* In the short form the process does not even use it: nothing but the hint can bring it to dram. */
static void test_fresh(void)
{
    if (g_getenv("VMTIER_AGENT_LONG")) {
        compare(fresh);
        return;
    }
    g_autoptr(GArray) list = start_fresh();

    run(HINT "hot >/dev/null");
    wait_agent("hot_bytes", (gint64)(list->len * GRANULE), G_MAXINT64, 90);
    g_assert_true(lab_wait(is_in_dram, list, 90));
    end_fresh(true);
}

/* --- the daemon comes and goes ---------------------------------------------------------------------- */

static void test_no_host(void)
{
    daemon_kill(agentvm->daemon);
    wait_guest_says("host: no host answers", 15);
    daemon_restart(agentvm->daemon);
    daemon_wait_vm_state(agentvm->daemon, "vm", "tiering", 30);
    wait_agent("frames", 2, G_MAXINT64, 30);
    wait_guest_says("host: connected", 10);
}

/* The guest moves to another QEMU, another channel and another host's daemon, as far as it can tell. */
static void test_migration(void)
{
    g_autofree char *file = lab_path(agentvm->lab, "state"), *from = g_strdup_printf("exec:cat %s", file);
    unsigned status;
    struct vm *target;

    g_free(in_guest("vmtier-agent hint --comm sh pin", &status));
    wait_agent("pinned_bytes", 1, G_MAXINT64, 60);
    json_node_unref(qmp_ok(agentvm->vm->qmp, "stop", NULL));  /* under TCG a running guest's is not exact */
    migration_set_limits(agentvm->vm, 1024 * MIB, 300);
    migrate_to_file(agentvm->vm, file);
    migration_wait(agentvm->vm);
    target = agentvm_qemu("target", from);
    migration_wait(target);
    vm_free(agentvm->vm);
    agentvm->vm = target;
    agentvm->name = "target";
    json_node_unref(qmp_ok(agentvm->vm->qmp, "cont", NULL));
    wait_agent("version", 1, 1, 60);
    wait_agent("pinned_bytes", 1, G_MAXINT64, 60);      /* the rule goes on */
    wait_guest_says("host: connected", 30);
    wait_guest_says("tier dram: ", 30);
    g_assert_cmpuint(guest_sweep(agentvm->vm->guest, 60), ==, 0);
}

static void restart_agent(const char *settings)
{
    g_autofree char *command = g_strdup_printf(
        "printf '%s\\n' >/etc/vmtier/vmtier-agent.conf; killall vmtier-agent; "
        "while pidof vmtier-agent; do usleep 100000; done; vmtier-agent >/dev/null 2>&1 & sleep 1", settings);

    run(command);
    wait_guest_says("host: connected", 60);
}

/* What a command in the guest says that is a number behind a name. */
static gint64 number_of(const char *command, const char *name)
{
    unsigned status;
    g_autofree char *said = in_guest(command, &status);
    const char *at = strstr(said, name);

    g_assert_nonnull(at);
    return g_ascii_strtoll(at + strlen(name), NULL, 10);
}

#define COST_S 60

/* Its memory, and its CPU time as it comes, once it has gone through all of memory. */
static void test_cost(void)
{
    gint64 passes, cpu_ms, kib;
    double until = lab_deadline(600), start, seconds;

    restart_agent("");
    do {
        lab_sleep(10);          /* to ask takes of the agent's time as well */
        passes = number_of("vmtier-agent status", "passes: ");
    } while (!passes && lab_now() < until);
    g_assert_cmpint(passes, >, 0);
    cpu_ms = number_of("vmtier-agent status", "cpu: ");
    start = lab_now();
    lab_sleep(COST_S);
    cpu_ms = number_of("vmtier-agent status", "cpu: ") - cpu_ms;
    seconds = lab_now() - start;
    kib = number_of("cat /proc/$(pidof vmtier-agent)/status", "VmHWM:");
    g_test_message("at most %" G_GINT64_FORMAT " KiB; %" G_GINT64_FORMAT " ms of CPU time in %.1f s, %.2f %% of a core",
                   kib, cpu_ms, seconds, (double)cpu_ms / seconds / 10);
    g_assert_cmpint(kib, <, 4096);
    g_assert_cmpfloat((double)cpu_ms, <, 25 + 5 * seconds);     /* it may save up 20 ms */
}

static bool is_told_by_damon(void *unused)
{
    (void)unused;
    return agent_int("hot_bytes") + agent_int("cold_bytes") > (gint64)(100 * MIB);
}

/* Another agent takes the place of the first; the guest's kernel has DAMON, and tells of all of memory. */
static void test_damon(void)
{
    restart_agent("cpu=150\\ncollect=damon");      /* printf makes a line end of it */
    wait_guest_says("collector damon: works", 30);
    g_assert_true(lab_wait(is_told_by_damon, NULL, 60));
}

static bool is_suspended(void *vm)
{
    g_autoptr(JsonNode) node = qmp_ok(((struct vm *)vm)->qmp, "query-status", NULL);

    return !g_strcmp0(json_object_get_string_member(json_node_get_object(node), "status"), "suspended");
}

/* The guest sleeps (S3) and is woken: its drivers have let go of the port meanwhile. */
static void test_suspend(void)
{
    gint64 frames;

    guest_command(agentvm->vm->guest, "sh echo deep >/sys/power/mem_sleep; echo mem >/sys/power/state");
    g_assert_true(lab_wait(is_suspended, agentvm->vm, 60));
    frames = agent_int("frames");
    json_node_unref(qmp_ok(agentvm->vm->qmp, "system_wakeup", NULL));
    g_autofree char *ran = guest_expect(agentvm->vm->guest, "VMT RAN", 60);

    says(ran, "*status=0*");
    wait_agent("frames", frames + 3, G_MAXINT64, 60);
    wait_guest_says("host: connected", 30);
    g_assert_cmpuint(guest_sweep(agentvm->vm->guest, 60), ==, 0);
}

/* --- free ------------------------------------------------------------------------------------------- */

static uint64_t host_bytes(void)
{
    return memfd_bytes(agentvm->vm->qemu->pid, "memory-backend") + memfd_bytes(agentvm->vm->qemu->pid, "vmtier-cxl");
}

struct moves {
    gint64 promoted, demoted, pages;
};

static struct moves moves_of(void)
{
    g_autoptr(JsonObject) vm = daemon_vm(agentvm->daemon, "vm");

    return (struct moves){ json_int(vm, "moves.promoted"), json_int(vm, "moves.demoted"),
                           json_int(vm, "moves.pages") };
}

static void set(const char *command, const char *key, uint64_t value)
{
    json_node_unref(qmp_ok(agentvm->daemon->qmp, command, "{\"vm\":\"vm\",\"%s\":%" PRIu64 "}", key, value));
}

static gint64 dram_of_vm(void)
{
    g_autoptr(JsonObject) vm = daemon_vm(agentvm->daemon, "vm");

    return json_int(vm, "tiers.0.ledger_bytes");
}

static bool has_shrunk(void *quota)
{
    return dram_of_vm() <= *(gint64 *)quota;
}

/* The pieces are whole blocks of the guest's kernel, which it takes a moment to report. */
static bool has_given_back(void *before)
{
    return host_bytes() <= *(uint64_t *)before - 150 * MIB;
}

/*
 * The guest gives back half of its RAM, while nothing is moved. Then it is to leave dram as much as there is
 * free in it: that is what leaves, and not a page of it is copied. (Those of an exchange that comes after it
 * are: 512 for each granule of two; and a granule may have been taken into use since it was hinted.)
 */
static void test_free(void)
{
    uint64_t before = host_bytes();
    gint64 free_before = agent_int("free_bytes"), in_dram_before, quota;
    struct moves was, now;

    set("vmtier-set-rate", "bytes_per_s", 0);
    guest_command(agentvm->vm->guest, "pause");
    g_free(guest_expect(agentvm->vm->guest, "VMT PAUSED", 30));
    guest_command(agentvm->vm->guest, "free 190M");
    g_free(guest_expect(agentvm->vm->guest, "VMT FREED", 30));
    wait_agent("free_bytes", free_before + 150 * (gint64)MIB, G_MAXINT64, 60);
    g_assert_true(lab_wait(has_given_back, &before, 60));
    was = moves_of();
    in_dram_before = agent_int("free_dram_bytes");
    quota = dram_of_vm() - in_dram_before;
    set("vmtier-set-quota", "max", (uint64_t)quota);
    set("vmtier-set-rate", "bytes_per_s", 1024 * MIB);
    g_assert_true(lab_wait(has_shrunk, &quota, 60));
    now = moves_of();
    g_test_message("host: %llu -> %llu MiB; hinted free %" G_GINT64_FORMAT " MiB; %"
                   G_GINT64_FORMAT " granules demoted, %" G_GINT64_FORMAT " promoted, %" G_GINT64_FORMAT
                   " pages copied", before / MIB, host_bytes() / MIB, agent_int("free_bytes") >> 20,
                   now.demoted - was.demoted, now.promoted - was.promoted, now.pages - was.pages);
    g_assert_cmpint(now.demoted - was.demoted, >=, in_dram_before / GRANULE);
    g_assert_cmpint(now.pages - was.pages, <=, 512 * (1 + 2 * (now.promoted - was.promoted)));
    wait_agent("free_dram_bytes", 0, MAX(in_dram_before / 2, 16 * (gint64)MIB), 60);
    g_assert_cmpuint(guest_sweep(agentvm->vm->guest, 60), ==, 0);
    set("vmtier-set-quota", "max", AGENTVM_QUOTA);
    guest_command(agentvm->vm->guest, "run");
    guest_command(agentvm->vm->guest, "grow 100M");
    g_free(guest_expect(agentvm->vm->guest, "VMT GREW", 60));
    g_assert_cmpuint(guest_sweep(agentvm->vm->guest, 60), ==, 0);
}

int main(int argc, char **argv)
{
    bool is_long = g_getenv("VMTIER_AGENT_LONG") != NULL;
    int status;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/greeting", test_greeting);
    if (is_long) {                      /* before pins, which hold for two minutes */
        g_test_add_func("/agent/hot", test_hot);
        g_test_add_func("/agent/fresh", test_fresh);
    }
    g_test_add_func("/agent/pin", test_pin);
    g_test_add_func("/agent/pin-too-much", test_pin_too_much);
    g_test_add_func("/agent/no-host", test_no_host);
    g_test_add_func("/agent/free", test_free);
    if (is_long) {
        g_test_add_func("/agent/migration", test_migration);
        g_test_add_func("/agent/damon", test_damon);
        g_test_add_func("/agent/suspend", test_suspend);
        g_test_add_func("/agent/cost", test_cost);
    }
    status = g_test_run();
    agentvm_end();
    return status;
}
