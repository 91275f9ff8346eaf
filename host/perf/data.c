// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reader of perf.data: see data.h.
 *
 * Everything is taken through view(), which knows the file's size: of bytes it points into them, of a file it
 * reads a window that holds any record.
 */
#include "host/perf/data.h"
#include "host/error.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EPROTO, __VA_ARGS__), false)
#define HEADER_BYTES  104u
#define PIPE_BYTES    16u
#define EVENTS_MOST   4096u
#define IDS_MOST      (1u << 20)
#define FEATURE_MOST  (4u << 20)
#define NAME_MOST     256u
#define WINDOW        (1u << 18)    /* a record is below 1 << 16 */

enum { FEATURE_CPUID = 9, FEATURE_EVENT_DESC = 12, FEATURE_PMU_MAPPINGS = 16, FEATURES = 256 };

/* What perf(1) puts between the kernel's records. */
enum { RECORD_TRACING_DATA = 66, RECORD_AUXTRACE = 71, RECORD_COMPRESSED = 81, RECORD_COMPRESSED2 = 83 };

struct section {
    guint64 offset, size;
};

struct header {
    char magic[8];
    guint64 size, attr_size;
    struct section attrs, data, event_types;
    guint64 features[FEATURES / 64];
};
static_assert(sizeof(struct header) == HEADER_BYTES, "perf.data: header");

struct perf_data {
    int fd;                     /* -1: bytes */
    const guint8 *bytes;
    guint64 size;
    guint8 *window;
    guint64 window_at, window_size;
    struct header header;
    GArray *events;             /* of struct perf_data_event */
    GHashTable *ids;            /* id -> index + 1 */
    char *cpuid;
};

/* --- reading ----------------------------------------------------------------------------------------------- */

/* [offset, offset + size), size at most WINDOW; until the next call. NULL: it is not in the file. */
static const guint8 *view(struct perf_data *d, guint64 offset, guint64 size)
{
    ssize_t n;

    if (offset > d->size || size > d->size - offset || size > WINDOW)
        return NULL;
    if (d->fd < 0)
        return d->bytes + offset;
    if (offset < d->window_at || offset + size > d->window_at + d->window_size) {
        n = pread(d->fd, d->window, WINDOW, (off_t)offset);
        d->window_at = offset;
        d->window_size = n > 0 ? (guint64)n : 0;
    }
    return offset + size <= d->window_at + d->window_size ? d->window + (offset - d->window_at) : NULL;
}

static bool read_at(struct perf_data *d, guint64 offset, void *to, guint64 size)
{
    while (size) {
        guint64 n = MIN(size, WINDOW);
        const guint8 *from = view(d, offset, n);

        if (!from)
            return false;
        memcpy(to, from, n);
        to = (guint8 *)to + n;
        offset += n;
        size -= n;
    }
    return true;
}

static bool is_within(const struct perf_data *d, const struct section *s)
{
    return s->offset <= d->size && s->size <= d->size - s->offset;
}

/* --- features ------------------------------------------------------------------------------------------------ */

/* What is left of a feature's bytes. */
struct rest {
    const guint8 *at, *end;
};

static bool rest_u32(struct rest *r, guint32 *value)
{
    if (r->end - r->at < 4)
        return false;
    memcpy(value, r->at, 4);
    r->at += 4;
    return true;
}

static bool rest_skip(struct rest *r, guint64 n)
{
    if (n > (guint64)(r->end - r->at))
        return false;
    r->at += n;
    return true;
}

/* A length, and that many bytes with a NUL among them. */
static char *rest_string(struct rest *r)
{
    guint32 length;
    const guint8 *at;

    if (!rest_u32(r, &length))
        return NULL;
    at = r->at;
    return rest_skip(r, length) ? g_strndup((const char *)at, MIN(length, NAME_MOST)) : NULL;
}

static void take_cpuid(struct perf_data *d, struct rest r)
{
    g_free(d->cpuid);
    d->cpuid = rest_string(&r);
}

static void take_names(struct perf_data *d, struct rest r)
{
    guint32 n, attr_size, ids;

    if (!rest_u32(&r, &n) || !rest_u32(&r, &attr_size))
        return;
    for (guint32 i = 0; i < MIN(n, d->events->len); i++) {
        struct perf_data_event *e = &g_array_index(d->events, struct perf_data_event, i);
        char *name;

        if (!rest_skip(&r, attr_size) || !rest_u32(&r, &ids) || !(name = rest_string(&r)))
            return;
        g_free(e->name);
        e->name = name;
        if (!rest_skip(&r, ids * 8ull))
            return;
    }
}

static void take_pmus(struct perf_data *d, struct rest r)
{
    guint32 n, type;

    if (!rest_u32(&r, &n))
        return;
    while (n-- && rest_u32(&r, &type)) {
        g_autofree char *name = rest_string(&r);

        if (!name)
            return;
        for (guint i = 0; !strcmp(name, "ibs_op") && i < d->events->len; i++) {
            struct perf_data_event *e = &g_array_index(d->events, struct perf_data_event, i);

            e->is_ibs |= e->attr.type == type && e->attr.sample_type & PERF_SAMPLE_RAW;
        }
    }
}

static const struct {
    guint bit;
    void (*take)(struct perf_data *d, struct rest r);
} features[] = {
    { FEATURE_CPUID, take_cpuid }, { FEATURE_EVENT_DESC, take_names }, { FEATURE_PMU_MAPPINGS, take_pmus },
};

/* They only make the output nicer: what is wrong with them is passed over. */
static void read_features(struct perf_data *d)
{
    guint64 at = d->header.data.offset + d->header.data.size;

    for (guint bit = 0; bit < FEATURES; bit++) {
        g_autofree guint8 *bytes = NULL;
        struct section s;

        if (!(d->header.features[bit / 64] >> bit % 64 & 1))
            continue;
        if (!read_at(d, at, &s, sizeof(s)))
            return;
        at += sizeof(s);
        for (guint i = 0; i < G_N_ELEMENTS(features); i++) {
            if (features[i].bit != bit || s.size > FEATURE_MOST || !is_within(d, &s))
                continue;
            bytes = g_malloc(s.size + 1);
            if (read_at(d, s.offset, bytes, s.size))
                features[i].take(d, (struct rest){ bytes, bytes + s.size });
        }
    }
}

/* --- header and events ------------------------------------------------------------------------------------- */

static bool check_magic(const char magic[8], GError **error)
{
    if (!memcmp(magic, "PERFILE2", 8))
        return true;
    if (!memcmp(magic, "2ELIFREP", 8))
        return FAIL(error, "it is from a machine of the other byte order");
    if (!memcmp(magic, "PERFFILE", 8))
        return FAIL(error, "it is of version 1, from a perf before 3.5");
    return FAIL(error, "it is no perf.data file");
}

static bool read_header(struct perf_data *d, GError **error)
{
    struct header *h = &d->header;

    if (d->size < PIPE_BYTES)
        return FAIL(error, "it is no perf.data file");
    read_at(d, 0, h, PIPE_BYTES);
    if (!check_magic(h->magic, error))
        return false;
    if (h->size == PIPE_BYTES)
        return FAIL(error, "it was written to a pipe: `perf inject -i FILE -o OTHER` makes a file of it");
    if (h->size != HEADER_BYTES || !read_at(d, 0, h, HEADER_BYTES))
        return FAIL(error, "its header of %" G_GUINT64_FORMAT " bytes is not one of %u", h->size, HEADER_BYTES);
    if (!is_within(d, &h->attrs) || !is_within(d, &h->data))
        return FAIL(error, "it is truncated: a section that its header names lies beyond its end");
    if (!h->data.size)
        return FAIL(error, "it has no data: perf record has not ended, or was killed");
    if (h->attr_size < PERF_ATTR_SIZE_VER0 + sizeof(struct section) || h->attr_size > 4096 ||
        h->attrs.size % h->attr_size || !h->attrs.size || h->attrs.size / h->attr_size > EVENTS_MOST)
        return FAIL(error, "its %" G_GUINT64_FORMAT " bytes of attributes are not events of %" G_GUINT64_FORMAT
                    " bytes", h->attrs.size, h->attr_size);
    return true;
}

static bool read_ids(struct perf_data *d, guint event, const struct section *s, GError **error)
{
    if (!is_within(d, s) || s->size % 8 || s->size / 8 > IDS_MOST - MIN(IDS_MOST, g_hash_table_size(d->ids)))
        return FAIL(error, "event %u: its ids lie beyond the file's end, or are too many", event);
    for (guint64 at = 0; at < s->size; at += 8) {
        gint64 *id = g_new(gint64, 1);

        if (!read_at(d, s->offset + at, id, sizeof(*id))) {
            g_free(id);
            return FAIL(error, "event %u: its ids cannot be read", event);
        }
        g_hash_table_insert(d->ids, id, GUINT_TO_POINTER(event + 1));
    }
    return true;
}

static bool read_event(struct perf_data *d, guint i, GError **error)
{
    guint64 at = d->header.attrs.offset + i * d->header.attr_size;
    guint64 attr_size = d->header.attr_size - sizeof(struct section);
    struct perf_data_event e = { 0 };
    struct section ids;

    if (!read_at(d, at, &e.attr, MIN(attr_size, sizeof(e.attr))) ||
        !read_at(d, at + attr_size, &ids, sizeof(ids)))
        return FAIL(error, "event %u cannot be read", i);
    e.layout = perf_layout_of(&e.attr);
    e.name = g_strdup_printf("event %u", i);
    g_array_append_val(d->events, e);
    return read_ids(d, i, &ids, error);
}

/* Where a sample has its id, in bytes from its beginning; 0: it has none. */
static guint id_place(const struct perf_layout *layout)
{
    guint8 record[64] = { 0 };
    guint64 id;

    for (guint at = 8; at + 8 <= sizeof(record); at += 8) {
        record[at] = 1;
        if (!perf_peek_id(layout, record, sizeof(record), &id))
            return 0;
        if (id)
            return at;
    }
    return 0;
}

static bool read_events(struct perf_data *d, GError **error)
{
    guint n = (guint)(d->header.attrs.size / d->header.attr_size), place = 0;

    for (guint i = 0; i < n; i++) {
        if (!read_event(d, i, error))
            return false;
        if (!i)
            place = id_place(&perf_data_event(d, 0)->layout);
        else if (!place || id_place(&perf_data_event(d, i)->layout) != place)
            return FAIL(error, "its %u events cannot be told apart: their samples have ids in different places, or "
                        "none", n);
    }
    return true;
}

/* --- life -------------------------------------------------------------------------------------------------- */

static struct perf_data *load(struct perf_data *made, GError **error)
{
    g_autoptr(PerfData) d = made;

    d->events = g_array_new(FALSE, FALSE, sizeof(struct perf_data_event));
    d->ids = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    if (!read_header(d, error) || !read_events(d, error))
        return NULL;
    read_features(d);
    return g_steal_pointer(&d);
}

struct perf_data *perf_data_open_bytes(const guint8 *bytes, gsize size, GError **error)
{
    struct perf_data *d = g_new0(struct perf_data, 1);

    d->fd = -1;
    d->bytes = bytes;
    d->size = size;
    return load(d, error);
}

struct perf_data *perf_data_open(const char *path, GError **error)
{
    struct perf_data *d;
    struct stat st = { 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int e = fd < 0 || fstat(fd, &st) ? errno : S_ISREG(st.st_mode) ? 0 : EINVAL;

    if (e) {
        g_set_error(error, VMT_ERROR, e, "%s: %s", path, e == EINVAL ? "it is no regular file" : g_strerror(e));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    d = g_new0(struct perf_data, 1);
    d->fd = fd;
    d->size = (guint64)st.st_size;
    d->window = g_malloc(WINDOW);
    d = load(d, error);
    if (!d)
        g_prefix_error(error, "%s: ", path);
    return d;
}

void perf_data_free(struct perf_data *d)
{
    if (!d)
        return;
    if (d->fd >= 0)
        close(d->fd);
    for (guint i = 0; i < d->events->len; i++)
        g_free(g_array_index(d->events, struct perf_data_event, i).name);
    g_array_unref(d->events);
    g_hash_table_unref(d->ids);
    g_free(d->window);
    g_free(d->cpuid);
    g_free(d);
}

guint perf_data_events(const struct perf_data *d)
{
    return d->events->len;
}

const struct perf_data_event *perf_data_event(const struct perf_data *d, guint i)
{
    return &g_array_index(d->events, struct perf_data_event, i);
}

const char *perf_data_cpuid(const struct perf_data *d)
{
    return d->cpuid;
}

/* --- records ------------------------------------------------------------------------------------------------ */

static const struct perf_data_event *event_of(const struct perf_data *d, const guint8 *record, guint16 size)
{
    const struct perf_data_event *first = perf_data_event(d, 0);
    guint64 id;
    guint i;

    if (d->events->len == 1)
        return first;
    if (!perf_peek_id(&first->layout, record, size, &id))
        return NULL;
    i = GPOINTER_TO_UINT(g_hash_table_lookup(d->ids, &id));
    return i ? perf_data_event(d, i - 1) : NULL;
}

/* Bytes of data that follow a record without being one. */
static guint64 bytes_behind(const guint8 *record, guint32 type, guint16 size)
{
    guint64 behind = 0;

    if (type == RECORD_AUXTRACE && size >= 16)
        memcpy(&behind, record + 8, 8);
    if (type == RECORD_TRACING_DATA && size >= 12) {
        guint32 n;

        memcpy(&n, record + 8, 4);
        behind = (n + 7ull) & ~7ull;
    }
    return behind;
}

static bool take_sample(struct perf_data *d, const guint8 *record, guint16 size, perf_data_take take,
                        gpointer opaque, struct perf_counts *counts)
{
    const struct perf_data_event *event = event_of(d, record, size);
    struct perf_sample sample;
    enum perf_bad bad = event ? perf_decode(&event->layout, record, size, &sample) : PERF_BAD_ID;

    if (bad) {
        counts->bad[bad]++;
        return true;
    }
    counts->samples++;
    return take(event, &sample, opaque);
}

bool perf_data_each(struct perf_data *d, perf_data_take take, gpointer opaque, struct perf_counts *counts,
                    GError **error)
{
    guint64 at = d->header.data.offset, end = at + d->header.data.size;

    while (at < end) {
        const guint8 *record = view(d, at, sizeof(struct perf_event_header));
        struct perf_event_header h = { 0 };
        guint64 behind;

        if (record && sizeof(h) <= end - at)
            memcpy(&h, record, sizeof(h));
        record = h.size >= sizeof(h) && h.size <= end - at ? view(d, at, h.size) : NULL;
        behind = record ? bytes_behind(record, h.type, h.size) : 0;
        if (!record || behind > end - at - h.size) {
            counts->bad[PERF_BAD_SIZE]++;
            return FAIL(error, "record at %" G_GUINT64_FORMAT ": its size of %" G_GUINT64_FORMAT " bytes is wrong, "
                        "the data ends at %" G_GUINT64_FORMAT, at, h.size + behind, end);
        }
        if (h.type == PERF_RECORD_SAMPLE) {
            if (!take_sample(d, record, h.size, take, opaque, counts))
                return true;
        } else if (h.type == RECORD_COMPRESSED || h.type == RECORD_COMPRESSED2) {
            counts->bad[PERF_BAD_COMPRESSED]++;
        } else {
            perf_count_other(counts, record, h.size);
        }
        at += h.size + behind;
    }
    return true;
}
