// SPDX-License-Identifier: GPL-2.0-or-later
/* perf.data files, made byte for byte: see perf-file.h. */
#include "perf-file.h"

#include <string.h>
#include <unistd.h>

enum { CPUID = 9, EVENT_DESC = 12, PMU_MAPPINGS = 16, PMU_CAPS = 31 };

void put_bytes(GByteArray *b, const void *from, gsize n)
{
    g_byte_array_append(b, from, (guint)n);
}

void put_u64(GByteArray *b, guint64 value)
{
    put_bytes(b, &value, sizeof(value));
}

void put_u32s(GByteArray *b, guint32 first, guint32 second)
{
    put_bytes(b, &first, sizeof(first));
    put_bytes(b, &second, sizeof(second));
}

static void put_u32(GByteArray *b, guint32 value)
{
    put_bytes(b, &value, sizeof(value));
}

static void put_string(GByteArray *b, const char *text)
{
    char padded[128] = { 0 };
    guint32 length = (guint32)((strlen(text) + 64) / 64 * 64);

    g_strlcpy(padded, text, sizeof(padded));
    put_u32(b, length);
    put_bytes(b, padded, length);
}

GByteArray *record_new(guint32 type, guint16 misc, const GByteArray *body)
{
    GByteArray *b = g_byte_array_new();
    struct perf_event_header h = { type, misc, (guint16)(sizeof(h) + (body ? body->len : 0)) };

    put_bytes(b, &h, sizeof(h));
    if (body)
        put_bytes(b, body->data, body->len);
    return b;
}

static struct perf_event_attr attr_of(const struct file_event *e)
{
    return (struct perf_event_attr){
        .type = e->type, .size = sizeof(struct perf_event_attr), .config = e->config, .sample_period = 1,
        .sample_type = e->sample_type, .sample_id_all = 1,
    };
}

static guint count_ids(const struct file_event *e)
{
    return !!e->ids[0] + !!e->ids[1];
}

static void put_names(GByteArray *b, const struct file_event *events, guint n)
{
    put_u32s(b, n, sizeof(struct perf_event_attr));
    for (guint i = 0; i < n; i++) {
        struct perf_event_attr attr = attr_of(&events[i]);

        put_bytes(b, &attr, sizeof(attr));
        put_u32(b, count_ids(&events[i]));
        put_string(b, events[i].name);
        put_bytes(b, events[i].ids, count_ids(&events[i]) * 8);
    }
}

static void put_pmus(GByteArray *b)
{
    put_u32(b, 2);
    put_u32(b, PERF_TYPE_SOFTWARE);
    put_string(b, "software");
    put_u32(b, 11);
    put_string(b, "ibs_op");
}

static void put_caps(GByteArray *b)
{
    put_u32s(b, 1, 1);
    put_string(b, "zen4_ibs_extensions");
    put_string(b, "1");
    put_string(b, "ibs_op");
}

/* Sections of the features behind the data, then what is in them. */
static void put_features(GByteArray *b, const struct file_event *events, guint n, const char *cpuid, gboolean zen4)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    guint64 sizes[4], at;
    guint count = zen4 ? 4 : 3;

    put_string(all, cpuid);
    sizes[0] = all->len;
    put_names(all, events, n);
    sizes[1] = all->len;
    put_pmus(all);
    sizes[2] = all->len;
    put_caps(all);
    sizes[3] = all->len;
    at = b->len + count * 16;
    for (guint i = 0; i < count; i++) {
        guint64 before = i ? sizes[i - 1] : 0;

        put_u64(b, at + before);
        put_u64(b, sizes[i] - before);
    }
    put_bytes(b, all->data, all->len);
}

GByteArray *file_new(const struct file_event *events, guint n, const GByteArray *data, const char *cpuid,
                     gboolean zen4)
{
    GByteArray *b = g_byte_array_new();
    guint64 ids = 0, entry = sizeof(struct perf_event_attr) + 16;

    for (guint i = 0; i < n; i++)
        ids += 8 * count_ids(&events[i]);
    put_bytes(b, "PERFILE2", 8);
    put_u64(b, FILE_HEADER);
    put_u64(b, entry);
    put_u64(b, FILE_HEADER + ids);
    put_u64(b, n * entry);
    put_u64(b, FILE_HEADER + ids + n * entry);
    put_u64(b, data->len);
    put_u64(b, 0);
    put_u64(b, 0);
    put_u64(b, 1ull << CPUID | 1ull << EVENT_DESC | 1ull << PMU_MAPPINGS | (zen4 ? 1ull << PMU_CAPS : 0));
    g_byte_array_set_size(b, FILE_HEADER);
    memset(b->data + FILE_HEADER - 24, 0, 24);
    for (guint i = 0; i < n; i++)
        put_bytes(b, events[i].ids, count_ids(&events[i]) * 8);
    ids = FILE_HEADER;
    for (guint i = 0; i < n; i++) {
        struct perf_event_attr attr = attr_of(&events[i]);

        put_bytes(b, &attr, sizeof(attr));
        put_u64(b, ids);
        put_u64(b, 8 * count_ids(&events[i]));
        ids += 8 * count_ids(&events[i]);
    }
    put_bytes(b, data->data, data->len);
    put_features(b, events, n, cpuid, zen4);
    return b;
}

char *file_write(const GByteArray *file)
{
    g_autofree char *dir = g_dir_make_tmp("vmtier-perf-XXXXXX", NULL);
    char *path = g_build_filename(dir, "perf.data", NULL);

    g_assert_true(g_file_set_contents(path, (const char *)file->data, file->len, NULL));
    return path;
}
