// SPDX-License-Identifier: GPL-2.0-or-later
/* From page frame numbers to granules: see rmap-table.h. */
#include "host/rmap-table.h"
#include "vmtier/wire.h"

#include <string.h>

#define FRAME_SHIFT  9
#define FRAME_PAGES  (1u << FRAME_SHIFT)
#define STAMP_MASK   0xffffffu
#define NO_FRAME     G_MAXUINT64
#define FEWEST_SLOTS 64u
#define STALE_LEAST  1024u      /* runs; below it is not worth going through all */

/* A run of pages of one frame. */
struct run {
    guint64 first : 9, last : 9, granule : 22, stamp : 24;
};
static_assert(sizeof(struct run) == 8, "rmap: a run");
static_assert((VT_GRANULES_MAX - 1) >> 22 == 0, "rmap: a run has room for any granule");

struct frame {
    guint64 key;                /* page frame number >> FRAME_SHIFT; NO_FRAME: a free slot */
    union {
        struct run one;         /* capacity 0 */
        struct run *many;
    };
    guint16 n, capacity;
};
static_assert(sizeof(struct frame) == 24, "rmap: a frame");

/* A run is live if its stamp is its granule's. */
struct owner {
    guint32 stamp, pages;
};

struct rmap_table {
    struct frame *slot;
    guint64 slots, used;        /* slots: a power of two */
    struct owner *owner;
    guint32 owners;
    guint64 pages, runs, stale; /* pages: of live runs; runs: all; stale: of forgotten granules, a guess */
    guint64 list_bytes;
};

static struct run *runs_of(struct frame *f)
{
    return f->capacity ? f->many : &f->one;
}

static bool is_live(const struct rmap_table *t, const struct run *r)
{
    return t->owner[r->granule].stamp == r->stamp;
}

/* --- slots ------------------------------------------------------------------------------------------------ */

static guint64 slot_of(const struct rmap_table *t, guint64 key)
{
    guint64 at = (key * 0x9e3779b97f4a7c15u >> 20) & (t->slots - 1);

    while (t->slot[at].key != key && t->slot[at].key != NO_FRAME)
        at = (at + 1) & (t->slots - 1);
    return at;
}

static void make_slots(struct rmap_table *t, guint64 slots)
{
    t->slots = slots;
    t->used = 0;
    t->slot = g_new(struct frame, slots);
    for (guint64 i = 0; i < slots; i++)
        t->slot[i].key = NO_FRAME;
}

static void free_list(struct rmap_table *t, struct frame *f)
{
    t->list_bytes -= f->capacity * sizeof(struct run);
    if (f->capacity)
        g_free(f->many);
    f->capacity = 0;
}

/* Gives a frame room for `n` runs, and not for many more. What is in it stays. */
static void reserve(struct rmap_table *t, struct frame *f, guint n)
{
    struct run *was = runs_of(f), *many;
    guint capacity = 0, kept = MIN(f->n, n);

    if (n <= MAX(f->capacity, 1u) && n * 2 > f->capacity)
        return;
    while (n > 1 && capacity < n)
        capacity = MAX(2, capacity * 2);
    if (!capacity) {
        struct run one = *was;

        free_list(t, f);
        f->one = one;
        return;
    }
    many = g_new(struct run, capacity);
    memcpy(many, was, kept * sizeof(*many));
    free_list(t, f);
    f->many = many;
    f->capacity = (guint16)capacity;
    t->list_bytes += capacity * sizeof(struct run);
}

static void drop_stale(struct rmap_table *t, struct frame *f)
{
    struct run *run = runs_of(f);
    guint kept = 0;

    for (guint i = 0; i < f->n; i++)
        if (is_live(t, &run[i]))
            run[kept++] = run[i];
    t->runs -= f->n - kept;
    f->n = (guint16)kept;
    reserve(t, f, kept);
}

/* Moves all that is live to a table of the right size. */
static void renew(struct rmap_table *t)
{
    struct frame *old = t->slot;
    guint64 was = t->slots, live = 0, slots = FEWEST_SLOTS;

    for (guint64 i = 0; i < was; i++) {
        if (old[i].key == NO_FRAME)
            continue;
        drop_stale(t, &old[i]);
        if (old[i].n)
            live++;
        else
            free_list(t, &old[i]);
    }
    while ((live + 1) * 4 > slots * 3)
        slots *= 2;
    make_slots(t, slots);
    for (guint64 i = 0; i < was; i++)
        if (old[i].key != NO_FRAME && old[i].n)
            t->slot[slot_of(t, old[i].key)] = old[i];
    t->used = live;
    t->stale = 0;
    g_free(old);
}

/* The frame, made if need be. */
static struct frame *frame_for(struct rmap_table *t, guint64 key)
{
    guint64 at = slot_of(t, key);

    if (t->slot[at].key == key)
        return &t->slot[at];
    if ((t->used + 1) * 4 > t->slots * 3 || t->stale > MAX(STALE_LEAST, t->runs / 2)) {
        renew(t);
        at = slot_of(t, key);
    }
    t->slot[at] = (struct frame){ .key = key };
    t->used++;
    return &t->slot[at];
}

/* The first of the runs that does not end before this page; n: all do. */
static guint first_from(const struct run *run, guint n, guint page)
{
    guint low = 0;

    while (low < n) {
        guint middle = (low + n) / 2;

        if (run[middle].last < page)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

/* --- runs ------------------------------------------------------------------------------------------------- */

static bool continues(const struct run *r, const struct run *by)
{
    return r->last + 1u == by->first && r->granule == by->granule && r->stamp == by->stamp;
}

struct list {
    guint n;
    struct run run[FRAME_PAGES];
};

static void add_run(struct list *list, struct run r)
{
    struct run *last = list->n ? &list->run[list->n - 1] : NULL;

    if (last && continues(last, &r))
        last->last = r.last;
    else
        list->run[list->n++] = r;
}

/* Adds what is left of a run beside [first, last]; that part is taken from its owner. */
static void add_rest(struct rmap_table *t, struct list *list, struct run r, struct run put, bool before)
{
    guint from = MAX(r.first, put.first), to = MIN(r.last, put.last);

    if (before && r.first < put.first) {
        struct run left = r;

        left.last = MIN(r.last, put.first - 1u);
        add_run(list, left);
    }
    if (!before && r.last > put.last) {
        struct run right = r;

        right.first = MAX(r.first, put.last + 1u);
        add_run(list, right);
    }
    if (before && from <= to) {
        t->owner[r.granule].pages -= to - from + 1;
        t->pages -= to - from + 1;
    }
}

/* Puts a run into a frame that it may meet others in. */
static void merge(struct rmap_table *t, struct frame *f, struct run put)
{
    struct run *run = runs_of(f);
    struct list list;

    list.n = 0;
    for (guint i = 0; i < f->n; i++)
        if (is_live(t, &run[i]))
            add_rest(t, &list, run[i], put, true);
    add_run(&list, put);
    for (guint i = 0; i < f->n; i++)
        if (is_live(t, &run[i]))
            add_rest(t, &list, run[i], put, false);
    t->runs += (gint64)list.n - f->n;
    reserve(t, f, list.n);
    f->n = (guint16)list.n;
    memcpy(runs_of(f), list.run, list.n * sizeof(struct run));
}

/* The usual case: a run that meets no other, not even one that is forgotten. */
static bool insert(struct rmap_table *t, struct frame *f, struct run put)
{
    guint at = first_from(runs_of(f), f->n, put.first);
    struct run *run = runs_of(f);

    if (at < f->n && run[at].first <= put.last)
        return false;
    if (at && continues(&run[at - 1], &put)) {
        run[at - 1].last = put.last;
        return true;
    }
    reserve(t, f, f->n + 1u);
    run = runs_of(f);
    memmove(run + at + 1, run + at, (f->n - at) * sizeof(*run));
    run[at] = put;
    f->n++;
    t->runs++;
    return true;
}

void rmap_table_put(struct rmap_table *t, guint64 pfn, guint64 n, guint32 granule)
{
    g_return_if_fail(granule < t->owners);
    while (n) {
        guint first = pfn % FRAME_PAGES, count = (guint)MIN(n, FRAME_PAGES - first);
        struct run put = { first, first + count - 1, granule, t->owner[granule].stamp };
        struct frame *f = frame_for(t, pfn >> FRAME_SHIFT);

        if (!insert(t, f, put))
            merge(t, f, put);
        t->owner[granule].pages += count;
        t->pages += count;
        pfn += count;
        n -= count;
    }
}

/* --- looking -------------------------------------------------------------------------------------------------- */

/* The run of this page, live, or NULL. */
static const struct run *find(const struct rmap_table *t, guint64 pfn)
{
    struct frame *f = &t->slot[slot_of(t, pfn >> FRAME_SHIFT)];
    const struct run *run = runs_of(f);
    guint page = pfn % FRAME_PAGES, at;

    if (f->key == NO_FRAME)
        return NULL;
    at = first_from(run, f->n, page);
    return at < f->n && run[at].first <= page && is_live(t, &run[at]) ? &run[at] : NULL;
}

bool rmap_table_find(const struct rmap_table *t, guint64 pfn, guint32 *granule)
{
    const struct run *r = find(t, pfn);

    if (r)
        *granule = r->granule;
    return r != NULL;
}

bool rmap_table_holds(const struct rmap_table *t, guint64 pfn, guint64 n, guint32 granule)
{
    while (n) {
        const struct run *r = find(t, pfn);
        guint64 here;

        if (!r || r->granule != granule)
            return false;
        here = MIN(n, r->last - pfn % FRAME_PAGES + 1);
        pfn += here;
        n -= here;
    }
    return true;
}

/* --- granules, life ------------------------------------------------------------------------------------------- */

void rmap_table_forget(struct rmap_table *t, guint32 granule)
{
    struct owner *o;

    if (granule >= t->owners || !t->owner[granule].pages)
        return;
    o = &t->owner[granule];
    t->stale += o->pages * t->runs / MAX(t->pages, 1) + 1;
    t->pages -= o->pages;
    o->pages = 0;
    o->stamp = (o->stamp + 1) & STAMP_MASK;
    if (!o->stamp || t->stale > MAX(STALE_LEAST, t->runs / 2))
        renew(t);               /* also before a stamp comes again */
}

void rmap_table_resize(struct rmap_table *t, guint32 n)
{
    if (n <= t->owners)
        return;
    t->owner = g_renew(struct owner, t->owner, n);
    memset(t->owner + t->owners, 0, (n - t->owners) * sizeof(*t->owner));
    t->owners = n;
}

guint32 rmap_table_pages(const struct rmap_table *t, guint32 granule)
{
    return granule < t->owners ? t->owner[granule].pages : 0;
}

guint64 rmap_table_all_pages(const struct rmap_table *t)
{
    return t->pages;
}

guint64 rmap_table_bytes(const struct rmap_table *t)
{
    return sizeof(*t) + t->slots * sizeof(struct frame) + t->list_bytes + t->owners * sizeof(struct owner);
}

struct rmap_table *rmap_table_new(void)
{
    struct rmap_table *t = g_new0(struct rmap_table, 1);

    make_slots(t, FEWEST_SLOTS);
    return t;
}

void rmap_table_free(struct rmap_table *t)
{
    if (!t)
        return;
    for (guint64 i = 0; i < t->slots; i++)
        if (t->slot[i].key != NO_FRAME)
            free_list(t, &t->slot[i]);
    g_free(t->slot);
    g_free(t->owner);
    g_free(t);
}
