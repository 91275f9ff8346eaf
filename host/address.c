// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From an address to a granule: guest-physical by the memslots, QEMU's own virtual by where its blocks are
 * mapped. Both are what QEMU told, checked when it came (layout.c), and belong to the worker.
 */
#include "host/vm.h"

static bool granule_in(const struct vm *vm, const struct vm_block *b, guint64 offset,
                       guint32 *granule)
{
    if (!b->present || offset >= b->length)
        return false;
    *granule = b->first + (guint32)(offset / vm->config.granule);
    return true;
}

bool vm_granule_of_gpa(const struct vm *vm, guint64 gpa, guint32 *granule)
{
    for (guint32 i = 0; i < vm->stats.n_slots; i++) {
        const struct vt_slot *s = &vm->stats.slot[i];

        if (gpa < s->gpa || gpa - s->gpa >= s->length)
            continue;
        return s->block < VT_BLOCKS && s->offset + (gpa - s->gpa) >= s->offset &&
               granule_in(vm, &vm->block[s->block], s->offset + (gpa - s->gpa), granule);
    }
    return false;
}

bool vm_granule_of_hva(const struct vm *vm, guint64 hva, guint32 *granule)
{
    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present && b->host && hva >= b->host && hva - b->host < b->length)
            return granule_in(vm, b, hva - b->host, granule);
    return false;
}
