// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The agent in a guest, from its collectors to the placement: a stock QEMU's virtio port, the daemon on
 * its other end. The tests share one guest, in order. With VMTIER_AGENT_LONG it is also measured what hints
 * are worth.
 *
 * timeout: 120
 */
#include "rig.h"
#include "tiered.h"

#include <string.h>

/* A process of its own with 12 MB of memory: a shell with a long variable, which stays (the last
 * command of a shell may take its place). */
#define HOLDER "sh -c 'x=$(yes | head -c 12000000); echo >/held; sleep 1000; :' >/dev/null 2>&1 & echo started"
#define AWAIT_HOLDER "n=0; while [ ! -e /held ] && [ $n -lt 60 ]; do sleep 1; n=$((n + 1)); done; "

#define QUOTA "160M"

static struct tiered *t;
static char *channel;

static JsonObject *agent_of(void)
{
    g_autoptr(JsonObject) vm = daemon_vm(t->daemon, "vm");

    g_assert_nonnull(vm);
    return json_object_ref(json_object_get_object_member(vm, "agent"));
}

static gint64 agent_int(const char *name)
{
    g_autoptr(JsonObject) agent = agent_of();

    return json_int(agent, name);
}

struct bound {
    const char *name;
    gint64 low, high;
};

static bool is_within(void *arg)
{
    const struct bound *b = arg;
    gint64 value = agent_int(b->name);

    return value >= b->low && value <= b->high;
}

static void wait_agent(const char *name, gint64 low, gint64 high, double timeout)
{
    struct bound b = { name, low, high };

    if (!lab_wait(is_within, &b, timeout)) {
        g_autoptr(JsonObject) agent = agent_of();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), agent);
        g_autofree char *text = json_to_string(node, FALSE);

        g_error("%s is not %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT ": %s", name, low, high, text);
    }
}

/* A command in the guest's shell; what it said. */
static char *in_guest(const char *command, unsigned *status)
{
    g_autofree char *line = g_strconcat("sh ", command, NULL);
    g_autoptr(GString) said = g_string_new(NULL);

    guest_command(t->vm->guest, line);
    for (;;) {
        g_autofree char *answer = guest_expect(t->vm->guest, "VMT ", 20);

        if (g_str_has_prefix(answer, "VMT SAYS "))
            g_string_append_printf(said, "%s\n", answer + strlen("VMT SAYS "));
        if (g_str_has_prefix(answer, "VMT RAN ")) {
            *status = (unsigned)guest_number(answer, "status");
            return g_string_free(g_steal_pointer(&said), FALSE);
        }
    }
}

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

static void write_config(struct lab *lab)
{
    g_autofree char *path = lab_path(lab, "vmtierd.conf");
    g_autofree char *pattern = lab_path(lab, "agent/%n.sock");
    g_autofree char *absolute = g_canonicalize_filename(pattern, NULL);
    g_autofree char *text = g_strdup_printf("[vm default]\nagent=%s\n", absolute);

    g_file_set_contents(path, text, -1, NULL);
}

static void boot(void)
{
    g_autofree char *chardev = NULL, *qemu10 = vm_qemu10();

    t = g_new0(struct tiered, 1);
    t->lab = lab_new("agent");
    t->name = "vm";
    t->quota = 160 * MIB;
    channel = lab_path(t->lab, "agent/vm.sock");        /* in the daemon's directory for them */
    chardev = g_strdup_printf("socket,id=agent,path=%s,server=on,wait=off", channel);
    const char *extra[] = {
        "-device", "virtio-serial-pci", "-chardev", chardev,
        "-device", "virtserialport,chardev=agent,name=org.vmtier.agent.0",
        "-device", "virtio-balloon-pci,free-page-reporting=on", NULL,
    };
    const char *const arguments[] = { "--quota", QUOTA, "--rate", "1G", NULL };

    write_config(t->lab);
    t->daemon = daemon_start(t->lab, arguments);
    t->vm = tiered_vm(t, "vm", &(struct tiered_options){
        .qemu = qemu10, .ram = "384M", .extra = extra,
        .append = "vmt.foot=240M vmt.hot=32M vmt.share=80 vmt.agent=cpu=150,pass=2,refresh=2" });
    g_free(guest_expect(t->vm->guest, "VMT READY", BOOT_TIMEOUT));
}

/* --- they meet -------------------------------------------------------------------------------------- */

static void test_greeting(void)
{
    boot();
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
    tiered_check(t, 10);                /* the quota held */
}

/* --- hot -------------------------------------------------------------------------------------------- */

/* Part of the extents that are in dram. */
static double in_dram(const GArray *hot)
{
    g_autoptr(JsonNode) node = qmp_ok(t->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
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

/* Seconds from a jump to a new hot set until nine tenths of it are in dram. */
static double settle(bool hinted)
{
    g_autoptr(GArray) hot = guest_shift(t->vm->guest, 20);
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
    g_autoptr(GArray) hot = guest_hot_now(t->vm->guest, 20);
    double without = 0, with = 0;

    say_and_take_back(hot);
    for (int i = 0; i < 4 && g_getenv("VMTIER_AGENT_LONG"); i++) {
        without += settle(false);
        with += settle(true);
    }
    g_test_message("without %.2f s, with %.2f s", without / 4, with / 4);
}

/* --- the daemon comes and goes ---------------------------------------------------------------------- */

static void test_no_host(void)
{
    daemon_kill(t->daemon);
    wait_guest_says("host: no host answers", 15);
    daemon_restart(t->daemon);
    daemon_wait_vm_state(t->daemon, "vm", "tiering", 30);
    wait_agent("frames", 2, G_MAXINT64, 30);
    wait_guest_says("host: connected", 10);
}

/* --- free ------------------------------------------------------------------------------------------- */

static uint64_t host_bytes(void)
{
    return memfd_bytes(t->vm->qemu->pid, "memory-backend") + memfd_bytes(t->vm->qemu->pid, "vmtier-cxl");
}

struct moves {
    gint64 promoted, demoted, pages;
};

static struct moves moves_of(void)
{
    g_autoptr(JsonObject) vm = daemon_vm(t->daemon, "vm");

    return (struct moves){ json_int(vm, "moves.promoted"), json_int(vm, "moves.demoted"),
                           json_int(vm, "moves.pages") };
}

static void set(const char *command, const char *key, uint64_t value)
{
    json_node_unref(qmp_ok(t->daemon->qmp, command, "{\"vm\":\"vm\",\"%s\":%" PRIu64 "}", key, value));
}

static bool has_shrunk(void *quota)
{
    g_autoptr(JsonObject) vm = daemon_vm(t->daemon, "vm");

    return json_int(vm, "tiers.0.ledger_bytes") <= *(gint64 *)quota;
}

/* The pieces are whole blocks of the guest's kernel, which it takes a moment to report. */
static bool has_given_back(void *before)
{
    return host_bytes() <= *(uint64_t *)before - 170 * MIB;
}

/*
 * The guest gives back half of its RAM, while nothing is moved. Then it is to leave dram as much as there is
 * free in it: that is what leaves, and not a page of it is copied. (Those of an exchange that comes after it
 * are: 512 for each granule of two.)
 */
static void test_free(void)
{
    uint64_t before = host_bytes();
    gint64 free_before = agent_int("free_bytes"), quota;
    struct moves was, now;

    set("vmtier-set-rate", "bytes_per_s", 0);
    guest_command(t->vm->guest, "pause");
    g_free(guest_expect(t->vm->guest, "VMT PAUSED", 30));
    guest_command(t->vm->guest, "free 190M");
    g_free(guest_expect(t->vm->guest, "VMT FREED", 30));
    wait_agent("free_bytes", free_before + 170 * (gint64)MIB, G_MAXINT64, 60);
    g_assert_true(lab_wait(has_given_back, &before, 60));
    was = moves_of();
    quota = 160 * (gint64)MIB - agent_int("free_dram_bytes");
    g_assert_cmpint(quota, <=, 140 * (gint64)MIB);      /* else there is not much to see */
    set("vmtier-set-quota", "max", (uint64_t)quota);
    set("vmtier-set-rate", "bytes_per_s", 1024 * MIB);
    g_assert_true(lab_wait(has_shrunk, &quota, 60));
    now = moves_of();
    g_test_message("host: %llu -> %llu MiB; hinted free %" G_GINT64_FORMAT " MiB; %"
                   G_GINT64_FORMAT " granules demoted, %" G_GINT64_FORMAT " promoted, %" G_GINT64_FORMAT
                   " pages copied", before / MIB, host_bytes() / MIB, agent_int("free_bytes") >> 20,
                   now.demoted - was.demoted, now.promoted - was.promoted, now.pages - was.pages);
    g_assert_cmpint(now.demoted - was.demoted, >=, (160 * (gint64)MIB - quota) / GRANULE);
    g_assert_cmpint(now.pages - was.pages, <=, 2 * 512 * (now.promoted - was.promoted));
    wait_agent("free_dram_bytes", 0, 4 * (gint64)MIB, 20);
    g_assert_cmpuint(guest_sweep(t->vm->guest, 60), ==, 0);
    set("vmtier-set-quota", "max", 160 * MIB);
    guest_command(t->vm->guest, "run");
    guest_command(t->vm->guest, "grow 100M");
    g_free(guest_expect(t->vm->guest, "VMT GREW", 60));
    g_assert_cmpuint(guest_sweep(t->vm->guest, 60), ==, 0);
}

static void finish(void)
{
    vm_free(t->vm);
    daemon_free(t->daemon);
    lab_free(t->lab);
    g_free(t->monitor);
    g_free(t);
    g_free(channel);
}

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/greeting", test_greeting);
    if (g_getenv("VMTIER_AGENT_LONG"))  /* before pins, which hold for two minutes */
        g_test_add_func("/agent/hot", test_hot);
    g_test_add_func("/agent/pin", test_pin);
    g_test_add_func("/agent/pin-too-much", test_pin_too_much);
    g_test_add_func("/agent/no-host", test_no_host);
    g_test_add_func("/agent/free", test_free);
    status = g_test_run();
    if (t)
        finish();
    return status;
}
