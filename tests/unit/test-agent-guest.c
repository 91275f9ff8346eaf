// SPDX-License-Identifier: GPL-2.0-or-later
/* Tests of vmtier-agent itself, on this machine: what it costs, says, and makes of hosts of all kinds. */
#include "agent-host.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_S 60           /* a program under ASan has an address space that takes a while */
#define SECONDS 2.5             /* that its CPU time is measured over */

static double cpu_s(GPid pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/schedstat", (int)pid), *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return (double)g_ascii_strtoull(text, NULL, 10) / 1e9;
}

static guint64 peak_kib(GPid pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid), *text = NULL;
    const char *at;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    at = strstr(text, "VmHWM:");
    return g_ascii_strtoull(at + strlen("VmHWM:"), NULL, 10);
}

/* --- what it costs ---------------------------------------------------------------------------------- */

/* As it comes, at a host that takes all it says. */
static void test_cost(void)
{
    struct host *h;
    double start_s, cpu;
    guint64 ranges = 0;

    if (!may_run())
        return;
    h = host_at_pty("");
    welcome(h, 1000);
    cpu = cpu_s(h->agent);
    start_s = now_s();
    while (now_s() < start_s + SECONDS || (!ranges && now_s() < start_s + PATIENCE_S))
        ranges += hear(h, VTA_HINTS, 0.1) ? h->f.hints.count : 0;
    cpu = cpu_s(h->agent) - cpu;
    g_test_message("%.2f %% of a core in %.1f s, at most %" G_GUINT64_FORMAT " KiB, %" G_GUINT64_FORMAT " ranges",
                   cpu * 100 / (now_s() - start_s), now_s() - start_s, peak_kib(h->agent), ranges);
    g_assert_cmpuint(peak_kib(h->agent), <, 4096);
    g_assert_cmpfloat(cpu, <, 0.025 + 0.005 * (now_s() - start_s));     /* it may save up 20 ms */
    g_assert_cmpuint(ranges, >, 0);
    host_free(h);
}

/* Nobody at the other end: end of file, as often as one looks. */
static void test_storm(void)
{
    struct host *h;
    double cpu;

    if (!may_run())
        return;
    h = host_new("");
    host_start(h, "/dev/null");
    g_usleep(300000);
    cpu = cpu_s(h->agent);
    g_usleep((gulong)(SECONDS * 1e6));
    cpu = (cpu_s(h->agent) - cpu) / SECONDS;
    g_test_message("%.3f %% of a core", cpu * 100);
    g_assert_cmpfloat(cpu, <, 0.005);
    host_free(h);
}

/* No collector, no rule: it waits for the host to speak, and does not ask itself all the time what to do. */
static void test_no_work(void)
{
    struct host *h;
    double cpu;

    if (!may_run())
        return;
    h = host_at_pty("collect=none\ncpu=1000\n");
    welcome(h, 1000);
    cpu = cpu_s(h->agent);
    g_assert_false(hear(h, VTA_HINTS, SECONDS));
    cpu = (cpu_s(h->agent) - cpu) / SECONDS;
    g_test_message("%.3f %% of a core", cpu * 100);
    g_assert_cmpfloat(cpu, <, 0.05);
    host_free(h);
}

/* --- what it says ----------------------------------------------------------------------------------- */

/* Not a word more than it has credits for, and none while it is muted. */
static void test_credits(void)
{
    struct vta_frame f = { .credit = { 1, 0 } };
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty("pass=1\ncpu=1000\n");
    welcome(h, 1);
    g_assert_true(hear(h, VTA_HINTS, 5));
    g_assert_false(hear(h, VTA_HINTS, 0.7));
    say(h, VTA_CREDIT, &f, sizeof(f.credit));
    g_assert_true(hear(h, VTA_HINTS, 5));
    f.notice = (struct vta_notice){ VTA_E_RATE, 60000, "enough" };
    say(h, VTA_MUTE, &f, sizeof(f.notice));
    f.credit = (struct vta_credit){ 10, 0 };
    say(h, VTA_CREDIT, &f, sizeof(f.credit));
    g_assert_false(hear(h, VTA_HINTS, 0.7));
    host_free(h);
}

/* The host is another one all of a sudden, which knows nothing of us; also if the one before had muted us. */
static void test_new_host(void)
{
    struct vta_frame f = { .notice = { VTA_E_RATE, 3600000, "enough" } };
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty("pass=1\ncpu=1000\n");
    welcome(h, 4);
    g_assert_true(hear(h, VTA_HINTS, PATIENCE_S));
    say(h, VTA_MUTE, &f, sizeof(f.notice));
    wait_status(h, "host: muted by the host");
    h->seq = 0;
    f.ask = (struct vta_ask){ (1u << VTA_KIND_END) - 2, 0 };
    say(h, VTA_ASK, &f, sizeof(f.ask));
    welcome(h, 4);
    g_assert_true(hear(h, VTA_HINTS, PATIENCE_S));
    wait_status(h, "host: connected");
    host_free(h);
}

/* No port at all. */
static void test_no_port(void)
{
    g_autofree char *sysfs = g_dir_make_tmp("vmtier-sysfs-XXXXXX", NULL);
    g_autofree char *text = g_strdup_printf("sysfs=%s\n", sysfs);
    struct host *h;

    if (!may_run())
        return;
    h = host_new(text);
    host_start(h, NULL);
    g_usleep(200000);
    wait_status(h, "host: no port org.vmtier.agent.0");
    host_free(h);
    g_rmdir(sysfs);
}

/* The host is another version's, then one that it understands. */
static void test_skew(void)
{
    struct vta_frame f = { .notice = { VTA_E_VERSION, 0, "no" } };
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty("");
    g_assert_true(hear(h, VTA_HELLO, 10));
    say(h, VTA_ERROR, &f, sizeof(f.notice));
    wait_status(h, "notice: error: no (");
    f.welcome = (struct vta_welcome){ .version = 99 };
    say(h, VTA_WELCOME, &f, sizeof(f.welcome));
    f.credit = (struct vta_credit){ 10, 0 };
    say(h, VTA_CREDIT, &f, sizeof(f.credit));
    wait_status(h, "notice: not understood: the host speaks version 99, the agent 1 to 1 (");
    g_assert_false(hear(h, VTA_HINTS, 0.5));
    f.welcome = (struct vta_welcome){ .version = VTA_VERSION, .granule = 2 << 20, .life_ms = 60000,
                                      .ranges_per_s = 100000 };
    say(h, VTA_WELCOME, &f, sizeof(f.welcome));
    f.credit = (struct vta_credit){ 1000, 0 };
    say(h, VTA_CREDIT, &f, sizeof(f.credit));
    g_assert_true(hear(h, VTA_HINTS, PATIENCE_S));
    host_free(h);
}

/* Bytes that are said to be so by somebody who knows, until they are so many or the time is over. */
static guint64 bytes_said(struct host *h, enum vta_kind kind, guint64 enough, double timeout)
{
    struct vta_frame f = { .credit = { 1, 0 } };
    double end = now_s() + timeout;
    guint64 bytes = 0;

    while (now_s() < end && bytes < enough) {
        say(h, VTA_CREDIT, &f, sizeof(f.credit));       /* else it takes this host for gone some day */
        if (hear(h, VTA_HINTS, 0.2))
            for (guint32 i = 0; i < h->f.hints.count; i++)
                if (h->f.hints.range[i].kind == kind && h->f.hints.range[i].weight == 255)
                    bytes += h->f.hints.range[i].length;
    }
    return bytes;
}

static void test_hints(void)
{
    g_autofree char *mine = g_strdup_printf("hint --pid %d hot", (int)getpid());
    g_autofree char *not_mine = g_strdup_printf("hint --pid %d none", (int)getpid());
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty("refresh=1\ncollect=none\ncpu=1000\nrule = pin comm tmux: server  # has a space\n");
    welcome(h, 1000);
    g_assert_cmpuint(bytes_said(h, VTA_HOT, 1, 1.2), ==, 0);
    expect(h, "status", 0, true, "rule: pin comm tmux:?server\n");
    expect(h, mine, 0, true, "noted");
    g_assert_cmpuint(bytes_said(h, VTA_HOT, 1 << 20, PATIENCE_S), >=, 1 << 20);
    expect(h, "status", 0, true, "rule: hot pid ");
    expect(h, not_mine, 0, true, "taken back");
    g_assert_cmpuint(bytes_said(h, VTA_NONE, 1 << 20, PATIENCE_S), >=, 1 << 20);
    expect(h, "hint --comm surely-not-there pin", 0, true, "noted");
    expect(h, "hint --range 0x100000-0x300000 cold", 0, true, "noted");
    g_assert_cmpuint(bytes_said(h, VTA_COLD, 1, PATIENCE_S), >, 0);
    expect(h, "hint --pid 999999999 hot", 0, false, "no process");
    expect(h, "hint --pid 1x hot", 0, false, "an option is wrong");
    expect(h, "hint --pid 1 --for ever hot", 0, false, "an option is wrong");
    expect(h, "hint --cgroup a.slice hot", 0, false, "an option is wrong");
    expect(h, "hint --pid 1 boiling", 0, false, "say one of hot");
    expect(h, "hint hot", 0, false, "say of what");
    /* others: of their own processes, and no pins */
    expect(h, "status", 65534, true, "host: connected");
    expect(h, mine, 65534, false, "only root may");
    expect(h, "hint --comm init pin", 65534, false, "only root may");
    expect(h, "hint --range 0x100000-0x300000 hot", 65534, false, "only root may");
    host_free(h);
}

/* What was said and taken back before it could be sent: the last word is what comes. */
static void test_last_word(void)
{
    struct vta_frame f = { .credit = { 100, 0 } };
    struct host *h;

    if (!may_run())
        return;
    h = host_at_pty("refresh=60\ncollect=none\n");
    welcome(h, 0);
    expect(h, "hint --range 0x100000-0x300000 hot", 0, true, "noted");
    g_usleep(300000);
    expect(h, "hint --range 0x100000-0x300000 none", 0, true, "taken back");
    g_usleep(300000);
    say(h, VTA_CREDIT, &f, sizeof(f.credit));
    g_assert_true(hear(h, VTA_HINTS, PATIENCE_S));
    g_assert_cmpuint(h->f.hints.count, ==, 1);
    g_assert_cmpuint(h->f.hints.range[0].kind, ==, VTA_NONE);
    g_assert_false(hear(h, VTA_HINTS, 1));
    host_free(h);
}

static void test_config(void)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        { "cpu=0\n", ":1: cpu is thousandths of a core" }, { "\n#x\nluck=1\n", ":3: there is no key 'luck'" },
        { "collect=free,luck\n", ":1: collect is none, or" }, { "pass\n", ":1: there is no '='" },
        { "rule=hot comm\n", ":1: rule is hot|cold" }, { "rule=hot range 5-3\n", ":1: rule is" },
        { "rule=pin cgroup a.slice\n", "a cgroup from / on, not 'pin cgroup a.slice'" },
        { "rule=hot range 0x1000-0xffffffffffffffff\n", ":1: rule is" },
    };
    g_autofree char *path = agent_program();

    if (!may_run())
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *file = g_build_filename(g_get_tmp_dir(), "vmtier-agent-bad.conf", NULL);
        char *argv[] = { (char *)"timeout", (char *)"5", path, (char *)"--config", file, NULL };
        g_autofree char *said = NULL;
        int status;

        g_assert_true(g_file_set_contents(file, bad[i].text, -1, NULL));
        g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &said,
                                   &status, NULL));
        g_assert_cmpint(WEXITSTATUS(status), ==, 2);
        if (!strstr(said, bad[i].says))
            g_error("'%s': %s", bad[i].text, said);
        g_unlink(file);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/agent-guest/cost", test_cost);
    g_test_add_func("/agent-guest/storm", test_storm);
    g_test_add_func("/agent-guest/no-work", test_no_work);
    g_test_add_func("/agent-guest/credits", test_credits);
    g_test_add_func("/agent-guest/new-host", test_new_host);
    g_test_add_func("/agent-guest/no-port", test_no_port);
    g_test_add_func("/agent-guest/skew", test_skew);
    g_test_add_func("/agent-guest/hints", test_hints);
    g_test_add_func("/agent-guest/last-word", test_last_word);
    g_test_add_func("/agent-guest/config", test_config);
    return g_test_run();
}
