// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "damon": the kernel's access monitor on the RAM of a QEMU process. DAMON divides the memory into
 * regions that it supposes to be used alike, looks at one page of each now and then, and tells in how many
 * of an interval's looks that page had been used. How many regions there may be follows from the budget.
 *
 * A region's looks are shared out among its granules: those of a large region know little, as they should.
 *
 * The kernel only changes which processes are monitored while none is, so all VMs that want it are set up
 * anew when one comes or goes. Asking for results blocks until an interval ends, so a thread of each VM
 * asks and leaves them for its round. All of damon-sysfs.c is under one lock, as is the list of users.
 */
#include "host/source/damon.h"
#include "host/daemon.h"
#include "host/source/damon-sysfs.h"
#include "host/source/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_US  20000
#define AGGR_US    400000
#define CHECKS     (AGGR_US / SAMPLE_US)
#define ASK_S      1            /* between two times that results are asked for */
#define CHECK_US   1.0          /* CPU that is reckoned with per look, for the number of regions */

struct region {
    guint64 start, end;
    guint32 accesses;
};

struct user {
    struct damon_target target;
    GThread *thread;
    GMutex lock;                /* of what follows */
    GCond wake;
    bool stopping;
    GArray *regions;            /* of struct region; what came last, or NULL */
    guint64 cpu_ns;             /* the thread's, since it was counted */
    struct vt_err err;          /* code 0: none */
    guint64 kdamond_ns;         /* the worker's: what the kernel's thread had used */
};

static GMutex all_lock;
static GPtrArray *users;        /* of struct user, by slot */
static struct damon damon = { .root = DAMON_SYSFS };

void damon_set_paths(const char *root, const char *record)
{
    damon.root = root ? root : DAMON_SYSFS;
    g_free(damon.record);
    damon.record = g_strdup(record);
}

/* --- the thread --------------------------------------------------------------------------------- */

static guint64 thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (guint64)t.tv_sec * 1000000000 + (guint64)t.tv_nsec;
}

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
        guint64 start = thread_ns();
        struct vt_err err = { 0 };
        int rc;

        g_mutex_unlock(&u->lock);
        rc = ask(u, regions, &err);
        g_mutex_lock(&u->lock);
        leave(u, regions, rc, &err, thread_ns() - start);
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

    *t = (struct damon_target){ .pid = vm->pid };
    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present && b->host)
            t->range[t->n++] = (struct damon_range){ b->host, b->host + b->length };
    qsort(t->range, t->n, sizeof(t->range[0]), by_start);
    t->regions_most = (guint32)CLAMP(per_s / looks / CHECK_US, 20, 10000);
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
    u->thread = g_thread_new("damon", run, u);
    return 0;
}

static void stop(struct vm *vm)
{
    struct user *u = g_steal_pointer(&vm->source_state[SRC_DAMON]);

    g_mutex_lock(&u->lock);
    u->stopping = true;
    g_cond_signal(&u->wake);
    g_mutex_unlock(&u->lock);
    g_thread_join(u->thread);
    leave_list(u);
    user_free(u);
}

/* --- a round ------------------------------------------------------------------------------------ */

/* One region: its looks, shared out by bytes. */
static void observe(struct vm *vm, const struct region *r)
{
    const double looked_s = AGGR_US / 1e6;      /* a look stands for the time to the next one */
    struct vm_place place;

    for (guint64 at = r->start; at < r->end; at += place.left) {
        if (!vm_place_of_hva(vm, at, &place))
            return;
        place.left = MIN(place.left, r->end - at);
        double share = (double)place.left / (double)(r->end - r->start);

        source_observe(vm, SRC_DAMON, place.granule, MIN(r->accesses, CHECKS) * share, looked_s * share);
    }
}

/* The kernel's thread is ours to pay. */
static void count_kdamond(struct vm *vm, struct user *u)
{
    g_autofree char *path = NULL, *text = NULL;
    guint32 pid = 0;
    guint64 ns = 0;
    guint slot;

    if (!g_mutex_trylock(&all_lock))        /* somebody waits for an interval's end */
        return;
    if (g_ptr_array_find(users, u, &slot) && slot < damon.slots)
        pid = damon_thread(&damon, slot);
    g_mutex_unlock(&all_lock);
    path = g_strdup_printf("/proc/%u/schedstat", pid);
    if (!pid || !g_file_get_contents(path, &text, NULL, NULL))
        return;
    ns = g_ascii_strtoull(text, NULL, 10);
    source_count(vm, SRC_DAMON, 0, ns > u->kdamond_ns ? ns - u->kdamond_ns : 0, 0);
    u->kdamond_ns = ns;
}

static int harvest(struct vm *vm, guint32 budget_us, struct vt_err *err)
{
    struct user *u = vm->source_state[SRC_DAMON];
    g_autoptr(GArray) regions = NULL;
    guint64 cpu_ns, found = 0;
    struct vt_err why;

    (void)budget_us;
    g_mutex_lock(&u->lock);
    regions = g_steal_pointer(&u->regions);
    cpu_ns = u->cpu_ns;
    u->cpu_ns = 0;
    why = u->err;
    g_mutex_unlock(&u->lock);
    for (guint i = 0; regions && i < regions->len; i++) {
        const struct region *r = &g_array_index(regions, struct region, i);

        observe(vm, r);
        found += r->accesses;
    }
    source_count(vm, SRC_DAMON, found, cpu_ns, 0);
    if (regions)
        count_kdamond(vm, u);
    if (why.code)
        *err = why;
    return why.code ? -why.code : 0;
}

static bool same_target(const struct damon_target *a, const struct damon_target *b)
{
    for (guint32 i = 0; i < MIN(a->n, b->n); i++)
        if (a->range[i].start != b->range[i].start || a->range[i].end != b->range[i].end)
            return false;
    return a->pid == b->pid && a->n == b->n && a->regions_most == b->regions_most;
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
