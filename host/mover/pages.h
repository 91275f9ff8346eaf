// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where the pages of another process are, and moving them between NUMA nodes, with move_pages(2).
 *
 * Knows addresses, nodes and tiers; nothing of VMs and granules. One struct pages belongs to one
 * thread at a time.
 */
#ifndef VMTIER_PAGES_H
#define VMTIER_PAGES_H

#include "common/err.h"
#include "host/tier.h"

#define PAGES_STAY (-1)         /* only look where they are */
#define PAGE_BYTES 4096u        /* what pages are counted in, huge ones as well */

struct pages_want {
    guint64 at, length;         /* addresses in that process, whole pages */
    guint32 page_size;          /* of the mapping: hugetlb's, else PAGE_BYTES */
    int tier;                   /* where to, or PAGES_STAY */
};

struct pages_got {
    bool known;                 /* false: it was not got to; the rest says nothing */
    guint32 in[VT_TIERS + 1];   /* pages by tier; in[tiers->n]: on nodes of no tier */
    guint32 moved;
    guint32 left;               /* present and not in the tier that was wanted */
    int why;                    /* of one that is left: an errno value as move_pages(2) has them */
};

struct pages;

/* `pidfd` stays the caller's, and must be of `pid`. */
struct pages *pages_new(pid_t pid, int pidfd, const struct tiers *tiers);
void pages_free(struct pages *p);

/*
 * Looks, and moves what is to be moved, range by range in order.
 *
 * 0: all ranges are known, which does not say that all pages moved. Else a negative errno with *err:
 * -ESRCH: the process has ended; -EPERM, -EACCES, -ENODEV and others: nothing of this process can be
 * moved as things are, and *err says what to do. Ranges after the one that failed are not known.
 */
int pages_run(struct pages *p, const struct pages_want *want, struct pages_got *got, guint n,
              struct vt_err *err);

/* Can pages that other processes have mapped be moved, too? Known once something was to be moved. */
bool pages_may_move_shared(const struct pages *p);

/* Each tier needs nodes, and no node may be in two tiers: NULL, or why nothing can be moved. */
char *pages_why_not(const struct tiers *tiers);

#endif
