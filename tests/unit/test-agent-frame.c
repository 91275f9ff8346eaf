// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of the agent's frames and ranges. */
#include "common/agent-frame.h"
#include "common/agent-ranges.h"

#include <glib.h>
#include <string.h>

/* --- frames --------------------------------------------------------------------------------- */

static size_t make_hints(struct vta_frame *f, uint32_t seq, unsigned n)
{
    f->hints = (struct vta_hints){ .report = 7, .count = n };
    for (unsigned i = 0; i < n; i++)
        f->hints.range[i] = (struct vta_range){ i * 8192ull, 4096, VTA_HOT, 255, 9, 0, 77 };
    return vta_seal(f, VTA_HINTS, seq, sizeof(f->hints) + n * sizeof(struct vta_range));
}

static void feed_all(struct vta_decoder *d, const void *data, size_t n)
{
    g_assert_cmpuint(vta_feed(d, data, n), ==, n);
}

/* What every frame must be on the wire, made by hand once. */
static void test_bytes(void)
{
    static const guint8 wire[] = {
        'V', 'M', 'A', '1', VTA_CREDIT, 0, 8, 0, 0x44, 0x33, 0x22, 0x11,
        0x4d, 0x0f, 0xba, 0xff, 3, 0, 0, 0, 0, 0, 0, 0,
    };
    struct vta_frame f = { .credit = { 3, 0 } };

    g_assert_cmpuint(vta_seal(&f, VTA_CREDIT, 0x11223344, sizeof(f.credit)), ==, sizeof(wire));
    g_assert_cmpmem(&f, sizeof(wire), wire, sizeof(wire));
}

static void test_there_and_back(void)
{
    struct vta_decoder d = { 0 };
    struct vta_frame f = { 0 }, g;
    size_t n = make_hints(&f, 5, VTA_RANGES);

    g_assert_cmpuint(n, <=, VTA_FRAME_MAX);
    feed_all(&d, &f, n);
    g_assert_true(vta_next(&d, &g));
    g_assert_cmpuint(g.h.type, ==, VTA_HINTS);
    g_assert_cmpuint(g.h.seq, ==, 5);
    g_assert_cmpuint(g.hints.count, ==, VTA_RANGES);
    g_assert_cmpuint(g.hints.range[VTA_RANGES - 1].gpa, ==, (VTA_RANGES - 1) * 8192);
    g_assert_false(vta_next(&d, &g));
    g_assert_cmpuint(d.garbage + d.bad + d.unknown, ==, 0);
}

static void test_byte_by_byte(void)
{
    struct vta_decoder d = { 0 };
    struct vta_frame f = { 0 }, g;
    unsigned got = 0;

    for (uint32_t seq = 1; seq <= 3; seq++) {
        size_t n = make_hints(&f, seq, 3 * seq);

        for (size_t i = 0; i < n; i++) {
            feed_all(&d, (const uint8_t *)&f + i, 1);
            if (vta_next(&d, &g)) {
                g_assert_cmpuint(i, ==, n - 1);
                got++;
                g_assert_cmpuint(g.h.seq, ==, got);
            }
        }
    }
    g_assert_cmpuint(got, ==, 3);
}

/* Garbage before, half a frame between, a flipped bit in: those that are whole come through. */
static void test_resync(void)
{
    struct vta_decoder d = { 0 };
    struct vta_frame f = { 0 }, g;
    size_t n = make_hints(&f, 1, 4);

    feed_all(&d, "garbage VMA VMA1", 15);
    feed_all(&d, &f, n);
    g_assert_true(vta_next(&d, &g));
    g_assert_cmpuint(d.garbage, ==, 15);

    feed_all(&d, &f, n / 2);
    g_assert_false(vta_next(&d, &g));
    n = make_hints(&f, 2, 4);
    feed_all(&d, &f, n);
    g_assert_true(vta_next(&d, &g));
    g_assert_cmpuint(g.h.seq, ==, 2);
    g_assert_cmpuint(d.bad, ==, 1);

    ((uint8_t *)&f)[20] ^= 4;
    feed_all(&d, &f, n);
    g_assert_false(vta_next(&d, &g));
    g_assert_cmpuint(d.bad, ==, 2);
    n = make_hints(&f, 3, 4);
    feed_all(&d, &f, n);
    g_assert_true(vta_next(&d, &g));
    g_assert_cmpuint(g.h.seq, ==, 3);
}

static void test_skew(void)
{
    struct vta_decoder d = { 0 };
    struct vta_frame f = { 0 }, g;

    /* a type of the future; a longer body; a shorter one; a count that is too great */
    feed_all(&d, &f, vta_seal(&f, (enum vta_type)77, 1, 40));
    g_assert_false(vta_next(&d, &g));
    g_assert_cmpuint(d.unknown, ==, 1);
    memset(&f, 0, sizeof(f));
    f.credit.frames = 9;
    feed_all(&d, &f, vta_seal(&f, VTA_CREDIT, 2, 64));
    g_assert_true(vta_next(&d, &g));
    g_assert_cmpuint(g.credit.frames, ==, 9);
    feed_all(&d, &f, vta_seal(&f, VTA_CREDIT, 3, 4));
    g_assert_false(vta_next(&d, &g));
    g_assert_cmpuint(d.bad, ==, 1);
    f.hints = (struct vta_hints){ 1, 2 };
    feed_all(&d, &f, vta_seal(&f, VTA_HINTS, 4, sizeof(f.hints) + sizeof(struct vta_range)));
    g_assert_false(vta_next(&d, &g));
    g_assert_cmpuint(d.bad, ==, 2);
}

/* A stream of magics with the longest length makes no more work than so many times its bytes. */
static void test_work_is_bounded(void)
{
    struct vta_decoder d = { 0 };
    struct vta_hdr evil[256];
    struct vta_frame g;

    for (gsize i = 0; i < G_N_ELEMENTS(evil); i++)
        evil[i] = (struct vta_hdr){ GUINT32_TO_LE(VTA_MAGIC), 0, GUINT16_TO_LE(4000), 0, 0 };
    for (int round = 0; round < 64; round++)
        for (size_t done = 0; done < sizeof(evil);) {
            done += vta_feed(&d, (const uint8_t *)evil + done, sizeof(evil) - done);
            g_assert_false(vta_next(&d, &g));
        }
    g_assert_cmpuint(d.summed, <=, 5 * d.fed);
    g_assert_cmpuint(d.bad, >, 0);
}

static void test_turn(void)
{
    struct vta_frame f = { 0 }, g;
    size_t length = make_hints(&f, 1, 5) - sizeof(f.h);

    g = f;
    vta_turn(VTA_HINTS, g.body, length);
    g_assert_cmpuint(g.hints.count, ==, GUINT32_SWAP_LE_BE(f.hints.count));
    g_assert_cmpuint(g.hints.range[4].gpa, ==, GUINT64_SWAP_LE_BE(f.hints.range[4].gpa));
    g_assert_cmpuint(g.hints.range[4].weight, ==, f.hints.range[4].weight);
    g_assert_cmpuint(g.hints.range[4].age_ms, ==, GUINT32_SWAP_LE_BE(f.hints.range[4].age_ms));
    vta_turn(VTA_HINTS, g.body, length);
    g_assert_cmpmem(&f, sizeof(f), &g, sizeof(g));
    for (unsigned type = 0; type < VTA_TYPE_END; type++)
        for (size_t n = 0; n < 300; n++) {
            vta_turn((uint16_t)type, g.body, n);
            vta_turn((uint16_t)type, g.body, n);
        }
    g_assert_cmpmem(&f, sizeof(f), &g, sizeof(g));
}

/* --- ranges --------------------------------------------------------------------------------- */

enum { BYTES = 64 };

/* Which kinds name each byte below BYTES. */
static void paint(const struct vta_range *r, size_t n, guint8 *to, unsigned *most)
{
    guint8 times[BYTES][VTA_KIND_END] = { 0 };

    memset(to, 0, BYTES);
    for (size_t i = 0; i < n; i++)
        for (uint64_t at = r[i].gpa; vta_range_good(&r[i]) && at < r[i].gpa + r[i].length; at++) {
            to[at] |= (guint8)(1u << r[i].kind);
            times[at][r[i].kind]++;
            *most = MAX(*most, times[at][r[i].kind]);
        }
}

static void test_merge(void)
{
    for (int round = 0; round < 20000; round++) {
        struct vta_range r[12];
        size_t n = (size_t)g_test_rand_int_range(0, G_N_ELEMENTS(r) + 1), left;
        guint8 before[BYTES], after[BYTES];
        unsigned most = 0;

        for (size_t i = 0; i < n; i++)
            r[i] = (struct vta_range){
                .gpa = (uint64_t)g_test_rand_int_range(0, BYTES / 2),
                .length = (uint64_t)g_test_rand_int_range(0, BYTES / 2),
                .kind = (uint8_t)g_test_rand_int_range(0, VTA_KIND_END + 1),
                .share = (uint8_t)g_test_rand_int_range(0, 3), .weight = 1,
            };
        paint(r, n, before, &most);
        left = vta_ranges_merge(r, n);
        most = 0;
        paint(r, left, after, &most);
        g_assert_cmpuint(left, <=, n);
        g_assert_cmpuint(most, <=, 1);
        g_assert_cmpmem(before, BYTES, after, BYTES);
    }
}

static void test_merge_joins(void)
{
    struct vta_range r[] = {
        { 0x3000, 0x1000, VTA_HOT, 255, 1, 0, 5 }, { 0x1000, 0x1000, VTA_HOT, 255, 1, 0, 9 },
        { 0x2000, 0x1000, VTA_HOT, 255, 1, 0, 7 }, { UINT64_MAX - 10, 100, VTA_HOT, 255, 1, 0, 0 },
    };

    g_assert_cmpuint(vta_ranges_merge(r, G_N_ELEMENTS(r)), ==, 1);
    g_assert_cmpuint(r[0].gpa, ==, 0x1000);
    g_assert_cmpuint(r[0].length, ==, 0x3000);
    g_assert_cmpuint(r[0].age_ms, ==, 5);
}

static void test_clip(void)
{
    static const struct vta_span ram[] = { { 0, 10 }, { 20, 30 }, { 40, 50 } };
    const struct vta_range r = { 5, 38, VTA_FREE, 255, 1, 0, 0 };
    struct vta_range part;
    uint64_t at = 0;

    g_assert_true(vta_range_clip(&r, ram, 3, &at, &part));
    g_assert_cmpuint(part.gpa, ==, 5);
    g_assert_cmpuint(part.length, ==, 5);
    g_assert_true(vta_range_clip(&r, ram, 3, &at, &part));
    g_assert_cmpuint(part.length, ==, 10);
    g_assert_true(vta_range_clip(&r, ram, 3, &at, &part));
    g_assert_cmpuint(part.gpa, ==, 40);
    g_assert_cmpuint(part.length, ==, 3);
    g_assert_false(vta_range_clip(&r, ram, 3, &at, &part));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent-frame/bytes", test_bytes);
    g_test_add_func("/agent-frame/there-and-back", test_there_and_back);
    g_test_add_func("/agent-frame/byte-by-byte", test_byte_by_byte);
    g_test_add_func("/agent-frame/resync", test_resync);
    g_test_add_func("/agent-frame/skew", test_skew);
    g_test_add_func("/agent-frame/work", test_work_is_bounded);
    g_test_add_func("/agent-frame/turn", test_turn);
    g_test_add_func("/agent-ranges/merge", test_merge);
    g_test_add_func("/agent-ranges/joins", test_merge_joins);
    g_test_add_func("/agent-ranges/clip", test_clip);
    return g_test_run();
}
