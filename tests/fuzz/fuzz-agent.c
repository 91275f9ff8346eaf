// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the agent's frames and ranges, as the daemon meets them.
 *
 * The input is the stream of a guest. The first byte tells how it is cut into reads, and with its top
 * bit that frames in it are sealed anew, so that the engine gets behind the CRC. Of whatever comes out
 * every byte is read, ranges are clipped and merged, and the result must be sorted, apart and inside RAM.
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

static void check_hints(struct vta_hints *h)
{
    size_t n = vta_ranges_merge(h->range, h->count);

    must(n <= h->count);
    check_merged(h->range, n);
    for (size_t i = 0; i < n; i++)
        check_parts(&h->range[i]);
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
        check_hints(&f->hints);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vta_decoder d;

    if (!size)
        return 0;
    memset(&d, 0, sizeof(d));
    if (data[0] & 128)
        feed_sealed(&d, data + 1, size - 1, data[0] & 127);
    else
        feed(&d, data + 1, size - 1, data[0] & 127);
    return 0;
}
