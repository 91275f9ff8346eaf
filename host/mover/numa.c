// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mover "numa": for VMs whose QEMU has no plugin, and tiers that are NUMA nodes. The kernel moves the
 * pages, with move_pages(2) (pages.c); QEMU and the guest need to know nothing, and pages that are in use
 * for I/O the kernel refuses one by one.
 *
 * What is different from remap, and how it is dealt with:
 *
 *   - Memory comes to be where the kernel puts it when the guest first touches it. So there is no first
 *     placement, and what is above the quota is moved out afterwards, at the rate. A census asks
 *     where pages are, a part of RAM in each round, within the budget of CPU time that a scan has; the
 *     ledger has each granule in the tier where most of its pages were, and one without pages in none.
 *   - A granule can move in part. Then its status is that of the pages that stay, the ledger has it where
 *     most of it is, and the rest is tried again later, each time after twice as long. A granule of
 *     which nothing moves is left alone for as long (`ready`).
 *   - What no page can get past (no permission, a cpuset without the node) freezes the VM with the reason;
 *     now and then it is tried again.
 *   - Nobody says when memory goes: its mappings are looked at every other second. Memory that is plugged
 *     in later is not seen until the VM is attached anew.
 *
 * `in` has, for each granule, the pages in each tier and, last, those on nodes of no tier. These count as
 * dram when it comes to where the granule is: they are not on the slow tier's nodes.
 */
#include "host/mover/numa-internal.h"
#include "common/clock.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define CHUNK       64          /* granules at a time */
#define LOOK_PAGES  4096        /* and of the census, in pages */
#define HOLD_MOST_S 64          /* the longest a granule is left alone */
#define THAW_S      10          /* a frozen VM is tried again after so long, then twice as long */
#define THAW_MOST_S 640
#define HOME_S      3           /* going home is given up when nothing has moved for so long */
#define STRAGGLERS  4096        /* granules that wait for their last pages; more are found by the census */

/* --- granules ------------------------------------------------------------------------------------------- */

static guint tiers_of(const struct vm *vm)
{
    return vm->daemon->tiers->n;
}

static const char *tier_name(const struct vm *vm, guint tier)
{
    return vm->daemon->tiers->tier[tier].name;
}

/* False: no block has it. */
static bool where_is(const struct vm *vm, guint32 granule, struct pages_want *want)
{
    const struct numa *n = vm->mover_state;

    for (guint32 i = 0; i < VT_BLOCKS; i++) {
        const struct vm_block *b = &vm->block[i];
        guint64 offset;

        if (!b->present || granule < b->first || granule - b->first >= b->count)
            continue;
        offset = (granule - b->first) * vm->config.granule;
        want->at = n->at[i] + offset;
        want->length = MIN(vm->config.granule, b->length - offset);
        want->page_size = b->page_size;
        return true;
    }
    return false;
}

static guint8 most_in(const struct vm *vm, const guint32 *in)
{
    guint tiers = tiers_of(vm);
    guint32 most = in[0] + in[tiers];
    guint8 tier = most ? 0 : LEDGER_NONE;

    for (guint t = 1; t < tiers; t++)
        if (in[t] > most) {
            most = in[t];
            tier = (guint8)t;
        }
    return tier;
}

void numa_book(struct vm *vm, guint32 granule, const guint32 *in)
{
    struct numa *n = vm->mover_state;
    guint slots = tiers_of(vm) + 1;
    guint32 *old = &n->in[(gsize)granule * slots];

    for (guint t = 0; t < slots; t++)
        n->bytes[t] += ((guint64)in[t] - old[t]) * PAGE_BYTES;
    memcpy(old, in, slots * sizeof(*in));
    ledger_put(&vm->ledger, granule, most_in(vm, in));
}

static guint64 bytes(const struct vm *vm, guint tier)
{
    const struct numa *n = vm->mover_state;

    return n ? n->bytes[tier] : 0;
}

/* --- what does not move --------------------------------------------------------------------------------- */

static const struct {
    int why;
    enum vt_status status;
    const char *text;
} reasons[] = {
    { EBUSY, VT_ST_BUSY, "in use: pinned, or under I/O" },
    { EAGAIN, VT_ST_AGAIN, "the kernel asks to try again" },
    { ENOMEM, VT_ST_NOMEM, "the tier's nodes have no memory left" },
    { EACCES, VT_ST_ERROR, "another process has it mapped, too: vmtierd needs CAP_SYS_NICE" },
};

static enum vt_status status_of(int why, const char **text)
{
    for (size_t i = 0; i < G_N_ELEMENTS(reasons); i++)
        if (reasons[i].why == why) {
            *text = reasons[i].text;
            return reasons[i].status;
        }
    *text = g_strerror(why);
    return VT_ST_ERROR;
}

static bool ready(const struct vm *vm, guint32 granule)
{
    const struct numa *n = vm->mover_state;

    return !n->cell[granule].level || vm->clock >= n->cell[granule].until;
}

static void list_straggler(struct numa *n, guint32 granule)
{
    struct cell *c = &n->cell[granule];

    if (c->want == LEDGER_NONE || c->listed || n->stragglers->len >= STRAGGLERS)
        return;
    c->listed = true;
    g_array_append_val(n->stragglers, granule);
}

/* Not all of it arrived. */
static void hold(struct vm *vm, guint32 granule, guint8 tier, bool partly)
{
    struct numa *n = vm->mover_state;
    struct cell *c = &n->cell[granule];

    c->until = (guint32)vm->clock + MIN(1u << c->level, HOLD_MOST_S);
    c->level = (guint8)MIN(c->level + 1, 16);
    c->want = partly ? tier : LEDGER_NONE;
    list_straggler(n, granule);
}

void numa_release(struct vm *vm, guint32 granule)
{
    struct numa *n = vm->mover_state;

    n->cell[granule] = (struct cell){ .want = LEDGER_NONE, .listed = n->cell[granule].listed };
}

/* Nothing can be moved as things are. The same reason is said once. */
static void freeze(struct vm *vm, const char *text)
{
    struct numa *n = vm->mover_state;
    bool same = !strcmp(n->frozen, text);

    vm->stats.state = VM_FROZEN;
    g_strlcpy(vm->stats.reason, text, sizeof(vm->stats.reason));
    g_strlcpy(n->frozen, text, sizeof(n->frozen));
    n->thaw_wait = n->thaw_wait > 0 ? MIN(2 * n->thaw_wait, THAW_MOST_S) : THAW_S;
    n->thaw = vm->clock + n->thaw_wait;
    if (!same)
        vm_event(vm, "VMTIER_VM_FROZEN", text);
}

/* Something was moved, or could have been. */
static void warm(struct numa *n)
{
    n->thaw_wait = 0;
    n->frozen[0] = '\0';
}

static void thaw(struct vm *vm)
{
    struct numa *n = vm->mover_state;

    if (vm->stats.state == VM_FROZEN && !n->never && vm->clock >= n->thaw &&
        !g_atomic_int_get(&vm->leaving))
        vm->stats.state = VM_ATTACHING;     /* the round makes of it what the mode is */
}

/* --- moving ------------------------------------------------------------------------------------------------ */

static void note_arrival(struct vm *vm, guint32 granule, guint8 was)
{
    guint8 is = vm->ledger.tier[granule];

    if (was == is || was == LEDGER_NONE || is == LEDGER_NONE)
        return;
    if (is < was)
        vm->stats.promoted++;
    else
        vm->stats.demoted++;
}

static void note_failure(struct vm *vm, struct vt_move_one *m, const struct pages_got *got)
{
    const char *text;

    m->status = status_of(got->why, &text);
    if (m->status == VT_ST_BUSY || m->status == VT_ST_AGAIN)
        vm->stats.deferred++;
    else
        vm->stats.failed++;
    g_snprintf(vm->stats.last_error, sizeof(vm->stats.last_error),
               "granule %u to %s: %u of its pages stay: %s", m->granule, tier_name(vm, m->tier),
               got->left, text);
}

static void note(struct vm *vm, struct vt_move_one *m, const struct pages_got *got)
{
    guint8 was = vm->ledger.tier[m->granule], wanted = m->tier;

    numa_book(vm, m->granule, got->in);
    vm->map_changed = true;
    vm->stats.pages += got->moved;
    vm->stats.moved_bytes += (guint64)got->moved * PAGE_BYTES;
    note_arrival(vm, m->granule, was);
    if (!got->left) {
        m->status = VT_ST_OK;
        numa_release(vm, m->granule);
        return;
    }
    pace_spend(&vm->pace, (guint64)got->moved * PAGE_BYTES);    /* whoever asked pays for whole ones */
    note_failure(vm, m, got);
    hold(vm, m->granule, wanted, vm->ledger.tier[m->granule] == wanted);
    m->tier = vm->ledger.tier[m->granule];
}

static void count_cost(struct vm *vm, guint64 spent_ns, guint32 n)
{
    vm->move_cost_s += (1 - pow(0.95, n)) * ((double)spent_ns / 1e9 / n - vm->move_cost_s);
}

static int move_chunk(struct vm *vm, struct vt_move_one *moves, guint32 n, struct vt_err *err)
{
    struct numa *numa = vm->mover_state;
    struct vt_move_one *asked[CHUNK];
    struct pages_want want[CHUNK];
    struct pages_got got[CHUNK];
    guint64 start = cpu_ns();
    guint m = 0;
    int rc;

    for (guint32 i = 0; i < n; i++) {
        want[m].tier = moves[i].tier;
        moves[i].status = VT_ST_INVALID;
        if (moves[i].tier >= tiers_of(vm) || !where_is(vm, moves[i].granule, &want[m]))
            continue;
        moves[i].status = VT_ST_FROZEN;     /* unless it is got to */
        asked[m++] = &moves[i];
    }
    rc = m ? pages_run(numa->pages, want, got, m, err) : 0;
    for (guint i = 0; i < m && got[i].known; i++)
        note(vm, asked[i], &got[i]);
    if (!rc && m)
        count_cost(vm, cpu_ns() - start, m);
    return rc;
}

/* Stops where nothing can be moved; the rest has the status FROZEN. */
static int move_all(struct vm *vm, struct vt_move_one *moves, guint32 n, struct vt_err *err)
{
    struct numa *numa = vm->mover_state;
    struct vt_err why = { 0 };
    guint32 done = 0;
    int rc = 0;

    for (; !rc && done < n; done += CHUNK)
        rc = move_chunk(vm, moves + done, MIN(n - done, CHUNK), &why);
    for (; done < n; done++)
        moves[done].status = VT_ST_FROZEN;
    if (rc == -ESRCH)
        return vt_fail(err, ESRCH, "%s", why.text);
    if (rc)
        freeze(vm, why.text);
    else
        warm(numa);
    return 0;
}

static int carry_out(struct vm *vm, struct vt_move_one *moves, guint32 n, bool fresh, struct vt_err *err)
{
    (void)fresh;
    if (vm->stats.state != VM_FROZEN)
        return n ? move_all(vm, moves, n, err) : 0;
    for (guint32 i = 0; i < n; i++)
        moves[i].status = VT_ST_FROZEN;
    return 0;
}

/* Those of the VM's stragglers whose time has come. */
static int move_stragglers(struct vm *vm, struct vt_err *err)
{
    struct numa *n = vm->mover_state;
    struct vt_move_one moves[CHUNK];
    guint32 m = 0, kept = 0;

    for (guint i = 0; i < n->stragglers->len; i++) {
        guint32 granule = g_array_index(n->stragglers, guint32, i);
        struct cell *c = &n->cell[granule];

        c->listed = c->want != LEDGER_NONE;
        if (!c->listed)
            continue;
        if (m < CHUNK && vm->clock >= c->until && vm->ledger.tier[granule] == c->want)
            moves[m++] = (struct vt_move_one){ .granule = granule, .tier = c->want };
        g_array_index(n->stragglers, guint32, kept++) = granule;
    }
    g_array_set_size(n->stragglers, kept);
    return m ? carry_out(vm, moves, m, false, err) : 0;
}

/* --- the census ------------------------------------------------------------------------------------------------ */

/* Looks at the next granules. */
static int look(struct vm *vm, struct vt_err *err)
{
    struct numa *n = vm->mover_state;
    guint64 pages = vm->config.granule / PAGE_BYTES;
    guint most = (guint)CLAMP(LOOK_PAGES / pages, 1, CHUNK), m = 0;
    guint32 granule[CHUNK];
    struct pages_want want[CHUNK];
    struct pages_got got[CHUNK];
    int rc;

    for (; m < most && n->next < vm->ledger.n; n->next++)
        if (where_is(vm, n->next, &want[m])) {
            want[m].tier = PAGES_STAY;
            granule[m++] = n->next;
        }
    if (n->next >= vm->ledger.n)
        n->next = 0;
    rc = m ? pages_run(n->pages, want, got, m, err) : 0;
    for (guint i = 0; i < m && got[i].known; i++) {
        numa_book(vm, granule[i], got[i].in);
        list_straggler(n, granule[i]);      /* there may have been no room for it before */
    }
    return rc;
}

static int census(struct vm *vm, struct vt_err *err)
{
    guint64 until = cpu_ns() + vm->config.probe_budget_us * 1000ull;
    struct numa *n = vm->mover_state;
    guint32 start = n->next;
    int rc;

    do {
        rc = look(vm, err);
    } while (!rc && n->next && n->next != start && cpu_ns() < until);
    return rc;
}

/* All of it, before the VM is shown. */
static int first_census(struct vm *vm, struct vt_err *err)
{
    struct numa *n = vm->mover_state;
    int rc;

    do {
        if (g_atomic_int_get(&vm->daemon->stopping) || g_atomic_int_get(&vm->leaving))
            return vt_fail(err, ECANCELED, "it is not wanted any more");
        rc = look(vm, err);
    } while (!rc && n->next);
    return rc;
}

/* --- going home ------------------------------------------------------------------------------------------------ */

static bool is_away(const struct vm *vm, guint32 granule)
{
    const struct numa *n = vm->mover_state;
    const guint32 *in = &n->in[(gsize)granule * (tiers_of(vm) + 1)];

    for (guint t = 1; t < tiers_of(vm); t++)
        if (in[t])
            return true;
    return false;
}

static guint64 bytes_away(const struct vm *vm)
{
    guint64 sum = 0;

    for (guint t = 1; t < tiers_of(vm); t++)
        sum += bytes(vm, t);
    return sum;
}

/* Brings memory back to dram, at once and over the quota if need be: whoever takes over the VM believes
 * it there. 1: done, or there is no getting further. */
static int go_home(struct vm *vm, struct vt_err *err)
{
    struct vt_move_one moves[4 * CHUNK];
    struct numa *n = vm->mover_state;
    guint64 pages = vm->stats.pages;
    bool first = !n->moved;
    guint32 m = 0;
    int rc;

    for (guint32 g = 0; g < vm->ledger.n && m < G_N_ELEMENTS(moves); g++)
        if (is_away(vm, g) && (first || ready(vm, g)))
            moves[m++] = (struct vt_move_one){ .granule = g };
    rc = m && !n->never ? move_all(vm, moves, m, err) : 0;
    vm->stats.state = VM_FROZEN;        /* so that no plan and no order sends it back */
    g_strlcpy(vm->stats.reason, "its memory is brought to dram, then it is detached",
              sizeof(vm->stats.reason));
    if (first || pages != vm->stats.pages)
        n->moved = vm->clock;
    return rc ? rc : !bytes_away(vm) || n->never || vm->clock > n->moved + HOME_S;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static int check_alive(struct vm *vm, struct vt_err *err)
{
    const struct numa *n = vm->mover_state;
    int leaving = g_atomic_int_get(&vm->leaving), rc;

    if (process_ended(n->process))
        return vt_fail(err, ESRCH, "QEMU (pid %d) has ended", (int)n->process->pid);
    if (leaving == VM_LEAVES || (leaving && !vm->placed))
        return vt_fail(err, ECANCELED, "detached as asked; its memory stays where it is");
    if (leaving != VM_GOES_HOME)
        return 0;
    rc = go_home(vm, err);
    return rc > 0 ? vt_fail(err, ECANCELED, "detached; %" G_GUINT64_FORMAT " bytes stay on slower tiers",
                            bytes_away(vm)) : rc;
}

/* It stays in the list with its reason until it ends or is detached. */
static int refuse(struct vm *vm, const char *text)
{
    vm->stats.state = VM_REFUSED;
    g_strlcpy(vm->stats.reason, text, sizeof(vm->stats.reason));
    vm_show(vm);
    vm_event(vm, "VMTIER_VM_REFUSED", vm->stats.reason);
    return 0;
}

static int attach(struct vm *vm, struct vt_err *err)
{
    struct numa *n = vm->mover_state;
    g_autoptr(GError) error = NULL;
    struct vt_err why;
    int rc = check_alive(vm, err);

    if (rc || vm->stats.state == VM_REFUSED)
        return rc;
    if (!numa_learn(vm, &error))
        return refuse(vm, error->message);
    rc = first_census(vm, &why);
    if (rc == -ESRCH || rc == -ECANCELED)
        return vt_fail(err, -rc, "%s", why.text);
    if (rc)
        return refuse(vm, why.text);
    vm->placed = true;
    vm->last_us = g_get_monotonic_time();
    vm_event(vm, "VMTIER_VM_ATTACHED", NULL);
    if (n->never)
        freeze(vm, n->never);
    return 0;
}

static int take_news(struct vm *vm, struct vt_err *err)
{
    struct numa *n = vm->mover_state;
    int rc = check_alive(vm, err);

    if (!rc && vm->clock >= n->next_maps)
        rc = numa_look_at_maps(vm, err);
    if (!rc)
        rc = census(vm, err);
    thaw(vm);
    if (!rc && vm->stats.state == VM_TIERING)
        rc = move_stragglers(vm, err);
    /* QEMU that ends in the middle of it is told as such. */
    return rc && process_ended(n->process) ? check_alive(vm, err) : rc;
}

static void close_numa(struct vm *vm)
{
    struct numa *n = vm->mover_state;

    pages_free(n->pages);
    process_free(n->process);
    g_array_unref(n->stragglers);
    g_free(n->monitor);
    g_free(n->never);
    g_free(n->in);
    g_free(n->cell);
    g_free(n);
    vm->mover_state = NULL;
}

void numa_take(struct vm *vm, struct process *process, const char *monitor)
{
    struct numa *n = g_new0(struct numa, 1);

    n->process = process;
    n->monitor = g_strdup(monitor);
    n->pages = pages_new(process->pid, process->pidfd, vm->daemon->tiers);
    n->never = pages_why_not(vm->daemon->tiers);
    n->stragglers = g_array_new(FALSE, FALSE, sizeof(guint32));
    vm->mover_state = n;
    vm->mover = &mover_numa;
}

const struct mover mover_numa = {
    .name = "numa",
    .carry_out = carry_out,
    .attach = attach,
    .take_news = take_news,
    .bytes = bytes,
    .ready = ready,
    .close = close_numa,
};
