// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The first placement.
 *
 * When a VM attaches before its guest runs, and when memory is plugged in later, what fits the quota
 * stays in dram, lowest addresses first, and the rest goes to slower tiers before the guest touches it;
 * what is pinned, or interleaved, goes where that says. A VM that attaches while its guest runs (the
 * daemon was restarted) keeps the placement it has; rounds bring it within its quota.
 */
#include "common/fault.h"
#include "host/daemon.h"
#include "host/mover/mover.h"

#include <errno.h>
#include <string.h>

/*
 * There is no memory of a slower tier for this VM, and there will be none while nobody does something
 * about it: it is told, and stays in the list with the reason. One that was placed before loses the
 * link, and hears of it when it attaches again.
 */
static int refuse(struct vm *vm, const char *why, struct vt_err *err)
{
    if (vm->placed)
        return vt_fail(err, ENOMEM, "%s", why);
    vm->refused = true;
    vm_clean_text(vm->stats.reason, why, sizeof(vm->stats.reason));
    vm->stats.state = VM_REFUSED;
    vm_show(vm);
    vm_event(vm, "VMTIER_VM_REFUSED", vm->stats.reason);
    memset(&vm->out.text, 0, sizeof(vm->out.text));
    wire_start(&vm->out, VT_REFUSE, 0, sizeof(vm->out.text));
    vm->out.text.code = ENOMEM;
    memcpy(vm->out.text.text, vm->stats.reason, sizeof(vm->out.text.text));
    return vm_send(vm, err);
}

static int send_file(struct vm *vm, guint32 block, guint32 tier, struct vt_err *err)
{
    struct vm_block *b = &vm->block[block];
    const struct tier_want want = {
        .vm = vm->name, .block = b->name, .length = b->length, .page_size = b->page_size,
        .granule = vm->config.granule, .huge = vm_wants_huge(b),
    };
    g_autoptr(GError) error = NULL;
    struct tier_got got;

    if (!tier_make_file(vm->daemon->tiers, tier, &want, &got, &error))
        return refuse(vm, error->message, err);
    g_mutex_lock(&vm->lock);
    b->file[tier] = got.fd;
    b->base[tier] = got.base;
    b->note[tier] = got.note[0] ? g_intern_string(got.note) : NULL;
    g_mutex_unlock(&vm->lock);
    wire_start(&vm->out, VT_TIER_FILE, 0, sizeof(vm->out.tier_file));
    vm->out.tier_file.block = block;
    vm->out.tier_file.tier = tier;
    vm->out.tier_file.offset = got.base;
    vm->out.fd[0] = got.fd;
    vm->out.n_fds = 1;
    return vm_send(vm, err);
}

static int send_files(struct vm *vm, struct vt_err *err)
{
    int rc = 0;

    for (guint32 i = 0; i < VT_BLOCKS; i++)
        for (guint32 t = 1; !rc && !vm->refused && t < vm->daemon->tiers->n; t++)
            if (vm->block[i].present && vm->block[i].file[t] < 0)
                rc = send_file(vm, i, t, err);
    return rc;
}

static guint64 address_of(const struct vm *vm, const struct vm_block *b)
{
    guint64 lowest = G_MAXUINT64;

    for (guint32 i = 0; i < vm->stats.n_slots; i++)
        if (vm->stats.slot[i].block == (guint32)(b - vm->block))
            lowest = MIN(lowest, vm->stats.slot[i].gpa);
    return lowest;
}

static gint by_address(gconstpointer a, gconstpointer b, gpointer vm)
{
    guint64 x = address_of(vm, *(struct vm_block *const *)a);
    guint64 y = address_of(vm, *(struct vm_block *const *)b);

    return (x > y) - (x < y);
}

/* QEMU's order is another one, and a virtio-mem device's block may be large, and all holes. */
static GPtrArray *blocks_by_address(const struct vm *vm)
{
    GPtrArray *blocks = g_ptr_array_new();

    for (guint32 i = 0; i < VT_BLOCKS; i++)
        if (vm->block[i].present)
            g_ptr_array_add(blocks, (gpointer)&vm->block[i]);
    g_ptr_array_sort_with_data(blocks, by_address, (gpointer)vm);
    return blocks;
}

/* Granules of placed blocks that are in dram already, but for those that are pinned. */
static guint32 count_settled(const struct vm *vm)
{
    guint32 settled = 0;

    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        for (guint32 g = b->first; b->present && b->placed && g < b->first + b->count; g++)
            settled += vm->ledger.tier[g] == 0 && spread_pin_of(&vm->spread, g) < 0;
    return settled;
}

/* Granules of new blocks that do not belong in dram, by the quota and in the order of their addresses. */
static GArray *list_surplus(struct vm *vm, bool fresh)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct vt_move_one));
    g_autoptr(GPtrArray) blocks = blocks_by_address(vm);
    guint32 quota = vm_quota_granules(vm), settled = count_settled(vm);

    quota -= MIN(quota, vm->spread.pinned[0]);
    for (guint i = 0; i < blocks->len; i++) {
        const struct vm_block *b = g_ptr_array_index(blocks, i);

        for (guint32 g = b->first; !b->placed && g < b->first + b->count; g++) {
            struct vt_move_one m = { .granule = g };
            bool hot;

            if (vm->ledger.tier[g] != 0)
                continue;
            hot = settled < quota;
            settled += spread_pin_of(&vm->spread, g) < 0;
            m.tier = b->fresh == fresh ? spread_first(&vm->spread, g, hot) : 0;
            if (m.tier != 0)
                g_array_append_val(list, m);
        }
    }
    return list;
}

static int move_surplus(struct vm *vm, bool fresh, struct vt_err *err)
{
    g_autoptr(GArray) list = list_surplus(vm, fresh);

    return vm->mover->carry_out(vm, (struct vt_move_one *)(void *)list->data, list->len, fresh,
                                 err);
}

/*
 * QEMU may tell of more blocks while the moves are under way; only what was there at the start is
 * placed in the end, the others' turn comes with the next round.
 */
int vm_place_new(struct vm *vm, struct vt_err *err)
{
    bool here[VT_BLOCKS];
    int rc;

    vm->layout_known = false;
    for (guint32 i = 0; i < VT_BLOCKS; i++)
        here[i] = vm->block[i].present;
    rc = send_files(vm, err);
    (void)fault_at(FAULT_ATTACH_FILES);
    if (rc || vm->refused)
        return rc;
    vm_spread_refresh(vm);
    if (vm->now.mode == VM_ON)
        rc = move_surplus(vm, true, err);
    (void)fault_at(FAULT_ATTACH_PLACING);
    if (!rc && vm->now.mode == VM_ON)
        rc = move_surplus(vm, false, err);
    for (guint32 i = 0; i < VT_BLOCKS; i++)
        vm->block[i].placed |= here[i] && vm->block[i].present;
    (void)fault_at(FAULT_ATTACH_PLACED);
    return rc;
}

/* Waits for LAYOUT_END, or for QEMU to say that it cannot be tiered. */
static int await_layout(struct vm *vm, struct vt_err *err)
{
    const gint64 end = g_get_monotonic_time() + LINK_MS * 1000;

    while (!vm->layout_known && vm->stats.state != VM_REFUSED) {
        gint64 left_ms = (end - g_get_monotonic_time()) / 1000;
        int rc = left_ms > 0 ? wire_recv(vm->link, &vm->in, (int)left_ms, err) :
                 vt_fail(err, ETIMEDOUT, "QEMU's layout has no end after %d s", LINK_MS / 1000);

        if (!rc)
            rc = vm_take_news(vm, err);
        if (rc > 0)
            rc = vt_fail(err, EPROTO, "%s before the layout", wire_type_name(vm->in.h.type));
        if (rc)
            return rc;
    }
    return 0;
}

/* A VM that cannot be tiered stays in the list, with its reason, while its QEMU keeps the link. */
static int stay_refused(struct vm *vm, struct vt_err *err)
{
    int rc = vm_receive(vm, 0, err);

    return rc == -EAGAIN ? 0 : rc ? rc : vt_fail(err, EPROTO, "%s unasked",
                                                 wire_type_name(vm->in.h.type));
}

int vm_attach(struct vm *vm, struct vt_err *err)
{
    int rc = vm->stats.state == VM_REFUSED ? 0 : await_layout(vm, err);

    if (!rc && vm->stats.state == VM_REFUSED)
        return stay_refused(vm, err);
    (void)fault_at(FAULT_ATTACH_LAYOUT);
    if (!rc)
        rc = vm_place_new(vm, err);
    if (rc || vm->refused)
        return rc;
    wire_start(&vm->out, VT_READY, 0, sizeof(struct vt_ready));
    rc = vm_send(vm, err);
    if (rc)
        return rc;
    (void)fault_at(FAULT_ATTACH_READY);
    vm->placed = true;
    if (vm->stats.state == VM_REFUSED)      /* it froze while it was placed */
        vm->stats.state = VM_FROZEN;
    vm->last_us = g_get_monotonic_time();
    vm_event(vm, "VMTIER_VM_ATTACHED", NULL);
    return 0;
}
