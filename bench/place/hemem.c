// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * HeMem (SOSP 2021): samples per page; eight make a page hot; when any page has 18, a new round of
 * cooling begins, in which each page's count is halved when it is sampled next or considered. Hot pages
 * are promoted in the order in which they became hot, in place of cold ones, every 10 ms.
 */
#include "bench/place/contenders.h"

#define SAMPLES 20e3
#define HOT     8
#define COOL_AT 18

struct page {
    guint16 count, clock;
};

struct hemem {
    struct page *page;
    GQueue hot;                 /* of the slow tier, in order; each once */
    bool *queued;
    guint16 clock;
    guint32 at;                 /* where the search for cold pages goes on */
};

static gpointer create(struct sim *sim)
{
    struct hemem *h = g_new0(struct hemem, 1);

    h->page = g_new0(struct page, sim->n);
    h->queued = g_new0(bool, sim->n);
    g_queue_init(&h->hot);
    return h;
}

static void destroy(gpointer state)
{
    struct hemem *h = state;

    g_queue_clear(&h->hot);
    g_free(h->page);
    g_free(h->queued);
    g_free(h);
}

static guint16 count_of(struct hemem *h, guint32 granule)
{
    struct page *p = &h->page[granule];
    guint16 behind = (guint16)(h->clock - p->clock);

    p->count = behind < 16 ? (guint16)(p->count >> behind) : 0;
    p->clock = h->clock;
    return p->count;
}

static void sample(struct hemem *h, struct sim *sim)
{
    double all = sim_all(sim), period = MAX(all / SAMPLES, 1);
    guint32 n = sim_poisson(sim, all * SIM_TICK / period);

    sim_charge(sim, n * COST_SAMPLE);
    while (n--) {
        guint32 g = sim_draw(sim);
        guint16 count = count_of(h, g) + 1;

        h->page[g].count = count;
        if (count >= COOL_AT)
            h->clock++;
        if (count >= HOT && !sim_in_dram(sim, g) && !h->queued[g]) {
            g_queue_push_tail(&h->hot, GUINT_TO_POINTER(g));
            h->queued[g] = true;
        }
    }
}

static guint32 find_cold(struct hemem *h, const struct sim *sim)
{
    for (guint32 i = 0; i < sim->n; i++) {
        guint32 g = h->at;

        h->at = (h->at + 1) % sim->n;
        if (sim_in_dram(sim, g) && count_of(h, g) < HOT)
            return g;
    }
    return sim->n;
}

static void tick(struct sim *sim, gpointer state)
{
    struct hemem *h = state;

    sample(h, sim);
    while (!g_queue_is_empty(&h->hot) && sim_may_move(sim, 2)) {
        guint32 g = GPOINTER_TO_UINT(g_queue_pop_head(&h->hot)), out;

        h->queued[g] = false;
        if (sim_in_dram(sim, g) || count_of(h, g) < HOT)
            continue;
        if (sim_full(sim)) {
            out = find_cold(h, sim);
            if (out == sim->n)
                return;
            sim_move(sim, out, 1);
        }
        sim_move(sim, g, 0);
    }
}

const struct contender contender_hemem = {
    .name = "HeMem", .summary = "eight samples make a page hot, 20 000 samples/s", .create = create,
    .tick = tick, .destroy = destroy,
};
