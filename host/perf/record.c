// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Decoding perf samples: see record.h.
 *
 * A sample is a list of fields in a fixed order, each there or not; so decoding is a table of the fields in
 * that order and a cursor that does not go beyond the end.
 */
#include "host/perf/record.h"

#include <assert.h>
#include <string.h>

#define KNOWN_FIELDS  ((PERF_SAMPLE_WEIGHT_STRUCT << 1) - 1)
#define KNOWN_READ    (PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING | PERF_FORMAT_ID | \
                       PERF_FORMAT_GROUP | PERF_FORMAT_LOST)
#define KNOWN_BRANCH  ((PERF_SAMPLE_BRANCH_PRIV_SAVE << 1) - 1)    /* the next one brings counters along */

static const char *const bad_names[] = {
    "good", "size", "short", "long", "count", "kind", "id", "compressed", "overrun",
};
static_assert(G_N_ELEMENTS(bad_names) == PERF_BAD_END, "perf: a rejection has no name");

const char *perf_bad_name(enum perf_bad bad)
{
    return bad_names[bad];
}

guint64 perf_counts_bad(const struct perf_counts *counts)
{
    guint64 sum = 0;

    for (int i = PERF_GOOD + 1; i < PERF_BAD_END; i++)
        sum += counts->bad[i];
    return sum;
}

struct perf_layout perf_layout_of(const struct perf_event_attr *attr)
{
    return (struct perf_layout){
        .sample_type = attr->sample_type, .read_format = attr->read_format,
        .branch_type = attr->branch_sample_type, .regs_user = attr->sample_regs_user,
        .regs_intr = attr->sample_regs_intr, .id_all = attr->sample_id_all,
    };
}

/* --- the cursor ------------------------------------------------------------------------------------------- */

/* Once `bad` is set, everything reads as 0 and stays where it is. */
struct cursor {
    const guint8 *at, *end;
    enum perf_bad bad;
};

static const guint8 *take_bytes(struct cursor *c, guint64 n, enum perf_bad otherwise)
{
    const guint8 *at = c->at;

    if (c->bad)
        return NULL;
    if (n > (guint64)(c->end - c->at)) {
        c->bad = otherwise;
        return NULL;
    }
    c->at += n;
    return at;
}

static guint64 take_u64(struct cursor *c)
{
    const guint8 *at = take_bytes(c, 8, PERF_BAD_SHORT);
    guint64 value = 0;

    if (at)
        memcpy(&value, at, sizeof(value));
    return value;
}

static guint32 take_u32(struct cursor *c)
{
    const guint8 *at = take_bytes(c, 4, PERF_BAD_SHORT);
    guint32 value = 0;

    if (at)
        memcpy(&value, at, sizeof(value));
    return value;
}

/* Skips `n` elements; a count that does not fit is more telling than a short record. */
static void skip(struct cursor *c, guint64 n, guint64 each)
{
    take_bytes(c, n > G_MAXUINT32 ? G_MAXUINT64 : n * each, PERF_BAD_COUNT);
}

/* --- fields ----------------------------------------------------------------------------------------------- */

typedef void (*take_field)(struct cursor *c, const struct perf_layout *l, struct perf_sample *s);

#define FIELD_U64(name)                                                                             \
    static void take_##name(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)   \
    {                                                                                               \
        (void)l;                                                                                    \
        s->name = take_u64(c);                                                                      \
    }

FIELD_U64(ip)
FIELD_U64(time)
FIELD_U64(addr)
FIELD_U64(id)
FIELD_U64(stream)
FIELD_U64(period)
FIELD_U64(weight)
FIELD_U64(data_src)
FIELD_U64(phys_addr)
FIELD_U64(data_page)
FIELD_U64(code_page)

static void take_tid(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    (void)l;
    s->pid = take_u32(c);
    s->tid = take_u32(c);
}

static void take_cpu(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    (void)l;
    s->cpu = take_u32(c);
    take_u32(c);
}

static void take_read(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    guint64 format = l->read_format, times, each;

    (void)s;
    if (format & ~(guint64)KNOWN_READ) {
        c->bad = PERF_BAD_KIND;
        return;
    }
    times = !!(format & PERF_FORMAT_TOTAL_TIME_ENABLED) + !!(format & PERF_FORMAT_TOTAL_TIME_RUNNING);
    each = 1 + !!(format & PERF_FORMAT_ID) + !!(format & PERF_FORMAT_LOST);
    if (format & PERF_FORMAT_GROUP) {
        guint64 n = take_u64(c);

        skip(c, times, 8);
        skip(c, n, each * 8);
    } else {
        skip(c, times + each, 8);
    }
}

static void take_chain(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    (void)l, (void)s;
    skip(c, take_u64(c), 8);
}

/* With the size in front, it is a multiple of 8. */
static void take_raw(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    guint32 size = take_u32(c);

    (void)l;
    s->raw = take_bytes(c, size, PERF_BAD_COUNT);
    s->raw_size = s->raw ? size : 0;
}

static void take_branches(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    guint64 n = take_u64(c);

    (void)s;
    if (l->branch_type & ~(guint64)KNOWN_BRANCH)
        c->bad = PERF_BAD_KIND;
    if (l->branch_type & PERF_SAMPLE_BRANCH_HW_INDEX)
        take_u64(c);
    skip(c, n, 24);
}

static void take_regs(struct cursor *c, guint64 mask)
{
    if (take_u64(c) != PERF_SAMPLE_REGS_ABI_NONE)
        skip(c, (guint64)__builtin_popcountll(mask), 8);
}

static void take_regs_user(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    (void)s;
    take_regs(c, l->regs_user);
}

static void take_regs_intr(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    (void)s;
    take_regs(c, l->regs_intr);
}

static void take_stack(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    guint64 size = take_u64(c);

    (void)l, (void)s;
    skip(c, size, 1);
    if (size)
        take_u64(c);
}

static void take_aux(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    (void)l, (void)s;
    skip(c, take_u64(c), 1);
}

static void take_nothing(struct cursor *c, const struct perf_layout *l, struct perf_sample *s)
{
    (void)l, (void)s;
    take_u64(c);
}

/* In the order in which the kernel writes them. */
static const struct {
    guint64 bit;
    take_field take;
} fields[] = {
    { PERF_SAMPLE_IDENTIFIER, take_id },        { PERF_SAMPLE_IP, take_ip },
    { PERF_SAMPLE_TID, take_tid },              { PERF_SAMPLE_TIME, take_time },
    { PERF_SAMPLE_ADDR, take_addr },            { PERF_SAMPLE_ID, take_id },
    { PERF_SAMPLE_STREAM_ID, take_stream },     { PERF_SAMPLE_CPU, take_cpu },
    { PERF_SAMPLE_PERIOD, take_period },        { PERF_SAMPLE_READ, take_read },
    { PERF_SAMPLE_CALLCHAIN, take_chain },      { PERF_SAMPLE_RAW, take_raw },
    { PERF_SAMPLE_BRANCH_STACK, take_branches }, { PERF_SAMPLE_REGS_USER, take_regs_user },
    { PERF_SAMPLE_STACK_USER, take_stack },     { PERF_SAMPLE_WEIGHT_TYPE, take_weight },
    { PERF_SAMPLE_DATA_SRC, take_data_src },    { PERF_SAMPLE_TRANSACTION, take_nothing },
    { PERF_SAMPLE_REGS_INTR, take_regs_intr },  { PERF_SAMPLE_PHYS_ADDR, take_phys_addr },
    { PERF_SAMPLE_CGROUP, take_nothing },       { PERF_SAMPLE_DATA_PAGE_SIZE, take_data_page },
    { PERF_SAMPLE_CODE_PAGE_SIZE, take_code_page }, { PERF_SAMPLE_AUX, take_aux },
};

enum perf_bad perf_decode(const struct perf_layout *layout, const guint8 *record, size_t size,
                          struct perf_sample *sample)
{
    struct cursor c = { record, record + size, PERF_GOOD };
    struct perf_event_header header;

    *sample = (struct perf_sample){ 0 };
    if (layout->sample_type & ~(guint64)KNOWN_FIELDS)
        return PERF_BAD_KIND;
    if (size < sizeof(header))
        return PERF_BAD_SIZE;
    memcpy(&header, take_bytes(&c, sizeof(header), PERF_BAD_SIZE), sizeof(header));
    if (header.size != size)
        return PERF_BAD_SIZE;
    sample->misc = header.misc;
    for (size_t i = 0; i < G_N_ELEMENTS(fields) && !c.bad; i++)
        if (layout->sample_type & fields[i].bit)
            fields[i].take(&c, layout, sample);
    if (!c.bad && c.at != c.end)
        c.bad = PERF_BAD_LONG;
    sample->have = c.bad ? 0 : layout->sample_type;
    return c.bad;
}

bool perf_peek_id(const struct perf_layout *layout, const guint8 *record, size_t size, guint64 *id)
{
    static const guint64 before = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR;
    size_t at = sizeof(struct perf_event_header);

    if (!(layout->sample_type & PERF_SAMPLE_IDENTIFIER)) {
        if (!(layout->sample_type & PERF_SAMPLE_ID))
            return false;
        at += 8u * (unsigned)__builtin_popcountll(layout->sample_type & before);
    }
    if (at + 8 > size)
        return false;
    memcpy(id, record + at, sizeof(*id));
    return true;
}

bool perf_in_guest(const struct perf_sample *sample)
{
    guint16 mode = sample->misc & PERF_RECORD_MISC_CPUMODE_MASK;

    return mode == PERF_RECORD_MISC_GUEST_KERNEL || mode == PERF_RECORD_MISC_GUEST_USER;
}

void perf_count_other(struct perf_counts *counts, const guint8 *record, size_t size)
{
    struct cursor c = { record, record + size, PERF_GOOD };
    struct perf_event_header header;

    memcpy(&header, take_bytes(&c, sizeof(header), PERF_BAD_SIZE), sizeof(header));
    counts->other++;
    if (header.type == PERF_RECORD_LOST) {
        take_u64(&c);
        counts->lost += take_u64(&c);
    } else if (header.type == PERF_RECORD_LOST_SAMPLES) {
        counts->lost += take_u64(&c);
    } else if (header.type == PERF_RECORD_THROTTLE) {
        counts->throttled++;
    }
    counts->bad[PERF_BAD_SHORT] += c.bad != PERF_GOOD;
}
