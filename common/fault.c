// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Faults on purpose: see fault.h.
 *
 * Theory of operation. A rule has 64 bits, so that a thread amid a move reads it without a
 * lock while another one sets the rules. Passages of a point are counted from when its rule was set.
 * New rules are parsed completely before the first of them is put in place.
 */
#include "common/fault.h"
#include "common/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PAUSE_MS 2000
#define TEXT_MAX 4096

enum action { NONE, FAIL, KILL, ABORT, PAUSE };

struct rule {
    uint8_t action, code;
    uint16_t nth;
    uint32_t count;
};
static_assert(sizeof(struct rule) == sizeof(uint64_t), "a rule is read in one go");

atomic_bool fault_armed;

static struct {
    _Atomic struct rule rule;
    _Atomic uint32_t passed, acted;
} points[FAULT_END];

static pthread_mutex_t setting = PTHREAD_MUTEX_INITIALIZER;     /* of rules, and of what follows */
static const char *file;                                        /* of "@FILE" */
static struct stat file_was;

static struct sockaddr_un peer;                                 /* sun_path "": nobody */
static void (*_Atomic on_pause)(enum fault_point point);

static const char *const names[] = {
    [FAULT_FIND_DATA] = "find-data",
    [FAULT_POOL_TAKE] = "pool-take",
    [FAULT_CLEAR] = "clear",
    [FAULT_POPULATE_SOURCE] = "populate-source",
    [FAULT_POPULATE_DEST] = "populate-dest",
    [FAULT_MAPS_LIMIT] = "maps-limit",
    [FAULT_FENCE_HOLD] = "fence-hold",
    [FAULT_PROTECT] = "protect",
    [FAULT_COPY] = "copy",
    [FAULT_WRITE] = "write",
    [FAULT_MAP_OVER] = "map-over",
    [FAULT_MAP_BACK] = "map-back",
    [FAULT_ADVISE] = "advise",
    [FAULT_MAP_IN] = "map-in",
    [FAULT_REGISTER] = "register",
    [FAULT_WAKE] = "wake",
    [FAULT_UNPROTECT] = "unprotect",
    [FAULT_PUNCH] = "punch",
    [FAULT_MOVED] = "moved",
    [FAULT_CONNECT] = "connect",
    [FAULT_UFFD_OPEN] = "uffd-open",
    [FAULT_SURVEY] = "survey",
    [FAULT_WATCH] = "watch",
    [FAULT_VIEW] = "view",
    [FAULT_ACCEPTED] = "accepted",
    [FAULT_FILE_MAKE] = "file-make",
    [FAULT_FILE_MADE] = "file-made",
    [FAULT_ATTACH_LAYOUT] = "attach-layout",
    [FAULT_ATTACH_FILES] = "attach-files",
    [FAULT_ATTACH_PLACING] = "attach-placing",
    [FAULT_ATTACH_PLACED] = "attach-placed",
    [FAULT_ATTACH_READY] = "attach-ready",
    [FAULT_LEDGER_BEFORE] = "ledger-before",
    [FAULT_LEDGER_AFTER] = "ledger-after",
    [FAULT_ROUND_START] = "round-start",
    [FAULT_ROUND_NEWS] = "round-news",
    [FAULT_ROUND_HARVESTED] = "round-harvested",
    [FAULT_ROUND_PLANNED] = "round-planned",
    [FAULT_ROUND_DEMOTED] = "round-demoted",
    [FAULT_ROUND_MOVED] = "round-moved",
    [FAULT_ROUND_ACCOUNTED] = "round-accounted",
};
static_assert(sizeof(names) / sizeof(names[0]) == FAULT_FIXED, "a name for each point");

static const char *const families[] = { "send", "sent", "received" };
static_assert(FAULT_SEND + sizeof(families) / sizeof(families[0]) * VT_TYPE_END == FAULT_END,
              "a name for each point that messages pass");

static const struct {
    const char *name;
    enum action action;
    uint8_t code;
} actions[] = {
    { "kill", KILL, 0 }, { "abort", ABORT, 0 }, { "pause", PAUSE, 0 },
    { "EAGAIN", FAIL, EAGAIN }, { "EBADF", FAIL, EBADF }, { "EBUSY", FAIL, EBUSY },
    { "ECONNRESET", FAIL, ECONNRESET }, { "EEXIST", FAIL, EEXIST }, { "EFAULT", FAIL, EFAULT },
    { "EHWPOISON", FAIL, EHWPOISON }, { "EINTR", FAIL, EINTR }, { "EINVAL", FAIL, EINVAL },
    { "EIO", FAIL, EIO }, { "EMFILE", FAIL, EMFILE }, { "ENODEV", FAIL, ENODEV },
    { "ENOENT", FAIL, ENOENT }, { "ENOMEM", FAIL, ENOMEM }, { "ENOSPC", FAIL, ENOSPC },
    { "EPERM", FAIL, EPERM }, { "EPIPE", FAIL, EPIPE }, { "EPROTO", FAIL, EPROTO },
    { "ESRCH", FAIL, ESRCH },
};

/* --- names -------------------------------------------------------------------------------------- */

const char *fault_name(enum fault_point point, char buffer[32])
{
    unsigned p = point, type = (p - FAULT_FIXED) % VT_TYPE_END;

    if (p < FAULT_FIXED)
        return names[p];
    if (p >= FAULT_END || !type)
        return NULL;
    snprintf(buffer, 32, "%s-%s", families[(p - FAULT_FIXED) / VT_TYPE_END], wire_type_name(type));
    return buffer;
}

static int point_named(const char *name, size_t n)
{
    char buffer[32];

    for (unsigned p = 0; p < FAULT_END; p++) {
        const char *is = fault_name(p, buffer);

        if (is && strlen(is) == n && !strncmp(is, name, n))
            return (int)p;
    }
    return -1;
}

static const char *action_name(struct rule r)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (actions[i].action == (enum action)r.action && actions[i].code == r.code)
            return actions[i].name;
    return "?";
}

/* --- acting --------------------------------------------------------------------------------------- */

/* Tells the peer; the connection, or -1. No stdio: guest memory may be protected. */
static int tell(enum fault_point point, struct rule r)
{
    char line[96], buffer[32];
    int fd, n;

    if (!peer.sun_path[0])
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    n = snprintf(line, sizeof(line), "%d %d %s %s\n", (int)getpid(), (int)gettid(),
                 fault_name(point, buffer), action_name(r));
    if (fd >= 0 && (connect(fd, (struct sockaddr *)&peer, sizeof(peer)) ||
                    send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void stay(enum fault_point point, int fd)
{
    void (*fn)(enum fault_point point) = atomic_load(&on_pause);
    struct pollfd p = { .fd = fd, .events = POLLIN };

    if (fn)
        fn(point);
    else
        poll(&p, 1, PAUSE_MS);
}

static bool is_due(enum fault_point point, struct rule r)
{
    uint32_t nth = atomic_fetch_add(&points[point].passed, 1) + 1;

    return nth >= r.nth && (!r.count || nth < r.nth + r.count);
}

int fault_act(enum fault_point point)
{
    struct rule r = atomic_load(&points[point].rule);
    int was = errno, fd;

    if (r.action == NONE || !is_due(point, r))
        return 0;
    atomic_fetch_add(&points[point].acted, 1);
    fd = tell(point, r);
    if (r.action == KILL)
        kill(getpid(), SIGKILL);
    if (r.action == ABORT)
        abort();
    if (r.action == PAUSE)
        stay(point, fd);
    if (fd >= 0)
        close(fd);
    errno = r.code ? r.code : was;
    return -r.code;
}

uint32_t fault_count(enum fault_point point)
{
    return atomic_load(&points[point].acted);
}

void fault_on_pause(void (*fn)(enum fault_point point))
{
    atomic_store(&on_pause, fn);
}

/* --- setting -------------------------------------------------------------------------------------- */

/* ":NUMBER" at *at, or else *value stays. */
static bool take_number(const char **at, const char *end, uint16_t *value)
{
    unsigned long n;
    char *stop;

    if (*at == end)
        return true;
    if (**at != ':' || *at + 1 == end || (*at)[1] < '0' || (*at)[1] > '9')
        return false;
    n = strtoul(*at + 1, &stop, 10);
    *at = stop;
    *value = (uint16_t)n;
    return stop <= end && n <= UINT16_MAX;
}

static bool take_action(const char *at, const char *end, struct rule *r)
{
    size_t n = strcspn(at, ":,\n");
    uint16_t nth = 1, count = 1;

    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strlen(actions[i].name) == n && !strncmp(actions[i].name, at, n)) {
            at += n;
            if (!take_number(&at, end, &nth) || !take_number(&at, end, &count) || at != end || !nth)
                return false;
            *r = (struct rule){ .action = actions[i].action, .code = actions[i].code, .nth = nth,
                                .count = count };
            return true;
        }
    return false;
}

/* The rule in [at, end) */
static int parse_one(const char *at, const char *end, struct rule rules[FAULT_END],
                     struct vt_err *err)
{
    const char *eq = memchr(at, '=', (size_t)(end - at));
    int point = eq ? point_named(at, (size_t)(eq - at)) : -1;

    if (point < 0 || !take_action(eq + 1, end, &rules[point]))
        return vt_fail(err, EINVAL, "VMTIER_TEST_FAULT: '%.*s' is not POINT=ACTION[:NTH[:COUNT]]",
                       (int)(end - at), at);
    return 0;
}

static int parse(const char *text, struct rule rules[FAULT_END], struct vt_err *err)
{
    int rc = 0;

    while (!rc && *text) {
        size_t n = strcspn(text, ",\n");

        if (n)
            rc = parse_one(text, text + n, rules, err);
        text += n + (text[n] != '\0');
    }
    return rc;
}

/* Under `setting`. */
static int set_rules(const char *text, struct vt_err *err)
{
    struct rule rules[FAULT_END] = { { 0 } };
    bool any = file != NULL;
    int rc = parse(text, rules, err);

    if (rc)
        return rc;
    for (unsigned p = 0; p < FAULT_END; p++) {
        atomic_store(&points[p].rule, (struct rule){ 0 });
        atomic_store(&points[p].passed, 0);
        atomic_store(&points[p].acted, 0);
        atomic_store(&points[p].rule, rules[p]);
        any |= rules[p].action != NONE;
    }
    atomic_store(&fault_armed, any);
    return 0;
}

int fault_set(const char *text, struct vt_err *err)
{
    int rc;

    pthread_mutex_lock(&setting);
    rc = set_rules(text, err);
    pthread_mutex_unlock(&setting);
    return rc;
}

static bool changed(const struct stat *now)
{
    return now->st_mtim.tv_sec != file_was.st_mtim.tv_sec || now->st_ino != file_was.st_ino ||
           now->st_mtim.tv_nsec != file_was.st_mtim.tv_nsec || now->st_size != file_was.st_size;
}

/* Under `setting`. A file that is not there yet has no rules. */
static int read_file(struct vt_err *err)
{
    char text[TEXT_MAX];
    struct stat now;
    int fd = open(file, O_RDONLY | O_CLOEXEC), rc = 0;
    ssize_t n;

    if (fd < 0)
        return 0;
    if (!fstat(fd, &now) && changed(&now)) {
        n = read(fd, text, sizeof(text) - 1);
        text[n < 0 ? 0 : n] = '\0';
        file_was = now;
        rc = set_rules(text, err);
    }
    close(fd);
    return rc;
}

void fault_refresh(void)
{
    struct vt_err err;

    if (!atomic_load_explicit(&fault_armed, memory_order_relaxed))
        return;
    pthread_mutex_lock(&setting);
    if (file && read_file(&err))
        fprintf(stderr, "%s\n", err.text);
    pthread_mutex_unlock(&setting);
}

int fault_init(struct vt_err *err)
{
    const char *text = getenv("VMTIER_TEST_FAULT"), *path = getenv("VMTIER_TEST_FAULT_PEER");
    int rc;

    if (!text)
        return 0;
    if (path && strlen(path) < sizeof(peer.sun_path)) {
        peer.sun_family = AF_UNIX;
        memcpy(peer.sun_path, path, strlen(path) + 1);
    }
    pthread_mutex_lock(&setting);
    file = text[0] == '@' ? text + 1 : NULL;
    rc = file ? read_file(err) : set_rules(text, err);
    if (file)
        atomic_store(&fault_armed, true);
    pthread_mutex_unlock(&setting);
    return rc ? rc : 1;
}
