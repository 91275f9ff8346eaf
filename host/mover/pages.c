// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * move_pages(2) in batches: see pages.h.
 *
 * What the call is like, and what follows:
 *
 *   - It answers for each page: the node it is on, or an error. Its own return value is 0, or above 0 if
 *     some pages stayed where they are, or an error; and then it has stopped somewhere on the way,
 *     and not every answer was written. So answers are not believed: after each call the pages are
 *     asked where they are (the call without nodes), and an answer only tells why one stayed.
 *   - A page of a huge page stands for all of it. The second page of one that is on its way is "busy".
 *     So what PAGEMAP_SCAN tells to be huge is addressed once; other large folios are seen to have
 *     moved when they are asked where they are.
 *   - Pages that are already there, absent or zero split the work into small pieces: each piece is a
 *     flush of every CPU's TLB. They are left out.
 *   - Each call drains all CPUs' page lists first. So a batch has many pages.
 *   - A pid is a number. The process is looked at through its pidfd before and after each call: as long
 *     as it had not ended before, the pid was its own.
 *
 *   - It gives up where it flushes a piece of which a page cannot be moved; what comes behind has not
 *     had its turn. A piece ends at a page with an answer of its own, as the second one of a large
 *     folio: so one pinned folio would keep all behind it from ever moving.
 *
 * What the kernel refused (busy: pinned, or in use for I/O) is left to the caller, for later; what had no
 * turn is tried at once. Each call takes its part out of the batch, and the last ones come in its place:
 * so this ends, and both ends of a batch have their turn if there are not calls enough for all of it.
 *
 * mbind(2) is not used: it can only name the caller's own memory, and its policy for a shared file
 * would replace the one that QEMU's operator gave with host-nodes=.
 */
#include "host/mover/pages.h"
#include "common/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define BATCH       4096        /* pages, or huge pages, in one call: 16 MiB and more */
#define PASSES      64          /* calls for one batch at most */
#define REGIONS     128
#define HUGE_BYTES  (2u << 20)
#define NODES       1024
#define FOLIO_BYTES (64u << 10) /* of a large folio that pagemap does not show, usually */
#define NO_ANSWER   G_MININT    /* no errno value, no node */
#define NO_TURN     (-ECANCELED)

/* What is being worked on is [0, n); what had its turn and stays is [BATCH - left, BATCH). */
struct batch {
    guint n, left;
    void *at[BATCH];
    int node[BATCH], status[BATCH], why[BATCH];
    guint32 weight[BATCH];      /* pages it stands for */
    guint32 owner[BATCH];       /* index of what it was wanted for */
};

struct pages {
    pid_t pid;
    int pidfd, pagemap;         /* pagemap -1: every page is addressed */
    const struct tiers *tiers;
    int flags;                  /* MPOL_MF_MOVE_ALL until that is refused */
    bool full[NODES];           /* had no memory left in this run */
    guint64 blocked;            /* address at which the last call gave up; 0: it did not */
    guint8 tier_of[NODES];      /* tiers->n: of none */
    const struct pages_want *want;
    struct pages_got *got;
    struct batch batch;
};

/* --- the process --------------------------------------------------------------------------------------- */

static bool has_ended(const struct pages *p)
{
    struct pollfd fd = { .fd = p->pidfd, .events = POLLIN };

    return poll(&fd, 1, 0) > 0;
}

static int ended(const struct pages *p, struct vt_err *err)
{
    return vt_fail(err, ESRCH, "process %d has ended, or is ending", (int)p->pid);
}

/* What the whole call failed with, and what can be done about it. */
static int failed(struct pages *p, int e, struct vt_err *err)
{
    /* EINVAL: it has no memory; a process that is ending loses that well before it has ended. */
    if (e == ESRCH || e == EINVAL || has_ended(p))
        return ended(p, err);
    switch (e) {
    case EPERM:
        return vt_fail(err, e, "move_pages: not permitted for process %d: run vmtierd as its user, or "
                       "with CAP_SYS_PTRACE", (int)p->pid);
    case EACCES:
        return vt_fail(err, e, "move_pages: the cpuset of process %d has not all nodes of the tiers: "
                       "add them to its cgroup's cpuset.mems", (int)p->pid);
    case ENODEV:
        return vt_fail(err, e, "move_pages: a node of the tiers is not there or has no memory any more");
    default:
        return vt_fail(err, e, "move_pages of process %d: %s", (int)p->pid, g_strerror(e));
    }
}

/* --- nodes --------------------------------------------------------------------------------------------- */

static guint tier_of(const struct pages *p, int node)
{
    return node >= 0 && node < NODES ? p->tier_of[node] : p->tiers->n;
}

/* The node of the tier with most free memory, of those not found full: so a tier's nodes fill evenly.
 * -1: all are full. */
static int pick_node(const struct pages *p, int tier)
{
    long long most = -1;
    int best = -1;

    for (int node = 0; node < NODES; node++) {
        long long here = 0;

        if (p->tier_of[node] != tier || p->full[node] || numa_node_size64(node, &here) < 0)
            continue;
        if (here > most) {
            most = here;
            best = node;
        }
    }
    return best;
}

char *pages_why_not(const struct tiers *tiers)
{
    const struct tier *at[NODES] = { NULL };

    for (guint t = 0; t < tiers->n; t++) {
        const struct tier *tier = &tiers->tier[t];

        if (!tier->mask)
            return g_strdup_printf("tier %s has no NUMA node: memory can only be moved between nodes "
                                   "without the plugin", tier->name);
        for (unsigned node = 0; node < MIN(tier->mask->size, (unsigned)NODES); node++) {
            if (!numa_bitmask_isbitset(tier->mask, node))
                continue;
            if (at[node])
                return g_strdup_printf("node %u is in the tiers %s and %s: without the plugin a node "
                                       "is in one tier", node, at[node]->name, tier->name);
            at[node] = tier;
        }
    }
    return NULL;
}

static void map_nodes(struct pages *p)
{
    memset(p->tier_of, (int)p->tiers->n, sizeof(p->tier_of));
    for (guint t = p->tiers->n; t-- > 0;)
        for (unsigned node = 0; p->tiers->tier[t].mask && node < NODES; node++)
            if (node < p->tiers->tier[t].mask->size &&
                numa_bitmask_isbitset(p->tiers->tier[t].mask, node))
                p->tier_of[node] = (guint8)t;
}

struct pages *pages_new(pid_t pid, int pidfd, const struct tiers *tiers)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int)pid);
    struct pages *p = g_new0(struct pages, 1);

    p->pid = pid;
    p->pidfd = pidfd;
    p->tiers = tiers;
    p->flags = MPOL_MF_MOVE_ALL;
    p->pagemap = open(path, O_RDONLY | O_CLOEXEC);
    map_nodes(p);
    return p;
}

void pages_free(struct pages *p)
{
    if (!p)
        return;
    if (p->pagemap >= 0)
        close(p->pagemap);
    g_free(p);
}

bool pages_may_move_shared(const struct pages *p)
{
    return p->flags == MPOL_MF_MOVE_ALL;
}

/* --- what is there ---------------------------------------------------------------------------------------- */

/* Where the page of this size that holds `at` ends. */
static guint64 page_end(guint64 at, guint64 size)
{
    return (at & ~(size - 1)) + size;
}

/* Adds the pages of [at, end) while there is room; returns how far it came. */
static guint64 add_pages(struct batch *b, guint32 owner, guint64 at, guint64 end, guint64 size)
{
    while (at < end && b->n < BATCH) {
        guint64 next = MIN(page_end(at, size), end);

        b->at[b->n] = (void *)(uintptr_t)at;
        b->weight[b->n] = (guint32)((next - at) / PAGE_BYTES);
        b->owner[b->n++] = owner;
        at = next;
    }
    return at;
}

/* The same for what is present there, as pagemap tells; 0: it does not tell. */
static guint64 add_present(struct pages *p, guint32 owner, guint64 at, guint64 end, guint64 size)
{
    const guint64 largest = MAX(size, HUGE_BYTES);
    struct page_region region[REGIONS];
    struct pm_scan_arg scan = {
        .size = sizeof(scan), .start = at, .end = end, .vec = (uintptr_t)region, .vec_len = REGIONS,
        /* No further than there is room, but for one huge page, which is not told in parts. */
        .max_pages = MAX(BATCH - p->batch.n, largest / PAGE_BYTES),
        .category_mask = PAGE_IS_PRESENT,
        .return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE | PAGE_IS_PFNZERO,
    };
    int n = ioctl(p->pagemap, PAGEMAP_SCAN, &scan);

    if (n < 0)
        return 0;
    for (int i = 0; i < n; i++) {
        const struct page_region *r = &region[i];
        bool huge = r->categories & PAGE_IS_HUGE;
        guint64 done;

        if (r->categories & PAGE_IS_PFNZERO)
            continue;
        done = add_pages(&p->batch, owner, r->start, r->end, huge ? largest : size);
        if (done < r->end)
            return done;
    }
    return scan.walk_end;
}

static guint64 list(struct pages *p, guint32 owner, guint64 at, guint64 end)
{
    guint64 size = p->want[owner].page_size, next = 0;

    while (at < end && p->batch.n < BATCH) {
        if (p->pagemap >= 0)
            next = add_present(p, owner, at, end, size);
        if (next <= at)             /* a kernel before 6.7, or one that does not let us look */
            next = add_pages(&p->batch, owner, at, end, size);
        at = next;
    }
    return at;
}

/* --- where it is, and moving it ----------------------------------------------------------------------------- */

static int ask_where(struct pages *p, struct vt_err *err)
{
    struct batch *b = &p->batch;

    if (!b->n)
        return 0;
    if (has_ended(p))
        return ended(p, err);
    if (move_pages(p->pid, b->n, b->at, NULL, b->status, 0) < 0)
        return failed(p, errno, err);
    return has_ended(p) ? ended(p, err) : 0;
}

static void keep(struct batch *b, guint i, guint at)
{
    b->at[at] = b->at[i];
    b->status[at] = b->status[i];
    b->why[at] = b->why[i];
    b->weight[at] = b->weight[i];
    b->owner[at] = b->owner[i];
}

/* Puts one aside. The last one comes in its place, so go through them from behind. */
static void put_aside(struct batch *b, guint i, int why)
{
    void *at = b->at[i];
    guint32 weight = b->weight[i], owner = b->owner[i];
    guint to;

    b->n--;
    keep(b, b->n, i);
    to = BATCH - ++b->left;
    b->at[to] = at;
    b->why[to] = why;
    b->weight[to] = weight;
    b->owner[to] = owner;
}

/* Only what is still elsewhere stays in the batch. */
static void settle(struct pages *p, bool moved)
{
    struct batch *b = &p->batch;
    guint kept = 0;

    for (guint i = 0; i < b->n; i++) {
        struct pages_got *got = &p->got[b->owner[i]];
        int tier = p->want[b->owner[i]].tier;
        guint in;

        if (b->status[i] < 0)       /* ENOENT: nothing is there; EFAULT: the zero page, or unmapped */
            continue;
        in = tier_of(p, b->status[i]);
        if (tier != PAGES_STAY && in != (guint)tier) {
            keep(b, i, kept++);
            continue;
        }
        got->in[in] += b->weight[i];
        got->moved += moved ? b->weight[i] : 0;
    }
    b->n = kept;
}

/* Whether it is of the folio, presumably, that the last call could not move. */
static bool is_blocked(const struct pages *p, guint i)
{
    return p->blocked && ((uintptr_t)p->batch.at[i] ^ p->blocked) < FOLIO_BYTES;
}

/* Is the page at which the last call gave up still there? Else it went with its folio. */
static void check_blocked(struct pages *p)
{
    const struct batch *b = &p->batch;

    for (guint i = 0; p->blocked && i < b->n; i++)
        if ((uintptr_t)b->at[i] == p->blocked)
            return;
    p->blocked = 0;
}

static void leave_refused(struct pages *p)
{
    struct batch *b = &p->batch;

    check_blocked(p);
    for (guint i = b->n; i-- > 0;) {
        if (b->why[i] == NO_TURN && is_blocked(p, i))
            b->why[i] = -EBUSY;
        if (b->why[i] != NO_TURN && b->why[i] != -ENOMEM)
            put_aside(b, i, b->why[i]);
    }
}

/* Where each is to go; those whose tier has no node with room left are put aside. */
static void aim(struct pages *p)
{
    struct batch *b = &p->batch;
    int node[VT_TIERS] = { 0 };

    for (guint t = 0; t < p->tiers->n; t++)
        node[t] = pick_node(p, (int)t);
    for (guint i = b->n; i-- > 0;)
        if (node[p->want[b->owner[i]].tier] < 0)
            put_aside(b, i, -ENOMEM);
    for (guint i = 0; i < b->n; i++)
        b->node[i] = node[p->want[b->owner[i]].tier];
}

/* The answers end here; 0: there are none. */
static guint answered(const struct batch *b)
{
    guint n = b->n;

    while (n && b->status[n - 1] == NO_ANSWER)
        n--;
    return n;
}

/*
 * Notes for each page why it might still be where it was. `rc`: what the call returned. If that is more
 * than there are pages behind the last answer, these had no turn; else the last piece was tried, too.
 */
static void note_answers(struct pages *p, long rc, int e)
{
    struct batch *b = &p->batch;
    guint last = answered(b), tried = rc > (long)(b->n - last) ? last : b->n;
    bool marked = false;

    p->blocked = tried < b->n && b->status[last - 1] == -EBUSY ? (uintptr_t)b->at[last - 1] : 0;
    for (guint i = 0; i < b->n; i++) {
        int answer = b->status[i];

        if (answer != NO_ANSWER) {
            b->why[i] = answer < 0 ? answer : -EBUSY;
            continue;
        }
        b->why[i] = e ? -e : i < tried ? -EBUSY : NO_TURN;
        if (e == ENOMEM && !marked)             /* the first without an answer is where it stopped */
            p->full[b->node[i]] = marked = true;
    }
}

static int move(struct pages *p, struct vt_err *err)
{
    struct batch *b = &p->batch;
    long rc;
    int e;

    for (guint i = 0; i < b->n; i++)
        b->status[i] = NO_ANSWER;
    if (has_ended(p))
        return ended(p, err);
    rc = move_pages(p->pid, b->n, b->at, b->node, b->status, p->flags);
    if (rc < 0 && errno == EPERM && p->flags == MPOL_MF_MOVE_ALL) {
        /* Without CAP_SYS_NICE: only what no other process has mapped. */
        rc = move_pages(p->pid, b->n, b->at, b->node, b->status, MPOL_MF_MOVE);
        if (rc >= 0 || errno != EPERM)
            p->flags = MPOL_MF_MOVE;
    }
    e = rc < 0 ? errno : 0;
    note_answers(p, rc, e);
    return !e || e == ENOMEM ? 0 : failed(p, e, err);
}

/* One call for what is left of the batch. */
static int pass(struct pages *p, struct vt_err *err)
{
    int rc, moved;

    aim(p);
    if (!p->batch.n)
        return 0;
    moved = move(p, err);
    if (moved == -ESRCH)
        return moved;
    rc = ask_where(p, moved ? NULL : err);
    if (moved || rc)
        return moved ? moved : rc;
    settle(p, true);
    leave_refused(p);
    return 0;
}

/* Where what stays is in the end: some may have gone along with others of their folio. */
static int count_left(struct pages *p, struct vt_err *err)
{
    struct batch *b = &p->batch;
    int rc;

    while (b->n)
        put_aside(b, b->n - 1, -EAGAIN);        /* there were not calls enough for it */
    for (guint i = 0; i < b->left; i++)
        keep(b, BATCH - b->left + i, i);
    b->n = b->left;
    rc = ask_where(p, err);
    if (!rc)
        settle(p, true);
    for (guint i = 0; i < b->n && !rc; i++) {
        struct pages_got *got = &p->got[b->owner[i]];

        got->in[tier_of(p, b->status[i])] += b->weight[i];
        got->left += b->weight[i];
        /* Of several reasons the one that will not pass by itself. */
        if (!got->why || got->why == EBUSY)
            got->why = -b->why[i];
    }
    return rc;
}

static int run_batch(struct pages *p, struct vt_err *err)
{
    int rc = ask_where(p, err);

    if (!rc)
        settle(p, false);
    for (int i = 0; !rc && p->batch.n && i < PASSES; i++)
        rc = pass(p, err);
    if (!rc)
        rc = count_left(p, err);
    p->batch.n = p->batch.left = 0;
    return rc;
}

int pages_run(struct pages *p, const struct pages_want *want, struct pages_got *got, guint n,
              struct vt_err *err)
{
    guint first = 0;            /* of those whose pages are in the batch */
    int rc = 0;

    p->want = want;
    p->got = got;
    p->batch.n = p->batch.left = 0;
    memset(p->full, 0, sizeof(p->full));
    memset(got, 0, n * sizeof(*got));
    for (guint i = 0; !rc && i < n; i++) {
        guint64 at = want[i].at, end = at + want[i].length;

        while (!rc && at < end) {
            at = list(p, i, at, end);
            if (p->batch.n == BATCH)
                rc = run_batch(p, err);
        }
        for (; p->batch.n == 0 && first <= i && !rc; first++)
            got[first].known = true;
    }
    if (!rc && p->batch.n)
        rc = run_batch(p, err);
    for (; first < n && !rc; first++)
        got[first].known = true;
    return rc;
}
