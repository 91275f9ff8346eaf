// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The agent's frames: see agent-frame.h.
 *
 * Shapes are a table: a new type is a new row. The decoder holds at most one frame. Where no frame
 * begins it drops bytes up to the next magic. After a frame with a wrong CRC it looks for one that
 * begins inside (the first was cut off, then), but a peer that makes frames of nothing but magics must not
 * make us sum every byte thousands of times: such a second look is only taken while all CRCs together
 * were over less than SUMMED_MOST times the bytes that came.
 */
#include "common/agent-frame.h"

#include <endian.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define SUMMED_MOST 4

struct shape {
    const char *name;
    uint16_t body;              /* bytes at least */
    uint16_t text, text_size;   /* a string in it */
    const char *order;          /* sizes of its integers, for vta_turn(); what follows is bytes */
};

static const struct shape shapes[] = {
    [VTA_HELLO] = { "HELLO", sizeof(struct vta_hello), offsetof(struct vta_hello, name), VTA_TEXT,
                    "22444" },
    [VTA_WELCOME] = { "WELCOME", sizeof(struct vta_welcome), 0, 0, "224844" },
    [VTA_HINTS] = { "HINTS", sizeof(struct vta_hints), 0, 0, "44" },
    [VTA_CREDIT] = { "CREDIT", sizeof(struct vta_credit), 0, 0, "44" },
    [VTA_ASK] = { "ASK", sizeof(struct vta_ask), 0, 0, "44" },
    [VTA_SHARES] = { "SHARES", sizeof(struct vta_shares), 0, 0, "448888" },
    [VTA_REFUSED] = { "REFUSED", sizeof(struct vta_refused), offsetof(struct vta_refused, text),
                      VTA_TEXT, "88" },
    [VTA_MUTE] = { "MUTE", sizeof(struct vta_notice), offsetof(struct vta_notice, text), VTA_TEXT,
                   "44" },
    [VTA_UNMUTE] = { "UNMUTE", sizeof(struct vta_notice), offsetof(struct vta_notice, text), VTA_TEXT,
                     "44" },
    [VTA_ERROR] = { "ERROR", sizeof(struct vta_notice), offsetof(struct vta_notice, text), VTA_TEXT,
                    "44" },
    [VTA_BYE] = { "BYE", sizeof(struct vta_notice), offsetof(struct vta_notice, text), VTA_TEXT,
                  "44" },
};
static_assert(ARRAY_SIZE(shapes) == VTA_TYPE_END, "agent: a type has no shape");

static const char *const kinds[] = { "none", "free", "cold", "hot", "pin" };
static_assert(ARRAY_SIZE(kinds) == VTA_KIND_END, "agent: a kind has no name");

const char *vta_type_name(unsigned type)
{
    return type && type < VTA_TYPE_END ? shapes[type].name : "?";
}

const char *vta_kind_name(unsigned kind)
{
    return kind < VTA_KIND_END ? kinds[kind] : "?";
}

/* --- sums and byte order -------------------------------------------------------------------- */

/* Half a byte at a time: 64 bytes of table instead of 1024, for a program that is to be small. */
static uint32_t crc(uint32_t sum, const uint8_t *p, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158,
        0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4,
        0xa00ae278, 0xbdbdf21c,
    };

    for (; n; n--) {
        sum ^= *p++;
        sum = sum >> 4 ^ table[sum & 15];
        sum = sum >> 4 ^ table[sum & 15];
    }
    return sum;
}

/* Of the frame as it is on the wire, with its crc taken as 0. */
static uint32_t sum_of(const uint8_t *frame, size_t length)
{
    static const uint8_t zero[4];
    const size_t at = offsetof(struct vta_hdr, crc);
    uint32_t sum = crc(~0u, frame, at);

    sum = crc(sum, zero, sizeof(zero));
    return ~crc(sum, frame + sizeof(struct vta_hdr), length - sizeof(struct vta_hdr));
}

static void reverse(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        uint8_t t = p[i];

        p[i] = p[n - 1 - i];
        p[n - 1 - i] = t;
    }
}

static uint8_t *turn_some(uint8_t *at, const uint8_t *end, const char *order)
{
    for (; *order; order++) {
        size_t n = (size_t)(*order - '0');

        if ((size_t)(end - at) < n)
            break;
        reverse(at, n);
        at += n;
    }
    return at;
}

void vta_turn(uint16_t type, uint8_t *body, size_t length)
{
    const uint8_t *end = body + length;
    uint8_t *at = type && type < VTA_TYPE_END ? turn_some(body, end, shapes[type].order) : NULL;

    if (type == VTA_HINTS)
        for (; (size_t)(end - at) >= sizeof(struct vta_range); at += sizeof(struct vta_range)) {
            turn_some(at, end, "88");
            turn_some(at + offsetof(struct vta_range, age_ms), end, "4");
        }
    if (type == VTA_SHARES)
        for (; (size_t)(end - at) >= VTA_NAME + 8; at += VTA_NAME + 8)
            turn_some(at + VTA_NAME, end, "8");
}

static void turn_if_big(uint16_t type, uint8_t *body, size_t length)
{
    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
        vta_turn(type, body, length);
}

static struct vta_hdr header_of(const uint8_t *bytes)
{
    struct vta_hdr h;

    memcpy(&h, bytes, sizeof(h));
    return (struct vta_hdr){ le32toh(h.magic), le16toh(h.type), le16toh(h.length), le32toh(h.seq),
                             le32toh(h.crc) };
}

/* --- out of the stream ---------------------------------------------------------------------- */

void vta_restart(struct vta_decoder *d)
{
    d->garbage += d->have;
    d->have = 0;
}

size_t vta_room(const struct vta_decoder *d)
{
    return sizeof(d->bytes) - d->have;
}

size_t vta_feed(struct vta_decoder *d, const void *data, size_t n)
{
    if (n > vta_room(d))
        n = vta_room(d);
    memcpy(d->bytes + d->have, data, n);
    d->have += n;
    d->fed += n;
    return n;
}

static void drop(struct vta_decoder *d, size_t n)
{
    memmove(d->bytes, d->bytes + n, d->have - n);
    d->have -= n;
}

/* At `from` or later: the first place where a frame may begin, as far as can be told yet. */
static size_t find_magic(const struct vta_decoder *d, size_t from)
{
    static const uint8_t magic[4] = { 'V', 'M', 'A', '1' };

    for (; from < d->have; from++) {
        size_t n = d->have - from < sizeof(magic) ? d->have - from : sizeof(magic);

        if (!memcmp(d->bytes + from, magic, n))
            break;
    }
    return from;
}

static void skip_to_magic(struct vta_decoder *d, size_t from)
{
    size_t at = find_magic(d, from);

    d->garbage += at;
    drop(d, at);
}

/* The frame's shape is right; its texts are made to end. */
static bool well_formed(struct vta_frame *f)
{
    const struct shape *s = &shapes[f->h.type];

    if (f->h.length < s->body)
        return false;
    if (s->text_size)
        f->body[s->text + s->text_size - 1] = 0;
    if (f->h.type == VTA_HINTS)
        return f->hints.count <= (f->h.length - sizeof(f->hints)) / sizeof(struct vta_range);
    if (f->h.type == VTA_SHARES) {
        for (int t = 0; t < VTA_TIERS; t++)
            f->shares.tier[t].name[VTA_NAME - 1] = 0;
        return f->shares.tiers <= VTA_TIERS;
    }
    return true;
}

/* A whole frame is in the buffer: 1 it is one, 0 it is none of ours and gone. */
static bool take(struct vta_decoder *d, struct vta_frame *f)
{
    size_t length = sizeof(f->h) + f->h.length;

    d->summed += length;
    if (sum_of(d->bytes, length) != f->h.crc) {
        d->bad++;
        skip_to_magic(d, d->summed <= SUMMED_MOST * d->fed ? 1 : length);
        return false;
    }
    memcpy(f->body, d->bytes + sizeof(f->h), f->h.length);
    drop(d, length);
    if (!f->h.type || f->h.type >= VTA_TYPE_END) {
        d->unknown++;
        return false;
    }
    turn_if_big(f->h.type, f->body, f->h.length);
    if (well_formed(f))
        return true;
    d->bad++;
    return false;
}

bool vta_next(struct vta_decoder *d, struct vta_frame *f)
{
    for (;;) {
        skip_to_magic(d, 0);
        if (d->have < sizeof(f->h))
            return false;
        f->h = header_of(d->bytes);
        if (f->h.length > sizeof(f->body)) {
            d->bad++;
            skip_to_magic(d, 1);
            continue;
        }
        if (d->have < sizeof(f->h) + f->h.length)
            return false;
        if (take(d, f))
            return true;
    }
}

/* --- into the stream ------------------------------------------------------------------------ */

size_t vta_seal(struct vta_frame *f, enum vta_type type, uint32_t seq, size_t length)
{
    f->h = (struct vta_hdr){ htole32(VTA_MAGIC), htole16(type), htole16((uint16_t)length),
                             htole32(seq), 0 };
    turn_if_big(type, f->body, length);
    f->h.crc = htole32(sum_of((const uint8_t *)f, sizeof(f->h) + length));
    return sizeof(f->h) + length;
}
