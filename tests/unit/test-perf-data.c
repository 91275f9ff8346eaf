// SPDX-License-Identifier: GPL-2.0-or-later
/* perf.data files, made byte for byte: good ones are read as they were made, others are rejected by name. */
#include "host/perf/data.h"
#include "perf-file.h"

#include <string.h>
#include <unistd.h>

#define FAULT_TYPE (PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_ADDR | PERF_SAMPLE_PHYS_ADDR)

static const struct file_event two[] = {
    { "minor-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MIN, FAULT_TYPE, { 11, 12 } },
    { "ibs_op/cnt_ctl=1/", 11, 1 << 19, FAULT_TYPE | PERF_SAMPLE_RAW, { 21 } },
};

static void add(GByteArray *data, GByteArray *record /* take */)
{
    put_bytes(data, record->data, record->len);
    g_byte_array_unref(record);
}

static void add_sample(GByteArray *data, guint64 id, guint64 addr, bool raw)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    put_u64(body, id);
    put_u32s(body, 100, 101);
    put_u64(body, addr);
    if (raw)
        put_u32s(body, 4, 0x12345678);
    put_u64(body, addr + 1);
    add(data, record_new(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER, body));
}

static void add_words(GByteArray *data, guint32 type, guint64 first, guint64 second)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    put_u64(body, first);
    put_u64(body, second);
    add(data, record_new(type, 0, body));
}

static GByteArray *good_data(void)
{
    GByteArray *data = g_byte_array_new();

    add_sample(data, 11, 0x1000, false);
    add_words(data, PERF_RECORD_LOST, 11, 5);
    add_sample(data, 21, 0x2000, true);
    add_sample(data, 12, 0x3000, false);
    add(data, record_new(68 /* the end of a round */, 0, NULL));
    return data;
}

struct seen {
    guint n, stop_after;
    const char *name[16];
    guint64 addr[16];
    bool ibs[16];
};

static bool note(const struct perf_data_event *event, const struct perf_sample *s, gpointer opaque)
{
    struct seen *seen = opaque;

    g_assert_cmpuint(s->pid, ==, 100);
    g_assert_cmpuint(s->phys_addr, ==, s->addr + 1);
    seen->name[seen->n] = event->name;
    seen->ibs[seen->n] = event->is_ibs;
    seen->addr[seen->n++] = s->addr;
    return seen->n != seen->stop_after;
}

static void check_good(struct perf_data *d)
{
    struct seen seen = { 0 };
    struct perf_counts counts = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_cmpstr(perf_data_cpuid(d), ==, "AuthenticAMD,25,17,1");
    g_assert_cmpuint(perf_data_events(d), ==, 2);
    perf_data_each(d, note, &seen, &counts, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(seen.n, ==, 3);
    g_assert_cmpstr(seen.name[0], ==, "minor-faults");
    g_assert_cmpstr(seen.name[1], ==, "ibs_op/cnt_ctl=1/");
    g_assert_cmpstr(seen.name[2], ==, "minor-faults");
    g_assert_true(!seen.ibs[0] && seen.ibs[1] && !seen.ibs[2]);
    g_assert_cmpuint(seen.addr[1], ==, 0x2000);
    g_assert_cmpuint(counts.samples, ==, 3);
    g_assert_cmpuint(counts.lost, ==, 5);
    g_assert_cmpuint(counts.other, ==, 2);
    g_assert_cmpuint(perf_counts_bad(&counts), ==, 0);
    seen = (struct seen){ .stop_after = 2 };
    g_assert_true(perf_data_each(d, note, &seen, &counts, &error));
    g_assert_cmpuint(seen.n, ==, 2);
}

static void test_good(void)
{
    g_autoptr(GByteArray) data = good_data();
    g_autoptr(GByteArray) file = file_new(two, 2, data, "AuthenticAMD,25,17,1", FALSE);
    g_autofree char *path = file_write(file), *dir = g_path_get_dirname(path);
    g_autoptr(PerfData) bytes = perf_data_open_bytes(file->data, file->len, NULL);
    g_autoptr(PerfData) opened = perf_data_open(path, NULL);

    check_good(bytes);
    check_good(opened);
    unlink(path);
    rmdir(dir);
}

/* --- rejected ------------------------------------------------------------------------------------------------- */

static void refuses(const GByteArray *file, gsize size, const char *pattern)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(perf_data_open_bytes(file->data, size, &error));
    if (!g_pattern_match_simple(pattern, error->message))
        g_error("\"%s\" is not like \"%s\"", error->message, pattern);
}

static void patch(GByteArray *file, gsize at, guint64 value)
{
    memcpy(file->data + at, &value, sizeof(value));
}

static GByteArray *good_file(void)
{
    g_autoptr(GByteArray) data = good_data();

    return file_new(two, 2, data, "AuthenticAMD,25,17,1", FALSE);
}

static void refuses_patched(gsize at, guint64 value, const char *pattern)
{
    g_autoptr(GByteArray) file = good_file();

    patch(file, at, value);
    refuses(file, file->len, pattern);
}

static void test_headers(void)
{
    g_autoptr(GByteArray) file = good_file();
    guint64 magic;

    refuses(file, 0, "it is no perf.data file");
    refuses(file, 15, "it is no perf.data file");
    refuses(file, 60, "*header*");
    refuses(file, 150, "it is truncated*");
    memcpy(&magic, "2ELIFREP", 8);
    refuses_patched(0, magic, "*other byte order");
    memcpy(&magic, "PERFFILE", 8);
    refuses_patched(0, magic, "*version 1*");
    memcpy(&magic, "ELFELFEL", 8);
    refuses_patched(0, magic, "it is no perf.data file");
    refuses_patched(8, 16, "*written to a pipe*");
    refuses_patched(8, 4096, "*its header of 4096 bytes*");
    refuses_patched(16, 40, "*attributes*");
    refuses_patched(16, G_MAXUINT64, "*attributes*");
    refuses_patched(FILE_ATTRS, G_MAXUINT64 - 8, "it is truncated*");
    refuses_patched(FILE_ATTRS + 8, 100, "*attributes*");
    refuses_patched(FILE_DATA + 8, 0, "*perf record has not ended*");
    refuses_patched(FILE_DATA + 8, 1u << 30, "it is truncated*");
}

static void test_ids(void)
{
    struct file_event odd[2] = { two[0], two[1] };
    g_autoptr(GByteArray) data = good_data(), file = NULL;
    gsize first_ids = FILE_HEADER + 24 + sizeof(struct perf_event_attr);

    refuses_patched(first_ids, G_MAXUINT64, "event 0: its ids*");
    refuses_patched(first_ids + 8, 12, "event 0: its ids*");
    odd[1].sample_type &= ~(guint64)PERF_SAMPLE_IDENTIFIER;
    file = file_new(odd, 2, data, "", FALSE);
    refuses(file, file->len, "its 2 events cannot be told apart*");
}

/* Whatever is cut off, or wrong in any one byte, it ends, and what is rejected is counted or said. */
static bool pass(const struct perf_data_event *event, const struct perf_sample *s, gpointer opaque)
{
    (void)event, (void)s, (void)opaque;
    return true;
}

static void read_any(const guint8 *bytes, gsize size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PerfData) d = perf_data_open_bytes(bytes, size, &error);
    struct perf_counts counts = { 0 };

    g_assert_true(!d == !!error);
    if (d)
        g_assert_true(perf_data_each(d, pass, NULL, &counts, &error) == !error);
}

static void test_any(void)
{
    g_autoptr(GByteArray) file = good_file();

    for (gsize size = 0; size < file->len; size++) {
        g_autofree guint8 *copy = g_memdup2(file->data, size);

        read_any(copy, size);
    }
    for (gsize at = 0; at < file->len; at++)
        for (guint bit = 0; bit < 8; bit++) {
            file->data[at] ^= (guint8)(1u << bit);
            read_any(file->data, file->len);
            file->data[at] ^= (guint8)(1u << bit);
        }
}

static struct perf_counts read_counts(GByteArray *data, GError **error)
{
    g_autoptr(GByteArray) file = file_new(two, 2, data, "", FALSE);
    g_autoptr(PerfData) d = perf_data_open_bytes(file->data, file->len, NULL);
    struct perf_counts counts = { 0 };

    perf_data_each(d, pass, NULL, &counts, error);
    return counts;
}

static void test_records(void)
{
    g_autoptr(GByteArray) data = good_data();
    g_autoptr(GByteArray) pressed = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    struct perf_counts c;
    guint16 size = 4;

    add_sample(data, 99, 0x1000, false);        /* an id of nobody's */
    add_sample(data, 11, 0x1000, true);         /* longer than its event says */
    add_sample(data, 21, 0x1000, false);
    g_byte_array_set_size(pressed, 64);
    add(data, record_new(81, 0, pressed));
    add(data, record_new(83, 0, pressed));
    add_words(data, 71 /* with 16 bytes behind that are no record */, 16, 0);
    put_u64(data, G_MAXUINT64);
    put_u64(data, G_MAXUINT64);
    c = read_counts(data, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(c.samples, ==, 3);
    g_assert_cmpuint(c.bad[PERF_BAD_ID], ==, 1);
    g_assert_cmpuint(c.bad[PERF_BAD_LONG], ==, 1);
    g_assert_cmpuint(c.bad[PERF_BAD_COUNT] + c.bad[PERF_BAD_SHORT], ==, 1);
    g_assert_cmpuint(c.bad[PERF_BAD_COMPRESSED], ==, 2);
    add_sample(data, 11, 0x1000, false);
    memcpy(data->data + data->len - 40 + 6, &size, 2);
    c = read_counts(data, &error);
    g_assert_cmpuint(c.bad[PERF_BAD_SIZE], ==, 1);
    g_assert_true(error && strstr(error->message, "its size of 4 bytes is wrong"));
}

static void test_files(void)
{
    g_autoptr(GError) none = NULL, directory = NULL;

    g_assert_null(perf_data_open("/nonexistent/perf.data", &none));
    g_assert_true(strstr(none->message, "/nonexistent/perf.data: No such file"));
    g_assert_null(perf_data_open("/", &directory));
    g_assert_true(strstr(directory->message, "no regular file"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/perf-data/good", test_good);
    g_test_add_func("/perf-data/headers", test_headers);
    g_test_add_func("/perf-data/ids", test_ids);
    g_test_add_func("/perf-data/any", test_any);
    g_test_add_func("/perf-data/records", test_records);
    g_test_add_func("/perf-data/files", test_files);
    return g_test_run();
}
