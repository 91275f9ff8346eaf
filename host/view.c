// SPDX-License-Identifier: GPL-2.0-or-later
/* VMs and the daemon as JSON, for the control socket. Keys are documented in vmtier-qmp(7). */
#include "host/daemon.h"
#include "host/sharing.h"
#include "host/libvirt.h"
#include "host/mover/mover.h"
#include "host/tier-area.h"
#include "common/version.h"

#include <math.h>
#include <unistd.h>

/* --- little builders --------------------------------------------------------------------------------- */

static void put_int(JsonObject *o, const char *key, guint64 value)
{
    json_object_set_int_member(o, key, (gint64)value);
}

/* NULL and "" become null. */
static void put_text(JsonObject *o, const char *key, const char *value)
{
    if (value && value[0])
        json_object_set_string_member(o, key, value);
    else
        json_object_set_null_member(o, key);
}

/* Takes `value`; NULL becomes null. */
static void put_object(JsonObject *o, const char *key, JsonObject *value)
{
    if (value)
        json_object_set_object_member(o, key, value);
    else
        json_object_set_null_member(o, key);
}

static JsonNode *node_of(JsonObject *o)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, o);
    return node;
}

/* --- one VM ---------------------------------------------------------------------------------------------- */

static const char *accel_name(int accel)
{
    static const char *const names[] = { "other", "tcg", "kvm" };

    static_assert(G_N_ELEMENTS(names) == VT_ACCEL_END, "an accelerator has no name");
    return names[accel];
}

static void put_astray(JsonObject *o, const struct vm_astray *a)
{
    if (a->seen)
        json_object_set_double_member(o, "astray", (double)a->astray / a->seen);
    else
        json_object_set_null_member(o, "astray");
}

static JsonArray *view_tiers(struct vm *vm, const struct vm_stats *s)
{
    JsonArray *list = json_array_new();

    for (guint t = 0; t < vm->daemon->tiers->n; t++) {
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "name", vm->daemon->tiers->tier[t].name);
        put_int(o, "ledger_bytes", s->ledger_bytes[t]);
        put_int(o, "file_bytes", s->file_bytes[t]);
        put_int(o, "spare_bytes", s->spare_bytes[t]);
        put_int(o, "granules", s->granules[t]);
        json_object_set_boolean_member(o, "emulated", vm->daemon->tiers->tier[t].emulated);
        put_astray(o, &s->astray[t]);
        json_array_add_object_element(list, o);
    }
    return list;
}

static JsonObject *view_hit(const struct vm_stats *s)
{
    JsonObject *o = json_object_new();
    const char *reason = NULL;
    bool sampled = s->hit_ratio >= 0;

    if (!sampled)
        reason = s->source[SRC_SAMPLE].available ? "no access was sampled lately"
                                                 : s->source[SRC_SAMPLE].reason;
    if (sampled)
        json_object_set_double_member(o, "ratio", s->hit_ratio);
    else
        json_object_set_null_member(o, "ratio");
    json_object_set_string_member(o, "how", sampled ? "sampled" : "absent");
    json_object_set_double_member(o, "window_s", s->hit_window_s);
    put_int(o, "samples", s->hit_samples);
    put_text(o, "reason", sampled ? NULL : reason);
    return o;
}

static JsonObject *view_moves(const struct vm_stats *s)
{
    JsonObject *o = json_object_new();

    put_int(o, "promoted", s->promoted);
    put_int(o, "demoted", s->demoted);
    put_int(o, "bytes", s->moved_bytes);
    put_int(o, "pages", s->pages);
    put_int(o, "failed", s->failed);
    put_int(o, "deferred", s->deferred);
    json_object_set_double_member(o, "per_s", s->moves_per_s);
    put_text(o, "last_error", s->last_error);
    return o;
}

static const char *block_name(struct vm *vm, guint32 block)
{
    return block < VT_BLOCKS && vm->block[block].present ? vm->block[block].name : "?";
}

static JsonArray *view_slots(struct vm *vm, const struct vm_stats *s)
{
    JsonArray *list = json_array_new();

    g_mutex_lock(&vm->lock);
    for (guint32 i = 0; i < s->n_slots; i++) {
        JsonObject *o = json_object_new();

        put_int(o, "gpa", s->slot[i].gpa);
        put_int(o, "size", s->slot[i].length);
        json_object_set_string_member(o, "block", block_name(vm, s->slot[i].block));
        put_int(o, "offset", s->slot[i].offset);
        json_array_add_object_element(list, o);
    }
    g_mutex_unlock(&vm->lock);
    return list;
}

static void put_identity(JsonObject *o, struct vm *vm, const struct vm_stats *s,
                         const struct vm_settings *want)
{
    g_autofree char *backing = NULL;

    g_mutex_lock(&vm->lock);
    backing = vm_backing_text(vm);
    g_mutex_unlock(&vm->lock);
    json_object_set_string_member(o, "name", vm->name);
    put_text(o, "uuid", vm->uuid);
    put_object(o, "libvirt", libvirt_view_vm(vm->daemon, vm));
    put_int(o, "pid", vm->pid);
    json_object_set_string_member(o, "qemu", s->qemu[0] ? s->qemu : vm->qemu);
    json_object_set_string_member(o, "accel", accel_name(vm->accel));
    json_object_set_string_member(o, "state", vm_state_name(s->state));
    put_text(o, "reason", s->reason);
    json_object_set_string_member(o, "mode", vm_mode_name(want->mode));
    put_int(o, "ram_bytes", s->ram_bytes);
    put_int(o, "granule_bytes", vm->config.granule);
    put_int(o, "granules", vm->config.granule ? s->ram_bytes / vm->config.granule : 0);
    put_text(o, "backing", s->backing[0] ? s->backing : backing);
    put_text(o, "mover", vm->mover->name);
    put_text(o, "policy", vm->policy->name);
}

static void put_rounds(JsonObject *o, const struct vm_stats *s)
{
    JsonObject *plan = json_object_new();

    put_int(o, "rounds", s->rounds);
    json_object_set_double_member(o, "round_ms_p50", s->round_ms);
    put_int(plan, "wanted", s->plan_wanted);
    put_int(plan, "done", s->plan_done);
    json_object_set_object_member(o, "plan", plan);
    put_int(o, "ledger_mismatches", s->mismatches);
}

JsonNode *view_vm(struct vm *vm)
{
    JsonObject *o = json_object_new();
    struct vm_settings want;
    struct vm_stats s;

    g_mutex_lock(&vm->lock);
    s = vm->shown;
    want = vm->want;
    g_mutex_unlock(&vm->lock);
    put_identity(o, vm, &s, &want);
    json_object_set_object_member(o, "quota", view_quota(vm, &want, s.ram_bytes));
    put_int(o, "rate_bytes_per_s", want.rate);
    json_object_set_array_member(o, "tiers", view_tiers(vm, &s));
    view_spread(o, vm, &want, &s);
    put_int(o, "dram_bytes_peak", s.dram_bytes_peak);
    json_object_set_object_member(o, "dram_hit", view_hit(&s));
    json_object_set_object_member(o, "moves", view_moves(&s));
    put_rounds(o, &s);
    json_object_set_array_member(o, "sources", view_sources(vm, &s));
    json_object_set_object_member(o, "agent", agent_view(&s.agent));
    json_object_set_array_member(o, "memslots", view_slots(vm, &s));
    g_mutex_lock(&vm->lock);
    json_object_set_array_member(o, "blocks", vm_view_blocks(vm));
    g_mutex_unlock(&vm->lock);
    json_object_set_double_member(o, "attached_s",
                                  (double)(g_get_monotonic_time() - vm->attached_us) / 1e6);
    return node_of(o);
}

/* --- the daemon ------------------------------------------------------------------------------------------- */

static void put_room(JsonObject *o, struct tier_area *area)
{
    const struct tier_room room = tier_area_room(area);

    put_int(o, "path_bytes", room.size);
    put_int(o, "path_unused_bytes", room.unused);
}

static JsonArray *view_host_tiers(struct daemon *d)
{
    JsonArray *list = json_array_new();

    for (guint t = 0; t < d->tiers->n; t++) {
        const struct tier *tier = &d->tiers->tier[t];
        JsonObject *o = json_object_new();
        guint64 used = 0;

        for (guint i = 0; i < d->vms->len; i++) {
            struct vm *vm = g_ptr_array_index(d->vms, i);

            g_mutex_lock(&vm->lock);
            used += vm->shown.file_bytes[t];
            g_mutex_unlock(&vm->lock);
        }
        json_object_set_string_member(o, "name", tier->name);
        put_text(o, "nodes", tier->nodes);
        json_object_set_boolean_member(o, "emulated", tier->emulated);
        put_int(o, "bytes_used", used);
        put_text(o, "path", tier->path);
        if (tier->area)
            put_room(o, tier->area);
        put_text(o, "reason", tier->reason);
        json_array_add_object_element(list, o);
    }
    return list;
}

JsonNode *view_status(struct daemon *d)
{
    JsonObject *o = json_object_new(), *uffd = json_object_new();
    JsonArray *vms = json_array_new();

    json_object_set_string_member(o, "version", VMTIER_VERSION);
    put_int(o, "pid", (guint64)getpid());
    json_object_set_double_member(o, "uptime_s",
                                  (double)(g_get_monotonic_time() - d->started_us) / 1e6);
    json_object_set_boolean_member(uffd, "available", d->userfault >= 0);
    put_text(uffd, "reason", d->no_userfault);
    json_object_set_object_member(o, "userfaultfd", uffd);
    json_object_set_object_member(o, "libvirt", libvirt_view(d));
    json_object_set_array_member(o, "tiers", view_host_tiers(d));
    json_object_set_object_member(o, "sharing", view_sharing(d));
    for (guint i = 0; i < d->vms->len; i++)
        json_array_add_element(vms, view_vm(g_ptr_array_index(d->vms, i)));
    json_object_set_array_member(o, "vms", vms);
    return node_of(o);
}

/* --- arrays ------------------------------------------------------------------------------------------------ */

/* Where the granules are in the guest: one entry per memslot. */
static JsonArray *view_ranges(struct vm *vm, const struct vm_stats *s)
{
    JsonArray *list = json_array_new();

    for (guint32 i = 0; i < s->n_slots; i++) {
        const struct vt_slot *slot = &s->slot[i];
        const struct vm_block *b = slot->block < VT_BLOCKS ? &vm->block[slot->block] : NULL;
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "block", block_name(vm, slot->block));
        put_int(o, "gpa", slot->gpa);
        put_int(o, "first", (b ? b->first : 0) + slot->offset / vm->config.granule);
        put_int(o, "count", (slot->length + vm->config.granule - 1) / vm->config.granule);
        json_array_add_object_element(list, o);
    }
    return list;
}

static JsonObject *view_head(struct vm *vm)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "vm", vm->name);
    put_int(o, "granule_bytes", vm->config.granule);
    json_object_set_array_member(o, "ranges", view_ranges(vm, &vm->shown));
    return o;
}

static void put_bytes(JsonObject *o, const char *key, const struct history *h, const guint8 *ring)
{
    g_autofree guint8 *flat = history_unroll(h, ring);
    g_autofree char *text = g_base64_encode(flat, (gsize)h->rows * h->columns);

    json_object_set_string_member(o, key, text);
}

static JsonObject *view_history(const struct history *h)
{
    JsonObject *o = json_object_new();

    json_object_set_double_member(o, "period_s", HISTORY_PERIOD);
    put_int(o, "rows", h->rows);
    put_int(o, "row_granules", h->row_granules);
    put_int(o, "columns", h->columns);
    json_object_set_double_member(o, "start_unix", h->start_unix);
    put_bytes(o, "heat", h, h->heat);
    put_bytes(o, "tier", h, h->tier);
    return o;
}

JsonNode *view_heatmap(struct vm *vm)
{
    JsonArray *heat = json_array_new(), *tier = json_array_new();
    JsonObject *o;

    g_mutex_lock(&vm->lock);
    o = view_head(vm);
    for (guint32 g = 0; g < vm->ledger.n; g++) {
        json_array_add_double_element(heat, heat_rate(&vm->heat, g).rate);
        json_array_add_int_element(tier, vm->ledger.tier[g]);
    }
    json_object_set_object_member(o, "history", view_history(&vm->history));
    g_mutex_unlock(&vm->lock);
    json_object_set_array_member(o, "heat", heat);
    json_object_set_array_member(o, "tier", tier);
    return node_of(o);
}

JsonNode *view_samples(struct vm *vm)
{
    static const char *const keys[] = { "dram", "cxl" };
    JsonObject *o;

    g_mutex_lock(&vm->lock);
    o = view_head(vm);
    for (int i = 0; i < 2; i++) {
        JsonArray *list = json_array_new();

        for (guint32 g = 0; g < vm->ledger.n; g++)
            json_array_add_int_element(list, vm->hits[i] ? vm->hits[i][g] : 0);
        json_object_set_array_member(o, keys[i], list);
    }
    put_int(o, "moves_total", vm->shown.promoted + vm->shown.demoted);
    g_mutex_unlock(&vm->lock);
    return node_of(o);
}
