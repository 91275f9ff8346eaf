// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where the guest's pages are.
 *
 * move_pages(2) tells the node of each page that QEMU has mapped, and touches none. vmtier's plugin unmaps pages for a
 * moment to see whether they are used; of these the file that is mapped there tells, as the slow tier's files are
 * bound to node 1 and the other one to node 0.
 */
#include "peers.h"

#include <errno.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES (PEERS_RAM / PEERS_PAGE / LOOK_STEP)
#define CHUNK 4096u
#define STEP  ((uint64_t)LOOK_STEP * PEERS_PAGE)

guint look_pages(void)
{
    return PAGES;
}

/* --- one look ------------------------------------------------------------------------------------------- */

void look_nodes(struct vm *vm, uint64_t step, guint n, const int *to, int *status)
{
    static void *pages[CHUNK];

    for (guint done = 0, now; done < n; done += now) {
        now = MIN(CHUNK, n - done);
        for (guint i = 0; i < now; i++)
            pages[i] = GSIZE_TO_POINTER(vm->ram_at + (done + i) * step);
        if (move_pages(vm->qemu->pid, now, pages, to ? to + done : NULL, status + done, MPOL_MF_MOVE) < 0)
            g_error("move_pages: %s", g_strerror(errno));
    }
}

/* A mapping of one of vmtier's files: pages in it that are not mapped just now are where the file is. */
static void take_mapping(struct vm *vm, const char *line, int *status)
{
    unsigned long long start, end;
    bool slow = strstr(line, "/memfd:vmtier-cxl") != NULL;

    if (sscanf(line, "%llx-%llx", &start, &end) != 2 || start >= vm->ram_at + PEERS_RAM || end <= vm->ram_at)
        return;
    start = MAX(start, vm->ram_at) - vm->ram_at;
    end = MIN(end, vm->ram_at + PEERS_RAM) - vm->ram_at;
    for (uint64_t i = (start + STEP - 1) / STEP; i * STEP < end; i++)
        if (status[i] < 0)
            status[i] = slow;
}

static void ask_files(struct vm *vm, int *status)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)vm->qemu->pid), *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !strstr(text, "/memfd:vmtier-cxl"))
        return;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++)
        if (strstr(*line, "/memfd:"))
            take_mapping(vm, *line, status);
}

void look(struct vm *vm, gint16 *node)
{
    g_autofree int *status = g_new0(int, PAGES);

    look_nodes(vm, STEP, PAGES, NULL, status);
    ask_files(vm, status);
    for (guint i = 0; i < PAGES; i++)
        node[i] = status[i] < 0 ? -1 : (gint16)status[i];
}

/* --- what follows --------------------------------------------------------------------------------------- */

double look_share(const struct look *l, const double *weights)
{
    double share = 0;

    for (guint i = 0; i < PAGES; i++)
        if (l->node[i] == 0)
            share += weights[i];
    return share;
}

static int hottest_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

double look_oracle(const double *weights, uint64_t bytes)
{
    g_autofree double *sorted = g_memdup2(weights, PAGES * sizeof(*weights));
    double share = 0;

    qsort(sorted, PAGES, sizeof(*sorted), hottest_first);
    for (guint i = 0; i < PAGES && i * STEP < bytes; i++)
        share += sorted[i];
    return share;
}

/* A page has been on a node since `since`; one that comes back to it within BACK_S was away in vain. */
static void follow(const GArray *looks, guint page, uint64_t *changes, uint64_t *back)
{
    double left = -1;
    int was = -1;

    for (guint i = 0; i < looks->len; i++) {
        const struct look *l = &g_array_index(looks, struct look, i);
        int now = l->node[page];

        if (now < 0 || now == was)
            continue;
        if (was >= 0) {
            (*changes)++;
            *back += left >= 0 && l->t - left <= BACK_S;
            left = l->t;
        }
        was = now;
    }
}

void look_changes(const GArray *looks, uint64_t *changes, uint64_t *back)
{
    *changes = *back = 0;
    for (guint page = 0; page < PAGES; page++)
        follow(looks, page, changes, back);
}
