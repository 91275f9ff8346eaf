// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "refault", run as survival probes.
 *
 * Each granule has one probe: a stretch that was unmapped with MADV_DONTNEED (the data stays in the
 * file) and is polled until half of its pages have been touched again. Then, or rather when its back-off
 * is over, the next stretch of the granule is armed. A touched page is one event. An armed page
 * contributes its time to the exposure, a touched one the time until it was touched, which lies between
 * two polls: their geometric mean is taken. Events over exposure estimate the rate at which a page is
 * visited.
 *
 * A page may be visited thousands of times a second, and the rest of its granule never: so whatever is
 * silent grows, until all of the granule is armed.
 *   quick   16 KiB, of a granule that is busy or not known yet: what is touched costs the guest a fault
 *   wide    32 KiB, of one that has been silent for longer than usual: a better tripwire
 *   whole   all of it (2 MiB of it, if it is larger) if that is silent, too. One touch is enough then, and
 *           comes early if there is anything in it that is used much: polls follow at once, in growing
 *           steps. If many pages turn out to be in use, it is quick's again.
 * A mapping of 2 MiB (or a larger page of hugetlb) is a stretch of its own. Unmapping a part of one
 * unmaps it all, and one touch maps it all again: one event, of 512 pages that were armed. It is followed
 * closely, too. It is never split up to look closer: that would cost the guest more than all of its probes
 * do (bench/track).
 *
 * A cold granule's probe stays armed, and so does one that is used now and then, with what is left of it: it
 * is renewed out of what the busy ones and those that are not known yet leave of the budget. Silent probes
 * are polled ever less often, unless the kernel has counted page faults that nobody has seen the touches of
 * (refault-cost.h). A busy granule's probe is armed less often the longer its rate agrees with itself. There
 * is no interval to tune; a call's work is bounded by two budgets, our CPU time and the guest's, and each
 * goes on where it ended.
 *
 * This works only inside a VMA that is registered with userfaultfd: elsewhere the kernel maps
 * sixteen pages around a read fault and one touch looks like many.
 *
 * Times are microseconds and wrap; a pause that could wrap them makes all probes new.
 */
#include "vmm/refault.h"
#include "common/clock.h"
#include "vmm/refault-cost.h"
#include "vmm/refault-probe.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FOLLOW_US     1000000u      /* a granule that follows another looks again whether it still does */
#define REPORT_US     1000000u      /* a silent probe reports its exposure so often */
#define WEIGHT        4             /* pages, at most, that a granule's report counts for */
#define LONG_US       600000000u    /* no harvest for so long: all is new */
#define CHUNK         64u           /* granules per hold of ram_lock() */
#define GAP           (32ull << 20) /* what may lie between two probes that are polled together */
#define FRESH         256u          /* stretches of huge mappings that are followed closely, ... */
#define FOLLOW_FIRST  250u          /* ... so many us after they were armed; doubles */
#define FOLLOW_LAST   8000u

#define NOBODY        UINT32_MAX

static struct probe *probes;        /* [VT_GRANULES_MAX], reserved address space */

/*
 * A pass over all granules, from one of them round to it again. It may take several harvests, as our time
 * allows. The next one begins where the guest's budget was not enough any more: if each began at the same
 * granule, those behind it would get what is left, which is nothing as long as those before it are busy.
 */
static struct {
    uint32_t from, at;
    uint32_t hungry;                /* the first that wanted to be armed in vain, or NOBODY */
    uint32_t waiting;               /* the first that left what budget there was to others, or NOBODY */
    bool under_way, round;          /* ... and beyond the last granule, at the first again */
    bool alarmed;                   /* it has looked at silent ones from its start */
} pass;

/* Stretches of huge mappings that this harvest has armed. */
static struct fresh {
    uint32_t first, n;              /* granules */
} fresh[FRESH];
static unsigned n_fresh;

int refault_init(struct vt_err *err)
{
    void *p;

    if (probes)
        return 0;
    if (pagemap_init(err))
        return -ENODEV;
    p = mmap(NULL, VT_GRANULES_MAX * sizeof(struct probe), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return vt_fail(err, errno, "reserving the probe table: %s", strerror(errno));
    probes = p;
    return 0;
}

static uint32_t now_us(void)
{
    return (uint32_t)(clock_ns(CLOCK_MONOTONIC) / 1000u);
}

/* --- several at once ------------------------------------------------------------------------------ */

/* Huge mappings are looked at, and unmapped, by the stretch. */
static struct batch {
    unsigned n;
    uint32_t granule[CHUNK];
    struct pagemap_range range[CHUNK];
} batch;

static void batch_add(const struct ram_block *b, uint32_t granule)
{
    batch.granule[batch.n] = granule;
    batch.range[batch.n++] = probe_range(b, granule, &probes[granule]);
}

/* How many, from i on, have no more than `gap` bytes of huge mappings between each other. */
static unsigned batch_run(unsigned i, uint64_t gap)
{
    unsigned n = 1;

    gap = probes[batch.granule[i]].huge ? gap : 0;
    while (i + n < batch.n && (uint64_t)(batch.range[i + n].start - batch.range[i + n - 1].start) <=
                                  batch.range[i + n - 1].length + gap)
        n++;
    return n;
}

static void batch_poll(void)
{
    for (unsigned i = 0, n; i < batch.n; i += n) {
        n = batch_run(i, GAP);
        if (pagemap_look(&batch.range[i], n))
            continue;
        probe_call.now = now_us();
        for (unsigned k = i; k < i + n; k++)
            probe_poll(&probes[batch.granule[k]], &batch.range[k]);
    }
    batch.n = 0;
}

/* What there is budget for; they are touched one by one. */
static unsigned pay_for(unsigned n)
{
    unsigned k = 0;

    while (k < n && refault_cost_pay(1, true))
        k++;
    return k;
}

/* --- arming ------------------------------------------------------------------------------------- */

static void go_hungry(uint32_t granule)
{
    if (pass.hungry == NOBODY)
        pass.hungry = granule;
}

static bool unmap(uint8_t *start, uint64_t length)
{
    uint64_t from = cpu_ns();

    if (madvise(start, length, MADV_DONTNEED))
        return false;
    refault_cost_unmapped(cpu_ns() - from);
    return true;
}

static void follow_closely(uint32_t first, uint32_t last)
{
    struct fresh *f = n_fresh ? &fresh[n_fresh - 1] : NULL;

    if (f && f->first + f->n == first && last - f->first < CHUNK)
        f->n += last - first + 1;
    else if (n_fresh < FRESH)
        fresh[n_fresh++] = (struct fresh){ first, last - first + 1 };
}

static void batch_arm(void)
{
    for (unsigned i = 0, n, paid; i < batch.n; i += n) {
        const struct pagemap_range *last;

        n = batch_run(i, 0);
        paid = pay_for(n);
        if (paid < n)
            go_hungry(batch.granule[i + paid]);
        if (!paid)
            break;
        last = &batch.range[i + paid - 1];
        if (!unmap(batch.range[i].start, (uint64_t)(last->start + last->length - batch.range[i].start)))
            continue;
        probe_call.now = now_us();
        for (unsigned k = i; k < i + paid; k++)
            probe_start(&probes[batch.granule[k]], &batch.range[k]);
        follow_closely(batch.granule[i], batch.granule[i + paid - 1]);
    }
    batch.n = 0;
}

/* Without PAGEMAP_SCAN: a mapping of 2 MiB goes as a whole, and so does a page beside the stretch. */
static bool is_mapped_beside(const struct pagemap_range *r)
{
    struct pagemap_range page = { .start = r->start - REFAULT_PAGE, .length = REFAULT_PAGE };

    if ((uintptr_t)r->start % REFAULT_HUGE == 0)
        page.start = r->start + r->length;
    return pagemap_look(&page, 1) == 0 && page.bytes;
}

static bool arm_small(struct probe *p, uint32_t granule, const struct pagemap_range *r)
{
    const bool blind = r->bytes && !pagemap_tells_huge();
    const bool before = blind && is_mapped_beside(r);
    uint32_t mapped = (uint32_t)(r->bytes / REFAULT_PAGE);

    if (mapped && !refault_cost_pay(p->size == PROBE_WHOLE ? probe_advance(mapped) : mapped, false))
        return false;
    if (mapped && !unmap(r->start, r->length))
        return false;
    probe_call.now = now_us();
    probe_start(p, r);
    if (blind)
        p->huge = before && !is_mapped_beside(r);
    if (p->size == PROBE_WHOLE)
        follow_closely(granule, granule);
    return true;
}

/* A mapping of 2 MiB that reaches over several granules is the first one's to probe. */
static bool is_followers(const struct ram_block *b, uint32_t granule, struct probe *p)
{
    struct pagemap_range r = probe_range(b, granule, p);

    return ram_granule() < REFAULT_HUGE && r.start != b->host + ram_offset(b, granule);
}

/* The first look also tells whether the mapping is a huge one; of a huge one it is known. */
static bool look_before(const struct ram_block *b, uint32_t granule, struct pagemap_range *r)
{
    struct probe *p = &probes[granule];

    *r = probe_range(b, granule, p);
    if (pagemap_look(r, 1))
        return false;
    if (p->size == PROBE_WHOLE && p->life && p->state == PROBE_SPENT && !r->huge) {
        probe_review(p, r);
        if (p->size != PROBE_WHOLE)
            return look_before(b, granule, r);
    }
    p->huge = r->huge;
    return true;
}

static void arm_huge(const struct ram_block *b, uint32_t granule)
{
    struct probe *p = &probes[granule];

    p->size = PROBE_QUICK;
    p->state = PROBE_SPENT;
    p->due = probe_call.now;
    if (!is_followers(b, granule, p)) {
        batch_add(b, granule);
        return;
    }
    p->state = PROBE_FOLLOWS;
    p->huge = false;
    p->due = probe_call.now + FOLLOW_US;
}

/* What it was before is not lost if the larger stretch cannot be had now. */
static void arm(const struct ram_block *b, uint32_t granule, bool grow)
{
    struct probe *p = &probes[granule];
    uint8_t size = p->size;
    struct pagemap_range r;
    bool armed;

    p->huge |= b->page_size >= REFAULT_HUGE;
    p->size = (uint8_t)(size + grow);
    p->life = p->size != size && p->size == PROBE_WHOLE ? 0 : p->life;
    armed = p->huge || look_before(b, granule, &r);
    if (armed && p->huge)
        arm_huge(b, granule);
    else if ((!armed || !arm_small(p, granule, &r)) && grow)
        p->size = size;
}

/* --- one granule ---------------------------------------------------------------------------------- */

static void arm_if_it_is_time(const struct ram_block *b, uint32_t granule)
{
    struct probe *p = &probes[granule];

    if (!refault_cost_guest_left()) {   /* not even a look, which would be in vain for all of them */
        if (p->state != PROBE_ARMED)
            go_hungry(granule);
        return;
    }
    if (probe_may_grow(p)) {
        arm(b, granule, true);
        return;
    }
    if (probe_may_renew(p)) {
        if (!refault_cost_some_left()) {
            pass.waiting = pass.waiting == NOBODY ? granule : pass.waiting;
            return;
        }
        probe_give_up(p);
    } else if (p->state == PROBE_ARMED || (p->state != PROBE_NEW && !probe_is_due(p))) {
        return;
    }
    if (probe_may_be_whole(p)) {
        p->size = PROBE_WHOLE;
        p->life = 0;
    } else if (p->size != PROBE_WHOLE || p->huge) {
        p->size = PROBE_QUICK;
        p->block++;
    }
    arm(b, granule, false);
}

static void emit_all(uint32_t granule, uint32_t n, struct vt_obs *o, obs_fn emit, void *opaque)
{
    for (uint32_t g = granule; g < granule + n; g++) {
        o->granule = g;
        o->tier = ram_tier[g];
        emit(o, opaque);
    }
}

/*
 * What is reported of a granule is worth the time it was watched, however much of it was armed: a second
 * of 512 silent pages must not outweigh what four busy ones have to say a minute later. The rate stays
 * what it is. What is left of an event is kept.
 */
static void weigh(struct probe *p)
{
    double seconds = (probe_call.now - p->reported) / 1e6, exposure = (double)p->exposure / 1e6;
    double f = exposure > WEIGHT * seconds ? WEIGHT * seconds / exposure : 1;

    p->worth += (float)(p->events * f);
    p->worth_ms += (float)(exposure * f * 1000);
    p->events = 0;
    p->exposure = 0;
    p->reported = probe_call.now;
}

static void report(const struct ram_block *b, uint32_t granule, obs_fn emit, void *opaque)
{
    struct probe *p = &probes[granule];
    struct vt_obs o = { .source = VT_SRC_REFAULT };
    uint32_t n = 1;

    if (!p->events && (!p->exposure || probe_call.now - p->reported < REPORT_US))
        return;
    weigh(p);
    o.events = (uint32_t)p->worth;
    o.exposure = (uint32_t)p->worth_ms;
    if (!o.events && !o.exposure)
        return;
    o.exposure += !o.exposure;
    p->worth -= (float)o.events;
    p->worth_ms -= (float)(o.exposure < p->worth_ms ? o.exposure : p->worth_ms);
    if (p->huge && ram_granule() < REFAULT_HUGE)
        n = (uint32_t)(REFAULT_HUGE / ram_granule());
    if (n > b->first + b->count - granule)
        n = b->first + b->count - granule;
    emit_all(granule, n, &o, emit, opaque);
}

/* Neighbours as well, where a mapping can be larger than a granule. */
void refault_forget(uint32_t first, uint32_t n)
{
    uint32_t more = ram_granule() < REFAULT_HUGE ? (uint32_t)(REFAULT_HUGE / ram_granule()) - 1 : 0;
    uint32_t from = first > more ? first - more : 0;
    uint32_t to = first + n < VT_GRANULES_MAX - more ? first + n + more : VT_GRANULES_MAX;

    for (uint32_t g = from; probes && g < to; g++) {
        probes[g].state = PROBE_NEW;
        if (probes[g].size != PROBE_WHOLE)  /* how it is used has not changed */
            probes[g].size = PROBE_QUICK;
        probes[g].huge = false;
    }
}

/* --- the walk --------------------------------------------------------------------------------- */

/* Visits up to CHUNK granules of block b, from where the pass is. Under ram_lock(). */
static void visit(const struct ram_block *b, obs_fn emit, void *opaque)
{
    const bool all = refault_cost_alarm();
    uint32_t end = b->first + b->count, from = pass.at;

    if (pass.round && end > pass.from)
        end = pass.from;
    if (end - from > CHUNK)
        end = from + CHUNK;
    probe_call.now = now_us();
    for (uint32_t g = from; g < end; g++) {
        struct probe *p = &probes[g];
        struct pagemap_range r;

        if (p->state != PROBE_ARMED || (!all && !probe_is_due(p)))
            continue;
        if (p->huge || p->size == PROBE_WHOLE) {
            batch_add(b, g);
            continue;
        }
        r = probe_range(b, g, p);
        if (!pagemap_look(&r, 1))
            probe_poll(p, &r);
    }
    batch_poll();
    for (uint32_t g = from; g < end; g++)
        arm_if_it_is_time(b, g);
    batch_arm();
    for (uint32_t g = from; g < end; g++)
        report(b, g, emit, opaque);
    pass.at = end;
}

/* The block that `at` is in, or the next one behind it. */
static struct ram_block *block_from(uint32_t at)
{
    struct ram_block *next = NULL;

    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->present && b->watched && b->first + b->count > at &&
            (!next || b->first < next->first))
            next = b;
    return next;
}

/* The block that the pass goes on in; NULL: it has come round. */
static struct ram_block *next_block(void)
{
    struct ram_block *b = block_from(pass.at);

    if (!b && !pass.round) {
        pass.round = true;
        pass.at = 0;
        b = block_from(0);
    }
    if (b && pass.at < b->first)
        pass.at = b->first;
    return b && !(pass.round && pass.at >= pass.from) ? b : NULL;
}

static void begin_pass(void)
{
    pass.from = pass.hungry != NOBODY ? pass.hungry : pass.waiting != NOBODY ? pass.waiting : 0;
    pass.at = pass.from;
    pass.hungry = pass.waiting = NOBODY;
    pass.round = false;
    pass.alarmed = refault_cost_alarm();
    pass.under_way = true;
}

static void walk(obs_fn emit, void *opaque)
{
    bool more = true;

    if (!pass.under_way)
        begin_pass();
    while (more && refault_cost_cpu_left()) {
        struct ram_block *b;

        ram_lock();
        b = next_block();
        if (b)
            visit(b, emit, opaque);
        ram_unlock();
        ram_give_way();
        more = b != NULL;
    }
    pass.under_way = more;
    if (!more && pass.alarmed)
        refault_cost_walked();
}

/* --- what has just been armed ----------------------------------------------------------------------- */

static bool is_followed(const struct probe *p)
{
    return p->state == PROBE_ARMED && (p->huge || p->size == PROBE_WHOLE);
}

/* Is any of it still waiting to be touched? */
static bool look_again(const struct fresh *f)
{
    struct ram_block *b;
    bool waiting = false;

    ram_lock();
    b = ram_block_of(f->first);
    for (uint32_t g = f->first; b && b->present && b->watched && g < f->first + f->n; g++)
        if (g < b->first + b->count && is_followed(&probes[g]))
            batch_add(b, g);
    batch_poll();
    for (uint32_t g = f->first; g < f->first + f->n; g++)
        waiting |= is_followed(&probes[g]);
    ram_unlock();
    return waiting;
}

static void follow(void)
{
    uint32_t start_us = now_us();

    for (uint32_t wait = FOLLOW_FIRST; wait <= FOLLOW_LAST && n_fresh; wait *= 2) {
        uint32_t passed = now_us() - start_us;
        unsigned left = 0;

        if (!refault_cost_cpu_left())
            break;
        if (passed < wait)
            usleep(wait - passed);
        for (unsigned i = 0; i < n_fresh; i++)
            if (look_again(&fresh[i]))
                fresh[left++] = fresh[i];
        n_fresh = left;
    }
    n_fresh = 0;
}

/* --- entry ------------------------------------------------------------------------------------------ */

static void forget_all(void)
{
    ram_lock();
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used)
            refault_forget(b->first, b->count);
    ram_unlock();
}

void refault_harvest(uint32_t budget_us, obs_fn emit, void *opaque)
{
    static uint64_t last;
    uint64_t us = clock_ns(CLOCK_MONOTONIC) / 1000;

    if (!probes || !budget_us)
        return;
    if (us - last > LONG_US)
        forget_all();
    last = us;
    probe_call.found = 0;
    refault_cost_begin(budget_us);
    walk(emit, opaque);
    probe_call.following = true;
    follow();
    probe_call.following = false;
    refault_cost_end(probe_call.found);
}

void refault_get_cost(struct refault_cost *cost)
{
    refault_cost_get(&cost->cpu_ns, &cost->vcpu_ns);
    cost->events = probe_call.events;
}
