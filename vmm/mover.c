// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The remap mover: lists of moves, cut into runs; see run.c for how one run is moved.
 *
 * Length of runs. A run is one protection, and for as long as it takes writers into it and disk
 * requests into it wait. So it is as long as fits HOLD_NS by what the last ones took, one granule at
 * least. Memory that is bare is neither read nor written by anyone: there is no limit.
 *
 * Pace. With a rate set, a run starts when the bytes of those before have been paid for, and is not
 * longer than the rate has in 20 ms: nothing is ever moved in a burst.
 *
 * Memory. What runs leave behind is spare; a list's later runs take it as their destination. At the
 * end of a list the surplus over `keep` is given back; before, what there was when the list began may
 * wait for it: for each granule that arrives in a tier, a granule's worth less. So neither counts as
 * memory of that tier for longer than it has to, and a run that has to make memory, as what is spare is
 * another block's, gives as much of that back first. What grows past this by SLACK is given back at
 * once. SLACK is small: memory that was just copied from is in the caches, and so is the next run's if
 * it gets it.
 */
#include "vmm/mover.h"
#include "common/clock.h"
#include "vmm/batch.h"
#include "vmm/fence.h"
#include "vmm/maps.h"
#include "vmm/poison.h"
#include "vmm/pool.h"
#include "vmm/run.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define HOLD_NS    400000u              /* what a run may take from protection to wake-up */
#define RUN_MOST   (8ull << 20)         /* longest run by itself */
#define SLACK      (1ull << 20)         /* spare bytes over what may stay while a list is under way */
#define PACE_SPAN  50                   /* a run moves no more than 1/50 s of the rate */

static struct {
    pthread_mutex_t lock;
    struct mover_tuning t;
} tuning = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct {
    _Atomic uint64_t moved[VT_ST_END], pages, runs, cpu_ns;
} stats;

static uint64_t window_ns_per_mib;              /* running mean; under ram_lock() */

static const char *const step_names[] = {
    "find", "populate", "protect", "copy", "map", "register", "map-in", "wake", "punch",
};
static_assert(sizeof(step_names) / sizeof(step_names[0]) == MOVER_STEPS, "a step has no name");

const char *mover_step_name(enum mover_step step)
{
    return step_names[step];
}

/* --- tuning --------------------------------------------------------------------------------------- */

void mover_set_tuning(const struct mover_tuning *t)
{
    pthread_mutex_lock(&tuning.lock);
    tuning.t = *t;
    pthread_mutex_unlock(&tuning.lock);
    ram_lock();
    copy_set_threads(t->threads);
    ram_unlock();
}

void mover_get_tuning(struct mover_tuning *t)
{
    pthread_mutex_lock(&tuning.lock);
    *t = tuning.t;
    pthread_mutex_unlock(&tuning.lock);
}

/* --- one run -------------------------------------------------------------------------------------- */

/* A list under way. */
struct list {
    struct mover_tuning t;
    unsigned flags;
    struct mover_cost *cost;
    uint64_t spare_most[VT_TIERS];      /* bytes of spare memory that may stay for now, SLACK apart */
};

static enum vt_status admissible(const struct vt_move_one *m, const struct ram_block *b)
{
    /* Memory that left the guest may be unmapped already: never map over it. */
    if (!b || !b->present || m->tier >= VT_TIERS || b->file[m->tier] < 0 || !b->watched)
        return VT_ST_INVALID;
    return VT_ST_OK;
}

static bool continues(const struct vt_move_one *first, const struct vt_move_one *next, uint32_t n,
                      const struct ram_block *b)
{
    return next->granule == first->granule + n && next->tier == first->tier &&
           next->granule < b->first + b->count &&
           ram_tier[next->granule] == ram_tier[first->granule];
}

static uint32_t longest_run(const struct mover_tuning *t)
{
    uint64_t ns = window_ns_per_mib, bytes = t->run_bytes;

    if (!bytes)
        bytes = ns ? (uint64_t)HOLD_NS * (1u << 20) / ns : 2u << 20;
    if (!t->run_bytes && bytes > RUN_MOST)
        bytes = RUN_MOST;
    if (t->rate && bytes > t->rate / PACE_SPAN)     /* even where the caller does not wait */
        bytes = t->rate / PACE_SPAN;
    return bytes < ram_granule() ? 1 : (uint32_t)(bytes / ram_granule());
}

/* A long run is for memory that is empty: what has to be copied is copied in short ones. */
static uint32_t limit_bare(const struct ram_block *b, uint32_t granule, uint32_t n, uint32_t most)
{
    uint64_t offset = ram_offset(b, granule), length = n * ram_granule();

    if (length > b->length - offset)
        length = b->length - offset;
    return n <= most || run_is_empty(b, 0, offset, length) ? n : most;
}

static void note_window(const struct run *r)
{
    uint64_t now = r->hold_ns * (1u << 20) / r->length, was = window_ns_per_mib;

    if (!r->bare && r->arrived)
        window_ns_per_mib = was ? was - was / 8 + now / 8 : now;
}

/* The memory that the run makes goes from what is spare in its tier, if it may. */
static void make_room(const struct run *r, const struct list *l)
{
    uint64_t spare = pool_spare(r->to), keep = l->t.keep[r->to], made = 0;

    for (uint32_t p = 0; p < r->n_pieces; p++)
        made += r->piece[p].spare ? 0 : r->piece[p].length;
    if (made && spare > keep)
        pool_trim(r->to, spare - keep > made ? spare - made : keep);
}

/* What has arrived in a tier has had its share of what was spare there. */
static void note_arrived(const struct run *r, struct list *l)
{
    uint64_t *most = &l->spare_most[r->to], bytes = r->arrived * ram_granule();

    *most = *most > l->t.keep[r->to] + bytes ? *most - bytes : l->t.keep[r->to];
}

static enum vt_status move_run(struct run *r, struct list *l)
{
    enum vt_status st;

    if (!maps_take(1))
        return VT_ST_LIMIT;
    if (!run_prepare(r, maps_scarce()))
        return VT_ST_NOMEM;
    make_room(r, l);
    st = run_carry_out(r);
    note_window(r);
    note_arrived(r, l);
    l->cost->pages += r->pages;
    l->cost->cpu_ns += r->helpers_ns;
    stats.runs++;
    return st;
}

static void answer(struct vt_move_one *m, uint32_t n, uint32_t arrived, enum vt_status st,
                   const struct ram_block *b)
{
    for (uint32_t i = 0; i < n; i++) {
        m[i].status = (uint8_t)(i < arrived ? VT_ST_OK : st);
        m[i].tier = b ? ram_tier[m[i].granule] : 0;
        stats.moved[m[i].status]++;
    }
}

/* Carries out the first run of the list; returns how many moves it covered. Under ram_lock(). */
static uint32_t carry_run(struct vt_move_one *m, uint32_t left, struct list *l)
{
    struct ram_block *b = ram_block_of(m->granule);
    enum vt_status st = admissible(m, b);
    uint32_t n = 1, longest, most;
    struct run r;

    run_start(&r, b, m->granule, m->tier);
    if (st == VT_ST_OK) {
        r.from = ram_tier[m->granule];
        r.bare = l->flags & MOVER_FRESH && b->fresh;
        r.through_caches = l->t.through_caches;
        longest = longest_run(&l->t);
        most = r.bare ? b->count : longest;
        while (n < left && n < most && continues(m, &m[n], n, b))
            n++;
        if (r.bare)
            n = limit_bare(b, m->granule, n, longest);
        r.n = n;
        if (r.from != r.to)
            st = move_run(&r, l);
        n = r.n ? r.n : n;
    }
    answer(m, n, r.arrived, st, b);
    return n;
}

/* --- lists of moves ----------------------------------------------------------------------------- */

static uint64_t due_ns;     /* when the next paced run may start; of the link's thread */

static void wait_until_due(void)
{
    struct timespec t = { (time_t)(due_ns / 1000000000u), (long)(due_ns % 1000000000u) };

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static void pay(uint64_t bytes, uint64_t rate)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC);

    due_ns = (due_ns > now ? due_ns : now) + bytes * 1000000000u / rate;
}

/* Under ram_lock(). true: there may be more. */
static bool trim(unsigned tier, uint64_t most, uint64_t slack)
{
    uint64_t start, done;

    if (pool_spare(tier) <= most + slack)
        return false;
    start = clock_ns(CLOCK_MONOTONIC);
    done = pool_trim(tier, most);
    run_add_step(STEP_PUNCH, clock_ns(CLOCK_MONOTONIC) - start);
    return done > 0;
}

void mover_trim(const uint64_t most[VT_TIERS])
{
    for (unsigned tier = 0; tier < VT_TIERS; tier++)
        for (bool more = true; more;) {
            ram_lock();
            more = trim(tier, most[tier], 0);
            ram_unlock();
            ram_give_way();
        }
}

static void refuse_one(struct vt_move_one *m)
{
    m->status = VT_ST_FROZEN;
    m->tier = m->granule < VT_GRANULES_MAX ? ram_tier[m->granule] : 0;
    stats.moved[VT_ST_FROZEN]++;
}

/*
 * One run under the lock, or a batch of short ones. Once more: who froze it relies on nothing moving
 * afterwards.
 */
static uint32_t next_runs(struct vt_move_one *m, uint32_t left, struct list *l)
{
    uint32_t batch = 0, ready = 0, done = 0;

    ram_lock();
    if (poison_is_new())
        pool_forget_mapped();
    if (!mover_is_frozen() && !(l->flags & MOVER_FRESH))
        batch = batch_begin(m, left, l->t.rate ? l->t.rate / PACE_SPAN : UINT64_MAX);
    do {
        if (mover_is_frozen())
            break;
        if (done >= ready && done < batch)
            ready = done + batch_ahead(&m[done], batch - done);
        done += carry_run(&m[done], left - done, l);
        for (unsigned tier = 0; tier < VT_TIERS; tier++)
            trim(tier, l->spare_most[tier], SLACK);
    } while (done < batch);
    batch_end();
    ram_unlock();
    return done;
}

static void carry_list(struct vt_move_one *moves, uint32_t n, struct list *l)
{
    bool paced = l->t.rate && l->flags & MOVER_PACED;

    for (uint32_t i = 0; i < n;) {
        uint32_t done;

        if (mover_is_frozen()) {
            refuse_one(&moves[i++]);
            continue;
        }
        if (paced)
            wait_until_due();
        done = next_runs(&moves[i], n - i, l);
        if (paced)
            pay(done * ram_granule(), l->t.rate);
        i += done;
        ram_give_way();
    }
}

void mover_carry_out(struct vt_move_one *moves, uint32_t n, unsigned flags,
                     struct mover_cost *cost)
{
    uint64_t start = cpu_ns();
    struct list l = { .flags = flags, .cost = cost };

    mover_get_tuning(&l.t);
    if (flags & MOVER_TIDY)
        memset(l.t.keep, 0, sizeof(l.t.keep));
    for (unsigned tier = 0; tier < VT_TIERS; tier++) {
        uint64_t spare = pool_spare(tier);

        l.spare_most[tier] = spare > l.t.keep[tier] ? spare : l.t.keep[tier];
    }
    *cost = (struct mover_cost){ 0 };
    carry_list(moves, n, &l);
    mover_trim(l.t.keep);
    cost->cpu_ns += cpu_ns() - start;
    stats.pages += cost->pages;
    stats.cpu_ns += cost->cpu_ns;
}

void mover_give_back(void)
{
    static const struct mover_tuning none;

    mover_set_tuning(&none);
    mover_trim(none.keep);
}

int mover_watch(struct ram_block *b, struct vt_err *err)
{
    int rc;

    if (b->watched)
        return 0;
    rc = ram_need_flags(b);
    if (rc)
        return vt_fail(err, -rc, "block %s: /proc/self/smaps: %s", b->name, strerror(-rc));
    rc = uffd_register(b->host, b->length);
    if (rc == -EBUSY)
        return vt_fail(err, EBUSY, "block %s is already under userfaultfd (postcopy or background "
                       "snapshot): tiering waits until that ends", b->name);
    if (rc)
        return vt_fail(err, -rc, "block %s: UFFDIO_REGISTER: %s", b->name, strerror(-rc));
    b->watched = true;
    return 0;
}

void mover_get_stats(struct mover_stats *out)
{
    for (int i = 0; i < VT_ST_END; i++)
        out->moved[i] = stats.moved[i];
    out->pages = stats.pages;
    out->runs = stats.runs;
    out->cpu_ns = stats.cpu_ns;
    run_get_steps(out->step_ns);
    for (unsigned t = 0; t < VT_TIERS; t++)
        out->spare[t] = pool_spare(t);
}
