// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The round: what a worker does for one VM, four times a second.
 *
 *      settings -> news from QEMU -> harvest -> heat -> place -> pace -> move -> account -> show
 *
 * How the quota holds at every instant is said in place.h.
 */
#include "common/fault.h"
#include "host/daemon.h"
#include "host/sharing.h"
#include "host/mover/mover.h"
#include "host/order.h"
#include "host/place.h"
#include "host/source/source.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define COST_MEMORY_S 60.0      /* a move's cost goes back to the usual in about so long */
#define SPARE_MOST  (64u << 20) /* bytes of the slow tier that wait for the next demotions */
#define MISMATCH_ROUNDS 8u     /* in a row that the files hold too much before that is said */

/* --- settings and news ----------------------------------------------------------------------------- */

static int take_settings(struct vm *vm, struct vt_err *err)
{
    g_mutex_lock(&vm->lock);
    vm->now = vm->want;
    g_mutex_unlock(&vm->lock);
    return sources_switch(vm, err);
}

static int take_waiting_news(struct vm *vm, struct vt_err *err)
{
    int rc;

    if (vm->mover->take_news)
        return vm->mover->take_news(vm, err);
    rc = vm_receive(vm, 0, err);
    if (!rc)
        return vt_fail(err, EPROTO, "%s unasked", wire_type_name(vm->in.h.type));
    if (rc != -EAGAIN)
        return rc;
    return vm->layout_known ? vm_place_new(vm, err) : 0;
}

static void set_state(struct vm *vm)
{
    static const enum vm_state by_mode[VM_MODE_COUNT] = { VM_IDLE, VM_OBSERVING, VM_TIERING };

    if (vm->stats.state == VM_FROZEN)
        return;
    vm->stats.state = by_mode[vm->now.mode];
    vm->stats.reason[0] = '\0';
}

/* --- placing ---------------------------------------------------------------------------------------- */

static bool is_ready(gconstpointer of, guint32 granule)
{
    const struct vm *vm = of;

    return vm->mover->ready(vm, granule);
}

/*
 * The dram that demotions free is the promotions' destination, so nothing is freed and made anew; what
 * they leave goes back at once, as spare dram counts against the quota. The slow tier may keep some.
 */
static int carry_out(gpointer of, struct vt_move_one *moves, guint32 n, guint32 coming,
                     struct vt_err *err)
{
    struct vm *vm = of;
    int rc;

    for (guint t = 1; t < VT_TIERS; t++)
        vm->spare_most[t] = SPARE_MOST;
    vm->spare_most[0] = coming * vm->config.granule;
    rc = vm->mover->carry_out(vm, moves, n, false, err);
    vm->spare_most[0] = 0;
    return rc;
}

static int place(struct vm *vm, struct vt_err *err)
{
    struct placing p = {
        .policy = vm->policy, .policy_state = vm->policy_state,
        .heat = &vm->heat, .ledger = &vm->ledger, .pace = &vm->pace,
        .granule = vm->config.granule, .dram_most = vm_quota_granules(vm), .now = vm->clock,
        .move_cost_s = vm->move_cost_s, .moves = vm->stats.state == VM_TIERING,
        .wishes = &vm->wishes, .of = vm, .ready = vm->mover->ready ? is_ready : NULL, .carry_out = carry_out,
        .spread = &vm->spread,
    };
    int rc;

    vm_spread_refresh(vm);
    rc = place_round(&p, err);
    vm->stats.spread.moved_bytes += p.spread_moved * vm->config.granule;

    if (!p.moves)
        g_debug("%s: would demote %u and promote %u granules", vm->name, p.demoted, p.promoted);
    vm->stats.plan_wanted = p.wanted;
    vm->stats.plan_done = p.demoted + p.promoted;
    return rc;
}

/* --- accounting --------------------------------------------------------------------------------------- */

static void compare_with_files(struct vm *vm)
{
    struct vm_stats *s = &vm->stats;
    g_autofree char *text = NULL;

    for (guint t = 0; t < vm->daemon->tiers->n && !text; t++)
        if (s->counted[t] && s->file_bytes[t] > s->ledger_bytes[t] + s->spare_bytes[t])
            text = g_strdup_printf("tier %s: the files hold %" G_GUINT64_FORMAT " bytes, the ledger "
                                   "has %" G_GUINT64_FORMAT, vm->daemon->tiers->tier[t].name,
                                   s->file_bytes[t], s->ledger_bytes[t]);
    /* For a moment it is no proof: what x-vmtier-move has moved away QEMU's part frees by and by, unheard of here. */
    vm->mismatch = text ? vm->mismatch + 1 : 0;
    if (vm->mismatch == MISMATCH_ROUNDS) {
        s->mismatches++;
        vm_event(vm, "VMTIER_LEDGER_MISMATCH", text);
    }
}

static void count_bytes(struct vm *vm)
{
    struct vm_stats *s = &vm->stats;

    for (guint t = 0; t < vm->daemon->tiers->n; t++) {
        s->ledger_bytes[t] = ledger_bytes(&vm->ledger, t);
        s->granules[t] = vm->ledger.count[t];
        s->file_bytes[t] = vm->mover->bytes ? vm->mover->bytes(vm, t) : 0;
        s->counted[t] = true;
        for (struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
            if (b->present) {
                s->file_bytes[t] += tier_count_bytes(b->file[t], b->base[t], b->length, &b->use[t]);
                s->counted[t] &= b->use[t].fresh;
            }
    }
    s->dram_bytes_peak = MAX(s->dram_bytes_peak, s->file_bytes[0]);
    if (!vm->mover->bytes)
        compare_with_files(vm);
}

static void count_hits(struct vm *vm)
{
    guint64 dram = 0, all = 0;

    for (int i = 0; i < HIT_WINDOW; i++) {
        dram += vm->window[i].dram;
        all += vm->window[i].all;
    }
    vm->stats.hit_samples = all;
    vm->stats.hit_window_s = HIT_WINDOW * ROUND_MS / 1000.0;
    vm->stats.hit_ratio = all ? (double)dram / (double)all : -1;
}

static void account(struct vm *vm, guint64 moves, double dt, gint64 start_us)
{
    double ms = (double)(g_get_monotonic_time() - start_us) / 1000;
    struct vm_stats *s = &vm->stats;

    count_bytes(vm);
    vm_look_astray(vm);
    count_hits(vm);
    vm_spread_account(vm);
    s->moves_per_s += 0.2 * ((double)moves / dt - s->moves_per_s);
    /* A median without a list: step towards each value by a share of the estimate. */
    s->round_ms += s->rounds++ ? (ms > s->round_ms ? 0.05 : -0.05) * s->round_ms : ms;
    g_mutex_lock(&vm->lock);
    history_note(&vm->history, &vm->heat, &vm->ledger, vm->clock);
    g_mutex_unlock(&vm->lock);
    sharing_note_curve(vm);
    vm_show(vm);
}

/* --- the round ------------------------------------------------------------------------------------------ */

static int observe(struct vm *vm, double dt, struct vt_err *err)
{
    int rc;

    heat_use_samples(&vm->heat, sources_sampling(vm));
    heat_advance(&vm->heat, dt, sources_watching(vm));
    vm->window_at = (vm->window_at + 1) % HIT_WINDOW;
    memset(&vm->window[vm->window_at], 0, sizeof(vm->window[0]));
    rc = sources_harvest(vm, dt, err);
    heat_digest(&vm->heat);
    return rc;
}

int vm_round(struct vm *vm, struct vt_err *err)
{
    gint64 start = g_get_monotonic_time();
    double dt = MAX((double)(start - vm->last_us) / 1e6, 1e-3);
    guint64 moves = vm->stats.promoted + vm->stats.demoted;
    int rc = take_settings(vm, err);

    vm->last_us = start;
    vm->clock += dt;
    /* What a move costs is only seen by moving: a dear one is forgotten in a minute or two. */
    vm->move_cost_s += MIN(dt / COST_MEMORY_S, 1) * (VM_MOVE_COST_S - vm->move_cost_s);
    pace_advance(&vm->pace, dt, vm->now.rate, vm->config.granule);
    (void)fault_at(FAULT_ROUND_START);
    if (!rc)
        rc = take_waiting_news(vm, err);
    (void)fault_at(FAULT_ROUND_NEWS);
    if (!rc)
        rc = observe(vm, dt, err);
    (void)fault_at(FAULT_ROUND_HARVESTED);
    set_state(vm);
    if (!rc)
        rc = order_carry_out(vm, err);
    if (!rc && (vm->stats.state == VM_TIERING || vm->stats.state == VM_OBSERVING))
        rc = place(vm, err);
    (void)fault_at(FAULT_ROUND_MOVED);
    if (!rc && vm->layout_known)        /* it came while we were at it: show nothing unplaced */
        rc = vm_place_new(vm, err);
    account(vm, vm->stats.promoted + vm->stats.demoted - moves, dt, start);
    (void)fault_at(FAULT_ROUND_ACCOUNTED);
    return rc;
}
