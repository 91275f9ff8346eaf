// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the agent's frames and ranges, as the daemon meets them.
 *
 * The input is the stream of a guest. The first byte tells how it is cut into reads; 128 in it, that frames
 * in it are sealed anew, so that the engine gets behind the CRC. Of whatever comes out every byte is read,
 * ranges are clipped and merged, and the result must be sorted, apart and inside RAM. 192 in the first byte:
 * the rest is ranges in little room, four bytes each, and every byte of that room must be named afterwards by
 * the kinds that named it before, and by each of them once.
 */
#include "common/agent-frame.h"
#include "common/agent-ranges.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

static void must(int is)
{
    if (!is)
        abort();
}

static void check_merged(const struct vta_range *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        must(vta_range_good(&r[i]));
        must(!i || r[i - 1].kind < r[i].kind || r[i - 1].gpa + r[i - 1].length <= r[i].gpa);
    }
}

static void check_parts(const struct vta_range *r)
{
    static const struct vta_span ram[] = {
        { 0, 0xa0000 }, { 0x100000, 0x80000000 }, { 0x100000000, 0x180000000 },
    };
    struct vta_range part;
    uint64_t at = 0, end = 0;

    for (int n = 0; vta_range_clip(r, ram, 3, &at, &part); n++) {
        must(n < 3 && part.length && part.gpa >= r->gpa && part.gpa >= end);
        end = part.gpa + part.length;
        must(end <= r->gpa + r->length && end <= ram[2].end);
    }
}

/* How many are left. */
static size_t check_ranges(struct vta_range *r, size_t count)
{
    size_t n = vta_ranges_merge(r, count);

    must(n <= count);
    check_merged(r, n);
    for (size_t i = 0; i < n; i++)
        check_parts(&r[i]);
    return n;
}

static void check_frame(struct vta_frame *f)
{
    must(f->h.type && f->h.type < VTA_TYPE_END && f->h.length <= sizeof(f->body));
    for (size_t i = 0; i < f->h.length; i++)
        sink += f->body[i];
    switch (f->h.type) {
    case VTA_HELLO:
        sink += strlen(f->hello.name);
        break;
    case VTA_HINTS:
        check_ranges(f->hints.range, f->hints.count);
        break;
    case VTA_REFUSED:
        sink += strlen(f->refused.text);
        break;
    case VTA_SHARES:
        for (unsigned t = 0; t < f->shares.tiers; t++)
            sink += strlen(f->shares.tier[t].name);
        break;
    case VTA_MUTE: case VTA_UNMUTE: case VTA_ERROR: case VTA_BYE:
        sink += strlen(f->notice.text);
        break;
    default:
        break;
    }
}

static void feed(struct vta_decoder *d, const uint8_t *data, size_t size, size_t cut)
{
    static struct vta_frame f;

    while (size) {
        size_t n = vta_feed(d, data, cut && cut < size ? cut : size);

        must(n > 0 && d->have <= sizeof(d->bytes));
        while (vta_next(d, &f))
            check_frame(&f);
        data += n;
        size -= n;
    }
    must(d->summed <= 5 * d->fed);
}

/* Each piece of the input becomes a frame: type, length, body. */
static void feed_sealed(struct vta_decoder *d, const uint8_t *data, size_t size, size_t cut)
{
    static struct vta_frame f;

    for (uint32_t seq = 1; size >= 2; seq++) {
        size_t n = data[1] * 8u, type = data[0] % (VTA_TYPE_END + 1u);

        data += 2;
        size -= 2;
        n = n < size ? n : size;
        memcpy(f.body, data, n);
        feed(d, (const uint8_t *)&f, vta_seal(&f, (enum vta_type)type, seq, n), cut);
        data += n;
        size -= n;
    }
}

/* --- ranges in little room ------------------------------------------------------------------ */

enum { ROOM = 256 + 32 };

/* Some are none: no length, no kind, no share, or an end beyond the last address. */
static struct vta_range range_of(const uint8_t *four)
{
    uint64_t gpa = four[0];

    return (struct vta_range){
        .gpa = four[2] & 128 ? UINT64_MAX - gpa : gpa, .length = four[1] & 31, .kind = (four[2] & 127) % 7,
        .share = four[3] & 3, .weight = four[3] >> 2 & 3, .age_ms = four[3],
    };
}

/* How often each kind names each byte of the room. */
static void paint(const struct vta_range *r, size_t n, uint8_t times[VTA_KIND_END][ROOM])
{
    memset(times, 0, (size_t)VTA_KIND_END * ROOM);
    for (size_t i = 0; i < n; i++)
        for (uint64_t at = r[i].gpa; vta_range_good(&r[i]) && at < ROOM && at < r[i].gpa + r[i].length; at++)
            times[r[i].kind][at]++;
}

static void check_room(const uint8_t *data, size_t size)
{
    static uint8_t before[VTA_KIND_END][ROOM], after[VTA_KIND_END][ROOM];
    static struct vta_range r[VTA_RANGES];
    size_t n = 0;

    for (; size >= 4 && n < VTA_RANGES; data += 4, size -= 4)
        r[n++] = range_of(data);
    paint(r, n, before);
    paint(r, check_ranges(r, n), after);
    for (size_t i = 0; i < sizeof(before); i++)
        must((&after[0][0])[i] == ((&before[0][0])[i] != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vta_decoder d;

    if (!size)
        return 0;
    memset(&d, 0, sizeof(d));
    if (data[0] >= 192)
        check_room(data + 1, size - 1);
    else if (data[0] >= 128)
        feed_sealed(&d, data + 1, size - 1, data[0] & 63);
    else
        feed(&d, data + 1, size - 1, data[0] & 63);
    return 0;
}
