// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtier-agent: start, rights, the loop.
 *
 * Started as root with a user to become, it opens what is root's (page flags, the port) and keeps only
 * three capabilities: CAP_SYS_ADMIN, for which the kernel shows page frame numbers and where RAM is;
 * CAP_SYS_PTRACE, to look at the page tables of processes that others own; CAP_DAC_READ_SEARCH, for files in
 * /proc. None of them is used to write. Without hints of processes CAP_SYS_PTRACE can be taken away.
 *
 * Rules and collectors have one budget of CPU time; they take turns in being the first to use it, or rules that
 * never come to an end would leave nothing to the others.
 */
#include "guest-agent/agent.h"

#include "common/version.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopping;

/* --- helpers -------------------------------------------------------------------------------- */

void note(const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    fprintf(stderr, "vmtier-agent: %s\n", text);
}

void text_to(char *to, size_t size, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (vsnprintf(to, size, format, ap) < 0)
        to[0] = 0;
    va_end(ap);
}

static uint64_t us_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

uint64_t now_ms(void)
{
    return us_of(CLOCK_BOOTTIME) / 1000;
}

uint64_t cpu_us(void)
{
    return us_of(CLOCK_PROCESS_CPUTIME_ID);
}

/* --- rights --------------------------------------------------------------------------------- */

static bool find_user(const char *name, uid_t *uid, gid_t *gid)
{
    FILE *f = fopen("/etc/passwd", "re");       /* getpwnam() would not work in a static program */
    struct passwd entry = { 0 }, *p = NULL;
    char strings[1024];

    while (f && !fgetpwent_r(f, &entry, strings, sizeof(strings), &p) && strcmp(p->pw_name, name))
        p = NULL;
    if (p) {
        *uid = p->pw_uid;
        *gid = p->pw_gid;
    }
    if (f)
        fclose(f);
    return p != NULL;
}

static bool keep_capabilities(void)
{
    const uint32_t keep = 1u << CAP_SYS_ADMIN | 1u << CAP_SYS_PTRACE | 1u << CAP_DAC_READ_SEARCH;
    struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct d[2] = { { .effective = keep, .permitted = keep } };

    return syscall(SYS_capset, &h, d) == 0;
}

static bool become(const char *name)
{
    uid_t uid = 0;
    gid_t gid = 0;

    if (geteuid() != 0)
        return true;                    /* whoever started us has seen to it */
    if (!find_user(name, &uid, &gid)) {
        note("there is no user '%s'", name);
        return false;
    }
    if (port_fd >= 0 && fchown(port_fd, uid, gid))
        note("the port cannot be given to %s: %s", name, strerror(errno));
    if (control_fd() >= 0 && chown(settings.control, uid, gid))
        note("%s: %s", settings.control, strerror(errno));
    if (prctl(PR_SET_KEEPCAPS, 1) || setgroups(0, NULL) || setresgid(gid, gid, gid) ||
        setresuid(uid, uid, uid) || !keep_capabilities() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
        note("cannot become %s: %s", name, strerror(errno));
        return false;
    }
    return true;
}

/* --- the loop ------------------------------------------------------------------------------- */

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static int sooner(int a, int b)
{
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

static int wait_ms(uint64_t now)
{
    int ms = sooner(scan_wait_ms(now), port_wait_ms(now));

    ms = sooner(ms, rules_wait_ms(now));
    if (control_wait_ms(now))
        ms = sooner(ms, control_wait_ms(now));
    return sooner(ms, session.welcome ? 500 : 1000);
}

static void work(uint64_t now)
{
    static bool rules_last;

    if (rules_last)
        scan_tick(now);
    rules_tick(now);
    if (!rules_last)
        scan_tick(now);
    rules_last = !rules_last;
    outbox_flush(now);
}

static void turn(void)
{
    uint64_t now = now_ms();
    bool port = port_may_read(now);
    struct pollfd p[2] = {
        { .fd = port ? port_fd : -1, .events = (short)(POLLIN | (session_wants_to_write() ? POLLOUT : 0)) },
        { .fd = control_wait_ms(now) ? -1 : control_fd(), .events = POLLIN },
    };

    if (poll(p, 2, wait_ms(now)) < 0 && errno != EINTR)
        usleep(100000);
    now = now_ms();
    if (p[1].revents)
        control_serve(now);
    port_tick(now);
    if (port && p[0].revents)
        session_read(now);
    session_tick(now);
    if (port_fd >= 0)
        session_write(now);
    work(now);
}

static int run(void)
{
    struct sigaction stop = { .sa_handler = on_signal };
    char why[200];

    if (sysconf(_SC_PAGESIZE) != PAGE) {
        note("this machine has pages of %ld bytes, and hints are made of %u", sysconf(_SC_PAGESIZE), PAGE);
        return 2;
    }
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (!control_open(why, sizeof(why)))
        note("hint and status will not work: %s", why);
    scan_open();
    port_tick(now_ms());
    if (settings.user && !become(settings.user))
        return 1;
    while (!stopping)
        turn();
    session_bye();
    for (int i = 0; i < COLLECTORS; i++)
        if (!collector_reason[i][0] && collectors[i]->close)
            collectors[i]->close();
    control_close();
    return 0;
}

/* --- options -------------------------------------------------------------------------------- */

static int help(void)
{
    puts("Usage: vmtier-agent [--config FILE] [--port PATH] [--control PATH] [--user NAME]\n"
         "       vmtier-agent [--control PATH] hint WHAT hot|cold|free|pin|none [--for SECONDS]\n"
         "       vmtier-agent [--control PATH] status\n\n"
         "Tells the host which of this machine's memory is free, cold, hot, or to be kept in DRAM.\n"
         "WHAT: --pid PID | --comm NAME | --cgroup PATH | --range START-END (physical) |\n"
         "      --pid PID --range START-END (of that process)\n\n"
         "See vmtier-agent(8).");
    return 0;
}

static const struct option options[] = {
    { "config", required_argument, NULL, 'c' },  { "port", required_argument, NULL, 'p' },
    { "control", required_argument, NULL, 's' }, { "user", required_argument, NULL, 'u' },
    { "help", no_argument, NULL, 'h' },          { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

int main(int argc, char **argv)
{
    const char *config = NULL, *port = NULL, *control = NULL, *user = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "+c:p:s:u:h", options, NULL)) != -1)
        switch (option) {
        case 'c': config = optarg; break;
        case 'p': port = optarg; break;
        case 's': control = optarg; break;
        case 'u': user = optarg; break;
        case 'h': return help();
        case 'v': puts("vmtier-agent " VMTIER_VERSION); return 0;
        default: return 2;
        }
    if (!config_read(config ? config : CONFIG_FILE, config != NULL))
        return 2;
    settings.port = port ? port : settings.port;
    settings.control = control ? control : settings.control;
    settings.user = user ? user : settings.user;
    if (optind == argc)
        return run();
    if (!strcmp(argv[optind], "hint") || !strcmp(argv[optind], "status"))
        return client_main(argc - optind, argv + optind);
    note("there is no '%s': see --help", argv[optind]);
    return 2;
}
