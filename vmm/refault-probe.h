// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One probe of the source "refault": where it is, and what a look at it says. Link thread only, under
 * ram_lock(). Times are microseconds and wrap; only differences mean something.
 */
#ifndef VMTIER_REFAULT_PROBE_H
#define VMTIER_REFAULT_PROBE_H

#include "vmm/pagemap.h"
#include "vmm/ram.h"

#define REFAULT_PAGE 4096u
#define REFAULT_HUGE (2ull << 20)

/* FOLLOWS: another granule's probe has the same 2 MiB. */
enum probe_state { PROBE_NEW, PROBE_ARMED, PROBE_SPENT, PROBE_FOLLOWS };

enum probe_size { PROBE_QUICK, PROBE_WIDE, PROBE_WHOLE, PROBE_SIZES };

struct probe {
    uint8_t state, size;
    uint8_t silent;                 /* polls on end that found nothing */
    uint8_t dense;                  /* times that all of it was armed in vain */
    bool huge;
    bool half;                      /* armed, and half touched: enough, but the rest goes on */
    uint16_t backoff;               /* ms */
    uint32_t block;                 /* which stretch of the granule */
    uint32_t pages, touched;        /* of the stretch, in 4 KiB */
    uint32_t armed, polled, due;
    uint32_t renew;                 /* from when on the next stretch may be armed */
    uint32_t tried;                 /* when a whole granule was last found in use all over; at first, when
                                     * it was seen to be in use at all */
    uint32_t life;                  /* how long probes lived: a running mean; 0: not known */
    uint32_t events, reported;
    uint64_t exposure;              /* page-us; with events: since the last report */
    float worth, worth_ms;          /* of those before: weighed, and not yet reported */
};

/* The harvest under way. */
extern struct probe_call {
    uint32_t now;
    uint64_t found, events;         /* touches seen and sure to come; touches seen since the start */
    bool following;                 /* looks follow each other closely: silence means little yet */
} probe_call;

/*
 * The probe's stretch: whole pages, and inside the granule unless a mapping of 2 MiB is larger than
 * that.
 */
struct pagemap_range probe_range(const struct ram_block *b, uint32_t granule, const struct probe *p);

/* Of a whole granule few pages are touched; should it be more of them than that, the rest is charged then. */
static inline uint32_t probe_advance(uint32_t pages)
{
    return (pages + 2) / 3;
}

/* It is armed from now on. */
void probe_start(struct probe *p, const struct pagemap_range *r);

/* It has been silent for so long that more of its granule may be armed, one size up. */
bool probe_may_grow(const struct probe *p);

/* Its next stretch may be the whole granule, though it is not silent: so far that is not known. */
bool probe_may_be_whole(const struct probe *p);

/* All of a granule was armed and is to be again; this is what has been mapped meanwhile. */
void probe_review(struct probe *p, const struct pagemap_range *r);

/* Takes what its range was found to be. */
void probe_poll(struct probe *p, const struct pagemap_range *r);

/* It is done with its stretch, whatever became of the rest of it. */
void probe_give_up(struct probe *p);

/* Half of it is touched, it took long, and its back-off is over. */
static inline bool probe_may_renew(const struct probe *p)
{
    return p->state == PROBE_ARMED && p->half && (int32_t)(probe_call.now - p->renew) >= 0;
}

static inline bool probe_is_due(const struct probe *p)
{
    return (int32_t)(probe_call.now - p->due) >= 0;
}

#endif
