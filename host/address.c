// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From an address to a granule, and back: guest-physical by the memslots, QEMU's own virtual by where its blocks are
 * mapped. Both are what QEMU told, checked when it came (layout.c), and belong to the worker.
 */
#include "host/vm.h"

static bool place_in(const struct vm *vm, const struct vm_block *b, guint64 offset, guint64 most,
                     struct vm_place *place)
{
    const guint64 granule = vm->config.granule;

    if (!b->present || offset >= b->length)
        return false;
    place->granule = b->first + (guint32)(offset / granule);
    place->left = MIN(MIN(granule - offset % granule, b->length - offset), most);
    return true;
}

bool vm_place_of_gpa(const struct vm *vm, guint64 gpa, struct vm_place *place)
{
    place->left = G_MAXUINT64 - gpa;
    for (guint32 i = 0; i < vm->stats.n_slots; i++) {
        const struct vt_slot *s = &vm->stats.slot[i];
        guint64 in = gpa - s->gpa;

        if (gpa < s->gpa)
            place->left = MIN(place->left, s->gpa - gpa);
        if (gpa < s->gpa || in >= s->length)
            continue;
        place->left = s->length - in;
        return s->block < VT_BLOCKS && s->offset + in >= s->offset &&
               place_in(vm, &vm->block[s->block], s->offset + in, s->length - in, place);
    }
    return false;
}

bool vm_place_of_hva(const struct vm *vm, guint64 hva, struct vm_place *place)
{
    place->left = G_MAXUINT64 - hva;
    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++) {
        if (!b->present || !b->host)
            continue;
        if (hva < b->host)
            place->left = MIN(place->left, b->host - hva);
        else if (hva - b->host < b->length)
            return place_in(vm, b, hva - b->host, b->length, place);
    }
    return false;
}

bool vm_granule_of_gpa(const struct vm *vm, guint64 gpa, guint32 *granule)
{
    struct vm_place place;
    bool found = vm_place_of_gpa(vm, gpa, &place);

    if (found)
        *granule = place.granule;
    return found;
}

bool vm_granule_of_hva(const struct vm *vm, guint64 hva, guint32 *granule)
{
    struct vm_place place;
    bool found = vm_place_of_hva(vm, hva, &place);

    if (found)
        *granule = place.granule;
    return found;
}

static const struct vm_block *block_of(const struct vm *vm, guint32 granule)
{
    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present && b->host && granule >= b->first && granule - b->first < b->count)
            return b;
    return NULL;
}

guint64 vm_pages_of_granule(const struct vm *vm, guint32 granule, guint32 *pages)
{
    const struct vm_block *b = block_of(vm, granule);
    guint64 offset = b ? (granule - b->first) * vm->config.granule : 0;

    *pages = b ? (guint32)(MIN(vm->config.granule, b->length - offset) / 4096) : 0;
    return b ? b->host + offset : 0;
}
