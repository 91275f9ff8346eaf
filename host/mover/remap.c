// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mover "remap": QEMU's part maps another file at the granule's address; see vmm/mover.c. This side
 * sends lists and keeps the ledger in step with the answers.
 *
 * A message has as many granules as were moved in a part of the time an answer may take: where moving is slow
 * (an emulated host, a low rate, large granules), the same number would look like a QEMU that hangs.
 */
#include "host/mover/mover.h"
#include "host/daemon.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define BATCH       64          /* granules per message: what may be under way when we die */
#define BATCH_FIRST 8           /* as long as it is not known how long one takes */
#define BATCH_S     (LINK_MS / 1000.0 / 8)      /* seconds that a message's moves should take */

static void note_failure(struct vm *vm, const struct vt_move_one *asked,
                         const struct vt_move_one *m)
{
    if (m->status == VT_ST_BUSY || m->status == VT_ST_AGAIN) {
        vm->stats.deferred++;
        return;
    }
    vm->stats.failed++;
    g_snprintf(vm->stats.last_error, sizeof(vm->stats.last_error),
               "granule %u to %s: %s", m->granule,
               vm->daemon->tiers->tier[asked->tier % VT_TIERS].name, wire_status_name(m->status));
}

/* One answer: the ledger first. */
static void note(struct vm *vm, const struct vt_move_one *asked, const struct vt_move_one *m)
{
    guint8 was = vm->ledger.tier[m->granule];

    if (m->status != VT_ST_OK) {
        note_failure(vm, asked, m);
        return;
    }
    if (was == m->tier || was == LEDGER_NONE)
        return;
    ledger_put(&vm->ledger, m->granule, m->tier);
    vm->map_changed = true;
    vm->stats.moved_bytes += vm->config.granule;
    if (m->tier < was)
        vm->stats.promoted++;
    else
        vm->stats.demoted++;
}

static bool matches(const struct vm *vm, const struct vt_move_one *asked,
                    const struct vt_move_list *got, guint32 n)
{
    if (got->count != n)
        return false;
    for (guint32 i = 0; i < n; i++)
        if (got->move[i].granule != asked[i].granule || got->move[i].status >= VT_ST_END ||
            got->move[i].tier >= vm->daemon->tiers->n)
            return false;
    return true;
}

/* Longer than before is believed at once, shorter by and by. */
static void note_wait(struct vm *vm, double each_s)
{
    vm->move_wait_s = MAX(each_s, vm->move_wait_s + 0.25 * (each_s - vm->move_wait_s));
}

static guint32 batch_size(const struct vm *vm)
{
    if (!vm->move_wait_s)
        return BATCH_FIRST;
    return (guint32)CLAMP(BATCH_S / vm->move_wait_s, 1, BATCH);
}

/* `coming`: granules that later batches of the list bring to dram, into what is spare there. */
static int send_batch(struct vm *vm, struct vt_move_one *moves, guint32 n, guint32 coming, bool fresh,
                      struct vt_err *err)
{
    struct vt_move_list *m = &vm->out.move;
    gint64 start_us = g_get_monotonic_time();
    int rc;

    wire_start(&vm->out, VT_MOVE, ++vm->seq, sizeof(*m) + n * sizeof(m->move[0]));
    m->count = n;
    m->fresh = fresh;
    m->cpu_ns = m->pages = 0;
    m->rate = fresh ? 0 : vm->now.rate;
    for (guint t = 0; t < VT_TIERS; t++)
        m->spare[t] = fresh ? 0 : vm->spare_most[t];
    m->spare[0] += fresh ? 0 : coming * vm->config.granule;
    memcpy(m->move, moves, n * sizeof(m->move[0]));
    rc = vm_send(vm, err);
    if (!rc)
        rc = vm_receive(vm, LINK_MS, err);
    if (rc)
        return rc;
    m = &vm->in.move;
    if (vm->in.h.type != VT_MOVED || vm->in.h.seq != vm->seq || !matches(vm, moves, m, n))
        return vt_fail(err, EPROTO, "%s does not answer MOVE", wire_type_name(vm->in.h.type));
    for (guint32 i = 0; i < n; i++)
        note(vm, &moves[i], &m->move[i]);
    memcpy(moves, m->move, n * sizeof(moves[0]));
    memcpy(vm->stats.spare_bytes, m->spare, sizeof(m->spare));
    vm->stats.pages += m->pages;
    /* A mean over granules, not batches: a single one's message and locks cost as much as many's. */
    if (!fresh && n) {
        vm->move_cost_s += (1 - pow(0.95, n)) * ((double)m->cpu_ns / 1e9 / n - vm->move_cost_s);
        note_wait(vm, (double)(g_get_monotonic_time() - start_us) / 1e6 / n);
    }
    return 0;
}

static guint32 count_promotions(const struct vt_move_one *moves, guint32 n)
{
    guint32 coming = 0;

    for (guint32 i = 0; i < n; i++)
        coming += moves[i].tier == 0;
    return coming;
}

static int carry_out(struct vm *vm, struct vt_move_one *moves, guint32 n, bool fresh,
                     struct vt_err *err)
{
    const guint32 room = wire_room(sizeof(struct vt_move_list), sizeof(*moves));
    guint32 coming = count_promotions(moves, n);
    int rc = 0;

    for (guint32 done = 0, now; !rc && done < n; done += now) {
        now = MIN(n - done, fresh ? room : batch_size(vm));
        coming -= count_promotions(moves + done, now);
        rc = send_batch(vm, moves + done, now, coming, fresh, err);
    }
    /* Spare dram that the moves before this list left for it. */
    if (!rc && vm->stats.spare_bytes[0] > vm->spare_most[0])
        rc = send_batch(vm, moves, 0, 0, fresh, err);
    return rc;
}

const struct mover mover_remap = { .name = "remap", .carry_out = carry_out };
