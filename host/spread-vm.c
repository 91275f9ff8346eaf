// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM's weights and pins: from what an operator asks for to granules, and what is shown of it.
 *
 * Pins name addresses. Which granules these are changes when memory is plugged or the guest is reset, and how
 * many may be in dram changes with the quota. So they are looked up again whenever a checksum of all that
 * differs, all or nothing of each pin: one that cannot be carried out is left out, and it is told why.
 */
#include "host/daemon.h"

#include <string.h>
#include <zlib.h>

static const char *const problems[] = {
    NULL, "no tiered RAM is there", "it is not of whole granules", "there is no room for it in the quota",
};
static_assert(G_N_ELEMENTS(problems) == PIN_PROBLEMS, "a problem has no name");

/* --- on a worker ------------------------------------------------------------------------------------------- */

static guint32 checksum(const struct vm *vm)
{
    const guint64 quota = vm_limit(vm, &vm->now, vm->stats.ram_bytes);
    uLong sum = crc32(0, (const Bytef *)vm->stats.slot, vm->stats.n_slots * (uInt)sizeof(vm->stats.slot[0]));

    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++)
        if (b->present) {
            sum = crc32(sum, (const Bytef *)&b->first, sizeof(b->first));
            sum = crc32(sum, (const Bytef *)&b->length, sizeof(b->length));
        }
    sum = crc32(sum, (const Bytef *)vm->now.pins.pin, vm->now.pins.n * (uInt)sizeof(struct pin));
    return (guint32)crc32(sum, (const Bytef *)&quota, sizeof(quota));
}

/* The granules of a pin, if all of it can be pinned. */
static enum pin_problem find_granules(const struct vm *vm, const struct pin *pin, GArray *list)
{
    const guint64 granule = vm->config.granule;
    guint32 last = G_MAXUINT32, g;

    if ((pin->gpa | pin->size) % granule)
        return PIN_NOT_WHOLE;
    for (guint64 at = pin->gpa; at < pin->gpa + pin->size; at += granule) {
        if (!vm_granule_of_gpa(vm, at, &g))
            return PIN_NO_RAM;
        if (g == last || spread_pin_of(&vm->spread, g) >= 0)
            return PIN_NOT_WHOLE;       /* the memslot does not begin at a granule */
        g_array_append_val(list, g);
        last = g;
    }
    return PIN_OK;
}

static enum pin_problem set_pin(struct vm *vm, guint number)
{
    const struct pin *pin = &vm->now.pins.pin[number];
    guint64 most = vm_limit(vm, &vm->now, vm->stats.ram_bytes) / vm->config.granule;
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(guint32));
    enum pin_problem problem;

    if (pin->size > vm->stats.ram_bytes)
        return PIN_NO_RAM;
    problem = find_granules(vm, pin, list);
    if (!problem && pin->tier == 0 && list->len > most - MIN(most, vm->spread.pinned[0]))
        problem = PIN_OVER_QUOTA;
    for (guint i = 0; !problem && i < list->len; i++)
        spread_pin(&vm->spread, &vm->ledger, g_array_index(list, guint32, i), number, pin->tier);
    return problem;
}

static void say_problem(struct vm *vm, guint number, enum pin_problem problem)
{
    const struct pin *pin = &vm->now.pins.pin[number];
    g_autofree char *text = pin_format(pin, vm->config.tier_name);
    g_autofree char *full = g_strdup_printf("pin %s: %s", text, problems[problem]);

    vm_event(vm, "VMTIER_PIN_REFUSED", full);
}

static void set_pins(struct vm *vm)
{
    struct spread_stats *s = &vm->stats.spread;
    const struct spread_stats was = *s;

    spread_unpin(&vm->spread);
    s->pins = vm->now.pins;
    for (guint i = 0; i < s->pins.n; i++) {
        bool same = i < was.pins.n && was.pins.pin[i].gpa == s->pins.pin[i].gpa;
        enum pin_problem problem = set_pin(vm, i);

        s->problem[i] = (guint8)problem;
        if (problem && !(same && was.problem[i] == problem))
            say_problem(vm, i, problem);
    }
}

void vm_spread_refresh(struct vm *vm)
{
    guint32 sum;

    spread_interleave(&vm->spread, &vm->now.interleave);
    if (!vm->now.pins.n && !vm->stats.spread.pins.n)
        return;
    sum = checksum(vm);
    if (sum != vm->spread_seen)
        set_pins(vm);
    vm->spread_seen = sum;
}

void vm_spread_account(struct vm *vm)
{
    struct spread_stats *s = &vm->stats.spread;

    memset(s->arrived, 0, sizeof(s->arrived));
    for (guint32 g = 0; vm->spread.pin && g < vm->ledger.n; g++) {
        int pin = spread_pin_of(&vm->spread, g);

        if (pin >= 0)
            s->arrived[pin] += vm->ledger.tier[g] == s->pins.pin[pin].tier;
    }
    spread_count(&vm->spread, &vm->ledger, s->hot, s->hot_target);
}

/* --- what is shown --------------------------------------------------------------------------------------------- */

/* What has become of a pin; PINS_MOST: nothing yet. */
static guint find_pin(const struct spread_stats *s, const struct pin *pin)
{
    for (guint i = 0; i < s->pins.n; i++)
        if (s->pins.pin[i].gpa == pin->gpa && s->pins.pin[i].size == pin->size &&
            s->pins.pin[i].tier == pin->tier)
            return i;
    return PINS_MOST;
}

static JsonObject *view_pin(const struct vm *vm, const struct pin *pin, const struct spread_stats *s)
{
    guint i = find_pin(s, pin);
    const char *problem = i < PINS_MOST ? problems[s->problem[i]] : NULL;
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "tier", vm->config.tier_name[pin->tier]);
    json_object_set_int_member(o, "gpa", (gint64)pin->gpa);
    json_object_set_int_member(o, "size", (gint64)pin->size);
    json_object_set_int_member(o, "granules", (gint64)(pin->size / vm->config.granule));
    json_object_set_int_member(o, "arrived", i < PINS_MOST ? s->arrived[i] : 0);
    if (problem)
        json_object_set_string_member(o, "problem", problem);
    else
        json_object_set_null_member(o, "problem");
    return o;
}

static JsonObject *view_interleave(const struct vm *vm, const struct weights *w, const struct spread_stats *s)
{
    JsonArray *tiers = json_array_new();
    JsonObject *o = json_object_new();

    for (guint t = 0; t < vm->daemon->tiers->n; t++) {
        JsonObject *tier = json_object_new();

        json_object_set_string_member(tier, "name", vm->config.tier_name[t]);
        json_object_set_int_member(tier, "weight", w->of[t]);
        json_object_set_int_member(tier, "granules", s->hot[t]);
        json_object_set_int_member(tier, "target_granules", s->hot_target[t]);
        json_array_add_object_element(tiers, tier);
    }
    json_object_set_array_member(o, "tiers", tiers);
    return o;
}

void view_spread(JsonObject *o, const struct vm *vm, const struct vm_settings *want, const struct vm_stats *s)
{
    g_autofree char *text = weights_format(&want->interleave, vm->config.tier_name);
    JsonArray *pins = json_array_new();

    for (guint i = 0; i < want->pins.n; i++)
        json_array_add_object_element(pins, view_pin(vm, &want->pins.pin[i], &s->spread));
    json_object_set_array_member(o, "pins", pins);
    if (weights_sum(&want->interleave)) {
        JsonObject *i = view_interleave(vm, &want->interleave, &s->spread);

        json_object_set_string_member(i, "weights", text);
        json_object_set_object_member(o, "interleave", i);
    } else {
        json_object_set_null_member(o, "interleave");
    }
    json_object_set_int_member(o, "spread_moved_bytes", (gint64)s->spread.moved_bytes);
}
