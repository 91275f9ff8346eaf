// SPDX-License-Identifier: GPL-2.0-or-later
/* Where a VM that was attached by its pid has its RAM, at first and later on: see numa.c. */
#include "host/mover/numa-internal.h"
#include "host/error.h"
#include "host/qemu-ram.h"

#include <errno.h>
#include <string.h>

#define MAPS_S 2

static void forget_block(struct vm *vm, guint32 block)
{
    const guint32 none[VT_TIERS + 1] = { 0 };
    struct vm_block *b = &vm->block[block];

    for (guint32 g = b->first; g < b->first + b->count; g++) {
        numa_book(vm, g, none);
        numa_release(vm, g);
    }
    vm->stats.ram_bytes -= b->length;
    b->present = false;
    vm->map_changed = true;
    g_message("%s: block %s is not mapped any more", vm->name, b->name);
}

int numa_look_at_maps(struct vm *vm, struct vt_err *err)
{
    struct numa *n = vm->mover_state;
    g_autoptr(GError) error = NULL;
    GArray *maps = process_maps(n->process, &error);
    guint32 left = 0;

    n->next_maps = vm->clock + MAPS_S;
    if (!maps)
        return vt_fail(err, EIO, "%s", error->message);
    g_mutex_lock(&vm->lock);
    for (guint32 i = 0; i < VT_BLOCKS; i++) {
        const struct vm_block *b = &vm->block[i];

        if (b->present && !maps_cover(maps, n->at[i], n->at[i] + b->length))
            forget_block(vm, i);
        left += b->present;
    }
    g_mutex_unlock(&vm->lock);
    g_array_unref(maps);
    return left ? 0 : vt_fail(err, ENXIO, "its RAM is not mapped any more: it has ended, or gave it back");
}

/* Can this block be moved, in granules? */
static bool fits(const struct vm *vm, const struct qemu_ram_block *b, const struct backing *backing,
                 guint64 granules, GError **error)
{
    if (backing->device)
        g_set_error(error, VMT_ERROR, EINVAL, "block %s is a device's memory, which the kernel does not "
                    "move", b->name);
    else if (vm->config.granule % backing->page_size)
        g_set_error(error, VMT_ERROR, EINVAL, "block %s has pages of %u bytes, more than a granule: set "
                    "granule= to that", b->name, backing->page_size);
    else if (granules > VT_GRANULES_MAX)
        g_set_error(error, VMT_ERROR, EINVAL, "more than %u granules: set a larger granule=",
                    VT_GRANULES_MAX);
    else
        return true;
    return false;
}

static void describe(struct vm *vm, const struct backing *b)
{
    g_autofree char *huge = g_strdup_printf(", %" G_GUINT64_FORMAT " MiB of %" G_GUINT64_FORMAT
                                            " in huge pages", b->huge >> 20, b->present >> 20);

    g_snprintf(vm->stats.backing, sizeof(vm->stats.backing), "%s, pages of %u KiB%s",
               b->hugetlb ? "hugetlb" : b->shared ? "shared file" : "private memory",
               b->page_size >> 10, b->huge ? huge : "");
}

/* One block; the first one says what the backing is. */
static bool take_block(struct vm *vm, const struct qemu_ram *ram, guint32 i, GError **error)
{
    struct numa *n = vm->mover_state;
    const struct qemu_ram_block *from = &ram->block[i];
    guint64 count = (from->length - 1) / vm->config.granule + 1;
    struct backing backing;

    if (!process_backing(n->process, from->at, from->at + from->length, &backing, error) ||
        !fits(vm, from, &backing, vm->ledger.n + count, error))
        return false;
    if (!vm->stats.backing[0])
        describe(vm, &backing);
    g_mutex_lock(&vm->lock);
    vm->block[i] = (struct vm_block){
        .present = true, .length = from->length, .host = from->at, .first = vm->ledger.n, .count = (guint32)count,
        .page_size = backing.page_size, .placed = true, .file = { -1, -1, -1, -1, -1, -1, -1, -1 },
    };
    vm_clean_text(vm->block[i].name, from->name, sizeof(vm->block[i].name));
    vm_resize(vm, vm->ledger.n + (guint32)count);
    g_mutex_unlock(&vm->lock);
    n->at[i] = from->at;
    vm->stats.ram_bytes += from->length;
    return true;
}
static_assert(VT_TIERS == 8, "a block has a file for each tier");

static bool take_ram(struct vm *vm, const struct qemu_ram *ram, GError **error)
{
    struct numa *n = vm->mover_state;

    for (guint32 i = 0; i < ram->n_blocks; i++)
        if (!take_block(vm, ram, i, error))
            return false;
    n->in = g_new0(guint32, (gsize)vm->ledger.n * (vm->daemon->tiers->n + 1));
    n->cell = g_new0(struct cell, vm->ledger.n);
    for (guint32 g = 0; g < vm->ledger.n; g++)
        numa_release(vm, g);
    memcpy(vm->stats.slot, ram->slot, sizeof(ram->slot));
    vm->stats.n_slots = ram->n_slots;
    memcpy(vm->stats.qemu, ram->version, sizeof(vm->stats.qemu));
    return true;
}

bool numa_learn(struct vm *vm, GError **error)
{
    struct numa *n = vm->mover_state;
    g_autofree struct qemu_ram *ram = g_new0(struct qemu_ram, 1);
    g_autoptr(GArray) maps = process_maps(n->process, error);

    if (!maps)
        return false;
    if (n->monitor ? !qemu_ram_from_monitor(ram, n->monitor, maps, error)
                   : !qemu_ram_from_cmdline(ram, n->process->argv, maps, error))
        return false;
    return take_ram(vm, ram, error);
}
