// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier perf-read`: the samples of a perf.data file as vmtierd's decoder sees them. For a look at what a
 * host's events tell, and at why they tell nothing. It needs no daemon.
 */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/perf/data.h"
#include "host/perf/ibs.h"

static gint limit;
static gboolean counts_only;

struct reading {
    const struct perf_data *data;
    bool json, erratum;
    guint64 shown;
};

/* --- text -------------------------------------------------------------------------------------------------- */

static void print_ibs(const struct reading *r, const struct perf_sample *s)
{
    struct ibs_op op;
    const char *why_not = ibs_decode(s->raw, s->raw_size, r->erratum, &op);

    if (why_not) {
        g_print(" ibs=(%s)", why_not);
        return;
    }
    g_print(" ibs=%s%s,%s", op.load ? "load" : op.store ? "store" : "other", op.locked ? ",locked" : "",
            ibs_from_name(op.from));
    if (op.linear_valid)
        g_print(" linear=%" G_GINT64_MODIFIER "x", op.linear);
    if (op.physical_valid)
        g_print(" physical=%" G_GINT64_MODIFIER "x", op.physical);
}

static void print_field(const struct perf_sample *s, guint64 bit, const char *name, guint64 value)
{
    if (s->have & bit)
        g_print(" %s=%" G_GINT64_MODIFIER "x", name, value);
}

static void print_sample(const struct reading *r, const struct perf_data_event *e, const struct perf_sample *s)
{
    g_autofree char *name = fmt_safe(e->name);

    if (s->have & PERF_SAMPLE_TIME)
        g_print("%" G_GUINT64_FORMAT ".%09" G_GUINT64_FORMAT " ", s->time / 1000000000, s->time % 1000000000);
    if (s->have & PERF_SAMPLE_TID)
        g_print("%u/%u ", s->pid, s->tid);
    g_print("%s%s", name, perf_in_guest(s) ? " guest" : "");
    print_field(s, PERF_SAMPLE_IP, "ip", s->ip);
    print_field(s, PERF_SAMPLE_ADDR, "addr", s->addr);
    print_field(s, PERF_SAMPLE_PHYS_ADDR, "phys", s->phys_addr);
    print_field(s, PERF_SAMPLE_DATA_SRC, "src", s->data_src);
    if (e->is_ibs)
        print_ibs(r, s);
    g_print("\n");
}

static void print_counts(const struct perf_counts *c)
{
    g_print("%" G_GUINT64_FORMAT " samples, %" G_GUINT64_FORMAT " other records, %" G_GUINT64_FORMAT " lost, %"
            G_GUINT64_FORMAT " times throttled\n", c->samples, c->other, c->lost, c->throttled);
    for (int i = PERF_GOOD + 1; i < PERF_BAD_END; i++)
        if (c->bad[i])
            g_print("rejected, %s: %" G_GUINT64_FORMAT "\n", perf_bad_name(i), c->bad[i]);
}

/* --- JSON -------------------------------------------------------------------------------------------------- */

static void print_object(JsonObject *object /* take */)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);
    g_autofree char *text = json_to_string(node, FALSE);

    json_object_unref(object);
    g_print("%s", text);
}

/* Addresses have 64 bits and JSON's numbers 63: they are text, in hexadecimal. */
static void add_hex(JsonObject *o, const char *name, guint64 value)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_MODIFIER "x", value);

    json_object_set_string_member(o, name, text);
}

static void add_if(JsonObject *o, const struct perf_sample *s, guint64 bit, const char *name, guint64 value)
{
    if (s->have & bit)
        add_hex(o, name, value);
}

static JsonObject *ibs_object(const struct reading *r, const struct perf_sample *s)
{
    JsonObject *o = json_object_new();
    struct ibs_op op;
    const char *why_not = ibs_decode(s->raw, s->raw_size, r->erratum, &op);

    if (why_not) {
        json_object_set_string_member(o, "rejected", why_not);
        return o;
    }
    json_object_set_boolean_member(o, "load", op.load);
    json_object_set_boolean_member(o, "store", op.store);
    json_object_set_string_member(o, "from", ibs_from_name(op.from));
    json_object_set_boolean_member(o, "memory", ibs_reached_memory(&op));
    json_object_set_int_member(o, "latency", op.miss_latency);
    if (op.linear_valid)
        add_hex(o, "linear", op.linear);
    if (op.physical_valid)
        add_hex(o, "physical", op.physical);
    return o;
}

static JsonObject *sample_object(const struct reading *r, const struct perf_data_event *e,
                                 const struct perf_sample *s)
{
    JsonObject *o = json_object_new();
    g_autofree char *name = g_utf8_make_valid(e->name, -1);

    json_object_set_string_member(o, "event", name);
    json_object_set_boolean_member(o, "guest", perf_in_guest(s));
    if (s->have & PERF_SAMPLE_TIME)
        json_object_set_int_member(o, "time", (gint64)s->time);
    if (s->have & PERF_SAMPLE_TID) {
        json_object_set_int_member(o, "pid", s->pid);
        json_object_set_int_member(o, "tid", s->tid);
    }
    if (s->have & PERF_SAMPLE_CPU)
        json_object_set_int_member(o, "cpu", s->cpu);
    if (s->have & PERF_SAMPLE_PERIOD)
        json_object_set_int_member(o, "period", (gint64)s->period);
    add_if(o, s, PERF_SAMPLE_IP, "ip", s->ip);
    add_if(o, s, PERF_SAMPLE_ADDR, "addr", s->addr);
    add_if(o, s, PERF_SAMPLE_PHYS_ADDR, "phys", s->phys_addr);
    add_if(o, s, PERF_SAMPLE_DATA_SRC, "src", s->data_src);
    if (e->is_ibs)
        json_object_set_object_member(o, "ibs", ibs_object(r, s));
    return o;
}

static void print_json_counts(const struct perf_counts *c)
{
    JsonObject *o = json_object_new(), *bad = json_object_new();

    json_object_set_int_member(o, "samples", (gint64)c->samples);
    json_object_set_int_member(o, "other", (gint64)c->other);
    json_object_set_int_member(o, "lost", (gint64)c->lost);
    json_object_set_int_member(o, "throttled", (gint64)c->throttled);
    for (int i = PERF_GOOD + 1; i < PERF_BAD_END; i++)
        json_object_set_int_member(bad, perf_bad_name(i), (gint64)c->bad[i]);
    json_object_set_object_member(o, "rejected", bad);
    print_object(o);
}

/* --- the command ------------------------------------------------------------------------------------------- */

static bool show(const struct perf_data_event *event, const struct perf_sample *sample, gpointer opaque)
{
    struct reading *r = opaque;

    if (counts_only || (limit > 0 && r->shown >= (guint)limit))
        return true;
    if (r->json) {
        g_print("%s", r->shown ? ",\n" : "");
        print_object(sample_object(r, event, sample));
    } else {
        print_sample(r, event, sample);
    }
    r->shown++;
    return true;
}

static bool run_perf_read(struct cli *cli, char **args, GError **error)
{
    g_autoptr(GError) inner = NULL;
    g_autoptr(PerfData) data = perf_data_open(args[0], &inner);
    struct perf_counts counts = { 0 };
    struct reading r = { .data = data, .json = cli->json };

    if (data) {
        r.erratum = ibs_has_erratum_1293(perf_data_cpuid(data));
        if (cli->json)
            g_print("{\"samples\": [\n");
        perf_data_each(data, show, &r, &counts, &inner);
        if (cli->json) {
            g_print("],\n\"counts\": ");
            print_json_counts(&counts);
            g_print("}\n");
        } else {
            print_counts(&counts);
        }
    }
    if (inner)
        g_set_error_literal(error, CLI_ERROR, CLI_REFUSED, inner->message);
    return !inner;
}

static const GOptionEntry options[] = {
    { "limit", 'n', 0, G_OPTION_ARG_INT, &limit, NULL, NULL },
    { "counts", 'c', 0, G_OPTION_ARG_NONE, &counts_only, NULL, NULL },
    { 0 },
};

const struct cli_command cli_perf_read = {
    .name = "perf-read",
    .usage = "FILE [-n N] [-c]",
    .summary = "the samples in a perf.data file",
    .details = "Prints the samples of a file that `perf record -d --phys-data` (or, for AMD IBS, with\n"
               "--raw-samples) has written, as vmtierd's decoder sees them, and what it rejected.\n"
               "It needs no daemon.\n\n"
               "  -n, --limit N     print the first N samples; all are read\n"
               "  -c, --counts      print none",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_perf_read,
};
