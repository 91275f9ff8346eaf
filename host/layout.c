// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What QEMU says of its RAM: blocks, memslots, placement. None of it is believed before it fits: ids
 * and ranges within bounds, blocks that do not overlap, granules that belong to a block, tiers that
 * exist.
 */
#include "host/vm.h"
#include "host/daemon.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool vm_is_layout(const struct wire_msg *msg)
{
    switch (msg->h.type) {
    case VT_BLOCK: case VT_BLOCK_GONE: case VT_SLOTS: case VT_PLACEMENT: case VT_LAYOUT_END:
    case VT_BACKING:
        return true;
    default:
        return false;
    }
}

static void forget_block(struct vm *vm, struct vm_block *b)
{
    for (int t = 0; t < VT_TIERS; t++) {
        if (b->file[t] >= 0)
            close(b->file[t]);
        b->file[t] = -1;
    }
    for (guint32 g = b->first; b->present && g < b->first + b->count; g++)
        ledger_put(&vm->ledger, g, LEDGER_NONE);
    b->present = false;
    memset(b->use, 0, sizeof(b->use));
    b->backing.h.type = 0;
    vm->map_changed = true;
}

static bool overlaps(const struct vm *vm, const struct vt_block *m)
{
    for (guint32 i = 0; i < VT_BLOCKS; i++) {
        const struct vm_block *b = &vm->block[i];

        if (b->present && i != m->id && m->first < b->first + b->count &&
            b->first < m->first + m->count)
            return true;
    }
    return false;
}

/* Each file is long enough for the area that is said to be in it. */
static int check_files(const struct wire_msg *msg, struct vt_err *err)
{
    const struct vt_block *m = &msg->block;
    struct stat st;

    for (unsigned t = 0, next = 0; t < VT_TIERS; t++) {
        if (!(m->files & (1u << t)))
            continue;
        if (m->base[t] % 4096 || fstat(msg->fd[next++], &st) || (guint64)st.st_size < m->length ||
            m->base[t] > (guint64)st.st_size - m->length)
            return vt_fail(err, EPROTO, "BLOCK %u: its file of tier %u is shorter than %llu + %llu "
                           "bytes", m->id, t, (unsigned long long)m->base[t],
                           (unsigned long long)m->length);
    }
    return 0;
}

static int check_block(const struct vm *vm, const struct wire_msg *msg, struct vt_err *err)
{
    const struct vt_block *m = &msg->block;
    guint64 granule = vm->config.granule;

    if (m->id >= VT_BLOCKS || !m->length || m->length > (guint64)VT_GRANULES_MAX * granule ||
        m->count != (m->length + granule - 1) / granule ||
        m->first > VT_GRANULES_MAX || m->count > VT_GRANULES_MAX - m->first)
        return vt_fail(err, EPROTO, "BLOCK %u: %llu bytes, granules %u + %u do not fit together",
                       m->id, (unsigned long long)m->length, m->first, m->count);
    if (m->page_size < 4096 || (m->page_size & (m->page_size - 1)) || granule % m->page_size)
        return vt_fail(err, EPROTO, "BLOCK %u: pages of %u bytes", m->id, m->page_size);
    if (!(m->files & 1) || __builtin_popcount(m->files) != msg->n_fds ||
        m->files >> vm->daemon->tiers->n)
        return vt_fail(err, EPROTO, "BLOCK %u: files %#x with %d descriptors", m->id, m->files,
                       msg->n_fds);
    if (m->host % 4096 || m->host > G_MAXUINT64 - m->length)
        return vt_fail(err, EPROTO, "BLOCK %u: mapped at %#llx", m->id, (unsigned long long)m->host);
    if (overlaps(vm, m))
        return vt_fail(err, EPROTO, "BLOCK %u overlaps another one", m->id);
    return check_files(msg, err);
}

static int take_block(struct vm *vm, struct wire_msg *msg, struct vt_err *err)
{
    const struct vt_block *m = &msg->block;
    struct vm_block *b;
    int rc = check_block(vm, msg, err), next = 0;
    bool placed, again;

    if (rc)
        return rc;
    b = &vm->block[m->id];
    /* A block that is told again before its first placement still waits for it. */
    again = b->present && b->first == m->first && b->count == m->count;
    placed = again ? b->placed : !(m->fresh || vm->placed);
    if (!again)
        memset(b->note, 0, sizeof(b->note));
    forget_block(vm, b);
    b->present = true;
    b->length = m->length;
    b->host = m->host;
    b->first = m->first;
    b->count = m->count;
    b->page_size = m->page_size;
    b->fresh = m->fresh;
    b->placed = placed;
    memcpy(b->base, m->base, sizeof(b->base));
    vm_clean_text(b->name, m->name, sizeof(b->name));
    for (unsigned t = 0; t < VT_TIERS; t++)
        b->file[t] = m->files & (1u << t) ? wire_take_fd(msg, next++) : -1;
    vm_resize(vm, b->first + b->count);
    for (guint32 g = b->first; g < b->first + b->count; g++)
        ledger_put(&vm->ledger, g, 0);      /* until PLACEMENT says otherwise */
    return 0;
}

static int take_gone(struct vm *vm, struct wire_msg *msg, struct vt_err *err)
{
    if (msg->block_gone.id >= VT_BLOCKS)
        return vt_fail(err, EPROTO, "BLOCK_GONE %u", msg->block_gone.id);
    forget_block(vm, &vm->block[msg->block_gone.id]);
    return 0;
}

static int take_slots(struct vm *vm, struct wire_msg *msg, struct vt_err *err)
{
    (void)err;
    vm->stats.n_slots = MIN(msg->slots.count, G_N_ELEMENTS(vm->stats.slot));
    memcpy(vm->stats.slot, msg->slots.slot, vm->stats.n_slots * sizeof(vm->stats.slot[0]));
    return 0;
}

static int take_placement(struct vm *vm, struct wire_msg *msg, struct vt_err *err)
{
    const struct vt_placement *m = &msg->placement;

    if (m->first > vm->ledger.n || m->count > vm->ledger.n - m->first)
        return vt_fail(err, EPROTO, "PLACEMENT of granules %u + %u, there are %u", m->first,
                       m->count, vm->ledger.n);
    for (guint32 i = 0; i < m->count; i++) {
        if (m->tier[i] >= vm->daemon->tiers->n || vm->ledger.tier[m->first + i] == LEDGER_NONE)
            return vt_fail(err, EPROTO, "PLACEMENT: granule %u in tier %u", m->first + i,
                           m->tier[i]);
        ledger_put(&vm->ledger, m->first + i, m->tier[i]);
    }
    return 0;
}

static int take_end(struct vm *vm, struct wire_msg *msg, struct vt_err *err)
{
    struct vm_stats *s = &vm->stats;

    (void)msg;
    (void)err;
    s->ram_bytes = 0;
    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present)
            s->ram_bytes += b->length;
    vm->layout_known = vm->map_changed = true;
    return 0;
}

static int take(struct vm *vm, struct wire_msg *msg, struct vt_err *err)
{
    switch (msg->h.type) {
    case VT_BLOCK:
        return take_block(vm, msg, err);
    case VT_BLOCK_GONE:
        return take_gone(vm, msg, err);
    case VT_SLOTS:
        return take_slots(vm, msg, err);
    case VT_PLACEMENT:
        return take_placement(vm, msg, err);
    case VT_BACKING:
        vm_take_backing(vm, &msg->backing);
        return 0;
    default:
        return take_end(vm, msg, err);
    }
}

int vm_take_layout(struct vm *vm, struct wire_msg *msg, struct vt_err *err)
{
    int rc;

    g_mutex_lock(&vm->lock);
    rc = take(vm, msg, err);
    g_mutex_unlock(&vm->lock);
    return rc;
}
