// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * DAMON's regions by tracepoint: see damon-trace.h.
 *
 * Where the numbers are in a sample differs between kernels, and is told by the tracepoint's file `format`, a line
 * for each: "field:unsigned long start; offset:24; size:8; signed:0;".
 */
#include "host/source/damon-trace.h"
#include "host/perf/ring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EVENT       "events/damon/damon_aggregated"
#define RECORD      72u         /* bytes that a region takes in the ring, about */
#define INTERVALS   4u          /* that the ring holds: rounds may be late */
#define PAGES_MOST  1024u

static const char *const mounts[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };

struct damon_trace {
    int fd;
    struct ring ring;
    struct perf_layout layout;
    struct perf_counts counts;
    struct damon_fields fields;
    damon_fn fn;                /* while it is read */
    gpointer opaque;
};

/* --- format --------------------------------------------------------------------------------------------- */

static bool find_field(const char *format, const char *name, struct damon_field *field)
{
    g_autofree char *pattern = g_strdup_printf(" %s;", name);
    const char *at = strstr(format, pattern);

    return at && sscanf(at + strlen(pattern), " offset:%u; size:%u;", &field->offset, &field->size) == 2 &&
           (field->size == 4 || field->size == 8);
}

bool damon_fields_parse(const char *format, struct damon_fields *fields)
{
    return find_field(format, "start", &fields->start) && find_field(format, "end", &fields->end) &&
           find_field(format, "nr_accesses", &fields->accesses);
}

/* Numbers are in the order of this machine's bytes. */
static bool take_field(struct damon_field field, const guint8 *raw, gsize size, guint64 *value)
{
    guint32 word;

    if (field.offset > size || field.size > size - field.offset)
        return false;
    if (field.size == sizeof(*value)) {
        memcpy(value, raw + field.offset, sizeof(*value));
    } else {
        memcpy(&word, raw + field.offset, sizeof(word));
        *value = word;
    }
    return true;
}

void damon_fields_take(const struct damon_fields *fields, const guint8 *raw, gsize size, damon_fn fn, gpointer opaque)
{
    guint64 start, end, accesses;

    if (take_field(fields->start, raw, size, &start) && take_field(fields->end, raw, size, &end) &&
        take_field(fields->accesses, raw, size, &accesses) && start < end)
        fn(start, end, (guint32)MIN(accesses, G_MAXUINT32), opaque);
}

/* --- the tracepoint --------------------------------------------------------------------------------------- */

static char *read_event(const char *name)
{
    char *text = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(mounts) && !text; i++) {
        g_autofree char *path = g_build_filename(mounts[i], EVENT, name, NULL);

        g_file_get_contents(path, &text, NULL, NULL);
    }
    return text;
}

static int find_event(struct damon_trace *t, guint64 *id, struct vt_err *err)
{
    g_autofree char *number = read_event("id"), *format = read_event("format");

    if (!number || !format)
        return vt_fail(err, ENOENT, "no %s in %s: tracefs is not mounted, or the kernel has no tracepoints", EVENT,
                       mounts[0]);
    *id = g_ascii_strtoull(number, NULL, 10);
    if (!damon_fields_parse(format, &t->fields))
        return vt_fail(err, ENOTSUP, "%s/%s/format is not understood", mounts[0], EVENT);
    return 0;
}

static int open_event(struct damon_trace *t, guint32 thread, guint32 regions, struct vt_err *err)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .sample_period = 1, .sample_type = PERF_SAMPLE_RAW,
        .watermark = 1, .wakeup_watermark = G_MAXUINT32,        /* nobody waits for it */
    };
    const guint page = (guint)sysconf(_SC_PAGESIZE);
    guint64 id = 0, need = (guint64)regions * RECORD * INTERVALS / page + 1;
    guint pages = 16;
    int rc = find_event(t, &id, err);

    if (rc)
        return rc;
    attr.config = id;
    t->layout = perf_layout_of(&attr);
    if (!thread)                /* would be ourselves */
        return vt_fail(err, ESRCH, "the kernel thread has ended");
    t->fd = (int)syscall(SYS_perf_event_open, &attr, (pid_t)thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (t->fd < 0)
        return vt_fail(err, errno, "perf_event_open damon:damon_aggregated of kernel thread %u: %s", thread,
                       g_strerror(errno));
    while (pages < need && pages < PAGES_MOST)
        pages *= 2;
    if (!ring_map(&t->ring, t->fd, pages))
        return vt_fail(err, errno, "ring of damon:damon_aggregated: %s", g_strerror(errno));
    return 0;
}

struct damon_trace *damon_trace_new(guint32 thread, guint32 regions, struct vt_err *err)
{
    struct damon_trace *t = g_new0(struct damon_trace, 1);

    t->fd = -1;
    t->ring.whole = g_malloc(RING_RECORD_MOST);
    if (!open_event(t, thread, regions, err))
        return t;
    damon_trace_free(t);
    return NULL;
}

void damon_trace_free(struct damon_trace *trace)
{
    if (!trace)
        return;
    ring_unmap(&trace->ring);
    if (trace->fd >= 0)
        close(trace->fd);
    g_free(trace->ring.whole);
    g_free(trace);
}

static void take(const struct perf_sample *sample, gpointer opaque)
{
    struct damon_trace *t = opaque;

    damon_fields_take(&t->fields, sample->raw, sample->raw_size, t->fn, t->opaque);
}

void damon_trace_read(struct damon_trace *trace, damon_fn fn, gpointer opaque)
{
    trace->fn = fn;
    trace->opaque = opaque;
    ring_read(&trace->ring, &trace->layout, G_MAXUINT64, take, trace, &trace->counts);
}
