// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The socket at which `vmtier-agent hint` and `vmtier-agent status` talk to the agent: datagrams, so that
 * nobody can keep us waiting; EVERY_MS apart, so that nobody can keep us busy. Who asks is told by the kernel.
 * Anybody may ask for the status; root may say anything; others may say hot, cold or free of their own
 * processes, where root has said nothing.
 */
#include "guest-agent/agent.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define EVERY_MS 20

static int fd = -1;
static uint64_t next_ms;        /* when the next request may be served */
static char answer[ANSWER_MOST];
static size_t length;

int control_fd(void)
{
    return fd;
}

int control_wait_ms(uint64_t now)
{
    return now < next_ms ? (int)(next_ms - now) : 0;
}

static void give_up(void)
{
    if (fd >= 0)
        close(fd);
    fd = -1;
}

/* What an agent has left that is no more is in the way; one that is there keeps its socket. */
bool control_open(char *why, size_t size)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct sockaddr *a = (const struct sockaddr *)&address;
    int on = 1;

    if (strlen(settings.control) >= sizeof(address.sun_path)) {
        text_to(why, size, "%.100s...: a path of a socket has less than %zu bytes", settings.control,
                sizeof(address.sun_path));
        return false;
    }
    text_to(address.sun_path, sizeof(address.sun_path), "%s", settings.control);
    mkdir("/run/vmtier-agent", 0755);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && !connect(fd, a, sizeof(address))) {
        text_to(why, size, "%s: another agent is there", settings.control);
        give_up();
        return false;
    }
    unlink(address.sun_path);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) ||
        bind(fd, a, sizeof(address)) || chmod(address.sun_path, 0666)) {
        text_to(why, size, "%s: %s", address.sun_path, strerror(errno));
        give_up();
        return false;
    }
    return true;
}

void control_close(void)
{
    if (fd >= 0)
        unlink(settings.control);
    give_up();
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(answer + length, sizeof(answer) - length, format, ap);
    va_end(ap);
    length += n > 0 ? (size_t)n : 0;
    if (length >= sizeof(answer))
        length = sizeof(answer) - 1;
}

/* --- status --------------------------------------------------------------------------------- */

static const char *link_state(void)
{
    if (port_fd < 0)
        return "no port " VTA_PORT;
    if (session.muted)
        return "muted by the host";
    return session.welcome ? "connected" : "no host answers";
}

/* Names come from the host; only what is printable goes to a terminal. */
static void say_name(const char *name)
{
    for (; *name; name++)
        say("%c", *name > ' ' && *name < 127 ? *name : '?');
}

static void say_shares(uint64_t now)
{
    const struct vta_shares *s = &session.shares;

    if (!session.shares_ms) {
        say("tiers: the host has not told\n");
        return;
    }
    for (unsigned t = 0; t < s->tiers; t++) {
        say("tier ");
        say_name(s->tier[t].name);
        say(": %llu bytes\n", (unsigned long long)s->tier[t].bytes);
    }
    say("ram: %llu bytes\nquota: %llu bytes\n", (unsigned long long)s->ram,
        (unsigned long long)s->quota);
    say("pinned: %llu of %llu bytes\n", (unsigned long long)s->pinned,
        (unsigned long long)s->pin_most);
    if (s->hit_permille >= 0)
        say("hits: %d.%d %%\n", s->hit_permille / 10, s->hit_permille % 10);
    say("told: %llu s ago\n", (unsigned long long)((now - session.shares_ms) / 1000));
}

static void say_collectors(void)
{
    for (int i = 0; i < COLLECTORS; i++)
        say("collector %s: %s\n", collectors[i]->name, collector_reason[i][0] ? collector_reason[i] :
                                                                               "works");
    say("passes: %llu, the last took %llu ms; of 2 MiB %u pages are looked at\n",
        (unsigned long long)scan_passes, (unsigned long long)scan_pass_ms, scan_pages);
}

static void say_rules(void)
{
    static const char *const bys[] = { "pid", "comm", "cgroup", "range" };

    for (unsigned i = 0; i < settings.rules && length < sizeof(answer) - 256; i++) {
        const struct rule *r = &settings.rule[i];

        say("rule: %s %s ", vta_kind_name(r->kind), bys[r->by]);
        say_name(r->name);
        if (r->pid)
            say("%d", (int)r->pid);
        if (r->by == BY_RANGE)
            say(" 0x%llx-0x%llx", (unsigned long long)r->start, (unsigned long long)r->end);
        say("\n");
    }
}

static void status(void)
{
    uint64_t now = now_ms();

    say("host: %s\n", link_state());
    if (session.notice[0])
        say("notice: %s (%llu s ago)\n", session.notice, (unsigned long long)((now - session.notice_ms) / 1000));
    if (session.refused[0])
        say("refused: %s\n", session.refused);
    say_shares(now);
    say_collectors();
    say_rules();
    say("ranges: %llu said, %llu dropped, %llu outside of RAM\n",
        (unsigned long long)outbox_counts.ranges, (unsigned long long)outbox_counts.dropped,
        (unsigned long long)outbox_counts.outside);
    say("frames: %llu out, %llu in; mutes: %llu; reconnects: %llu\n",
        (unsigned long long)session.frames_out, (unsigned long long)session.frames_in,
        (unsigned long long)session.mutes, (unsigned long long)session.reconnects);
    say("cpu: %llu ms\n", (unsigned long long)(cpu_us() / 1000));
}

/* --- hints ---------------------------------------------------------------------------------- */

static bool is_owner(pid_t pid, uid_t uid)
{
    char path[256];
    struct stat st;

    text_to(path, sizeof(path), "%.200s/%d", settings.proc, (int)pid);
    return pid > 0 && stat(path, &st) == 0 && st.st_uid == uid;
}

/* Names are nobody's. */
static bool may(const struct rule *r, uid_t uid)
{
    return uid == 0 || ((r->by == BY_PID || r->by == BY_RANGE) && r->kind != VTA_PIN && is_owner(r->pid, uid));
}

/* Everything in it comes from another process. What does not belong to its sort is taken out. */
static bool is_sound(struct rule *r)
{
    if (r->kind >= VTA_KIND_END || r->by > BY_RANGE || r->pid < 0)
        return false;
    r->name[sizeof(r->name) - 1] = 0;
    if (r->by != BY_RANGE)
        r->start = r->end = 0;
    if (r->by == BY_COMM || r->by == BY_CGROUP) {
        r->pid = 0;
        return r->name[0];
    }
    memset(r->name, 0, sizeof(r->name));
    return r->by == BY_PID ? r->pid > 0 : r->start < r->end && r->start % PAGE == 0 && r->end % PAGE == 0;
}

static bool hint(struct rule *r, uid_t uid)
{
    char why[96] = "";

    if (!is_sound(r)) {
        say("that is no hint\n");
        return false;
    }
    if (!may(r, uid)) {
        say("only root may say that: others may say hot, cold or free of their own processes\n");
        return false;
    }
    r->owner = uid;
    r->begun = r->pid ? process_begun(r->pid) : 0;
    if (r->pid && !r->begun && r->kind != VTA_NONE) {
        say("there is no process %d\n", (int)r->pid);
        return false;
    }
    if (!rules_add(r, why, sizeof(why))) {
        say("%s\n", why);
        return false;
    }
    say("%s%s%s\n", r->kind == VTA_NONE ? "taken back" : "noted",
        session.welcome ? "" : "; the host will hear of it when there is one",
        r->kind == VTA_PIN && session.refused[0] ? "; the host has refused pins lately: see status" : "");
    return true;
}

static const struct ucred *credentials(struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            return (const struct ucred *)(const void *)CMSG_DATA(c);
    return NULL;
}

void control_serve(uint64_t now)
{
    struct request q;
    struct sockaddr_un from;
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec v = { &q, sizeof(q) };
    struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &v, .msg_iovlen = 1,
                        .msg_control = &control, .msg_controllen = sizeof(control) };
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const struct ucred *who = n > 0 ? credentials(&m) : NULL;

    next_ms = now + EVERY_MS;
    if (!who || m.msg_namelen <= sizeof(sa_family_t))
        return;
    answer[0] = '+';
    length = 1;
    if (n != sizeof(q) || q.version != REQUEST_VERSION) {
        answer[0] = '-';
        say("the agent that runs is of another version\n");
    } else if (!q.hint) {
        status();
    } else if (!hint(&q.rule, who->uid == geteuid() ? 0 : who->uid)) {
        answer[0] = '-';
    }
    sendto(fd, answer, length, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&from, m.msg_namelen);
}
