// SPDX-License-Identifier: GPL-2.0-or-later
/* move_pages(2) over made-up nodes: see numa-model.h. */
#include "numa-model.h"
#include "common/uapi.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <stdarg.h>
#include <string.h>

struct model model;

long __wrap_move_pages(int pid, unsigned long n, void **at, const int *node, int *status, int flags);
long long __wrap_numa_node_size64(int node, long long *free);
int __wrap_ioctl(int fd, unsigned long request, ...);
/* Programs that do without the stand-in are not linked with --wrap. */
int __real_ioctl(int fd, unsigned long request, ...) __attribute__((weak));

/* --- pages ---------------------------------------------------------------------------------------------- */

void model_set_up(guint64 at, guint n, long long free)
{
    model = (struct model){ .at = at, .n = n, .page = g_new0(struct model_page, n) };
    for (guint i = 0; i < n; i++)
        model.page[i] = (struct model_page){ .node = -1, .folio = 1 };
    for (int i = 0; i < MODEL_NODES; i++)
        model.free[i] = free;
}

void model_tear_down(void)
{
    g_clear_pointer(&model.page, g_free);
}

void model_put(guint first, guint n, guint folio, int node)
{
    for (guint i = first; i < first + n; i++)
        model.page[i] = (struct model_page){
            .node = (gint8)node, .folio = (i - first) % folio ? 0 : (guint16)MIN(folio, first + n - i),
        };
}

static guint head_of(guint page)
{
    while (!model.page[page].folio)
        page--;
    return page;
}

struct model_page *model_head(guint page)
{
    return &model.page[head_of(page)];
}

guint model_count(guint first, guint n, int node)
{
    guint count = 0;

    for (guint i = first; i < first + n; i++)
        count += model.page[i].node == node;
    return count;
}

struct tiers *model_tiers(const char *dram, const char *cxl)
{
    const char *const nodes[] = { dram, cxl }, *const names[] = { "dram", "cxl" };
    struct tiers *tiers = g_new0(struct tiers, 1);

    for (; tiers->n < 2; tiers->n++) {
        struct tier *t = &tiers->tier[tiers->n];

        g_strlcpy(t->name, names[tiers->n], sizeof(t->name));
        t->nodes = g_strdup(nodes[tiers->n]);
        t->mask = nodes[tiers->n] ? numa_allocate_nodemask() : NULL;
        for (const char *c = nodes[tiers->n]; c && *c; c++)
            if (g_ascii_isdigit(*c))
                numa_bitmask_setbit(t->mask, (unsigned)(*c - '0'));
    }
    return tiers;
}

/* --- move_pages(2) --------------------------------------------------------------------------------------- */

/* The page, or -1: no mapping of the process. */
static int page_at(const void *at)
{
    guint64 offset = (uintptr_t)at - model.at;

    return (uintptr_t)at >= model.at && offset / PAGE_BYTES < model.n ? (int)(offset / PAGE_BYTES) : -1;
}

static int where(const void *at)
{
    int page = page_at(at);

    if (page < 0 || model.page[page].node == -2)
        return -EFAULT;
    return model.page[page].node < 0 ? -ENOENT : model.page[page].node;
}

struct queue {
    guint n, folio[4096];       /* heads */
    bool isolated[1 << 16];
};

/* > 0: it is on the list; 0: it is there already; < 0: it cannot be. */
static int enqueue(struct queue *q, const void *at, int node, int flags)
{
    int is = where(at);
    guint head;

    if (is < 0)
        return is;
    if (is == node)
        return 0;
    head = head_of((guint)page_at(at));
    if (model.page[head].shared && flags != MPOL_MF_MOVE_ALL)
        return -EACCES;
    if (q->isolated[head])
        return -EBUSY;
    q->isolated[head] = true;
    q->folio[q->n++] = head;
    return 1;
}

static void migrate(guint head, int node)
{
    guint n = model.page[head].folio;

    model.free[(int)model.page[head].node] += n;
    model.free[node] -= n;
    g_assert_cmpint(model.free[node], >=, 0);
    for (guint i = head; i < head + n; i++)
        model.page[i].node = (gint8)node;
}

/* As migrate_pages(): how many could not be moved, or -ENOMEM, which ends it. */
static int flush(struct queue *q, int node)
{
    int failed = 0, rc = 0;

    for (guint i = 0; i < q->n; i++) {
        struct model_page *head = &model.page[q->folio[i]];

        q->isolated[q->folio[i]] = false;
        if (rc < 0)
            continue;
        model.tries += head->pinned;
        if (head->pinned || head->shy) {
            head->stayed |= !head->pinned;
            head->shy -= head->shy > 0;
            failed++;
        } else if (model.free[node] < head->folio) {
            rc = -ENOMEM;
        } else {
            migrate(q->folio[i], node);
        }
    }
    q->n = 0;
    return rc ? rc : failed;
}

/* As move_pages_and_store_status(): [start, i) are of this node. */
static int flush_and_store(struct queue *q, int node, int *status, guint start, guint i, guint n)
{
    int rc;

    if (!q->n)
        return 0;
    rc = flush(q, node);
    if (rc > 0)
        return rc + (int)(n - i);
    for (guint k = start; !rc && k < i; k++)
        status[k] = node;
    return rc;
}

static long move(guint n, void **at, const int *node, int *status, int flags)
{
    g_autofree struct queue *q = g_new0(struct queue, 1);
    int current = -1, rc = 0, last;
    guint start = 0, i;

    for (i = 0; i < n; i++) {
        if (model.fail && i == model.fail_after) {
            rc = -model.fail;
            model.fail = 0;
            break;
        }
        if (node[i] < 0 || node[i] >= MODEL_NODES) {
            rc = -ENODEV;
            break;
        }
        if (current >= 0 && node[i] != current) {
            rc = flush_and_store(q, current, status, start, i, n);
            if (rc)
                return rc;
            current = -1;
        }
        if (current < 0)
            start = i;
        current = node[i];
        rc = enqueue(q, at[i], current, flags);
        if (rc > 0)
            continue;
        last = rc ? rc : current;
        rc = flush_and_store(q, current, status, start, i, n);
        status[i] = last;
        if (rc)
            return rc > 0 ? rc - 1 : rc;
        current = -1;
    }
    last = current >= 0 ? flush_and_store(q, current, status, start, i, n) : 0;
    return rc >= 0 ? last : rc;
}

long __wrap_move_pages(int pid, unsigned long n, void **at, const int *node, int *status, int flags)
{
    long rc = 0;

    (void)pid;
    g_assert_cmpuint(n, >, 0);
    model.most = MAX(model.most, (guint)n);
    if (flags == MPOL_MF_MOVE_ALL && model.no_cap)
        rc = -EPERM;
    else if (model.no_process || model.no_ptrace)
        rc = model.no_process ? -ESRCH : -EPERM;
    if (!rc && node) {
        model.moves++;
        rc = move((guint)n, at, node, status, flags);
    } else if (!rc) {
        model.queries++;
        for (guint i = 0; i < n; i++)
            status[i] = where(at[i]);
    }
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

/* --- what is asked besides --------------------------------------------------------------------------------- */

long long __wrap_numa_node_size64(int node, long long *free)
{
    if (node >= MODEL_NODES)
        return -1;
    *free = model.free[node] * PAGE_BYTES;
    return 1LL << 40;
}

static guint64 categories(guint page)
{
    const struct model_page *p = &model.page[page];

    return p->node == -1 ? 0 : PAGE_IS_PRESENT | (p->node == -2 ? PAGE_IS_PFNZERO : 0) |
                               (model.page[head_of(page)].folio == 512 ? PAGE_IS_HUGE : 0);
}

static int scan(struct pm_scan_arg *a)
{
    struct page_region *region = (struct page_region *)(uintptr_t)a->vec;
    guint64 pages = 0;
    int n = 0;

    for (a->walk_end = a->start; a->walk_end < a->end; a->walk_end += PAGE_BYTES) {
        int page = page_at((void *)(uintptr_t)a->walk_end);
        guint64 is = page < 0 ? 0 : categories((guint)page);

        if (!is)
            continue;
        if (pages++ == a->max_pages)
            break;
        model.scanned++;
        if (n && region[n - 1].end == a->walk_end && region[n - 1].categories == is) {
            region[n - 1].end += PAGE_BYTES;
            continue;
        }
        if (n == (int)a->vec_len)
            break;
        region[n++] = (struct page_region){ a->walk_end, a->walk_end + PAGE_BYTES, is };
    }
    return n;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    void *arg;

    va_start(args, request);
    arg = va_arg(args, void *);
    va_end(args);
    if (request != PAGEMAP_SCAN)
        return __real_ioctl(fd, request, arg);
    if (model.no_pagemap) {
        errno = ENOTTY;
        return -1;
    }
    return scan(arg);
}
