// SPDX-License-Identifier: GPL-2.0-or-later
/* Recordings that are wrong in one thing each: refused, saying where and what. */
#include "trace-fixture.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#define GRANULES 100

static void expect(const GByteArray *file, int code, const char *text)
{
    struct vt_err err = { 0 };
    int rc = fixture_read(file, NULL, NULL, &err);

    if (rc != -code || !strstr(err.text, text))
        g_error("expected '%s', but it is %d, '%s'", text, rc, err.text);
    g_assert_true(g_str_has_prefix(err.text, "toy.vmtrace: offset "));
}

/* --- the header --------------------------------------------------------------------------------------- */

static void spoil_magic(struct trace_header *h) { h->magic[3] = 'x'; }
static void spoil_version(struct trace_header *h) { h->version = 2; }
static void spoil_size(struct trace_header *h) { h->size--; }
static void spoil_granule(struct trace_header *h) { h->granule = 3 << 20; }
static void spoil_small(struct trace_header *h) { h->granule = 2048; }
static void spoil_large(struct trace_header *h) { h->granule = 2ull << 30; }
static void spoil_vm(struct trace_header *h) { memset(h->vm, 'x', sizeof(h->vm)); }
static void spoil_qemu(struct trace_header *h) { memset(h->qemu, 'x', sizeof(h->qemu)); }
static void spoil_name(struct trace_header *h) { memset(h->source[1].name, 'x', 16); }
static void spoil_kind(struct trace_header *h) { h->source[2].kind = TRACE_KIND_END; }
static void spoil_scale(struct trace_header *h) { h->source[0].scale = 0; }

static const struct {
    void (*spoil)(struct trace_header *h);
    int code;
    const char *text;
} headers[] = {
    { spoil_magic, EBADMSG, "offset 0: this is no recording" },
    { spoil_version, EPROTONOSUPPORT, "offset 8: a recording of version 2; this vmtier reads version 1" },
    { spoil_size, EBADMSG, "offset 10: the header has another size" },
    { spoil_granule, EBADMSG, "a granule that is none" },
    { spoil_small, EBADMSG, "a granule that is none" },
    { spoil_large, EBADMSG, "a granule that is none" },
    { spoil_vm, EBADMSG, "a name without an end" },
    { spoil_qemu, EBADMSG, "a name without an end" },
    { spoil_name, EBADMSG, "a source that is none" },
    { spoil_kind, EBADMSG, "a source that is none" },
    { spoil_scale, EBADMSG, "a source that is none" },
};

static void test_headers(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(headers); i++) {
        g_autoptr(GByteArray) file = g_byte_array_new();
        struct trace_header h = fixture_header();

        headers[i].spoil(&h);
        fixture_add_header(file, h);
        expect(file, headers[i].code, headers[i].text);
    }
}

static void test_header_bytes(void)
{
    g_autoptr(GByteArray) file = g_byte_array_new();

    expect(file, EBADMSG, "offset 0: this is no recording");
    fixture_add_header(file, fixture_header());
    file->len = 100;
    expect(file, EBADMSG, "offset 100: the header is cut short");
    file->len = sizeof(struct trace_header);
    file->data[40] ^= 1;
    expect(file, EBADMSG, "offset 0: the header's checksum is wrong");
}

/* --- chunks ------------------------------------------------------------------------------------------- */

static void chunk_magic(struct trace_chunk *c) { c->magic++; }
static void chunk_type(struct trace_chunk *c) { c->type = 3; }
static void chunk_method(struct trace_chunk *c) { c->method = 2; }
static void chunk_number(struct trace_chunk *c) { c->number = 7; }
static void chunk_empty(struct trace_chunk *c) { c->length = 0; }
static void chunk_empty_raw(struct trace_chunk *c) { c->raw = 0; }
static void chunk_long(struct trace_chunk *c) { c->length = c->raw = TRACE_CHUNK_MOST + 1; }
static void chunk_long_packed(struct trace_chunk *c)
{
    c->method = TRACE_DEFLATED;
    c->length = TRACE_CHUNK_MOST + 1;
}

static void chunk_bomb(struct trace_chunk *c) { c->method = TRACE_DEFLATED, c->raw = 1u << 31; }
static void chunk_lengths(struct trace_chunk *c) { c->raw++; }
static void chunk_crc(struct trace_chunk *c) { c->crc ^= 1; }
static void chunk_footer(struct trace_chunk *c) { c->type = TRACE_FOOTER; }

static const struct {
    void (*spoil)(struct trace_chunk *c);
    const char *text;
} chunks[] = {
    { chunk_magic, "there is no chunk" },
    { chunk_type, "a chunk of an unknown type" },
    { chunk_method, "a chunk stored in an unknown way" },
    { chunk_number, "a chunk is missing, or is there twice" },
    { chunk_empty, "a chunk is empty or too long" },
    { chunk_empty_raw, "a chunk is empty or too long" },
    { chunk_long, "a chunk is empty or too long" },
    { chunk_long_packed, "a chunk is empty or too long" },
    { chunk_bomb, "a chunk is empty or too long" },
    { chunk_lengths, "a chunk has two lengths" },
    { chunk_crc, "the checksum of a chunk is wrong" },
    { chunk_footer, "the footer has another size" },
};

static void test_chunks(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(chunks); i++) {
        g_autoptr(GByteArray) file = g_byte_array_new(), payload = g_byte_array_new();
        const gsize at = sizeof(struct trace_header);
        g_autofree char *text = g_strdup_printf("offset %zu: %s", at, chunks[i].text);
        struct trace_chunk c;

        fixture_add_header(file, fixture_header());
        fixture_add_layout(payload, GRANULES);
        fixture_add_chunk(file, 0, TRACE_RECORDS, payload->data, payload->len);
        memcpy(&c, file->data + at, sizeof(c));
        chunks[i].spoil(&c);
        memcpy(file->data + at, &c, sizeof(c));
        expect(file, EBADMSG, text);
    }
}

/* Packed bytes that say less, more, or nothing; the checksum is right. */
static void test_unpack(void)
{
    const guint8 rubbish[] = "this is not what zlib writes";
    const guint8 raw[200] = { 0 };
    guint8 packed[400];

    for (int i = 0; i < 4; i++) {
        g_autoptr(GByteArray) file = g_byte_array_new();
        const gsize at = sizeof(struct trace_header);
        struct trace_chunk *c;
        uLongf n = sizeof(packed);

        compress2(packed, &n, raw, sizeof(raw), 9);
        fixture_add_header(file, fixture_header());
        fixture_add_chunk(file, 0, TRACE_RECORDS, i ? packed : rubbish,
                          i ? (guint32)n + (i == 3) : sizeof(rubbish));
        c = (struct trace_chunk *)(file->data + at);
        c->method = TRACE_DEFLATED;
        c->raw = i == 1 ? 201 : i == 2 ? 199 : 200;
        c->crc = 0;
        c->crc = (guint32)crc32(0, (const Bytef *)c, (uInt)(sizeof(*c) + c->length));
        expect(file, EBADMSG, "a chunk cannot be unpacked");
    }
}

/* --- records ------------------------------------------------------------------------------------------ */

#define R TRACE_R_ROUND, 0, 1
#define BIG 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80
#define MIB2 0x80, 0x80, 0x80, 0x01                 /* 2 MiB as a varint */
#define L TRACE_R_LAYOUT

/* Their number, and they. */
#define BYTES(...) sizeof((guint8[]){ __VA_ARGS__ }), { __VA_ARGS__ }

/* Behind a layout of 100 granules. */
static const struct {
    const char *text;
    guint8 n, bytes[40];
} records[] = {
    { "a record of an unknown type", BYTES('X') },
    { "a round is cut short", BYTES('R') },
    { "a round is cut short", BYTES('R', 0, 0x80) },
    { "too long", BYTES('R', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1) },
    { "too long", BYTES('R', BIG, 2, 1) },         /* more than 64 bits */
    { "of sources that there are not", BYTES('R', 0, 0x80, 0x80, 4) },
    { "observations before there is a round", BYTES('O', 0, 0, 0, 1, 0, 2) },
    { "goes on behind the end of its chunk", BYTES(R, 'O', 0) },
    { "of a source that there is not", BYTES(R, 'O', 3, 0, 0, 1, 0) },
    { "of a source that there is not", BYTES(R, 'O', 16, 0, 0, 1, 0) },
    { "in a tier that there is not", BYTES(R, 'O', 0, VT_TIERS, 0, 1, 0) },
    { "an unknown coding", BYTES(R, 'O', 0, 0, TRACE_EXPOSURE_END, 1, 0) },
    { "no observations, or too many", BYTES(R, 'O', 0, 0, 0, 0, 0) },
    { "no observations, or too many", BYTES(R, 'O', 0, 0, 0, 0x81, 0x20) },
    { "goes on behind the end", BYTES(R, 'O', 0, 0, TRACE_EXPOSURE_SAME, 1) },
    { "an observation is cut short", BYTES(R, 'O', 0, 0, 0, 2, 1, 2, 1) },
    { "an observation is cut short", BYTES(R, 'O', 0, 0, TRACE_EXPOSURE_EACH, 1, 1, 2) },
    { "an observation is cut short", BYTES(R, 'O', 0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x20) },
    { "granule that is in no block", BYTES(R, 'O', 0, 0, 0, 1, 100, 2) },
    { "granule that is in no block", BYTES(R, 'O', 0, 0, 0, 2, 99, 2, 1, 2) },
    { "an observation is cut short", BYTES(R, 'O', 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1, 2) },
    { "a gap is cut short", BYTES('G', 1, 1) },
    { "a layout of too many granules", BYTES(L, 0x81, 0x80, 0x80, 2, 0) },
    { "a layout of too many blocks", BYTES(L, 100, VT_BLOCKS + 1) },
    { "a layout of too many slots", BYTES(L, 100, 0, TRACE_SLOTS_MOST + 1) },
    { "a block is cut short", BYTES(L, 100, 1, 0) },
    { "has a bad name", BYTES(L, 100, 1, 0, 1, MIB2, 3, 'r', 'a') },
    { "has a bad name", BYTES(L, 100, 1, 0, 1, MIB2, 3, 'r', 0, 'a', 0) },
    { "has a bad name", BYTES(L, 100, 1, 0, 1, MIB2, VT_NAME, 'r', 'a') },
    { "a block is empty", BYTES(L, 100, 1, 0, 0, MIB2, 1, 'r', 0) },
    { "outside the granules", BYTES(L, 100, 1, 100, 1, MIB2, 1, 'r', 0) },
    { "outside the granules", BYTES(L, 100, 1, 1, 100, MIB2, 1, 'r', 0) },
    { "out of order", BYTES(L, 100, 2, 0, 1, MIB2, 1, 'r', 0, 1, MIB2, 1, 'r', 0) },
    { "another length than its granules", BYTES(L, 100, 1, 0, 2, MIB2, 1, 'r', 0) },
    { "another length than its granules", BYTES(L, 100, 1, 0, 1, 0, 1, 'r', 0) },
    { "another length than its granules", BYTES(L, 100, 1, 0, 1, 0x81, 0x80, 0x80, 1, 1, 'r', 0) },
    { "granule that is in no block",
      BYTES(L, 100, 1, 50, 1, MIB2, 1, 'r', 0, R, 'O', 0, 0, 0, 1, 49, 2) },
    { "granule that is in no block",
      BYTES(L, 100, 1, 50, 1, MIB2, 1, 'r', 0, R, 'O', 0, 0, 0, 1, 51, 2) },
    { "a slot is cut short", BYTES(L, 100, 1, 0, 1, MIB2, 1, 'r', 1, 0, 0) },
    { "a slot lies outside its block", BYTES(L, 100, 1, 0, 1, MIB2, 1, 'r', 1, 0, 1, 0, 1) },
    { "a slot lies outside its block", BYTES(L, 100, 1, 0, 1, MIB2, 1, 'r', 1, 0, MIB2, 1, 0) },
};

static void test_records(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(records); i++) {
        g_autoptr(GByteArray) file = g_byte_array_new(), payload = g_byte_array_new();
        g_autofree char *place = NULL;

        fixture_add_header(file, fixture_header());
        fixture_add_layout(payload, GRANULES);
        place = g_strdup_printf("offset %zu: in the chunk there, at ", sizeof(struct trace_header));
        g_byte_array_append(payload, records[i].bytes, records[i].n);
        fixture_add_chunk(file, 0, TRACE_RECORDS, payload->data, payload->len);
        expect(file, EBADMSG, records[i].text);
        expect(file, EBADMSG, place);
    }
}

static void test_no_layout(void)
{
    g_autoptr(GByteArray) file = g_byte_array_new();
    const guint8 round[] = { R };

    fixture_add_header(file, fixture_header());
    fixture_add_chunk(file, 0, TRACE_RECORDS, round, sizeof(round));
    expect(file, EBADMSG, "a round before there is a layout");
}

/* --- the footer --------------------------------------------------------------------------------------- */

static GByteArray *with_footer(const struct trace_footer *footer)
{
    GByteArray *file = g_byte_array_new();
    g_autoptr(GByteArray) payload = g_byte_array_new();
    const guint8 round[] = { R };

    fixture_add_header(file, fixture_header());
    fixture_add_layout(payload, GRANULES);
    g_byte_array_append(payload, round, sizeof(round));
    fixture_add_chunk(file, 0, TRACE_RECORDS, payload->data, payload->len);
    fixture_add_chunk(file, 1, TRACE_FOOTER, footer, sizeof(*footer));
    return file;
}

static void test_footers(void)
{
    struct trace_footer f = { .rounds = 1 };
    g_autoptr(GByteArray) good = with_footer(&f), wrong = NULL, unknown = NULL;
    struct trace_item end;
    const guint8 more = 0;

    g_assert_cmpint(fixture_read(good, NULL, &end, NULL), ==, TRACE_END);
    g_assert_false(end.end.cut);
    g_byte_array_append(good, &more, 1);
    expect(good, EBADMSG, "there is more behind the end");
    f.rounds = 2;
    wrong = with_footer(&f);
    expect(wrong, EBADMSG, "the footer's totals are not what the file holds");
    f = (struct trace_footer){ .rounds = 1, .reason = TRACE_REASON_END };
    unknown = with_footer(&f);
    expect(unknown, EBADMSG, "the footer has an unknown reason");
}

/* Who goes on after an error gets it again. */
static void test_stays_broken(void)
{
    g_autoptr(GByteArray) file = g_byte_array_new();
    const guint8 byte = 'X';
    g_autoptr(Trace) t = NULL;
    struct trace_item item;
    struct vt_err err;

    fixture_add_header(file, fixture_header());
    fixture_add_chunk(file, 0, TRACE_RECORDS, &byte, 1);
    t = trace_open_bytes(file->data, file->len, "toy", NULL);
    for (int i = 0; i < 3; i++)
        g_assert_cmpint(trace_next(t, &item, &err), ==, -EBADMSG);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trace-reject/headers", test_headers);
    g_test_add_func("/trace-reject/header-bytes", test_header_bytes);
    g_test_add_func("/trace-reject/chunks", test_chunks);
    g_test_add_func("/trace-reject/unpack", test_unpack);
    g_test_add_func("/trace-reject/records", test_records);
    g_test_add_func("/trace-reject/no-layout", test_no_layout);
    g_test_add_func("/trace-reject/footers", test_footers);
    g_test_add_func("/trace-reject/stays-broken", test_stays_broken);
    return g_test_run();
}
