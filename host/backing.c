// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What kind of memory a VM has: what QEMU found, checked, and what is shown of it.
 *
 * QEMU looks at its files and its page table (vmm/backing.c); nothing is taken from how it was asked
 * for. All of it is shown and none of it is relied upon, but for one thing: the kind of dram's file is
 * what the file of the slow tier is made like.
 */
#include "common/filekind.h"
#include "host/vm.h"
#include "host/daemon.h"

#include <string.h>

/* --- taking ------------------------------------------------------------------------------------------ */

static void clean_tier(struct vt_backing_tier *t, bool ours)
{
    t->kind = t->kind < VT_KIND_END ? t->kind : VT_KIND_OTHER;
    t->thp = t->thp < VT_THP_END ? t->thp : VT_THP_UNKNOWN;
    t->huge = MIN(t->huge, t->mapped);
    /* Nobody can look up the options of a mount that is in no list; ours is made with this one. */
    if (ours && t->kind == VT_KIND_TMPFS && t->thp == VT_THP_UNKNOWN)
        t->thp = VT_THP_ADVISE;
}

void vm_take_backing(struct vm *vm, const struct vt_backing *news)
{
    struct vm_block *b = news->block < VT_BLOCKS ? &vm->block[news->block] : NULL;
    char hint[VT_HINT];

    if (!b || !b->present)
        return;
    vm_clean_text(hint, news->hint, sizeof(hint));
    if (hint[0] && !b->hinted)
        g_message("%s: %s", vm->name, hint);
    b->hinted |= hint[0] != '\0';       /* once: QEMU may say it as often as it likes */
    b->backing = *news;
    memcpy(b->backing.hint, hint, sizeof(hint));
    b->backing.align = MIN(b->backing.align, 63);
    for (guint t = 0; t < VT_TIERS; t++)
        clean_tier(&b->backing.tier[t], t > 0 && !vm->daemon->tiers->tier[t].path);
}

bool vm_wants_huge(const struct vm_block *b)
{
    const struct vt_backing_tier *dram = &b->backing.tier[0];

    return b->backing.h.type && dram->kind == VT_KIND_TMPFS && dram->thp >= VT_THP_ADVISE;
}

/* --- showing ----------------------------------------------------------------------------------------- */

static char *kind_text(const struct vt_backing_tier *t)
{
    const struct filekind k = { .kind = t->kind, .thp = t->thp, .page_size = t->page_size };
    char text[64];

    filekind_text(&k, text, sizeof(text));
    return g_strdup(text);
}

static void put_mapped(JsonObject *o, const struct vt_backing *b, guint tier)
{
    if (b->passes) {
        json_object_set_int_member(o, "mapped_bytes", (gint64)b->tier[tier].mapped);
        json_object_set_int_member(o, "huge_bytes", (gint64)b->tier[tier].huge);
    } else {
        json_object_set_null_member(o, "mapped_bytes");
        json_object_set_null_member(o, "huge_bytes");
    }
}

static void put_note(JsonObject *o, const char *key, const char *text)
{
    if (text && text[0])
        json_object_set_string_member(o, key, text);
    else
        json_object_set_null_member(o, key);
}

static JsonObject *view_tier(const struct vm *vm, const struct vm_block *b, guint tier)
{
    g_autofree char *kind = kind_text(&b->backing.tier[tier]);
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "name", vm->daemon->tiers->tier[tier].name);
    json_object_set_string_member(o, "kind", kind);
    json_object_set_int_member(o, "page_bytes", b->backing.tier[tier].page_size);
    json_object_set_int_member(o, "offset", (gint64)b->base[tier]);
    put_mapped(o, &b->backing, tier);
    put_note(o, "note", b->note[tier]);
    return o;
}

static JsonObject *view_block(const struct vm *vm, const struct vm_block *b)
{
    JsonArray *tiers = json_array_new();
    JsonObject *o = json_object_new();

    for (guint t = 0; b->backing.h.type && t < vm->daemon->tiers->n; t++)
        json_array_add_object_element(tiers, view_tier(vm, b, t));
    json_object_set_string_member(o, "name", b->name);
    json_object_set_int_member(o, "bytes", (gint64)b->length);
    if (b->backing.h.type)
        json_object_set_int_member(o, "align_bytes", (gint64)(1ull << MIN(b->backing.align, 62)));
    else
        json_object_set_null_member(o, "align_bytes");
    json_object_set_array_member(o, "tiers", tiers);
    put_note(o, "hint", b->backing.h.type ? b->backing.hint : "");
    return o;
}

JsonArray *vm_view_blocks(const struct vm *vm)
{
    JsonArray *list = json_array_new();

    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present)
            json_array_add_object_element(list, view_block(vm, b));
    return list;
}

/* --- in one line -------------------------------------------------------------------------------------- */

static const struct vm_block *largest(const struct vm *vm)
{
    const struct vm_block *found = NULL;

    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present && b->backing.h.type && (!found || b->length > found->length))
            found = b;
    return found;
}

/* Of what the guest has in its page table now, in all tiers. */
static char *huge_text(const struct vt_backing *b)
{
    guint64 mapped = 0, huge = 0;

    for (guint t = 0; t < VT_TIERS; t++) {
        mapped += b->tier[t].mapped;
        huge += b->tier[t].huge;
    }
    if (!b->passes || !mapped)
        return g_strdup("");
    return g_strdup_printf(", %.0f %% of what is mapped in pages of 2 MiB or more",
                           100.0 * (double)huge / (double)mapped);
}

char *vm_backing_text(const struct vm *vm)
{
    const struct vm_block *b = largest(vm);
    g_autofree char *kind = NULL, *huge = NULL;

    if (!b)
        return NULL;
    kind = kind_text(&b->backing.tier[0]);
    huge = huge_text(&b->backing);
    return g_strdup_printf("%s%s%s", kind, b->backing.align < 21 ? ", not on a 2 MiB border" : "",
                           huge);
}
