// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file format of recordings: what is written is read, what is cut short is read up to there, and
 * what is wrong is refused with the place. test-trace-reject.c has the records.
 */
#include "trace-fixture.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define GRANULES    6000u
#define ROUNDS      40

static struct trace_obs made_up(guint round, guint i)
{
    return (struct trace_obs){
        .granule = (i * 7919u + round) % GRANULES,
        .events = i % 5 ? (double)(i % 1000) : i / 1024.0,
        .exposure_s = i % 3 ? 0.25 : i / 1000.0,
    };
}

/* Rounds of a source each, the longest of more observations than a record takes; one has none. */
static GByteArray *write_some(enum trace_reason reason)
{
    GByteArray *file = g_byte_array_new();
    const struct trace_header header = fixture_header();
    const struct trace_layout layout = fixture_layout(GRANULES);
    g_autoptr(TraceWriter) w = trace_writer_new(&header, fixture_put, file);
    g_autofree struct trace_obs *obs = g_new(struct trace_obs, GRANULES);

    g_assert_cmpint(trace_write_layout(w, &layout, NULL), ==, 0);
    for (guint r = 0; r < ROUNDS; r++) {
        const guint n = r * (GRANULES / ROUNDS);

        g_assert_cmpint(trace_write_round(w, 250000 + r, 7, NULL), ==, 0);
        for (guint i = 0; i < n; i++)
            obs[i] = made_up(r, i);
        g_assert_cmpint(trace_write_obs(w, (guint8)(r % 3), (guint8)(r % 2), obs, n, NULL), ==, 0);
    }
    g_assert_cmpint(trace_write_gap(w, 3, 1000, 750000, NULL), ==, 0);
    g_assert_cmpint(trace_write_end(w, reason, NULL), ==, 0);
    g_assert_cmpuint(trace_writer_bytes(w), ==, file->len);
    return file;
}

/* Sums per granule do not depend on the order. */
static void check_round(guint round, const double *events, const double *exposure)
{
    g_autofree double *left_events = g_new0(double, GRANULES), *left_s = g_new0(double, GRANULES);
    const double scale = round % 3 ? 1 : 64;

    for (guint i = 0; i < round * (GRANULES / ROUNDS); i++) {
        const struct trace_obs o = made_up(round, i);

        left_events[o.granule] += o.events * scale;
        left_s[o.granule] += o.exposure_s;
    }
    for (guint g = 0; g < GRANULES; g++) {
        g_assert_cmpfloat_with_epsilon(events[g], left_events[g], 1e-9);
        g_assert_cmpfloat_with_epsilon(exposure[g], left_s[g], 1e-9);
    }
}

static void add_up(const struct trace_item *item, guint round, double *events, double *exposure)
{
    g_assert_cmpuint(item->obs.source, ==, round % 3);
    g_assert_cmpuint(item->obs.tier, ==, round % 2);
    g_assert_cmpuint(item->obs.kind, ==, round % 3);
    for (guint i = 0; i < item->obs.n; i++) {
        events[item->obs.obs[i].granule] += item->obs.obs[i].events;
        exposure[item->obs.obs[i].granule] += item->obs.obs[i].exposure_s;
    }
}

static void read_rounds(Trace *t)
{
    g_autofree double *events = g_new0(double, GRANULES), *exposure = g_new0(double, GRANULES);
    struct trace_item item;
    guint rounds = 0;

    while (trace_next(t, &item, NULL) > TRACE_END) {
        if (item.what == TRACE_OBS) {
            add_up(&item, rounds - 1, events, exposure);
        } else if (item.what == TRACE_ROUND || item.what == TRACE_GAP) {
            if (rounds)
                check_round(rounds - 1, events, exposure);
            memset(events, 0, GRANULES * sizeof(double));
            memset(exposure, 0, GRANULES * sizeof(double));
        }
        if (item.what == TRACE_ROUND) {
            g_assert_cmpfloat_with_epsilon(item.round.dt, 0.25 + rounds++ / 1e6, 1e-9);
            g_assert_cmpuint(item.round.sources, ==, 7);
        }
    }
    g_assert_cmpuint(rounds, ==, ROUNDS);
    g_assert_cmpint(item.what, ==, TRACE_END);
    g_assert_false(item.end.cut);
    g_assert_cmpuint(item.end.totals.reason, ==, TRACE_VM_GONE);
    g_assert_cmpuint(item.end.totals.lost_rounds, ==, 3);
    g_assert_cmpuint(item.end.totals.lost_observations, ==, 1000);
    g_assert_cmpint(trace_next(t, &item, NULL), ==, TRACE_END);     /* again and again */
}

static void test_round_trip(void)
{
    g_autoptr(GByteArray) file = write_some(TRACE_VM_GONE);
    g_autoptr(Trace) t = trace_open_bytes(file->data, file->len, "toy", NULL);
    struct trace_item item;

    g_assert_nonnull(t);
    g_assert_cmpstr(trace_header(t)->vm, ==, "toy");
    g_assert_cmpuint(trace_header(t)->granule, ==, FIXTURE_GRANULE);
    g_assert_cmpint(trace_source_named(t, "refault"), ==, 1);
    g_assert_cmpint(trace_source_named(t, "ibs"), ==, -1);
    g_assert_cmpuint(trace_sources(t, TRACE_WRITES), ==, 1u << 2);
    g_assert_cmpint(trace_next(t, &item, NULL), ==, TRACE_LAYOUT);
    g_assert_cmpuint(item.layout->granules, ==, GRANULES);
    g_assert_cmpstr(item.layout->block[0].name, ==, "ram");
    g_assert_cmpuint(item.layout->slot[0].length, ==, (guint64)GRANULES * FIXTURE_GRANULE);
    read_rounds(t);
}

static void test_file(void)
{
    g_autoptr(GByteArray) file = write_some(TRACE_VM_GONE);
    g_autofree char *path = NULL;
    struct trace_item item;
    struct vt_err err;
    int fd = g_file_open_tmp("vmtier-XXXXXX", &path, NULL);
    struct trace *t;

    g_assert_cmpint(write(fd, file->data, file->len), ==, (gssize)file->len);
    close(fd);
    t = trace_open(path, NULL);
    g_assert_nonnull(t);
    g_assert_cmpint(trace_next(t, &item, NULL), ==, TRACE_LAYOUT);
    read_rounds(t);
    trace_close(t);
    unlink(path);
    g_assert_null(trace_open(path, &err));
    g_assert_cmpint(err.code, ==, ENOENT);
    g_assert_nonnull(strstr(err.text, path));
    g_assert_null(trace_open("/", &err));
    g_assert_cmpint(err.code, ==, EISDIR);
}

/* Each beginning of a file either has no header yet, or is read up to its last whole chunk. */
static void test_cut(void)
{
    g_autoptr(GByteArray) file = write_some(TRACE_ASKED);
    const guint whole = file->len;
    guint rounds = 0;

    for (guint length = 0; length < whole; length += 1 + length / 64) {
        guint n[TRACE_GAP + 1] = { 0 };
        struct trace_item end;
        struct vt_err err = { 0 };
        int rc;

        file->len = length;
        rc = fixture_read(file, n, &end, &err);
        if (length < sizeof(struct trace_header)) {
            g_assert_cmpint(rc, ==, -EBADMSG);
            continue;
        }
        g_assert_cmpint(rc, ==, TRACE_END);
        g_assert_true(end.end.cut);
        g_assert_cmpuint(n[TRACE_ROUND], >=, rounds);
        rounds = n[TRACE_ROUND];
    }
    file->len = whole;
    g_assert_cmpuint(rounds, >, ROUNDS / 2);
}

/* One bit anywhere: the file is refused. */
static void test_flipped_bits(void)
{
    g_autoptr(GByteArray) file = write_some(TRACE_ASKED);

    for (guint at = 0; at < file->len; at += at < 1200 ? 1 : 97) {
        struct trace_item end = { 0 };
        struct vt_err err = { 0 };
        int rc;

        file->data[at] ^= (guint8)(1u << at % 8);
        rc = fixture_read(file, NULL, &end, &err);
        file->data[at] ^= (guint8)(1u << at % 8);
        if (rc == TRACE_END)
            g_error("bit %u of byte %u makes no difference", at % 8, at);
        g_assert_nonnull(strstr(err.text, "toy.vmtrace: offset "));
    }
}

/* --- the writer -------------------------------------------------------------------------------------- */

static int fail_to_put(gpointer opaque, const void *bytes, gsize length, struct vt_err *err)
{
    gsize *room = opaque;

    (void)bytes;
    if (length > *room)
        return vt_fail(err, ENOSPC, "there is no room");
    *room -= length;
    return 0;
}

static void test_writer_fails(void)
{
    const struct trace_header header = fixture_header();
    const struct trace_layout layout = fixture_layout(100);
    gsize room = sizeof(struct trace_header) + 200;
    g_autoptr(TraceWriter) w = trace_writer_new(&header, fail_to_put, &room);
    struct vt_err err = { 0 };
    guint rounds = 0;

    g_assert_cmpint(trace_write_layout(w, &layout, &err), ==, 0);
    while (rounds < 100 && !trace_write_round(w, 250000, 1, &err))
        rounds++;
    g_assert_cmpuint(rounds, <, 100);
    g_assert_cmpint(trace_write_flush(w, NULL), ==, -ENOSPC);
    room = 1 << 20;
    g_assert_cmpint(trace_write_flush(w, NULL), ==, -ENOSPC);
    g_assert_cmpuint(room, ==, 1 << 20);
    g_assert_cmpint(trace_write_end(w, TRACE_ASKED, &err), ==, -ENOSPC);    /* no hole in the file */
    g_assert_nonnull(strstr(err.text, "no room"));
}

/* Numbers keep what they can: the largest, those with a fraction, those that are none. */
static void test_numbers(void)
{
    static const double in[] = { 0, 0.25, 1e-9, 3.5, 123456.0009765625, 4294967295.0, 1e30, 5000000.5, -1,
                                 NAN };
    static const double out[] = { 0, 0.25, 0, 3.5, 123456.0009765625, 4294967295.0, 4294967295.0,
                                  5000001, 0, 0 };
    g_autoptr(GByteArray) file = g_byte_array_new();
    const struct trace_header header = fixture_header();
    const struct trace_layout layout = fixture_layout(100);
    g_autoptr(TraceWriter) w = trace_writer_new(&header, fixture_put, file);
    struct trace_obs obs[G_N_ELEMENTS(in)];
    g_autoptr(Trace) t = NULL;
    struct trace_item item;

    for (guint32 i = 0; i < G_N_ELEMENTS(in); i++)
        obs[i] = (struct trace_obs){ i, in[i], in[i] / 1000 };
    trace_write_layout(w, &layout, NULL);
    trace_write_round(w, 1, 1, NULL);
    trace_write_obs(w, 1, TRACE_TIER_UNKNOWN, obs, G_N_ELEMENTS(in), NULL);
    g_assert_cmpint(trace_write_end(w, TRACE_ASKED, NULL), ==, 0);
    t = trace_open_bytes(file->data, file->len, "toy", NULL);
    while (trace_next(t, &item, NULL) != TRACE_OBS)
        ;
    g_assert_cmpuint(item.obs.tier, ==, TRACE_TIER_UNKNOWN);
    for (guint i = 0; i < G_N_ELEMENTS(out); i++) {
        g_assert_cmpfloat(item.obs.obs[i].events, ==, out[i]);
        g_assert_cmpfloat_with_epsilon(item.obs.obs[i].exposure_s, out[i] / 1000, 1e-9);
    }
}

/* A kill loses seconds, not minutes: a quiet VM's rounds go out as well. */
static void test_quiet_rounds_go_out(void)
{
    g_autoptr(GByteArray) file = g_byte_array_new();
    const struct trace_header header = fixture_header();
    const struct trace_layout layout = fixture_layout(100);
    g_autoptr(TraceWriter) w = trace_writer_new(&header, fixture_put, file);
    guint n[TRACE_GAP + 1] = { 0 };
    struct trace_item end;

    trace_write_layout(w, &layout, NULL);
    for (int r = 0; r < 240; r++)
        trace_write_round(w, 250000, 1, NULL);
    g_assert_cmpint(fixture_read(file, n, &end, NULL), ==, TRACE_END);
    g_assert_true(end.end.cut);
    g_assert_cmpuint(n[TRACE_ROUND], >=, 220);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trace/round-trip", test_round_trip);
    g_test_add_func("/trace/file", test_file);
    g_test_add_func("/trace/cut", test_cut);
    g_test_add_func("/trace/flipped-bits", test_flipped_bits);
    g_test_add_func("/trace/writer-fails", test_writer_fails);
    g_test_add_func("/trace/numbers", test_numbers);
    g_test_add_func("/trace/quiet-rounds", test_quiet_rounds_go_out);
    return g_test_run();
}
