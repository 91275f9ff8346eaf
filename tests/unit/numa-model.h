// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A stand-in for NUMA nodes: the pages of a process, the nodes they are on, and move_pages(2) over them
 * as the kernel has it (mm/migrate.c, do_pages_move() of Linux 6.12), so that two nodes can be tested
 * where there is one. The test program is linked with --wrap=move_pages, --wrap=ioctl (for PAGEMAP_SCAN)
 * and --wrap=numa_node_size64.
 *
 * A folio is 1, 16 or 512 pages, as the 4 KiB pages of one mapping may be in the page tables.
 */
#ifndef VMTIER_TESTS_NUMA_MODEL_H
#define VMTIER_TESTS_NUMA_MODEL_H

#include "host/mover/pages.h"

#define MODEL_NODES 4
#define MODEL_FAULTS 8

struct model_page {
    gint8 node;                 /* -1: absent; -2: the zero page */
    guint16 folio;              /* pages of its folio; 0 in all but the first */
    bool pinned, shared, stayed; /* stayed: when it was shy */
    guint8 shy;                 /* so many times it is not moved, without a reason */
};

struct model {
    guint64 at;                 /* address of the first page */
    guint n;
    struct model_page *page;
    long long free[MODEL_NODES];            /* pages */
    bool no_pagemap, no_cap, no_ptrace, no_process;
    int fail;                   /* errno of the next call that moves; 0: none */
    guint fail_after;           /* ... after so many pages of it */
    /* what happened */
    guint moves, queries, most;             /* calls; most pages in one */
    guint tries;                            /* of pinned folios */
    guint scanned;                          /* present pages that PAGEMAP_SCAN told of */
};
extern struct model model;

/* `n` pages at this address, absent; `free` pages on each node. */
void model_set_up(guint64 at, guint n, long long free);
void model_tear_down(void);

/* Makes pages [first, first + n) one or more folios of this size on a node. */
void model_put(guint first, guint n, guint folio, int node);
struct model_page *model_head(guint page);
guint model_count(guint first, guint n, int node);

/* Two tiers: of the nodes in these lists. */
struct tiers *model_tiers(const char *dram, const char *cxl);

#endif
