// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier-agent hint` and `vmtier-agent status`: one question to the agent that runs, one answer. */
#include "guest-agent/agent.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(const char *what)
{
    fprintf(stderr, "vmtier-agent: %s\n", what);
    return 1;
}

static int ask(const struct request *q)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct timeval patience = { .tv_sec = 5 };
    static char answer[ANSWER_MOST + 1];
    int on = 1, fd;
    ssize_t n = -1;

    if (strlen(settings.control) >= sizeof(address.sun_path))
        return fail("the socket's path is too long");
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    text_to(address.sun_path, sizeof(address.sun_path), "%s", settings.control);
    /* Asking for credentials gives us an address, too, to which the answer can go. */
    if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) &&
        !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) &&
        sendto(fd, q, sizeof(*q), 0, (struct sockaddr *)&address, sizeof(address)) == sizeof(*q))
        n = recv(fd, answer, ANSWER_MOST, 0);
    if (n < 1) {
        fprintf(stderr, "vmtier-agent: %s: %s: does the agent run?\n", settings.control,
                strerror(errno));
        return 1;
    }
    answer[n] = 0;
    close(fd);
    fputs(answer + 1, answer[0] == '+' ? stdout : stderr);
    return answer[0] == '+' ? 0 : 1;
}

static const struct option options[] = {
    { "pid", required_argument, NULL, 'p' },    { "comm", required_argument, NULL, 'c' },
    { "cgroup", required_argument, NULL, 'g' }, { "range", required_argument, NULL, 'r' },
    { "for", required_argument, NULL, 'f' },    { NULL, 0, NULL, 0 },
};

/* What is asked about: one subject, or several ranges, of which each is a request of its own. */
struct subjects {
    struct rule rule[RULES_MOST];
    unsigned n;
    pid_t pid;
    uint64_t until_ms;
};

static bool read_option(int option, struct subjects *s)
{
    const struct option *o = options;

    unsigned n;

    if (option == 'f') {
        if (!config_number(&n, optarg, 1, INT_MAX))
            return false;
        s->until_ms = now_ms() + n * 1000ull;
        return true;
    }
    if (option == 'p') {
        if (!config_number(&n, optarg, 1, INT_MAX))
            return false;
        s->pid = (pid_t)n;
        return true;
    }
    while (o->name && o->val != option)
        o++;
    return o->name && s->n < RULES_MOST && config_rule(&s->rule[s->n++], "none", o->name, optarg);
}

/* A pid by itself is a subject; with ranges it says whose they are. */
static bool make_sense(struct subjects *s)
{
    if (s->pid && !s->n)
        s->rule[s->n++].by = BY_PID;
    for (unsigned i = 0; i < s->n; i++) {
        if ((s->n > 1 || s->pid) && s->rule[i].by != BY_RANGE && s->rule[i].by != BY_PID)
            return false;
        s->rule[i].pid = s->pid;
        s->rule[i].until_ms = s->until_ms;
    }
    return s->n > 0;
}

static int run_hint(int argc, char **argv)
{
    static struct subjects s;
    int option, kind, status = 0;

    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (!read_option(option, &s))
            return fail("hint: an option is wrong: see vmtier-agent(8)");
    kind = optind == argc - 1 ? kind_of(argv[optind]) : -1;
    if (kind < 0)
        return fail("hint: say one of hot, cold, free, pin, none");
    if (!make_sense(&s))
        return fail("hint: say of what: --pid, --comm, --cgroup, --range, or --pid and --range");
    for (unsigned i = 0; i < s.n && !status; i++) {
        struct request q = { .version = REQUEST_VERSION, .hint = 1, .rule = s.rule[i] };

        q.rule.kind = (enum vta_kind)kind;
        status = ask(&q);
    }
    return status;
}

int client_main(int argc, char **argv)
{
    const struct request status = { .version = REQUEST_VERSION };

    if (!strcmp(argv[0], "hint"))
        return run_hint(argc, argv);
    if (argc > 1)
        return fail("status takes no arguments");
    return ask(&status);
}
