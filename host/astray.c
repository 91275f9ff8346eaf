// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Are the pages of a tier's files on its nodes?
 *
 * Slower tiers' files are bound to them. What is in dram is in QEMU's own file, of which QEMU's operator says where it
 * may be (host-nodes=), and usually does not: then the kernel gives memory of another node as soon as one has none
 * free, a page cache that it could drop counting as used. The ledger cannot know.
 *
 * So once in a while some pages of each tier are asked after: that costs a tenth of a microsecond for each, and
 * touches none. A VM without the plugin has no files; there the mover knows the nodes.
 */
#include "host/daemon.h"
#include "host/mover/mover.h"
#include "host/vm.h"

#include <numa.h>
#include <numaif.h>
#include <string.h>

#define LOOK_S  10.0            /* between looks */
#define PAGES   512u            /* of a tier, in a look */
#define SMALL   4096u
#define MUCH    0.05            /* share that is told of, */
#define LITTLE  0.01            /* and below which it is over */
#define NOWHERE 64u             /* nodes told apart in what is told */

struct sample {
    guint n;
    void *at[PAGES];
    int node[PAGES];
};

static void add_page(struct sample *s, const struct vm *vm, guint32 granule)
{
    guint32 pages;
    guint64 hva = vm_pages_of_granule(vm, granule, &pages);

    if (pages)
        s->at[s->n++] = GSIZE_TO_POINTER(hva + (guint64)g_random_int_range(0, (gint32)pages) * SMALL);
}

/* Evenly over the tier's granules, each time with other ones; several pages of each if there are few. */
static void choose_pages(struct sample *s, const struct vm *vm, guint tier)
{
    const guint64 there = vm->ledger.count[tier];
    guint64 from = there ? g_random_int() % there : 0, seen = 0, i = 0;

    s->n = 0;
    for (guint32 g = 0; g < vm->ledger.n; g++) {
        if (vm->ledger.tier[g] != tier)
            continue;
        for (; i < PAGES && (i * there + from) / PAGES == seen; i++)
            add_page(s, vm, g);
        seen++;
    }
}

static bool is_on(const struct tier *t, int node)
{
    return (unsigned)node < t->mask->size && numa_bitmask_isbitset(t->mask, (unsigned)node);
}

/* Of those that are mapped. The node that most of the stray ones are on goes to *where. */
static void count(const struct sample *s, const struct tier *t, struct vm_astray *a, int *where)
{
    guint on[NOWHERE] = { 0 };

    *a = (struct vm_astray){ 0 };
    *where = 0;
    for (guint i = 0; i < s->n; i++) {
        int node = s->node[i];

        if (node < 0)
            continue;
        a->seen++;
        if (is_on(t, node))
            continue;
        a->astray++;
        if ((unsigned)node < NOWHERE && ++on[node] > on[*where])
            *where = node;
    }
}

static void tell(struct vm *vm, guint tier, const struct vm_astray *a, int where)
{
    const struct tier *t = &vm->daemon->tiers->tier[tier];
    g_autofree char *bind = g_strdup_printf(", or have it dropped: host-nodes=%s,policy=bind for QEMU's memory backend",
                                            t->nodes);
    g_autofree char *text = g_strdup_printf(
        "about %.0f %% of its memory in tier %s is not on nodes %s but on node %d, where the kernel put it when those "
        "had none free (page cache counts as used): free some there%s", 100.0 * a->astray / a->seen, t->name, t->nodes,
        where, tier ? "" : bind);

    vm_event(vm, "VMTIER_MEMORY_ASTRAY", text);
}

static void look_at_tier(struct vm *vm, guint tier)
{
    const struct tier *t = &vm->daemon->tiers->tier[tier];
    struct vm_astray a = { 0 };
    struct sample s;
    double share;
    int where;

    choose_pages(&s, vm, tier);
    if (!s.n || move_pages((pid_t)vm->pid, s.n, s.at, NULL, s.node, 0) < 0) {
        vm->stats.astray[tier] = a;             /* not permitted, or it has ended: not known */
        return;
    }
    count(&s, t, &a, &where);
    vm->stats.astray[tier] = a;
    share = a.seen ? (double)a.astray / a.seen : 0;
    if (share >= MUCH && !vm->astray_told[tier])
        tell(vm, tier, &a, where);
    if (share >= MUCH || share < LITTLE)
        vm->astray_told[tier] = share >= MUCH;
}

void vm_look_astray(struct vm *vm)
{
    if (vm->mover->bytes || !vm->pid || vm->clock < vm->astray_next)     /* 0 would be ourselves */
        return;
    vm->astray_next = vm->clock + LOOK_S;
    for (guint t = 0; t < vm->daemon->tiers->n; t++)
        if (vm->daemon->tiers->tier[t].mask)
            look_at_tier(vm, t);
}
