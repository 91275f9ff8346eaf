// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cross-checks with perf(1): what it records is decoded here as `perf script` does, sample by sample; and what is made
 * here of random IBS registers is decoded as `perf report -D` does, field by field, as far as it prints them.
 */
#include "host/perf/data.h"
#include "host/perf/ibs.h"
#include "perf-file.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* What the command prints; NULL: it cannot be run here, and the test is skipped. */
static char *output_of(const char *format, const char *path)
{
    g_autofree char *command = g_strdup_printf(format, path);
    g_autofree char *errors = NULL;
    g_autoptr(GError) error = NULL;
    const char *const argv[] = { "sh", "-c", command, NULL };
    char *text = NULL;
    int status = 0;

    if (!g_spawn_sync(NULL, (char **)(gpointer)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &text, &errors,
                      &status, &error))
        g_error("%s: %s", command, error->message);
    if (status) {
        g_test_message("%s: %s", command, errors);
        g_clear_pointer(&text, g_free);
    }
    return text;
}

static bool has_perf(void)
{
    g_autofree char *path = g_find_program_in_path("perf");

    if (!path)
        g_test_skip("there is no perf(1) here (package linux-perf)");
    return path != NULL;
}

/* --- recorded by perf ---------------------------------------------------------------------------------------- */

static int compare_lines(gconstpointer a, gconstpointer b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

static bool add_line(const struct perf_data_event *event, const struct perf_sample *s, gpointer opaque)
{
    /* As perf writes them, but for blanks. */
    g_ptr_array_add(opaque, g_strdup_printf("%u/%u %" G_GUINT64_FORMAT ".%09" G_GUINT64_FORMAT ": %s: %"
                    G_GINT64_MODIFIER "x %" G_GINT64_MODIFIER "x %" G_GINT64_MODIFIER "x", s->pid, s->tid,
                    s->time / 1000000000, s->time % 1000000000, event->name, s->addr, s->ip, s->phys_addr));
    return true;
}

static GPtrArray *own_lines(const char *path)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autoptr(PerfData) d = perf_data_open(path, &error);
    struct perf_counts counts = { 0 };

    g_assert_no_error(error);
    perf_data_each(d, add_line, lines, &counts, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(perf_counts_bad(&counts), ==, 0);
    g_ptr_array_sort(lines, compare_lines);
    return lines;
}

static GPtrArray *lines_of(const char *text)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) split = g_strsplit(text, "\n", -1);
    g_autoptr(GRegex) blanks = g_regex_new(" +", 0, 0, NULL);

    for (char **line = split; *line; line++)
        if (*g_strstrip(*line))
            g_ptr_array_add(lines, g_regex_replace_literal(blanks, *line, -1, 0, " ", 0, NULL));
    g_ptr_array_sort(lines, compare_lines);
    return lines;
}

static void compare(const char *path)
{
    g_autofree char *text = output_of("perf script -i %s --ns -F pid,tid,time,event,addr,ip,phys_addr", path);
    g_autoptr(GPtrArray) theirs = text ? lines_of(text) : NULL;
    g_autoptr(GPtrArray) ours = own_lines(path);

    g_assert_nonnull(theirs);
    g_test_message("%u samples", ours->len);
    g_assert_cmpuint(ours->len, >, 100);
    g_assert_cmpuint(ours->len, ==, theirs->len);
    for (guint i = 0; i < ours->len; i++)
        g_assert_cmpstr(g_ptr_array_index(ours, i), ==, g_ptr_array_index(theirs, i));
}

static void test_script(gconstpointer events)
{
    g_autofree char *dir = g_dir_make_tmp("vmtier-perf-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "perf.data", NULL);
    g_autofree char *format = g_strdup_printf("perf record -q -N -c 1 %s -d --phys-data -o %%s -- "
                                              "sh -c 'ls -lR /usr/include/linux >/dev/null'", (const char *)events);
    g_autofree char *text = NULL;

    if (has_perf()) {
        text = output_of(format, path);
        if (text)
            compare(path);
        else
            g_test_skip("perf record cannot record page faults here");
    }
    g_unlink(path);
    g_rmdir(dir);
}

/* --- IBS ---------------------------------------------------------------------------------------------------- */

#define OPS 400u
enum { CTL, RIP, DATA, DATA2, DATA3, LINEAR, PHYSICAL, REGISTERS };

static guint64 random_register(GRand *rand)
{
    return (guint64)g_rand_int(rand) << 32 | g_rand_int(rand);
}

static void add_op(GByteArray *data, GRand *rand, bool zen4)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autoptr(GByteArray) record = NULL;

    put_u32s(body, 1, 1);
    put_u32s(body, 4 + REGISTERS * 8, zen4 ? 0x89f : 0x09f);
    for (guint reg = 0; reg < REGISTERS; reg++) {
        guint64 value = random_register(rand);

        if (reg == CTL)
            value |= 3u << 17;
        if (reg == DATA3)               /* widths that there are */
            value = (value & ~(15ull << 22)) | (guint64)g_rand_int_range(rand, 0, 8) << 22;
        put_u64(body, value);
    }
    record = record_new(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER, body);
    put_bytes(data, record->data, record->len);
}

static guint64 number_after(const char *text, const char *name, int base)
{
    const char *at = strstr(text, name);

    if (!at)
        g_error("perf did not print \"%s\" in: %.400s", name, text);
    return g_ascii_strtoull(at + strlen(name), NULL, base);
}

#define SAME(field, name) g_assert_cmpuint(op.field, ==, number_after(text, name, 10))

static void compare_op(const struct perf_sample *s, const char *text)
{
    struct ibs_op op;

    g_assert_null(ibs_decode(s->raw, s->raw_size, false, &op));
    SAME(max_count, " MaxCnt ");
    SAME(counts_ops, " CntCtl ");
    SAME(load, " LdOp ");
    SAME(store, " StOp ");
    SAME(tlb_miss, " DcL1TlbMiss ");
    SAME(tlb2_miss, " DcL2TlbMiss ");
    SAME(dc_miss, " DcMiss ");
    SAME(misaligned, " DcMisAcc ");
    SAME(write_combining, " DcWcMemAcc ");
    SAME(uncached, " DcUcMemAcc ");
    SAME(locked, " DcLockedOp ");
    SAME(no_mab, " DcMissNoMabAlloc ");
    SAME(linear_valid, " DcLinAddrValid ");
    SAME(physical_valid, " DcPhyAddrValid ");
    SAME(l2_miss, " L2Miss ");
    SAME(prefetch, " SwPf ");
    SAME(miss_latency, " DcMissLat ");
    SAME(tlb_latency, " TlbRefillLat ");
    SAME(remote, "RmtNode ");
    g_assert_cmpuint(!op.rip_valid, ==, number_after(text, " RipInvalid ", 10));
    if (op.width)
        SAME(width, " OpMemWidth ");
    if (op.rip_valid)
        g_assert_cmphex(op.rip, ==, number_after(text, "IbsOpRip:\t", 16));
    if (op.linear_valid)
        g_assert_cmphex(op.linear, ==, number_after(text, "IbsDCLinAd:\t", 16));
    if (op.physical_valid)
        g_assert_cmphex(op.physical, ==, number_after(text, "IbsDCPhysAd:\t", 16));
    if (strstr(text, " DataSrc "))
        SAME(source, " DataSrc ");
}

struct reading {
    char **text;                /* perf's of each op; [0] is what comes before */
    guint n;
};

static bool check_op(const struct perf_data_event *event, const struct perf_sample *s, gpointer opaque)
{
    struct reading *r = opaque;

    g_assert_true(event->is_ibs);
    g_assert_nonnull(r->text[r->n + 1]);
    compare_op(s, r->text[++r->n]);
    return true;
}

static void test_ibs(gconstpointer is_zen4)
{
    bool zen4 = is_zen4 != NULL;
    const struct file_event ibs = { "ibs_op/cnt_ctl=1/", 11, 1 << 19, PERF_SAMPLE_TID | PERF_SAMPLE_RAW, { 1 } };
    g_autoptr(GByteArray) data = g_byte_array_new(), file = NULL;
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    g_autofree char *path = NULL, *dir = NULL, *text = NULL;
    g_auto(GStrv) ops = NULL;
    g_autoptr(PerfData) d = NULL;
    struct perf_counts counts = { 0 };
    struct reading r = { 0 };

    if (!has_perf())
        return;
    for (guint i = 0; i < OPS; i++)
        add_op(data, rand, zen4);
    file = file_new(&ibs, 1, data, zen4 ? "AuthenticAMD,25,17,1" : "AuthenticAMD,23,49,0", zen4);
    path = file_write(file);
    dir = g_path_get_dirname(path);
    text = output_of("perf report -D -i %s", path);
    g_unlink(path);
    g_rmdir(dir);
    if (!text || !strstr(text, "ibs_op_ctl:") || (zen4 && !strstr(text, "L3MissOnly"))) {
        g_test_skip("this perf(1) does not print the registers of such IBS ops");
        return;
    }
    ops = g_strsplit(text, "ibs_op_ctl:\t", -1);
    r.text = ops;
    d = perf_data_open_bytes(file->data, file->len, NULL);
    g_assert_true(perf_data_each(d, check_op, &r, &counts, NULL));
    g_assert_cmpuint(r.n, ==, OPS);
    g_assert_cmpuint(g_strv_length(ops), ==, OPS + 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/perf-tool/script", "-e minor-faults", test_script);
    g_test_add_data_func("/perf-tool/script-two", "-e minor-faults -e page-faults", test_script);
    g_test_add_data_func("/perf-tool/ibs", NULL, test_ibs);
    g_test_add_data_func("/perf-tool/ibs-zen4", "yes", test_ibs);
    return g_test_run();
}
