// SPDX-License-Identifier: GPL-2.0-or-later
/* A VM's life in the daemon: see vm.h. */
#include "host/vm.h"
#include "host/daemon.h"
#include "host/libvirt.h"
#include "host/mover/mover.h"
#include "host/order.h"
#include "host/trace-tap.h"
#include "host/source/source.h"

#include <string.h>
#include <unistd.h>

static const char *const state_names[] = {
    "attaching", "tiering", "observing", "off", "frozen", "refused",
};
static_assert(G_N_ELEMENTS(state_names) == VM_STATE_COUNT, "a state has no name");

const char *vm_state_name(enum vm_state state)
{
    return state_names[state];
}

void vm_clean_text(char *to, const char *from, size_t size)
{
    size_t i;

    for (i = 0; i < size - 1 && from[i]; i++)
        to[i] = g_ascii_isprint(from[i]) ? from[i] : '?';
    to[i] = '\0';
}

struct vm *vm_ref(struct vm *vm)
{
    g_atomic_ref_count_inc(&vm->refs);
    return vm;
}

void vm_unref(struct vm *vm)
{
    if (!vm || !g_atomic_ref_count_dec(&vm->refs))
        return;
    sources_close(vm);
    if (vm->link >= 0)
        close(vm->link);
    if (vm->mover->close)
        vm->mover->close(vm);
    tap_close(vm);
    order_free(vm->order);
    for (int b = 0; b < VT_BLOCKS; b++)
        for (int t = 0; t < VT_TIERS; t++)
            if (vm->block[b].file[t] >= 0)
                close(vm->block[b].file[t]);
    vm->policy->destroy(vm->policy_state);
    ledger_clear(&vm->ledger);
    heat_clear(&vm->heat);
    wishes_clear(&vm->wishes);
    spread_clear(&vm->spread);
    history_clear(&vm->history);
    g_free(vm->hits[0]);
    g_free(vm->hits[1]);
    g_mutex_clear(&vm->lock);
    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->qemu);
    g_free(vm);
}

static char *uuid_text(const guint8 u[16])
{
    static const guint8 none[16];

    if (!memcmp(u, none, 16))
        return NULL;
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                           u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10],
                           u[11], u[12], u[13], u[14], u[15]);
}

struct vm *vm_new(struct daemon *daemon, const struct vt_hello *hello, int link)
{
    const struct weights cold = config_cold_weights(daemon->config);
    struct vm *vm = g_new0(struct vm, 1);

    g_atomic_ref_count_init(&vm->refs);
    g_mutex_init(&vm->lock);
    vm->daemon = daemon;
    vm->link = link;
    vm->mover = &mover_remap;
    vm->name = g_utf8_make_valid(hello->name, -1);
    vm->uuid = uuid_text(hello->uuid);
    vm->qemu = g_strdup_printf("%u.%u.%u", hello->qemu_major, hello->qemu_minor,
                               hello->qemu_micro);
    vm->pid = hello->pid;
    vm->accel = hello->accel < VT_ACCEL_END ? (int)hello->accel : VT_ACCEL_OTHER;
    vm->can_sources = hello->sources & SOURCES_IN_QEMU;
    for (int i = 0; i < VT_SRC_END; i++)
        vm_clean_text(vm->no_source[i], hello->no_source[i], VT_NAME);
    vm->config = libvirt_vm_config(daemon, vm->name, hello->uuid);
    if (hello->granule)
        vm->config.granule = hello->granule;
    vm->want = (struct vm_settings){ .mode = vm->config.mode, .rate = vm->config.rate,
                                     .min = vm->config.min, .weight = vm->config.weight,
                                     .interleave = vm->config.interleave, .pins = vm->config.pins };
    vm->now = vm->want;
    vm->sources = vm->config.sources & vm->can_sources;
    sources_init(vm);
    for (int b = 0; b < VT_BLOCKS; b++)
        memset(vm->block[b].file, 0xff, sizeof(vm->block[b].file));
    ledger_init(&vm->ledger, vm->config.granule);
    spread_init(&vm->spread, daemon->tiers->n, &cold);
    heat_init(&vm->heat);
    heat_set_unit(&vm->heat, HEAT_PROBES, (double)vm->config.granule / 4096 * HEAT_VISIT);
    vm->policy = vm->config.policy;
    vm->policy_state = vm->policy->create();
    vm->move_cost_s = VM_MOVE_COST_S;
    vm->stats.hit_ratio = -1;
    vm->attached_us = vm->last_us = g_get_monotonic_time();
    vm_show(vm);
    return vm;
}

guint64 vm_limit(const struct vm *vm, const struct vm_settings *settings, guint64 ram)
{
    guint64 bytes = settings->quota_bytes;

    if (!bytes)
        bytes = quota_in_bytes(&vm->config.quota, ram);
    return MIN(MAX(bytes, vm->config.granule), ram);
}

/* What is pinned to dram is guaranteed, too. */
guint64 vm_guarantee(const struct vm *vm, const struct vm_settings *settings, guint64 ram)
{
    guint64 least = MAX(quota_in_bytes(&settings->min, ram), pins_bytes(&settings->pins, 0));

    return MIN(least, vm_limit(vm, settings, ram));
}

guint64 vm_quota(const struct vm *vm, const struct vm_settings *settings, guint64 ram)
{
    guint64 most = vm_limit(vm, settings, ram);

    return settings->granted ? MIN(settings->granted, most) : most;
}

guint32 vm_quota_granules(const struct vm *vm)
{
    return (guint32)(vm_quota(vm, &vm->now, vm->stats.ram_bytes) / vm->config.granule);
}

void vm_resize(struct vm *vm, guint32 granules)
{
    guint32 was = vm->ledger.n;

    if (granules <= was)
        return;
    ledger_resize(&vm->ledger, granules);
    heat_resize(&vm->heat, granules);
    for (int i = 0; i < 2 && vm->can_sources & (1u << VT_SRC_SAMPLE); i++) {
        vm->hits[i] = g_renew(guint32, vm->hits[i], granules);
        memset(vm->hits[i] + was, 0, (granules - was) * sizeof(guint32));
    }
}

void vm_show(struct vm *vm)
{
    g_mutex_lock(&vm->lock);
    vm->shown = vm->stats;
    g_mutex_unlock(&vm->lock);
}

void vm_event(struct vm *vm, const char *event, const char *text)
{
    g_message("%s: %s%s%s", vm->name, event, text ? ": " : "", text ? text : "");
    daemon_emit(vm->daemon, event, vm->name, text);
}
