// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records of a recording: see trace.h for how they are coded.
 *
 * A function returns NULL, or what is wrong. Nothing is taken into the trace before all of it was
 * found to be right, but for the layout, which is only used if the record is.
 */
#include "host/trace-internal.h"

#include <math.h>
#include <string.h>

#define SHORT   "a record goes on behind the end of its chunk"
#define US_MOST (1000000ull * 86400 * 3650)     /* ten years between two rounds are none */

/* --- codings ---------------------------------------------------------------------------------------- */

static bool get_byte(struct trace_buffer *b, guint8 *to)
{
    if (!b->length)
        return false;
    *to = *b->data++;
    b->length--;
    return true;
}

static bool get_varint(struct trace_buffer *b, guint64 *to)
{
    guint64 value = 0;
    guint8 byte;

    for (int shift = 0; shift < 70; shift += 7) {
        if (!get_byte(b, &byte) || (shift == 63 && byte > 1))
            return false;
        value |= (guint64)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *to = value;
            return true;
        }
    }
    return false;
}

/* A varint that is at most `most`. */
static bool get_below(struct trace_buffer *b, guint64 most, guint64 *to)
{
    return get_varint(b, to) && *to <= most;
}

static bool get_u32(struct trace_buffer *b, guint32 *to)
{
    guint64 value;

    if (!get_below(b, G_MAXUINT32, &value))
        return false;
    *to = (guint32)value;
    return true;
}

static bool get_number(struct trace_buffer *b, double *to)
{
    guint64 value;

    if (!get_below(b, TRACE_NUMBER_MOST, &value))
        return false;
    *to = (double)(value >> 1) / (value & 1 ? 1024 : 1);
    return true;
}

/* --- layout ----------------------------------------------------------------------------------------- */

static bool get_name(struct trace_buffer *b, char name[VT_NAME])
{
    guint64 n;

    if (!get_below(b, VT_NAME - 1, &n) || n > b->length || memchr(b->data, '\0', n))
        return false;
    memset(name, 0, VT_NAME);
    memcpy(name, b->data, n);
    b->data += n;
    b->length -= n;
    return true;
}

static const char *parse_block(struct trace_buffer *b, struct trace_layout *l, guint64 granule)
{
    struct trace_block *block = &l->block[l->n_blocks];
    guint32 next = l->n_blocks ? block[-1].first + block[-1].count : 0;

    if (!get_u32(b, &block->first) || !get_u32(b, &block->count) ||
        !get_varint(b, &block->length) || !get_name(b, block->name))
        return "a block is cut short or has a bad name";
    if (!block->count || block->first < next || block->first > l->granules ||
        block->count > l->granules - block->first)
        return "a block is empty, out of order or outside the granules";
    if (block->length > block->count * granule || block->length <= (block->count - 1) * granule)
        return "a block has another length than its granules";
    l->n_blocks++;
    return NULL;
}

static const char *parse_slot(struct trace_buffer *b, struct trace_layout *l)
{
    struct vt_slot *s = &l->slot[l->n_slots];

    if (!get_varint(b, &s->gpa) || !get_varint(b, &s->length) || !get_varint(b, &s->offset) ||
        !get_u32(b, &s->block))
        return "a slot is cut short";
    if (s->block >= l->n_blocks || s->offset > l->block[s->block].length ||
        s->length > l->block[s->block].length - s->offset || s->gpa > G_MAXUINT64 - s->length)
        return "a slot lies outside its block";
    l->n_slots++;
    return NULL;
}

static const char *parse_layout(struct trace *t, struct trace_buffer *b, struct trace_item *item)
{
    struct trace_layout *l = &t->layout;
    guint64 blocks, slots;
    const char *fault = NULL;

    memset(l, 0, sizeof(*l));
    if (!get_u32(b, &l->granules) || l->granules > VT_GRANULES_MAX)
        return "a layout of too many granules";
    if (!get_below(b, VT_BLOCKS, &blocks))
        return "a layout of too many blocks";
    for (guint64 i = 0; i < blocks && !fault; i++)
        fault = parse_block(b, l, t->header.granule);
    if (fault)
        return fault;
    if (!get_below(b, TRACE_SLOTS_MOST, &slots))
        return "a layout of too many slots";
    for (guint64 i = 0; i < slots && !fault; i++)
        fault = parse_slot(b, l);
    item->what = TRACE_LAYOUT;
    item->layout = l;
    return fault;
}

/* --- rounds and observations -------------------------------------------------------------------------- */

static const char *parse_round(struct trace *t, struct trace_buffer *b, struct trace_item *item)
{
    guint64 us;
    guint32 sources;

    if (!t->layout.granules)
        return "a round before there is a layout";
    if (!get_below(b, US_MOST, &us) || !get_u32(b, &sources) || sources >> TRACE_SOURCES)
        return "a round is cut short, too long, or of sources that there are not";
    t->totals.rounds++;
    t->totals.duration_us += us;
    t->in_round = true;
    item->what = TRACE_ROUND;
    item->round.dt = (double)us / 1e6;
    item->round.sources = sources;
    return NULL;
}

/* The block that has the granule; blocks are in order, and so are granules. */
static bool in_block(const struct trace_layout *l, guint32 *block, guint64 granule)
{
    while (*block < l->n_blocks &&
           granule >= (guint64)l->block[*block].first + l->block[*block].count)
        ++*block;
    return *block < l->n_blocks && granule >= l->block[*block].first;
}

struct obs_head {
    guint8 source, tier, coding;
    guint64 n;
    double exposure_ms;
};

static const char *parse_obs_head(const struct trace *t, struct trace_buffer *b, struct obs_head *h)
{
    if (!get_byte(b, &h->source) || !get_byte(b, &h->tier) || !get_byte(b, &h->coding))
        return SHORT;
    if (h->source >= TRACE_SOURCES || !t->header.source[h->source].name[0])
        return "observations of a source that there is not";
    if (h->tier >= VT_TIERS && h->tier != TRACE_TIER_UNKNOWN)
        return "observations in a tier that there is not";
    if (h->coding >= TRACE_EXPOSURE_END)
        return "observations with exposures in an unknown coding";
    if (!get_below(b, TRACE_OBS_MOST, &h->n) || !h->n)
        return "no observations, or too many in a record";
    h->exposure_ms = 0;
    return h->coding != TRACE_EXPOSURE_SAME || get_number(b, &h->exposure_ms) ? NULL : SHORT;
}

static const char *parse_obs_list(struct trace *t, struct trace_buffer *b, const struct obs_head *h)
{
    const double scale = t->header.source[h->source].scale;
    double exposure_ms = h->exposure_ms, events;
    guint64 granule = 0, step;
    guint32 block = 0;

    for (guint64 i = 0; i < h->n; i++) {
        if (!get_below(b, VT_GRANULES_MAX, &step) || !get_number(b, &events) ||
            (h->coding == TRACE_EXPOSURE_EACH && !get_number(b, &exposure_ms)))
            return "an observation is cut short";
        granule += step;
        if (!in_block(&t->layout, &block, granule))
            return "an observation of a granule that is in no block";
        t->obs[i] = (struct trace_obs){ (guint32)granule, events * scale, exposure_ms / 1000 };
    }
    return NULL;
}

static const char *parse_obs(struct trace *t, struct trace_buffer *b, struct trace_item *item)
{
    struct obs_head head;
    const char *fault;

    if (!t->in_round)
        return "observations before there is a round";
    fault = parse_obs_head(t, b, &head);
    if (fault)
        return fault;
    if (!t->obs)
        t->obs = g_new(struct trace_obs, TRACE_OBS_MOST);
    fault = parse_obs_list(t, b, &head);
    if (fault)
        return fault;
    t->totals.observations += head.n;
    item->what = TRACE_OBS;
    item->obs.source = head.source;
    item->obs.kind = (enum trace_kind)t->header.source[head.source].kind;
    item->obs.tier = head.tier;
    item->obs.n = (guint32)head.n;
    item->obs.obs = t->obs;
    return NULL;
}

static const char *parse_gap(struct trace *t, struct trace_buffer *b, struct trace_item *item)
{
    guint64 us;

    if (!get_varint(b, &item->gap.rounds) || !get_varint(b, &item->gap.observations) ||
        !get_below(b, US_MOST, &us))
        return "a gap is cut short or too long";
    t->totals.lost_rounds += item->gap.rounds;
    t->totals.lost_observations += item->gap.observations;
    t->totals.duration_us += us;
    item->what = TRACE_GAP;
    item->gap.seconds = (double)us / 1e6;
    return NULL;
}

const char *trace_parse(struct trace *t, struct trace_item *item)
{
    guint8 type;

    if (!get_byte(&t->left, &type))
        return SHORT;
    switch (type) {
    case TRACE_R_LAYOUT:
        return parse_layout(t, &t->left, item);
    case TRACE_R_ROUND:
        return parse_round(t, &t->left, item);
    case TRACE_R_OBS:
        return parse_obs(t, &t->left, item);
    case TRACE_R_GAP:
        return parse_gap(t, &t->left, item);
    default:
        return "a record of an unknown type";
    }
}
