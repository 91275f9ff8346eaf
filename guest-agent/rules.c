// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Rules: what the configuration and users say of processes, cgroups and ranges, said to the host again
 * every refresh_s, as processes come and go and their pages move.
 *
 * A round goes through the rules; a rule by name goes through /proc. It is done in steps of one process
 * or one piece of its memory, and stops when the outbox is full or the time is up, to go on at the next
 * tick. It takes of the CPU time that scanning has; the round after something was said is not to wait, and
 * may be paid for later. What users gave is over when its process is.
 *
 * To take back what was said of a process its pages are walked once more, and nothing is said of them. The host
 * then knows nothing of the granules that have them, of which other rules may have said something: so another
 * round follows.
 *
 * Who changes rules all the time holds nobody else's up: a round goes on, a new rule is the next one in it,
 * and one that is changed while it is carried out begins anew.
 */
#include "guest-agent/agent.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define STEP_US  2000           /* CPU time in one go */
#define PLACES   4096           /* of a process's memory in one step */
#define DEBT_US  100000         /* CPU time that an urgent round may use in advance */
#define OTHERS_MOST (RULES_MOST / 2)    /* rules that are not root's */

static struct {
    bool on;
    unsigned rule;
    DIR *proc;
    pid_t pid;                  /* 0: the next one is to be found */
    uint64_t at, end;
    uint64_t next_ms;
} round_;
static bool urgent;             /* the round that is under way, or the next one */
static bool once_more;          /* another round is to follow this one */

void rules_hurry(void)
{
    urgent = true;
    if (!round_.on)
        round_.next_ms = 0;
}

int rules_wait_ms(uint64_t now)
{
    if (!round_.on || !settings.rules || !outbox_has_room() || !session.welcome || session.muted)
        return -1;
    return budget_wait_ms(now, urgent ? DEBT_US : 0);
}

static void remove_rule(unsigned i)
{
    settings.rules--;
    memmove(&settings.rule[i], &settings.rule[i + 1], (settings.rules - i) * sizeof(settings.rule[0]));
}

static bool same_subject(const struct rule *a, const struct rule *b)
{
    return a->by == b->by && a->pid == b->pid && a->start == b->start && a->end == b->end &&
           !strcmp(a->name, b->name);
}

/* The rule stays for one more round, in which nothing is said of what it means. */
static void take_back(struct rule *r)
{
    r->kind = VTA_NONE;
    r->until_ms = 0;
}

static void leave_process(void)
{
    if (round_.proc)
        closedir(round_.proc);
    round_.proc = NULL;
    round_.pid = 0;
}

static unsigned rules_of_others(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < settings.rules; i++)
        n += settings.rule[i].owner != 0;
    return n;
}

static bool may_add(const struct rule *rule, char *why, size_t size)
{
    if (settings.rules == RULES_MOST)
        text_to(why, size, "there are %d rules already", RULES_MOST);
    else if (rule->owner && rules_of_others() >= OTHERS_MOST)
        text_to(why, size, "there are %d rules already that are not root's", OTHERS_MOST);
    else
        return true;
    return false;
}

/* As the next one of the round that is under way, or as the first one of that to come. */
static void insert(const struct rule *rule)
{
    unsigned i = round_.on && round_.rule < settings.rules ? round_.rule + 1 : 0;

    memmove(&settings.rule[i + 1], &settings.rule[i], (settings.rules - i) * sizeof(settings.rule[0]));
    settings.rule[i] = *rule;
    settings.rules++;
}

/* Rule i is another one than it was: where it had its turn it is to have another. */
static void change(unsigned i, const struct rule *rule)
{
    if (rule->kind == VTA_NONE)
        take_back(&settings.rule[i]);
    else
        settings.rule[i] = *rule;
    if (round_.on && i == round_.rule)
        leave_process();
    once_more |= round_.on && i < round_.rule;
}

bool rules_add(const struct rule *rule, char *why, size_t size)
{
    unsigned i = 0;

    while (i < settings.rules && !same_subject(&settings.rule[i], rule))
        i++;
    if (i < settings.rules && rule->owner && settings.rule[i].owner != rule->owner) {
        text_to(why, size, "somebody else has said something of that");
        return false;
    }
    if (i == settings.rules && rule->kind == VTA_NONE) {
        text_to(why, size, "nothing was said of that");
        return false;
    }
    if (i < settings.rules)
        change(i, rule);
    else if (may_add(rule, why, size))
        insert(rule);
    else
        return false;
    rules_hurry();
    return true;
}

/* --- one rule ------------------------------------------------------------------------------- */

static bool matches(const struct rule *r, pid_t pid)
{
    return r->by == BY_COMM ? process_has_comm(pid, r->name) : process_in_cgroup(pid, r->name);
}

static void end_rule(void)
{
    leave_process();
    if (settings.rule[round_.rule].kind != VTA_NONE) {
        round_.rule++;
        return;
    }
    remove_rule(round_.rule);
    once_more = true;
}

/* Finds the next process of a rule by name; false: there is none left. */
static bool next_process(const struct rule *r)
{
    struct dirent *entry;
    pid_t pid;

    if (!round_.proc)
        round_.proc = opendir(settings.proc);
    entry = round_.proc ? readdir(round_.proc) : NULL;
    if (!entry)
        return false;
    pid = (pid_t)strtol(entry->d_name, NULL, 10);
    if (pid > 0 && matches(r, pid)) {
        round_.pid = pid;
        round_.at = 0;
        round_.end = UINT64_MAX;
    }
    return true;
}

/* The process of a rule by pid, if it is still the same; else the rule is over, and the list another one. */
static void the_process(const struct rule *r)
{
    if (process_begun(r->pid) != r->begun) {
        remove_rule(round_.rule);
        return;
    }
    round_.pid = r->pid;
    round_.at = r->by == BY_RANGE ? r->start : 0;
    round_.end = r->by == BY_RANGE ? r->end : UINT64_MAX;
}

static void walk(const struct rule *r)
{
    char why[96];

    process_pages(round_.pid, &round_.at, round_.end, r->kind, PLACES, why, sizeof(why));
    if (round_.at != UINT64_MAX)
        return;
    round_.pid = 0;
    if (r->by == BY_PID || r->by == BY_RANGE)
        end_rule();
}

static void step(uint64_t now)
{
    struct rule *r = &settings.rule[round_.rule];

    if (r->until_ms && now > r->until_ms) {
        leave_process();
        take_back(r);
    }
    if (round_.pid) {
        walk(r);
    } else if (r->by == BY_RANGE && !r->pid) {
        outbox_add((struct vta_range){ r->start, r->end - r->start, (uint8_t)r->kind, VTA_SHARE, 255, 0,
                                       0 });
        end_rule();
    } else if (r->by == BY_PID || r->by == BY_RANGE) {
        the_process(r);
    } else if (!next_process(r)) {
        end_rule();
    }
}

void rules_tick(uint64_t now)
{
    uint64_t from = cpu_us();
    char why[96];

    if (!session.welcome || session.muted || !settings.rules || budget_wait_ms(now, urgent ? DEBT_US : 0))
        return;
    if (!round_.on) {
        if (now < round_.next_ms || (!ram_spans && !ram_read(why, sizeof(why))))
            return;
        round_.on = true;
        round_.rule = 0;
        round_.next_ms = now + settings.refresh_s * 1000ull;
        outbox_new_report();
    }
    while (round_.rule < settings.rules && outbox_has_room() && cpu_us() - from < STEP_US) {
        step(now);
        outbox_flush(now);
    }
    if (round_.rule < settings.rules)
        return;
    round_.on = false;
    urgent = once_more;
    if (once_more)
        round_.next_ms = 0;
    once_more = false;
    outbox_hurry();
    outbox_flush(now);
}
