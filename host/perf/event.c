// SPDX-License-Identifier: GPL-2.0-or-later
/* Which event to sample: see event.h. */
#include "host/perf/event.h"
#include "host/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EINVAL, __VA_ARGS__), false)
#define SAMPLE_BASE (PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR | PERF_SAMPLE_PERIOD | \
                     PERF_SAMPLE_PHYS_ADDR)
#define IBS_PERIOD       (1u << 18)     /* ops or cycles; the pace makes of it what fits */
#define IBS_PERIOD_LEAST 0x1000u        /* a smaller one leaves little time between interrupts */
#define PMU_PERIOD       10007u
#define PMU_PERIOD_LEAST 101u

/* --- what sysfs says of a PMU ------------------------------------------------------------------------------ */

/* The text of a file, without the newline at its end; NULL: it is not there. */
static char *read_text(const char *devices, const char *pmu, const char *kind, const char *name)
{
    g_autofree char *path = g_build_filename(devices, pmu, kind, name, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : NULL;
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

/* The names of the files in a directory, "a, b"; or "none". */
static char *names_in(const char *devices, const char *pmu, const char *kind)
{
    g_autofree char *path = g_build_filename(devices, pmu, kind, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        g_ptr_array_add(names, g_strdup(name));
    if (!names->len)
        return g_strdup("none");
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return g_strjoinv(", ", (char **)names->pdata);
}

static bool has_format(const char *devices, const char *pmu, const char *term)
{
    g_autofree char *text = read_text(devices, pmu, "format", term);

    return text != NULL;
}

/* --- terms -------------------------------------------------------------------------------------------------- */

static guint64 *config_named(struct perf_event_attr *attr, const char *format, gsize length)
{
    static const char *const names[] = { "config", "config1", "config2" };
    guint64 *const values[] = { (guint64 *)&attr->config, (guint64 *)&attr->config1,
                                (guint64 *)&attr->config2 };

    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (strlen(names[i]) == length && !strncmp(names[i], format, length))
            return values[i];
    return NULL;
}

/* Puts the lowest bits of `value` where "config:0-7,32-35" says; what is left of it, or all ones: a bad format. */
static guint64 put_bits(struct perf_event_attr *attr, const char *format, guint64 value)
{
    const char *at = strchr(format, ':');
    guint64 *to = at ? config_named(attr, format, (gsize)(at - format)) : NULL;

    while (to && at && *at) {
        unsigned low, high;
        int n = sscanf(at + 1, "%u-%u", &low, &high);
        guint64 mask;

        if (n < 1 || low > 63 || (n == 2 && (high > 63 || high < low)))
            return G_MAXUINT64;
        mask = (n == 2 && high - low == 63) ? G_MAXUINT64 : (1ull << (n == 2 ? high - low + 1 : 1)) - 1;
        *to = (*to & ~(mask << low)) | (value & mask) << low;
        value = mask == G_MAXUINT64 ? 0 : value >> __builtin_popcountll(mask);
        at = strchr(at + 1, ',');
    }
    return to ? value : G_MAXUINT64;
}

static bool add_terms(struct event *e, const char *devices, const char *pmu, const char *terms,
                      bool aliases, GError **error);

static bool unknown_term(const char *devices, const char *pmu, const char *term, GError **error)
{
    g_autofree char *formats = names_in(devices, pmu, "format");
    g_autofree char *events = names_in(devices, pmu, "events");

    return FAIL(error, "PMU %s has no '%s'; its terms are %s, its events %s", pmu, term, formats, events);
}

/* "ldlat=30", "l3missonly", or an event that the PMU names. */
static bool add_term(struct event *e, const char *devices, const char *pmu, const char *term,
                     bool aliases, GError **error)
{
    const char *equals = strchr(term, '=');
    g_autofree char *name = equals ? g_strndup(term, (gsize)(equals - term)) : g_strdup(term);
    g_autofree char *format = strchr(name, '/') ? NULL : read_text(devices, pmu, "format", name);
    g_autofree char *alias = NULL;
    guint64 value = 1, left;
    char *end = NULL;

    if (!format && aliases && !equals && !strchr(name, '/') && !strstr(name, ".."))
        alias = read_text(devices, pmu, "events", name);
    if (alias)
        return add_terms(e, devices, pmu, alias, false, error);
    if (!format)
        return unknown_term(devices, pmu, name, error);
    if (equals) {
        value = g_ascii_strtoull(equals + 1, &end, 0);
        if (end == equals + 1 || *end)
            return FAIL(error, "'%s': '%s' is not a number", term, equals + 1);
    }
    left = put_bits(&e->attr, format, value);
    if (left == G_MAXUINT64)
        return FAIL(error, "%s/%s/format/%s is '%s', which is not understood", devices, pmu, name, format);
    return !left || FAIL(error, "'%s': the value does not fit into %s", term, format);
}

static bool add_terms(struct event *e, const char *devices, const char *pmu, const char *terms,
                      bool aliases, GError **error)
{
    g_auto(GStrv) list = g_strsplit(terms, ",", -1);

    for (char **term = list; *term; term++)
        if (*g_strstrip(*term) && !add_term(e, devices, pmu, *term, aliases, error))
            return false;
    return true;
}

/* What stands behind the last slash. */
static bool add_modifiers(struct event *e, const char *modifiers, GError **error)
{
    for (const char *m = modifiers; *m; m++)
        switch (*m) {
        case 'p':
            e->attr.precise_ip = MIN(e->attr.precise_ip + 1u, 3u);
            break;
        case 'P':
            e->most_precise = true;
            e->attr.precise_ip = 3;
            break;
        case 'u':
            e->attr.exclude_kernel = 1;
            break;
        case 'k':
            e->attr.exclude_user = 1;
            break;
        case 'G':
            e->attr.exclude_host = 1;
            break;
        case 'H':
            e->attr.exclude_guest = 1;
            break;
        default:
            return FAIL(error, "'%c' is no modifier; they are p, P, u, k, G and H", *m);
        }
    return true;
}

/* --- kinds --------------------------------------------------------------------------------------------------- */

/* A fault's page is not there yet when page-faults is counted, so that has no physical address. */
static const struct {
    const char *name;
    guint64 config;
} faults[] = {
    { "minor-faults", PERF_COUNT_SW_PAGE_FAULTS_MIN }, { "major-faults", PERF_COUNT_SW_PAGE_FAULTS_MAJ },
    { "page-faults", PERF_COUNT_SW_PAGE_FAULTS },      { "faults", PERF_COUNT_SW_PAGE_FAULTS },
};

static bool parse_software(struct event *e, const char *text)
{
    for (guint i = 0; i < G_N_ELEMENTS(faults); i++)
        if (g_str_equal(faults[i].name, text)) {
            e->attr.type = PERF_TYPE_SOFTWARE;
            e->attr.config = faults[i].config;
            e->attr.sample_type = SAMPLE_BASE;
            e->space = EVENT_VIRTUAL;
            e->period = e->period_least = e->period_step = 1;
            return true;
        }
    return false;
}

static void set_kind(struct event *e, const char *pmu)
{
    e->attr.sample_type = SAMPLE_BASE | PERF_SAMPLE_DATA_SRC;
    if (g_str_equal(pmu, "ibs_op")) {
        e->space = EVENT_IBS;
        e->attr.sample_type |= PERF_SAMPLE_RAW;
        e->period = IBS_PERIOD;
        e->period_least = IBS_PERIOD_LEAST;
        e->period_step = 16;
    } else {
        e->space = EVENT_PHYSICAL;
        e->period = PMU_PERIOD;
        e->period_least = PMU_PERIOD_LEAST;
        e->period_step = 1;
    }
}

/* PMU, terms and modifiers of "PMU/TERMS/MODIFIERS". */
static bool split(const char *text, char **pmu, char **terms, const char **modifiers)
{
    const char *slash = strchr(text, '/'), *last = strrchr(text, '/');

    if (!slash || slash == last)
        return false;
    *pmu = g_strndup(text, (gsize)(slash - text));
    *terms = g_strndup(slash + 1, (gsize)(last - slash - 1));
    *modifiers = last + 1;
    return true;
}

static bool parse_pmu(struct event *e, const char *text, const char *devices, GError **error)
{
    g_autofree char *pmu = NULL, *terms = NULL, *type = NULL, *there = NULL;
    const char *modifiers;
    guint64 number;

    if (!split(text, &pmu, &terms, &modifiers))
        return FAIL(error, "event '%s': it is NAME/TERM=VALUE,.../, or one of minor-faults, major-faults, "
                    "page-faults", text);
    type = *pmu && pmu[0] != '.' ? read_text(devices, pmu, "", "type") : NULL;
    if (!type || !g_ascii_string_to_unsigned(type, 10, 0, G_MAXUINT32, &number, NULL)) {
        there = names_in(devices, "", "");
        return FAIL(error, "there is no PMU %s here; there are %s", pmu, there);
    }
    e->attr.type = (guint32)number;
    set_kind(e, pmu);
    return add_terms(e, devices, pmu, terms, true, error) && add_modifiers(e, modifiers, error);
}

struct event *event_parse(const char *text, const char *devices, GError **error)
{
    g_autoptr(Event) e = g_new0(struct event, 1);

    e->text = g_strdup(text);
    e->attr.size = sizeof(e->attr);
    if (!parse_software(e, text) && !parse_pmu(e, text, devices, error)) {
        g_prefix_error(error, "event %s: ", text);
        return NULL;
    }
    return g_steal_pointer(&e);
}

void event_free(struct event *event)
{
    if (!event)
        return;
    g_free(event->text);
    g_free(event);
}

char *event_default(const char *devices, GError **error)
{
    g_autofree char *loads = NULL, *type = NULL;

    if (has_format(devices, "ibs_op", "l3missonly"))
        return g_strdup("ibs_op/cnt_ctl=1,l3missonly=1/");
    if (has_format(devices, "ibs_op", "cnt_ctl"))
        return g_strdup("ibs_op/cnt_ctl=1/");
    type = read_text(devices, "ibs_op", "", "type");
    if (type)
        return g_strdup("ibs_op//");
    loads = read_text(devices, "cpu", "events", "mem-loads");
    if (loads && has_format(devices, "cpu", "ldlat"))
        return g_strdup("cpu/mem-loads,ldlat=50/P");
    g_set_error(error, VMT_ERROR, ENODEV, "no PMU here samples accesses: neither ibs_op nor cpu/mem-loads is "
                "in %s", devices);
    return NULL;
}
