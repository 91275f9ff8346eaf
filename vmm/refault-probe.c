// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One probe: see refault-probe.h, and refault.c for what it is all about.
 *
 * The time until a touch is only known to lie between two polls. Polls come in growing steps, so the
 * middle would be far too late for a page that is touched early; the geometric mean is off by a factor
 * of two at most, over four orders of magnitude, and keeps the order of two rates.
 */
#include "vmm/refault-probe.h"
#include "vmm/refault-cost.h"

#define QUICK_BYTES   (16u << 10)
#define WIDE_BYTES    (32u << 10)
#define BACKOFF_MIN   200u          /* ms */
#define BACKOFF_MAX   3000u
#define SILENT_MIN    250000u       /* us to the next poll of a probe that was silent; doubles */
#define SILENT_MOST   8000000u
#define SILENT_CALM   32000000u     /* ... as long as page faults will tell if it has to be sooner */
#define SILENT_WHOLE  2000000u      /* neighbours are polled together, for a twentieth of the cost */
#define HALF_LONG     500000u       /* us: what takes longer to be half touched has more to tell */
#define AGE_MOST      600000000u
#define GROW_AFTER    3u            /* silent polls */
#define GROW_LIVES    8u            /* ... which is longer than so many of its probes' lives */
#define DENSE_PAGES   12u           /* of a granule: it is in use all over, and dearer than a quick stretch */
#define DENSE_WAIT    5000000u      /* us; doubles */
#define BUSY_WAIT     60000000u     /* the same, of a granule that is not silent */
#define DENSE_MOST    5u
#define ALIKE         8u            /* ... unless the first touch came so many times too early */
#define LIFE_LONG     250000u       /* us: of a quick stretch; any shorter and it is busy for sure */

struct probe_call probe_call;

/* --- where a probe is --------------------------------------------------------------------------- */

static uint64_t unit_of(const struct ram_block *b, uint32_t granule, uint64_t unit)
{
    uint64_t whole = ram_length(b, granule);

    if (unit < b->page_size)
        unit = b->page_size;
    return unit < whole ? unit : whole;
}

/* A smaller stretch is a part of the larger one. An odd stride visits all of a power of two. */
struct pagemap_range probe_range(const struct ram_block *b, uint32_t granule, const struct probe *p)
{
    uint64_t wide = unit_of(b, granule, WIDE_BYTES), quick = unit_of(b, granule, QUICK_BYTES);
    uint64_t n = ram_length(b, granule) / wide, at = p->block * 13ull % n * wide;
    struct pagemap_range r = { .length = wide };

    if (p->size == PROBE_QUICK) {
        at += p->block / n % (wide / quick) * quick;
        r.length = quick;
    } else if (p->size == PROBE_WHOLE) {
        r.length = unit_of(b, granule, REFAULT_HUGE);
        at -= at % r.length;
        if (at + r.length > ram_length(b, granule))
            at = ram_length(b, granule) - r.length;
    }
    r.start = b->host + ram_offset(b, granule) + at;
    if (p->huge && b->page_size < REFAULT_HUGE) {
        r.start = (uint8_t *)((uintptr_t)r.start & ~(REFAULT_HUGE - 1));
        r.length = REFAULT_HUGE;
    }
    return r;
}

/* --- polling ------------------------------------------------------------------------------------ */

/* Between a and b, both since arming: their geometric mean, nearly. */
static uint32_t between(uint32_t a, uint32_t b)
{
    uint64_t product = (uint64_t)a * b, mean = ((uint64_t)a + b) / 2;

    for (int i = 0; a && i < 3; i++)
        mean = (mean + product / mean) / 2;
    return (uint32_t)mean;
}

/* `touched` of `left` pages were touched since the last poll, by so many accesses that are known of. */
static void credit(struct probe *p, uint32_t left, uint32_t touched, uint32_t events)
{
    uint32_t a = p->polled - p->armed, b = probe_call.now - p->armed;

    p->exposure += (uint64_t)(left - touched) * (b - a);
    p->exposure += (uint64_t)touched * (between(a, b) - a);
    p->events += events;
    p->polled = probe_call.now;
    if (b > AGE_MOST)
        p->armed += b / 2;
    probe_call.found += events;
    probe_call.events += events;
}

static void back_off(struct probe *p, uint32_t ms)
{
    p->backoff = (uint16_t)(ms < BACKOFF_MAX ? ms : BACKOFF_MAX);
    p->renew = probe_call.now + p->backoff * 1000u;
}

/* The mean life of its probes says when to look again: a while of calm doubles the back-off. */
static void note_life(struct probe *p)
{
    uint32_t life = probe_call.now - p->armed, wide = p->huge ? 16 : 4;

    if (!p->life || life > wide * (uint64_t)p->life || life < p->life / wide) {
        back_off(p, BACKOFF_MIN);
        p->life = life + 1;
    } else {
        back_off(p, p->backoff * 2u);
        p->life += life / 4 + 1 - p->life / 4;
    }
    p->tried = p->tried ? p->tried : probe_call.now;
}

static void spend(struct probe *p)
{
    if (!p->half)
        note_life(p);
    p->state = PROBE_SPENT;
    p->half = false;
    p->due = p->renew;
}

static void poll_later(struct probe *p)
{
    const bool whole = p->huge || p->size == PROBE_WHOLE;
    uint32_t most = whole ? SILENT_WHOLE : refault_cost_calm() ? SILENT_CALM : SILENT_MOST;
    uint32_t wait = SILENT_MIN << p->silent;

    p->due = probe_call.now;
    if (probe_call.following)
        return;
    p->due += wait < most ? wait : most;
    if (p->silent < 8)
        p->silent++;
}

/* One access has mapped it all. */
static void poll_huge(struct probe *p, const struct pagemap_range *r)
{
    uint32_t pages = (uint32_t)((r->length > REFAULT_HUGE ? r->length : REFAULT_HUGE) / REFAULT_PAGE);

    credit(p, pages, r->bytes ? pages : 0, r->bytes ? 1 : 0);
    if (!r->bytes) {
        poll_later(p);
        return;
    }
    refault_cost_touched(1, true);
    spend(p);
}

/* What it still lies in wait for is taken to be touched, unseen. */
void probe_give_up(struct probe *p)
{
    uint32_t rest = p->size == PROBE_WHOLE ? 0 : p->pages - p->touched;

    refault_cost_touched(rest, false);
    probe_call.found += rest;
    spend(p);
}

static void go_on(struct probe *p)
{
    p->silent = 0;
    p->due = probe_call.now;
}

/* So many more pages of a whole granule were touched than those that are known of. */
static void settle(const struct probe *p, uint32_t fresh)
{
    uint32_t paid = probe_advance(p->pages);

    if (p->size == PROBE_WHOLE && p->touched + fresh > paid)
        refault_cost_owe(p->touched > paid ? fresh : p->touched + fresh - paid);
}

/*
 * A small stretch has told enough when half of it has been touched. Where that was long in coming it goes
 * on with the rest, which is paid for, until there is budget to spare for the next one. Of a whole granule
 * a single page will do; what becomes of the others is looked at later (probe_review()).
 */
static void poll_small(struct probe *p, const struct pagemap_range *r)
{
    uint32_t mapped = (uint32_t)(r->bytes / REFAULT_PAGE), fresh = 0;

    if (mapped > p->touched)
        fresh = mapped - p->touched;
    if (p->half && fresh > 1 && probe_call.now - p->polled < p->life / 4)
        back_off(p, BACKOFF_MIN);
    credit(p, p->pages - p->touched, fresh, fresh);
    refault_cost_touched(fresh, false);
    settle(p, fresh);
    p->touched += fresh;
    if (!fresh) {
        poll_later(p);
    } else if (p->size != PROBE_WHOLE && 2 * p->touched < p->pages) {
        go_on(p);
    } else if (p->size != PROBE_WHOLE && p->touched < p->pages &&
               (p->half || probe_call.now - p->armed > HALF_LONG)) {
        if (!p->half)
            note_life(p);
        p->half = true;
        go_on(p);
    } else {
        probe_give_up(p);
    }
}

/* It is mapped by small pages now: somebody has split it. */
static void poll_split(struct probe *p, const struct pagemap_range *r)
{
    uint32_t mapped = (uint32_t)(r->bytes / REFAULT_PAGE);

    credit(p, p->pages, mapped, mapped);
    refault_cost_touched(mapped, false);
    spend(p);
    p->huge = false;
}

void probe_poll(struct probe *p, const struct pagemap_range *r)
{
    if (p->huge && r->bytes && !r->huge && pagemap_tells_huge()) {
        poll_split(p, r);
        return;
    }
    p->huge |= r->huge;             /* what was empty was taken for small, and is not */
    if (p->huge)
        poll_huge(p, r);
    else
        poll_small(p, r);
}

/* --- from one stretch to the next ----------------------------------------------------------------- */

void probe_start(struct probe *p, const struct pagemap_range *r)
{
    p->state = PROBE_ARMED;
    p->silent = 0;
    p->half = false;
    p->touched = 0;
    p->pages = (uint32_t)(r->length / REFAULT_PAGE);
    p->armed = p->polled = p->due = probe_call.now;
}

/*
 * Each time that a whole granule turns out to be in use all over, it takes twice as long until it is
 * tried again: else a scan of all memory would pay for each page each time it comes by.
 */
static bool may_try(const struct probe *p, uint32_t wait)
{
    return (!wait || probe_call.now - p->tried > wait << p->dense) && refault_cost_plenty() &&
           refault_cost_cpu_left();
}

/* Of a granule that is used now and then a silence is nothing new: a larger stretch would only cost more. */
static bool is_news(const struct probe *p)
{
    const uint64_t usual = GROW_LIVES * (uint64_t)p->life;

    return p->silent >= GROW_AFTER &&
           probe_call.now - p->armed >= (usual < SILENT_MOST ? usual : SILENT_MOST);
}

bool probe_may_grow(const struct probe *p)
{
    if (p->state != PROBE_ARMED || p->huge || !is_news(p))
        return false;
    return p->size == PROBE_QUICK || (p->size == PROBE_WIDE && may_try(p, p->dense ? DENSE_WAIT : 0));
}

bool probe_may_be_whole(const struct probe *p)
{
    return p->state == PROBE_SPENT && !p->huge && p->life > LIFE_LONG && may_try(p, BUSY_WAIT);
}

/*
 * In use all over means: if its pages were visited alike, the first touch would have come about as late
 * as it did. Where it came much earlier, a few pages are used far more than the rest.
 */
void probe_review(struct probe *p, const struct pagemap_range *r)
{
    uint32_t mapped = (uint32_t)(r->bytes / REFAULT_PAGE), since = probe_call.now - p->armed;

    if (mapped > p->touched) {
        refault_cost_touched(mapped - p->touched, false);
        settle(p, mapped - p->touched);
        probe_call.found += mapped - p->touched;
    }
    if (mapped < DENSE_PAGES || (uint64_t)mapped * p->life * ALIKE < since) {
        p->dense = (uint8_t)(p->dense - (p->dense > 0));
        return;
    }
    p->size = PROBE_QUICK;
    p->life = 0;
    p->block++;
    p->tried = probe_call.now;
    p->dense = (uint8_t)(p->dense + (p->dense < DENSE_MOST));
}
