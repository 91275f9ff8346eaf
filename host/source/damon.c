// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "damon": the kernel's access monitor on the RAM of a QEMU process. DAMON divides the memory into
 * regions that it supposes to be used alike, looks at one page of each now and then, and tells in how many
 * of an interval's looks that page had been used. How many regions there may be follows from the budget.
 *
 * A region's looks are shared out among its granules: those of a large region know little, as they should.
 * So the regions are cut at granules from the beginning, as far as the budget goes, and are not joined to larger ones.
 *
 * The kernel only changes which processes are monitored while none is, so all VMs that want it are set up
 * anew when one comes or goes. All of damon-sysfs.c is under one lock, as is the list of users.
 *
 * Results come by the kernel thread's tracepoint (damon-trace.c). Where that cannot be had, a thread of each VM asks
 * sysfs, which blocks until an interval ends, and leaves them for its round.
 */
#include "host/source/damon.h"
#include "common/clock.h"
#include "host/daemon.h"
#include "host/source/damon-sysfs.h"
#include "host/source/damon-trace.h"
#include "host/source/source.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SAMPLE_US  20000
#define AGGR_US    400000
#define CHECKS     (AGGR_US / SAMPLE_US)
#define ASK_S      1            /* between two times that results are asked for */
#define CHECK_US   1.0          /* CPU that is reckoned with per look, for the number of regions */
#define CUTS_MOST  512          /* regions to begin with: each is a directory */
#define SILENT_S   10           /* without an interval's end: is the kernel's thread still there? */

struct region {
    guint64 start, end;
    guint32 accesses;
};

struct user {
    struct damon_target target;
    gint setting;               /* of `settings`, that the next two are for */
    guint32 kdamond;
    struct damon_trace *trace;  /* or NULL */
    gint64 heard_us;            /* when regions came last */
    bool heard;                 /* some did in this round, */
    guint64 found;              /* ... with so many looks that found use */
    guint64 kdamond_ns;         /* that the kernel's thread had used */
    GThread *thread;            /* that asks; NULL: there has been a trace so far */
    GMutex lock;                /* of what follows */
    GCond wake;
    bool stopping;
    GArray *regions;            /* of struct region; what came last, or NULL */
    guint64 cpu_ns;             /* the thread's, since it was counted */
    struct vt_err err;          /* code 0: none */
};

static GMutex all_lock;
static GPtrArray *users;        /* of struct user, by slot */
static struct damon damon = { .root = DAMON_SYSFS };
static gint settings;                   /* how often slots were made; atomic */

void damon_set_paths(const char *root, const char *record)
{
    damon.root = root ? root : DAMON_SYSFS;
    g_free(damon.record);
    damon.record = g_strdup(record);
}

/* --- the thread --------------------------------------------------------------------------------- */

static void take_region(guint64 start, guint64 end, guint32 accesses, gpointer opaque)
{
    struct region r = { start, end, accesses };

    g_array_append_val((GArray *)opaque, r);
}

static int ask(struct user *u, GArray *regions, struct vt_err *err)
{
    guint slot;
    int rc;

    g_mutex_lock(&all_lock);
    if (g_ptr_array_find(users, u, &slot) && slot < damon.slots)
        rc = damon_read(&damon, slot, take_region, regions, err);
    else
        rc = vt_fail(err, ECANCELED, "it was given up when another VM came or went, and could not be set up "
                     "again");
    g_mutex_unlock(&all_lock);
    return rc;
}

static void leave(struct user *u, GArray *regions /* take */, int rc, const struct vt_err *err,
                  guint64 spent_ns)
{
    u->cpu_ns += spent_ns;
    if (rc && rc != -EAGAIN)
        u->err = *err;
    if (rc) {
        g_array_unref(regions);
        return;
    }
    g_clear_pointer(&u->regions, g_array_unref);
    u->regions = regions;
}

static gpointer run(gpointer data)
{
    struct user *u = data;

    g_mutex_lock(&u->lock);
    while (!u->stopping) {
        GArray *regions = g_array_new(FALSE, FALSE, sizeof(struct region));
        guint64 start = cpu_ns();
        struct vt_err err = { 0 };
        int rc;

        g_mutex_unlock(&u->lock);
        rc = ask(u, regions, &err);
        g_mutex_lock(&u->lock);
        leave(u, regions, rc, &err, cpu_ns() - start);
        if (!u->stopping)
            g_cond_wait_until(&u->wake, &u->lock, g_get_monotonic_time() + ASK_S * G_USEC_PER_SEC);
    }
    g_mutex_unlock(&u->lock);
    return NULL;
}

/* --- who is monitored --------------------------------------------------------------------------- */

/* Under all_lock. Everybody's slots, made anew. */
static int apply(struct vt_err *err)
{
    static const struct damon_attrs attrs = { SAMPLE_US, AGGR_US };
    guint n = users ? users->len : 0;
    g_autofree struct damon_target *targets = g_new0(struct damon_target, n);

    for (guint i = 0; i < n; i++)
        targets[i] = ((struct user *)g_ptr_array_index(users, i))->target;
    g_atomic_int_inc(&settings);
    return damon_apply(&damon, targets, n, &attrs, err);
}

static gint by_start(gconstpointer a, gconstpointer b)
{
    const struct damon_range *x = a, *y = b;

    return (x->start > y->start) - (x->start < y->start);
}

static void aim(const struct vm *vm, struct damon_target *t)
{
    double looks = 1e6 / SAMPLE_US, per_s = vm->config.probe_budget_us * (1000.0 / ROUND_MS);
    const guint64 granule = vm->config.granule;
    guint64 granules = 0, cuts;

    *t = (struct damon_target){ .pid = vm->pid };
    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present && b->host) {
            t->range[t->n++] = (struct damon_range){ b->host, b->host + b->length };
            granules += b->count;
        }
    qsort(t->range, t->n, sizeof(t->range[0]), by_start);
    t->regions_most = (guint32)CLAMP(per_s / looks / CHECK_US, 20, 10000);
    cuts = MIN(t->regions_most / 2, CUTS_MOST);
    t->piece = (granules + cuts - 1) / cuts * granule;
}

/* Beside the control socket, so that daemons with other sockets do not take each other's. */
static void find_record(const struct config *config)
{
    g_autofree char *dir = g_path_get_dirname(config->qmp_socket);

    if (!damon.record)
        damon.record = g_build_filename(dir, "damon", NULL);
}

void damon_recover(const struct config *config)
{
    char reason[VT_TEXT];
    struct vt_err err;

    g_mutex_lock(&all_lock);
    find_record(config);
    if (g_file_test(damon.record, G_FILE_TEST_EXISTS)) {
        if (!damon_is_free(&damon, reason))
            unlink(damon.record);       /* what it tells of is gone */
        else if (damon_apply(&damon, NULL, 0, NULL, &err))
            g_warning("DAMON, as the daemon before left it: %s", err.text);
    }
    g_mutex_unlock(&all_lock);
}

static bool available(const struct vm *vm, char *reason)
{
    bool is_free;

    g_mutex_lock(&all_lock);
    find_record(vm->daemon->config);
    is_free = damon_is_free(&damon, reason);
    g_mutex_unlock(&all_lock);
    return is_free;
}

static void user_free(struct user *u)
{
    damon_trace_free(u->trace);
    g_clear_pointer(&u->regions, g_array_unref);
    g_mutex_clear(&u->lock);
    g_cond_clear(&u->wake);
    g_free(u);
}

/* Those that stay go on without it; what goes wrong then, they are told when they ask. */
static void leave_list(struct user *u)
{
    struct vt_err ignored;

    g_mutex_lock(&all_lock);
    g_ptr_array_remove(users, u);
    (void)apply(&ignored);
    g_mutex_unlock(&all_lock);
}

static int start(struct vm *vm, struct vt_err *err)
{
    struct user *u = g_new0(struct user, 1);
    int rc;

    g_mutex_init(&u->lock);
    g_cond_init(&u->wake);
    aim(vm, &u->target);
    g_mutex_lock(&all_lock);
    if (!users)
        users = g_ptr_array_new();
    g_ptr_array_add(users, u);
    rc = u->target.n ? apply(err) : vt_fail(err, EAGAIN, "where QEMU has its RAM is not known");
    g_mutex_unlock(&all_lock);
    if (rc) {
        leave_list(u);
        user_free(u);
        return rc;
    }
    vm->source_state[SRC_DAMON] = u;
    return 0;
}

static void stop(struct vm *vm)
{
    struct user *u = g_steal_pointer(&vm->source_state[SRC_DAMON]);

    g_mutex_lock(&u->lock);
    u->stopping = true;
    g_cond_signal(&u->wake);
    g_mutex_unlock(&u->lock);
    if (u->thread)
        g_thread_join(u->thread);
    leave_list(u);
    user_free(u);
}

/* --- a round ------------------------------------------------------------------------------------ */

/*
 * A look stands for the time since the one before, in which the page was used once, or often. Looks that found no use
 * are exp(-rate * time) of all; so this is the time in which that rate would have made as many first uses. Half a look
 * more, as a rate that is found in all of them has no bound.
 */
static double exposure_of(guint32 found)
{
    const double sample_s = SAMPLE_US / 1e6;
    const guint32 looks = CHECKS;

    return found ? found * sample_s / -log(1 - found / (looks + 0.5)) : looks * sample_s;
}

/* One region: its looks, shared out by bytes. */
static void observe(guint64 start, guint64 end, guint32 accesses, gpointer opaque)
{
    const guint32 found = MIN(accesses, CHECKS);
    const double looked_s = exposure_of(found);
    struct vm *vm = opaque;
    struct user *u = vm->source_state[SRC_DAMON];
    struct vm_place place;

    u->found += accesses;
    u->heard = true;
    for (guint64 at = start; at < end; at += place.left) {
        if (!vm_place_of_hva(vm, at, &place))
            return;
        place.left = MIN(place.left, end - at);
        double share = (double)place.left / (double)(end - start);

        source_observe(vm, SRC_DAMON, place.granule, found * share, looked_s * share);
    }
}

/* The kernel's thread is ours to pay. */
static void count_kdamond(struct vm *vm, struct user *u)
{
    g_autofree char *path = g_strdup_printf("/proc/%u/schedstat", u->kdamond), *text = NULL;
    guint64 ns;

    if (!u->kdamond || !g_file_get_contents(path, &text, NULL, NULL))
        return;
    ns = g_ascii_strtoull(text, NULL, 10);
    source_count(vm, SRC_DAMON, 0, ns > u->kdamond_ns ? ns - u->kdamond_ns : 0, 0);
    u->kdamond_ns = ns;
}

/* Slots have been made, ours among them: by another kernel thread now. */
static void listen_anew(struct vm *vm, struct user *u)
{
    struct vt_err why = { 0 };
    guint slot;

    if (!g_mutex_trylock(&all_lock))    /* somebody waits for an interval's end */
        return;
    u->setting = g_atomic_int_get(&settings);
    u->kdamond = g_ptr_array_find(users, u, &slot) && slot < damon.slots ? damon_thread(&damon, slot) : 0;
    g_mutex_unlock(&all_lock);
    u->kdamond_ns = 0;
    u->heard_us = g_get_monotonic_time();
    g_clear_pointer(&u->trace, damon_trace_free);
    if (!u->thread)
        u->trace = damon_trace_new(u->kdamond, u->target.regions_most, &why);
    if (u->trace || u->thread)
        return;
    g_info("%s: DAMON is read from sysfs, which is slower: %s", vm->name, why.text);
    u->thread = g_thread_new("damon", run, u);
}

/* What sysfs would have said by itself. */
static int check_silence(const struct user *u, struct vt_err *err)
{
    if (g_get_monotonic_time() - u->heard_us < SILENT_S * G_USEC_PER_SEC)
        return 0;
    return vt_fail(err, ECANCELED, "the kernel's thread %u has told nothing for %d s: somebody else has ended it, or "
                   "it could not be started again when another VM came or went", u->kdamond, SILENT_S);
}

static int take_answers(struct vm *vm, struct user *u, struct vt_err *err)
{
    g_autoptr(GArray) regions = NULL;
    guint64 spent_ns;
    struct vt_err why;

    g_mutex_lock(&u->lock);
    regions = g_steal_pointer(&u->regions);
    spent_ns = u->cpu_ns;
    u->cpu_ns = 0;
    why = u->err;
    g_mutex_unlock(&u->lock);
    for (guint i = 0; regions && i < regions->len; i++) {
        const struct region *r = &g_array_index(regions, struct region, i);

        observe(r->start, r->end, r->accesses, vm);
    }
    source_count(vm, SRC_DAMON, 0, spent_ns, 0);
    if (why.code)
        *err = why;
    return why.code ? -why.code : 0;
}

static int harvest(struct vm *vm, guint32 budget_us, struct vt_err *err)
{
    struct user *u = vm->source_state[SRC_DAMON];
    int rc = 0;

    (void)budget_us;
    u->found = 0;
    u->heard = false;
    if (u->setting != g_atomic_int_get(&settings))
        listen_anew(vm, u);
    if (u->trace)
        damon_trace_read(u->trace, observe, vm);
    if (u->thread)
        rc = take_answers(vm, u, err);
    if (u->heard) {
        u->heard_us = g_get_monotonic_time();
        source_count(vm, SRC_DAMON, u->found, 0, 0);
        count_kdamond(vm, u);
    }
    return u->trace ? check_silence(u, err) : rc;
}

static bool same_target(const struct damon_target *a, const struct damon_target *b)
{
    for (guint32 i = 0; i < MIN(a->n, b->n); i++)
        if (a->range[i].start != b->range[i].start || a->range[i].end != b->range[i].end)
            return false;
    return a->pid == b->pid && a->n == b->n && a->piece == b->piece && a->regions_most == b->regions_most;
}

/* Only where blocks are matters, not where granules are. */
static void layout_changed(struct vm *vm)
{
    struct user *u = vm->source_state[SRC_DAMON];
    struct damon_target now;
    struct vt_err err = { 0 };
    int rc = 0;

    aim(vm, &now);
    g_mutex_lock(&all_lock);
    if (!same_target(&now, &u->target)) {
        u->target = now;
        rc = apply(&err);
    }
    g_mutex_unlock(&all_lock);
    if (!rc)
        return;
    g_mutex_lock(&u->lock);
    u->err = err;
    g_mutex_unlock(&u->lock);
}

static guint64 resolution(const struct vm *vm)
{
    const struct user *u = vm->source_state[SRC_DAMON];
    guint64 bytes = 0;

    if (!u || !u->target.regions_most)
        return 4096;
    for (guint32 i = 0; i < u->target.n; i++)
        bytes += u->target.range[i].end - u->target.range[i].start;
    return MAX(bytes / u->target.regions_most, 4096);
}

const struct source source_damon = {
    .name = "damon",
    .summary = "regions that were found used, by the kernel's DAMON",
    .unit = "looks that found use",
    .enable = "a kernel with CONFIG_DAMON_SYSFS and CONFIG_DAMON_VADDR, vmtierd as root, and nobody else who "
              "uses it (nr_kdamonds is 0)",
    .id = SRC_DAMON,
    .kind = HEAT_PROBES,
    .resolution = resolution,
    .available = available,
    .start = start,
    .stop = stop,
    .harvest = harvest,
    .layout_changed = layout_changed,
};
