// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtier-agent: what its parts share. Plain C, libc only, one thread, one poll() loop.
 *
 *     main.c       options, the loop, rights
 *     config.c     the configuration file
 *     port.c       the virtio port: found, opened, lost, found again
 *     session.c    the protocol: hello, credits, notices
 *     outbox.c     hints on their way: merged, clipped to RAM, sent as credits allow
 *     ram.c        where RAM is, from /proc/iomem
 *     scan.c       the collectors' turn: how much CPU time they may take, and when
 *     kpage.c      /proc/kpageflags, read in pieces
 *     collect-*.c  the collectors, each behind struct collector
 *     rules.c      rules: processes and cgroups by name, and what is to be said of them
 *     process.c    processes: who is meant by a rule, and which pages they have
 *     control.c    the socket at which `vmtier-agent hint` and `status` talk to the agent
 *     client.c     those two commands
 *
 * Time is CLOCK_BOOTTIME in ms (a suspended guest's hints are old when it wakes up), CPU time of this
 * process in us. Nothing allocates after the start but the configuration.
 */
#ifndef VMTIER_GUEST_AGENT_H
#define VMTIER_GUEST_AGENT_H

#include "common/agent-frame.h"
#include "common/agent-ranges.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE        4096u               /* of /proc/kpageflags; with larger ones the agent does not start */
#define WINDOW      (2u << 20)          /* bytes that collectors look at together */
#define RULES_MOST  64
#define RAM_SPANS   64
#define CONFIG_FILE "/etc/vmtier/vmtier-agent.conf"
#define CONTROL     "/run/vmtier-agent/agent.sock"

/* --- settings: config.c --------------------------------------------------------------------- */

enum rule_by { BY_PID, BY_COMM, BY_CGROUP, BY_RANGE };

struct rule {
    enum rule_by by;
    enum vta_kind kind;
    char name[128];                     /* comm, or path of the cgroup */
    pid_t pid;
    uint64_t start, end;                /* BY_RANGE: of pid; or of the guest's physical memory */
    uint64_t begun;                     /* BY_PID, BY_RANGE: start time, so that the next owner of the pid
                                           is not taken for this one */
    uid_t owner;                        /* whose hint it is; 0: root's, or of the configuration */
    uint64_t until_ms;                  /* 0: for ever */
};

struct settings {
    const char *port;                   /* a path; NULL: looked for */
    const char *control;
    const char *sysfs, *proc;           /* where they are mounted */
    const char *user;                   /* to become after the start; NULL: stay */
    bool use[8];                        /* collectors, by their number */
    unsigned cpu_permille;              /* of one core */
    unsigned pass_s;                    /* a pass over memory takes at least so long */
    unsigned refresh_s;                 /* rules are looked up again so often */
    struct rule rule[RULES_MOST];
    unsigned rules;
};
extern struct settings settings;

bool config_read(const char *path, bool must_be);
bool config_rule(struct rule *rule, const char *kind, const char *by, const char *what);
int kind_of(const char *name);          /* enum vta_kind, or -1 */
bool config_number(unsigned *to, const char *value, unsigned low, unsigned high);

/* --- helpers: main.c ------------------------------------------------------------------------ */

__attribute__((format(printf, 1, 2))) void note(const char *format, ...);
__attribute__((format(printf, 3, 4))) void text_to(char *to, size_t size, const char *format, ...);
uint64_t now_ms(void);
uint64_t cpu_us(void);

/* --- port.c --------------------------------------------------------------------------------- */

extern int port_fd;                     /* -1: there is none */
void port_tick(uint64_t now);           /* opens it when it is time to */
void port_lost(uint64_t now, const char *why);
void port_works(void);                  /* the host has answered: the next loss is a first one again */
bool port_may_read(uint64_t now);       /* false: nobody is at the other end, look again later */
int port_wait_ms(uint64_t now);         /* until port_tick() or port_may_read() has something to do; -1: never */
ssize_t port_read(void *to, size_t size, uint64_t now);     /* 0: nothing now */

/* --- session.c ------------------------------------------------------------------------------ */

struct session {
    bool welcome;                       /* the host speaks our version */
    bool muted;
    uint64_t muted_until, heard_ms, hello_ms;
    uint32_t credits;
    uint32_t life_ms, ranges_per_s;
    uint64_t granule;
    struct vta_shares shares;
    uint64_t shares_ms;                 /* when they came; 0: never */
    char notice[160];                   /* the last thing the host complained of */
    uint64_t notice_ms;
    char refused[VTA_TEXT];             /* "": it refuses no pin now */
    uint64_t frames_in, frames_out, mutes, reconnects;
};
extern struct session session;
void session_tick(uint64_t now);
void session_read(uint64_t now);
void session_write(uint64_t now);
bool session_wants_to_write(void);
void session_lost(void);
bool session_can_send(uint64_t now);    /* a frame of hints */
void session_send_hints(struct vta_frame *f, uint64_t now);
void session_bye(void);

/* --- ram.c, outbox.c ------------------------------------------------------------------------ */

extern struct vta_span ram[RAM_SPANS];
extern size_t ram_spans;
extern uint64_t ram_bytes;
bool ram_read(char *why, size_t size);

struct outbox_counts {
    uint64_t ranges, dropped, outside;
};
extern struct outbox_counts outbox_counts;
/* Hints to be sent. What does not fit is dropped and counted: it will be said again. */
void outbox_add(struct vta_range range);
void outbox_new_report(void);           /* what is added from now on replaces what was said before */
void outbox_flush(uint64_t now);
void outbox_clear(void);
bool outbox_has_room(void);             /* for what a window may have to say */
void outbox_hurry(void);                /* what is in it is not to wait for more */

/* --- collectors ----------------------------------------------------------------------------- */

/* A piece of memory that collectors look at together. */
struct window {
    uint64_t gpa, bytes;
    unsigned first, pages;              /* of it that are looked at */
    bool again;                         /* the pass before has looked at the same ones */
    const uint64_t *flags;              /* [pages] of /proc/kpageflags */
};

struct collector {
    const char *name;
    enum vta_kind kind;                 /* of what it says mostly; for ASK */
    /* Can it work here? Else why[] says what is missing. Opens what needs the rights of the start. */
    bool (*open)(char *why, size_t size);
    void (*close)(void);
    /* Looks at a window and adds hints; NULL: has no use for flags. */
    void (*look)(const struct window *w);
    /* Has something to do by itself, now and then; NULL: no. */
    void (*tick)(uint64_t now);
};
extern const struct collector collect_free, collect_flags, collect_idle, collect_damon;
#define COLLECTORS 4
extern const struct collector *const collectors[COLLECTORS];
extern char collector_reason[COLLECTORS][96];   /* "": it works */

bool kpage_open(char *why, size_t size);
bool kpage_read(uint64_t page, uint64_t *flags, unsigned n);

bool scan_open(void);                   /* all that are switched on */
void scan_tick(uint64_t now);           /* works as long as the budget allows */
int scan_wait_ms(uint64_t now);
void scan_hurry(void);                  /* the host asks: begin a new pass now */
/* Until there is CPU time to spend, or so much debt may be made; 0: now. */
int budget_wait_ms(uint64_t now, unsigned debt_us);
extern uint64_t scan_passes, scan_pass_ms;
extern unsigned scan_pages;             /* of a window that are looked at */

/* --- rules.c, process.c --------------------------------------------------------------------- */

void rules_tick(uint64_t now);
void rules_hurry(void);
int rules_wait_ms(uint64_t now);        /* -1: nothing is under way */
/* Adds or replaces what a user says; false with the reason in why. kind VTA_NONE takes it away. */
bool rules_add(const struct rule *rule, char *why, size_t size);

uint64_t process_begun(pid_t pid);      /* 0: there is no such process */
bool process_has_comm(pid_t pid, const char *comm);
bool process_in_cgroup(pid_t pid, const char *cgroup);
/* Says `kind` of those pages of the process between *at and end that are in memory. Looks at `most`
 * places at most, and no further than the outbox has room: what takes something back is not said again. Sets *at to
 * where it is to go on: UINT64_MAX when all is done. How many pages were said, or -1 with the reason. */
long process_pages(pid_t pid, uint64_t *at, uint64_t end, enum vta_kind kind, long most, char *why,
                   size_t size);

/* --- control.c, client.c -------------------------------------------------------------------- */

/* A request and its answer are a datagram each; the answer is text, after a byte that says how it went. */
struct request {
    uint32_t version;
    uint32_t hint;                      /* 0: status is wanted */
    struct rule rule;
};
#define REQUEST_VERSION 2
#define ANSWER_MOST 4096

bool control_open(char *why, size_t size);
void control_close(void);
int control_fd(void);
/* Until the next request may be served: who asks all the time is not to have all of our time. */
int control_wait_ms(uint64_t now);
void control_serve(uint64_t now);
int client_main(int argc, char **argv);

#endif
