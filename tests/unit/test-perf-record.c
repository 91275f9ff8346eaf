// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Samples and the ring they come in, built here as perf_event_open(2) describes them: every set of fields
 * decodes to what was put in; what is cut off, goes on, or claims too much is rejected by name; the ring may
 * wrap anywhere.
 */
#include "host/perf/ring.h"

#include <assert.h>
#include <string.h>

/* --- building ------------------------------------------------------------------------------------------------- */

static void put(GByteArray *b, const void *from, guint n)
{
    g_byte_array_append(b, from, n);
}

static void put64(GByteArray *b, guint64 value)
{
    put(b, &value, 8);
}

static void put32(GByteArray *b, guint32 low, guint32 high)
{
    put(b, &low, 4);
    put(b, &high, 4);
}

static void end_record(GByteArray *b, guint32 type, guint16 misc)
{
    struct perf_event_header h = { type, misc, (guint16)b->len };

    memcpy(b->data, &h, sizeof(h));
}

static GByteArray *begin_record(void)
{
    GByteArray *b = g_byte_array_new();

    put64(b, 0);
    return b;
}

static const char raw_part[12] = "raw contents";
static_assert(sizeof(raw_part) % 8 == 4, "with its size, a raw part is a multiple of 8");

static void put_read(GByteArray *b, guint64 format, guint n)
{
    guint times = !!(format & PERF_FORMAT_TOTAL_TIME_ENABLED) + !!(format & PERF_FORMAT_TOTAL_TIME_RUNNING);
    guint each = 1 + !!(format & PERF_FORMAT_ID) + !!(format & PERF_FORMAT_LOST);

    if (format & PERF_FORMAT_GROUP)
        put64(b, n);
    for (guint i = 0; i < times + (format & PERF_FORMAT_GROUP ? n : 1) * each; i++)
        put64(b, 1000 + i);
}

static void put_list(GByteArray *b, guint n, guint words)
{
    put64(b, n);
    for (guint i = 0; i < n * words; i++)
        put64(b, i);
}

/* The fields of a sample up to the branches, with values from `n`. */
static GByteArray *first_half_of(const struct perf_layout *l, guint n)
{
    GByteArray *b = begin_record();
    guint64 t = l->sample_type;

    if (t & PERF_SAMPLE_IDENTIFIER) put64(b, n + 1);
    if (t & PERF_SAMPLE_IP) put64(b, n + 2);
    if (t & PERF_SAMPLE_TID) put32(b, n + 3, n + 4);
    if (t & PERF_SAMPLE_TIME) put64(b, n + 5);
    if (t & PERF_SAMPLE_ADDR) put64(b, n + 6);
    if (t & PERF_SAMPLE_ID) put64(b, n + 1);
    if (t & PERF_SAMPLE_STREAM_ID) put64(b, n + 7);
    if (t & PERF_SAMPLE_CPU) put32(b, n + 8, 0);
    if (t & PERF_SAMPLE_PERIOD) put64(b, n + 9);
    if (t & PERF_SAMPLE_READ) put_read(b, l->read_format, n % 5);
    if (t & PERF_SAMPLE_CALLCHAIN) put_list(b, n % 7, 1);
    if (t & PERF_SAMPLE_RAW) {
        guint32 size = sizeof(raw_part);

        put(b, &size, 4);
        put(b, raw_part, sizeof(raw_part));
    }
    if (t & PERF_SAMPLE_BRANCH_STACK) {
        put64(b, n % 3);
        if (l->branch_type & PERF_SAMPLE_BRANCH_HW_INDEX)
            put64(b, 1);
        for (guint i = 0; i < n % 3 * 3; i++)
            put64(b, i);
    }
    return b;
}

static void add_regs_user(GByteArray *b, const struct perf_layout *l, guint n)
{
    put64(b, n % 2 ? PERF_SAMPLE_REGS_ABI_64 : PERF_SAMPLE_REGS_ABI_NONE);
    for (int i = 0; n % 2 && i < __builtin_popcountll(l->regs_user); i++)
        put64(b, (guint)i);
}

static GByteArray *whole_sample_of(const struct perf_layout *l, guint n, guint16 misc)
{
    GByteArray *b = first_half_of(l, n);
    guint64 t = l->sample_type;

    if (t & PERF_SAMPLE_REGS_USER) add_regs_user(b, l, n);
    if (t & PERF_SAMPLE_STACK_USER) {
        put64(b, n % 2 * 16);
        for (guint i = 0; i < n % 2 * 3; i++)
            put64(b, i);
    }
    if (t & PERF_SAMPLE_WEIGHT_TYPE) put64(b, n + 10);
    if (t & PERF_SAMPLE_DATA_SRC) put64(b, n + 11);
    if (t & PERF_SAMPLE_TRANSACTION) put64(b, n);
    if (t & PERF_SAMPLE_REGS_INTR) put64(b, PERF_SAMPLE_REGS_ABI_NONE);
    if (t & PERF_SAMPLE_PHYS_ADDR) put64(b, n + 12);
    if (t & PERF_SAMPLE_CGROUP) put64(b, n);
    if (t & PERF_SAMPLE_DATA_PAGE_SIZE) put64(b, n + 13);
    if (t & PERF_SAMPLE_CODE_PAGE_SIZE) put64(b, n + 14);
    if (t & PERF_SAMPLE_AUX) {
        put64(b, n % 2 * 8);
        put(b, raw_part, n % 2 * 8);
    }
    end_record(b, PERF_RECORD_SAMPLE, misc);
    return b;
}

/* --- decoding ------------------------------------------------------------------------------------------------- */

#define WANT(bit, field, value) \
    g_assert_cmpuint(s.field, ==, l->sample_type & (bit) ? (value) : 0)

static void check(const struct perf_layout *l, const GByteArray *b, guint n)
{
    struct perf_sample s;

    g_assert_cmpint(perf_decode(l, b->data, b->len, &s), ==, PERF_GOOD);
    g_assert_cmpuint(s.have, ==, l->sample_type);
    WANT(PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_ID, id, n + 1);
    WANT(PERF_SAMPLE_IP, ip, n + 2);
    WANT(PERF_SAMPLE_TID, pid, n + 3);
    WANT(PERF_SAMPLE_TID, tid, n + 4);
    WANT(PERF_SAMPLE_TIME, time, n + 5);
    WANT(PERF_SAMPLE_ADDR, addr, n + 6);
    WANT(PERF_SAMPLE_STREAM_ID, stream, n + 7);
    WANT(PERF_SAMPLE_CPU, cpu, n + 8);
    WANT(PERF_SAMPLE_PERIOD, period, n + 9);
    WANT(PERF_SAMPLE_WEIGHT_TYPE, weight, n + 10);
    WANT(PERF_SAMPLE_DATA_SRC, data_src, n + 11);
    WANT(PERF_SAMPLE_PHYS_ADDR, phys_addr, n + 12);
    WANT(PERF_SAMPLE_DATA_PAGE_SIZE, data_page, n + 13);
    WANT(PERF_SAMPLE_CODE_PAGE_SIZE, code_page, n + 14);
    WANT(PERF_SAMPLE_RAW, raw_size, sizeof(raw_part));
    if (s.raw)
        g_assert_cmpmem(s.raw, s.raw_size, raw_part, sizeof(raw_part));
}

/* Cut anywhere it is not whole, and one word more is too many. */
static void check_cut(const struct perf_layout *l, const GByteArray *b)
{
    struct perf_sample s;
    struct perf_event_header h;
    g_autofree guint8 *copy = g_malloc0(b->len + 8);

    for (guint size = 0; size <= b->len + 8; size += 4) {
        enum perf_bad bad;

        if (size == b->len)
            continue;
        memcpy(copy, b->data, b->len);
        memcpy(&h, copy, sizeof(h));
        h.size = (guint16)size;
        memcpy(copy, &h, sizeof(h));
        bad = perf_decode(l, copy, size, &s);
        g_assert_cmpint(bad, ==, size < 8 ? PERF_BAD_SIZE : size > b->len ? PERF_BAD_LONG :
                        bad == PERF_BAD_COUNT ? PERF_BAD_COUNT : PERF_BAD_SHORT);
        g_assert_cmpuint(s.have, ==, 0);
    }
}

static struct perf_layout random_layout(GRand *rand)
{
    return (struct perf_layout){
        .sample_type = g_rand_int(rand) & ((1u << 25) - 1), .read_format = g_rand_int(rand) & 31,
        .branch_type = g_rand_boolean(rand) ? PERF_SAMPLE_BRANCH_HW_INDEX : PERF_SAMPLE_BRANCH_ANY,
        .regs_user = g_rand_int(rand),
    };
}

static void test_fields(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);

    for (guint bit = 0; bit < 25; bit++) {
        struct perf_layout l = { .sample_type = 1u << bit };
        g_autoptr(GByteArray) b = whole_sample_of(&l, 41, 0);

        check(&l, b, 41);
        check_cut(&l, b);
    }
    for (guint i = 0; i < 3000; i++) {
        struct perf_layout l = random_layout(rand);
        g_autoptr(GByteArray) b = whole_sample_of(&l, i, 0);

        check(&l, b, i);
        if (i < 200)
            check_cut(&l, b);
    }
}

static void test_rejected(void)
{
    struct perf_layout l = { .sample_type = PERF_SAMPLE_CALLCHAIN };
    g_autoptr(GByteArray) chain = whole_sample_of(&l, 6, 0);
    struct perf_sample s;
    const guint64 huge = G_MAXUINT64 / 8 + 2;   /* times 8, it is small again */

    memcpy(chain->data + 8, &huge, 8);
    g_assert_cmpint(perf_decode(&l, chain->data, chain->len, &s), ==, PERF_BAD_COUNT);
    l.sample_type = 1ull << 30;
    g_assert_cmpint(perf_decode(&l, chain->data, chain->len, &s), ==, PERF_BAD_KIND);
    l = (struct perf_layout){ .sample_type = PERF_SAMPLE_READ, .read_format = 1 << 9 };
    g_assert_cmpint(perf_decode(&l, chain->data, chain->len, &s), ==, PERF_BAD_KIND);
    l = (struct perf_layout){ .sample_type = PERF_SAMPLE_BRANCH_STACK, .branch_type = 1 << 19 };
    g_assert_cmpint(perf_decode(&l, chain->data, chain->len, &s), ==, PERF_BAD_KIND);
    g_assert_cmpint(perf_decode(&l, chain->data, chain->len - 8, &s), ==, PERF_BAD_SIZE);
    for (int i = 0; i < PERF_BAD_END; i++)
        g_assert_nonnull(perf_bad_name(i));
}

static void test_guest(void)
{
    const struct perf_sample guest[] = { { .misc = PERF_RECORD_MISC_GUEST_USER },
                                         { .misc = PERF_RECORD_MISC_GUEST_KERNEL | PERF_RECORD_MISC_EXACT_IP } };
    const struct perf_sample host[] = { { .misc = PERF_RECORD_MISC_USER }, { .misc = PERF_RECORD_MISC_KERNEL } };

    for (guint i = 0; i < 2; i++) {
        g_assert_true(perf_in_guest(&guest[i]));
        g_assert_false(perf_in_guest(&host[i]));
    }
}

/* --- the ring ------------------------------------------------------------------------------------------------- */

#define RING 4096u

struct fake {
    struct perf_event_mmap_page page;
    guint8 data[RING], whole[65536];
    struct ring ring;
    struct perf_layout layout;
    struct perf_counts counts;
    guint next;                 /* the sample that is to come */
};

static struct fake *fake_new(guint64 start)
{
    struct fake *f = g_new0(struct fake, 1);

    f->ring = (struct ring){ &f->page, f->data, RING, f->whole };
    f->layout.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_ADDR | PERF_SAMPLE_RAW;
    f->page.data_head = f->page.data_tail = start;
    return f;
}

static void feed(struct fake *f, const GByteArray *b)
{
    g_assert_cmpuint(f->page.data_head + b->len - f->page.data_tail, <=, RING);
    for (guint i = 0; i < b->len; i++)
        f->data[(f->page.data_head + i) % RING] = b->data[i];
    f->page.data_head += b->len;
}

static void feed_sample(struct fake *f, guint n)
{
    g_autoptr(GByteArray) b = whole_sample_of(&f->layout, n, 0);

    feed(f, b);
}

static void feed_other(struct fake *f, guint32 type, guint64 first, guint64 second)
{
    g_autoptr(GByteArray) b = begin_record();

    put64(b, first);
    put64(b, second);
    end_record(b, type, 0);
    feed(f, b);
}

static void take_in_order(const struct perf_sample *s, gpointer opaque)
{
    struct fake *f = opaque;

    g_assert_cmpuint(s->ip, ==, f->next + 2);
    g_assert_cmpuint(s->addr, ==, f->next + 6);
    g_assert_cmpmem(s->raw, s->raw_size, raw_part, sizeof(raw_part));
    f->next++;
}

static guint64 drain(struct fake *f, guint64 most)
{
    return ring_read(&f->ring, &f->layout, most, take_in_order, f, &f->counts);
}

/* Wherever the ring's end cuts a record, and where the counters themselves wrap. */
static void test_wrap(void)
{
    static const guint64 starts[] = { 0, RING - 8, (1ull << 40) + 24, 0 - 512ull };

    for (guint i = 0; i < G_N_ELEMENTS(starts); i++) {
        struct fake *f = fake_new(starts[i]);
        guint fed = 0;

        for (guint round = 0; round < 300; round++) {
            for (guint k = round % 40; k > 0; k--)
                feed_sample(f, fed++);
            g_assert_cmpuint(drain(f, G_MAXUINT64), ==, round % 40);
            g_assert_cmpuint(f->page.data_tail, ==, f->page.data_head);
        }
        g_assert_cmpuint(f->next, ==, fed);
        g_assert_cmpuint(f->counts.samples, ==, fed);
        g_assert_cmpuint(perf_counts_bad(&f->counts), ==, 0);
        g_free(f);
    }
}

static void test_few(void)
{
    struct fake *f = fake_new(64);

    for (guint i = 0; i < 10; i++)
        feed_sample(f, i);
    g_assert_cmpuint(drain(f, 4), ==, 4);
    g_assert_cmpuint(f->next, ==, 4);
    g_assert_cmpuint(drain(f, 4), ==, 4);
    g_assert_cmpuint(drain(f, 4), ==, 2);
    g_assert_cmpuint(drain(f, 4), ==, 0);
    g_free(f);
}

static void test_others(void)
{
    struct fake *f = fake_new(RING - 40);

    feed_other(f, PERF_RECORD_LOST, 1, 41);
    feed_sample(f, 0);
    feed_other(f, PERF_RECORD_LOST_SAMPLES, 7, 0);
    feed_other(f, PERF_RECORD_THROTTLE, 1, 2);
    feed_other(f, PERF_RECORD_UNTHROTTLE, 1, 2);
    feed_other(f, 4711, 1, 2);
    feed_sample(f, 1);
    g_assert_cmpuint(drain(f, 100), ==, 7);
    g_assert_cmpuint(f->counts.samples, ==, 2);
    g_assert_cmpuint(f->counts.lost, ==, 48);
    g_assert_cmpuint(f->counts.throttled, ==, 1);
    g_assert_cmpuint(f->counts.other, ==, 5);
    g_free(f);
}

/* A sample that does not fit is passed over; the ones around it are not lost. */
static void test_one_bad(void)
{
    struct fake *f = fake_new(0);

    feed_sample(f, 0);
    feed_other(f, PERF_RECORD_SAMPLE, 1, 2);
    feed_sample(f, 1);
    g_assert_cmpuint(drain(f, 100), ==, 3);
    g_assert_cmpuint(f->counts.samples, ==, 2);
    g_assert_cmpuint(f->counts.bad[PERF_BAD_SHORT], ==, 1);
    g_free(f);
}

/* After a size that cannot be, all up to the head is dropped, and then it goes on. */
static void test_bad_size(void)
{
    static const guint16 sizes[] = { 0, 7, 4096, 65535 };

    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct fake *f = fake_new(0);

        feed_sample(f, 0);
        feed_other(f, PERF_RECORD_SAMPLE, 1, 2);
        memcpy(f->data + f->page.data_head - 24 + 6, &sizes[i], 2);
        feed_sample(f, 99);
        drain(f, 100);
        g_assert_cmpuint(f->next, ==, 1);
        g_assert_cmpuint(f->counts.bad[PERF_BAD_SIZE], ==, 1);
        g_assert_cmpuint(f->page.data_tail, ==, f->page.data_head);
        feed_sample(f, 1);
        drain(f, 100);
        g_assert_cmpuint(f->next, ==, 2);
        g_free(f);
    }
}

static void test_overrun(void)
{
    struct fake *f = fake_new(0);

    f->page.data_head = RING + 8;
    g_assert_cmpuint(drain(f, 100), ==, 0);
    g_assert_cmpuint(f->counts.bad[PERF_BAD_OVERRUN], ==, 1);
    g_assert_cmpuint(f->page.data_tail, ==, f->page.data_head);
    feed_sample(f, 0);
    g_assert_cmpuint(drain(f, 100), ==, 1);
    g_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/perf-record/fields", test_fields);
    g_test_add_func("/perf-record/rejected", test_rejected);
    g_test_add_func("/perf-record/guest", test_guest);
    g_test_add_func("/perf-ring/wrap", test_wrap);
    g_test_add_func("/perf-ring/few", test_few);
    g_test_add_func("/perf-ring/others", test_others);
    g_test_add_func("/perf-ring/one-bad", test_one_bad);
    g_test_add_func("/perf-ring/bad-size", test_bad_size);
    g_test_add_func("/perf-ring/overrun", test_overrun);
    return g_test_run();
}
