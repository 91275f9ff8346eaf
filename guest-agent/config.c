// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The configuration: lines "key = value", '#' begins a comment. A key that is not known is an error
 * that names the line, so that a misspelt rule is not a missing one.
 */
#include "guest-agent/agent.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settings settings = {
    .control = CONTROL, .sysfs = "/sys", .proc = "/proc", .use = { true, false, true, false },
    .cpu_permille = 4, .pass_s = 10, .refresh_s = 10,
};

int kind_of(const char *name)
{
    for (int kind = 0; kind < VTA_KIND_END; kind++)
        if (!strcmp(name, vta_kind_name((unsigned)kind)))
            return kind;
    return -1;
}

static bool set_range(struct rule *rule, const char *what)
{
    char *end;

    rule->start = strtoull(what, &end, 0);
    if (end == what || (*end != '-' && *end != '+'))
        return false;
    rule->end = strtoull(end + 1, &end, 0) + (*strpbrk(what, "-+") == '+' ? rule->start : 0);
    if (*end || rule->end <= rule->start)
        return false;
    rule->start = rule->start / PAGE * PAGE;
    rule->end = (rule->end + PAGE - 1) / PAGE * PAGE;
    return rule->end > rule->start;
}

bool config_rule(struct rule *rule, const char *kind, const char *by, const char *what)
{
    static const char *const bys[] = { "pid", "comm", "cgroup", "range" };
    int k = kind_of(kind);
    unsigned i = 0, pid = 0;

    while (i < 4 && strcmp(by, bys[i]))
        i++;
    if (k < 0 || i == 4 || !*what || strlen(what) >= sizeof(rule->name))
        return false;
    rule->kind = (enum vta_kind)k;
    rule->by = (enum rule_by)i;
    if (rule->by == BY_RANGE)
        return set_range(rule, what);
    if (rule->by == BY_PID && !config_number(&pid, what, 1, INT_MAX))
        return false;
    rule->pid = (pid_t)pid;
    if (rule->by != BY_PID)
        text_to(rule->name, sizeof(rule->name), "%s", what);
    return rule->by != BY_CGROUP || what[0] == '/';
}

/* --- keys ----------------------------------------------------------------------------------- */

static bool set_text(const char **to, const char *value)
{
    *to = strdup(value);
    return *to && **to;
}

bool config_number(unsigned *to, const char *value, unsigned low, unsigned high)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);

    *to = (unsigned)n;
    return end != value && !*end && n >= low && n <= high;
}

static bool set_port(const char *value)
{
    return set_text(&settings.port, value);
}

static bool set_control(const char *value)
{
    return set_text(&settings.control, value);
}

static bool set_sysfs(const char *value)
{
    return set_text(&settings.sysfs, value);
}

static bool set_proc(const char *value)
{
    return set_text(&settings.proc, value);
}

static bool set_user(const char *value)
{
    return set_text(&settings.user, value);
}

static bool set_cpu(const char *value)
{
    return config_number(&settings.cpu_permille, value, 1, 1000);
}

static bool set_pass(const char *value)
{
    return config_number(&settings.pass_s, value, 1, 3600);
}

static bool set_refresh(const char *value)
{
    return config_number(&settings.refresh_s, value, 1, 60);
}

static bool set_collect(const char *value)
{
    char copy[128], *save = NULL, *word;

    memset(settings.use, 0, sizeof(settings.use));
    text_to(copy, sizeof(copy), "%s", value);
    for (word = strtok_r(copy, ", ", &save); word; word = strtok_r(NULL, ", ", &save)) {
        int i = 0;

        while (i < COLLECTORS && strcmp(word, collectors[i]->name))
            i++;
        if (i == COLLECTORS && strcmp(word, "none"))
            return false;
        if (i < COLLECTORS)
            settings.use[i] = true;
    }
    return true;
}

static bool set_rule(const char *value)
{
    struct rule rule = { 0 };
    char kind[16], by[16], what[128];

    if (sscanf(value, "%15s %15s %127[^\n]", kind, by, what) != 3 || settings.rules == RULES_MOST ||
        !config_rule(&rule, kind, by, what) || rule.by == BY_PID || rule.kind == VTA_NONE)
        return false;
    settings.rule[settings.rules++] = rule;
    return true;
}

static const struct {
    const char *key;
    bool (*set)(const char *value);
    const char *form;
} keys[] = {
    { "port", set_port, "a path" },
    { "control", set_control, "a path" },
    { "sysfs", set_sysfs, "a path" },
    { "proc", set_proc, "a path" },
    { "user", set_user, "a user" },
    { "cpu", set_cpu, "thousandths of a core, 1 to 1000" },
    { "pass", set_pass, "seconds, 1 to 3600" },
    { "refresh", set_refresh, "seconds, 1 to 60" },
    { "collect", set_collect, "none, or some of free, flags, idle, damon" },
    { "rule", set_rule, "hot|cold|free|pin comm|cgroup|range WHAT, a cgroup from / on" },
};

static char *trim(char *text)
{
    size_t n;

    text += strspn(text, " \t");
    n = strcspn(text, "#\n");
    while (n && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    text[n] = 0;
    return text;
}

/* NULL, or what is wrong with the line. */
static const char *take_line(char *line)
{
    static char wrong[160];
    char *value, *key = trim(line);

    if (!*key)
        return NULL;
    value = strchr(key, '=');
    if (!value)
        return "there is no '='";
    *value++ = 0;
    key = trim(key);
    value = trim(value);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (!strcmp(keys[i].key, key)) {
            if (keys[i].set(value))
                return NULL;
            text_to(wrong, sizeof(wrong), "%s is %s, not '%.60s'", key, keys[i].form, value);
            return wrong;
        }
    text_to(wrong, sizeof(wrong), "there is no key '%.60s'", key);
    return wrong;
}

bool config_read(const char *path, bool must_be)
{
    FILE *f = fopen(path, "re");
    const char *wrong = NULL;
    char line[256];
    unsigned n = 0;

    if (!f) {
        if (must_be || errno != ENOENT)
            note("%s: %s", path, strerror(errno));
        return !must_be && errno == ENOENT;
    }
    while (!wrong && fgets(line, sizeof(line), f)) {
        n++;
        wrong = take_line(line);
    }
    fclose(f);
    if (wrong)
        note("%s:%u: %s", path, n, wrong);
    return !wrong;
}
