// SPDX-License-Identifier: GPL-2.0-or-later
/* Lists of hinted ranges: see agent-ranges.h. */
#include "common/agent-ranges.h"

#include <stdlib.h>

int vta_range_good(const struct vta_range *r)
{
    return r->kind < VTA_KIND_END && r->length && r->gpa + r->length > r->gpa && r->share &&
           r->weight;
}

static uint64_t end_of(const struct vta_range *r)
{
    return r->gpa + r->length;
}

static int compare(const void *a, const void *b)
{
    const struct vta_range *x = a, *y = b;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->gpa != y->gpa)
        return x->gpa < y->gpa ? -1 : 1;
    return (x->length < y->length) - (x->length > y->length);   /* the longer one first */
}

static int same_words(const struct vta_range *a, const struct vta_range *b)
{
    return a->share == b->share && a->weight == b->weight;
}

/* `next` begins no earlier than `last`: grows `last`, or returns what of `next` remains beyond it. */
static int join(struct vta_range *last, struct vta_range *next)
{
    uint64_t end = end_of(last);

    if (last->kind != next->kind || next->gpa > end)
        return 1;
    if (same_words(last, next)) {
        last->age_ms = next->age_ms < last->age_ms ? next->age_ms : last->age_ms;
        last->length = (end_of(next) > end ? end_of(next) : end) - last->gpa;
        return 0;
    }
    if (end_of(next) <= end)
        return 0;
    next->length = end_of(next) - end;
    next->gpa = end;
    return 1;
}

size_t vta_ranges_merge(struct vta_range *r, size_t n)
{
    size_t good = 0, out = 0;

    for (size_t i = 0; i < n; i++)
        if (vta_range_good(&r[i]))
            r[good++] = r[i];
    qsort(r, good, sizeof(r[0]), compare);
    for (size_t i = 0; i < good; i++) {
        struct vta_range next = r[i];

        if (!out || join(&r[out - 1], &next))
            r[out++] = next;
    }
    return out;
}

int vta_range_clip(const struct vta_range *r, const struct vta_span *ram, size_t n, uint64_t *at,
                   struct vta_range *part)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t from = ram[i].start > r->gpa ? ram[i].start : r->gpa;
        uint64_t to = ram[i].end < end_of(r) ? ram[i].end : end_of(r);

        from = from > *at ? from : *at;
        if (from >= to)
            continue;
        *part = *r;
        part->gpa = from;
        part->length = to - from;
        *at = to;
        return 1;
    }
    return 0;
}
