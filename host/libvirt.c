// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the daemon knows from libvirt: see libvirt.h.
 *
 * Settings are given to a running VM only when its metadata have changed, so what an operator sets by hand
 * stays until then, and a libvirtd that was restarted and tells everything again changes nothing. Metadata
 * that is wrong changes nothing either, and is an event.
 */
#include "host/libvirt-internal.h"

#include "host/size.h"

#include <string.h>

#define DOMAINS_MOST 4096

/* --- domains --------------------------------------------------------------------------------------------- */

static void known_free(gpointer data)
{
    struct known *k = data;

    g_free(k->name);
    g_free(k->uuid);
    g_free(k->text);
    g_free(k->problem);
    g_free(k);
}

struct known *libvirt_known(struct libvirt *l, const char *uuid, const char *name)
{
    GHashTableIter iter;
    gpointer k;

    if (uuid)
        return g_hash_table_lookup(l->domains, uuid);
    g_hash_table_iter_init(&iter, l->domains);
    while (g_hash_table_iter_next(&iter, NULL, &k))
        if (!g_strcmp0(((struct known *)k)->name, name))
            return k;
    return NULL;
}

struct vm *libvirt_vm(struct libvirt *l, const struct known *known)
{
    for (guint i = 0; i < l->daemon->vms->len; i++) {
        struct vm *vm = g_ptr_array_index(l->daemon->vms, i);

        if (!g_atomic_int_get(&vm->gone) &&
            (vm->uuid ? !g_strcmp0(vm->uuid, known->uuid) : !g_strcmp0(vm->name, known->name)))
            return vm;
    }
    return NULL;
}

void libvirt_announce(struct libvirt *l, const struct known *k, const char *event, const char *key,
                      const char *text)
{
    JsonObject *data = json_object_new();
    const struct vm *vm = libvirt_vm(l, k);

    g_message("domain %s: %s: %s", k->name, event, text);
    if (vm)
        json_object_set_string_member(data, "vm", vm->name);
    json_object_set_string_member(data, "domain", k->name);
    json_object_set_string_member(data, "uuid", k->uuid);
    json_object_set_string_member(data, key, text);
    daemon_tell(l->daemon, event, data);
}

/* --- settings ----------------------------------------------------------------------------------------------- */

/*
 * A max that is less than the granule the VM will have, pins that do not fit it or the max, tiers that
 * there are not.
 */
static char *misfit(struct libvirt *l, const struct known *k, const struct tiering *t)
{
    const struct vm_config *usual = config_for_vm(l->daemon->config, k->name);
    guint64 granule = t->granule ? t->granule : usual->granule;
    g_autofree char *size = size_format(granule);
    g_autoptr(GError) error = NULL;
    struct weights weights;
    struct pins pins;

    if (!tiering_spread(t, usual->tier_name, &weights, &pins, &error) ||
        !tiering_check_pins(t, &pins, granule, k->memory, &error))
        return g_strdup(error->message);
    if (!t->max.bytes || t->max.bytes >= granule)
        return NULL;
    return g_strdup_printf("line %ld: <tiering>: max of <dram> is less than one granule of %s", t->line, size);
}

/* misfit() has found nothing wrong; where the domain says nothing the file does. */
static void apply_spread(const struct tiering *t, struct vm_config *config)
{
    struct weights weights = { 0 };
    struct pins pins = { 0 };

    tiering_spread(t, config->tier_name, &weights, &pins, NULL);
    if (t->n_interleave)
        config->interleave = weights;
    if (t->n_pins)
        config->pins = pins;
}

/* One that is not to start without what it asks for is promised its quota, if it says nothing else. */
struct vm_config libvirt_config(struct libvirt *l, const struct known *k, const char *name)
{
    struct vm_config config = *config_for_vm(l->daemon->config, name);

    if (!k || !k->tiering.given)
        return config;
    config.mode = k->tiering.mode;
    if (quota_is_given(&k->tiering.max))
        config.quota = k->tiering.max;
    if (quota_is_given(&k->tiering.min))
        config.min = k->tiering.min;
    else if (k->tiering.required)
        config.min = config.quota;
    if (!quota_is_given(&k->tiering.max) &&
        quota_in_bytes(&config.min, k->memory) > quota_in_bytes(&config.quota, k->memory))
        config.quota = config.min;
    if (k->tiering.weight)
        config.weight = k->tiering.weight;
    if (k->tiering.granule)
        config.granule = k->tiering.granule;
    apply_spread(&k->tiering, &config);
    return config;
}

/* To a VM that is attached. */
static void apply(struct libvirt *l, const struct known *k)
{
    struct vm *vm = libvirt_vm(l, k);
    struct vm_config config;

    if (!vm)
        return;
    config = libvirt_config(l, k, vm->name);
    g_mutex_lock(&vm->lock);
    vm->want.quota_bytes = quota_in_bytes(&config.quota, vm->shown.ram_bytes ? vm->shown.ram_bytes : k->memory);
    vm->want.min = config.min;
    vm->want.weight = config.weight;
    vm->want.mode = config.mode;
    vm->want.interleave = config.interleave;
    vm->want.pins = config.pins;
    g_mutex_unlock(&vm->lock);
    if (config.granule != vm->config.granule)
        g_message("%s: another granule takes effect when its QEMU is started again", vm->name);
}

static void set_problem(struct libvirt *l, struct known *k, const char *problem)
{
    bool news = problem && g_strcmp0(problem, k->problem);

    g_free(k->problem);
    k->problem = g_strdup(problem);
    if (news)
        libvirt_announce(l, k, "VMTIER_LIBVIRT_INVALID", "reason", problem);
}

static void settle(struct libvirt *l, struct known *k, const struct domain_facts *facts,
                   const struct tiering *tiering, const char *from)
{
    g_autofree char *text = tiering_write(tiering, facts), *summary = tiering_summary(tiering);
    bool same = !g_strcmp0(text, k->text), first = !k->text;

    k->from = from;
    set_problem(l, k, NULL);
    if (same)
        return;
    k->tiering = *tiering;
    g_free(k->text);
    k->text = g_steal_pointer(&text);
    if (strcmp(from, "file"))
        libvirt_save(l, k);
    if (!first || tiering->given)
        libvirt_announce(l, k, "VMTIER_LIBVIRT_SETTINGS", "settings", summary);
    if (strcmp(from, "file"))
        apply(l, k);
}

static struct known *domain_named(struct libvirt *l, const struct domain_facts *facts, const char *from)
{
    g_autofree char *uuid = g_ascii_strdown(facts->uuid ? facts->uuid : "", -1);
    struct known *k = g_hash_table_lookup(l->domains, uuid);

    if (!k && g_uuid_string_is_valid(uuid) && g_hash_table_size(l->domains) < DOMAINS_MOST) {
        k = g_new0(struct known, 1);
        k->uuid = g_steal_pointer(&uuid);
        k->from = from;
        g_hash_table_insert(l->domains, k->uuid, k);
    }
    if (k) {
        g_free(k->name);
        k->name = g_strdup(facts->name);
        k->memory = facts->memory;
        k->plugin = facts->plugin;
        k->required = facts->required;
    }
    return k;
}

struct known *libvirt_learn(struct libvirt *l, const char *xml, const char *from, GError **error)
{
    g_autoptr(GError) wrong = NULL;
    g_autofree char *unfit = NULL;
    struct domain_facts facts;
    struct tiering tiering;
    struct known *k = NULL;

    if (!domain_read(xml, strlen(xml), &facts, &tiering, &wrong) && !facts.name) {
        g_propagate_error(error, g_steal_pointer(&wrong));
        return NULL;
    }
    k = domain_named(l, &facts, from);
    unfit = k && !wrong ? misfit(l, k, &tiering) : NULL;
    if (k && !wrong && !unfit)
        unfit = libvirt_overdraws(l, k, &tiering);
    if (k && (wrong || unfit))
        set_problem(l, k, wrong ? wrong->message : unfit);
    else if (k)
        settle(l, k, &facts, &tiering, from);
    domain_facts_clear(&facts);
    return k;
}

void libvirt_forget(struct libvirt *l, const char *uuid)
{
    libvirt_drop_file(l, uuid);
    g_hash_table_remove(l->domains, uuid);
}

static char *uuid_text(const guint8 u[16])
{
    GString *s = g_string_new(NULL);

    for (int i = 0; i < 16; i++)
        g_string_append_printf(s, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
    return g_string_free(s, FALSE);
}

struct vm_config libvirt_vm_config(struct daemon *d, const char *name, const guint8 uuid[16])
{
    g_autofree char *text = uuid_text(uuid);

    if (!d->libvirt)
        return *config_for_vm(d->config, name);
    return libvirt_config(d->libvirt, libvirt_known(d->libvirt, text, NULL), name);
}

/* --- what libvirtd tells --------------------------------------------------------------------------------- */

/* Domains that ended while nobody told us. One whose VM is attached may be another libvirtd's. */
static void forget_unseen(struct libvirt *l)
{
    g_autoptr(GList) all = g_hash_table_get_values(l->domains);

    for (GList *i = all; i; i = i->next) {
        const struct known *k = i->data;

        if (!k->seen && strcmp(k->from, "hook") && !libvirt_vm(l, k))
            libvirt_forget(l, k->uuid);
    }
}

static void on_connection(gpointer opaque, bool connected, const char *text)
{
    struct libvirt *l = opaque;
    GHashTableIter iter;
    gpointer k;

    if (connected)
        forget_unseen(l);
    if (connected != l->connected || (!connected && g_strcmp0(text, l->why_not)))
        g_message("libvirt: %s%s", connected ? "connected to " : "", text);
    l->connected = connected;
    g_free(l->why_not);
    l->why_not = connected ? NULL : g_strdup(text);
    g_hash_table_iter_init(&iter, l->domains);
    while (!connected && g_hash_table_iter_next(&iter, NULL, &k))
        ((struct known *)k)->seen = false;
}

static void on_domain(gpointer opaque, const char *uuid, const char *xml)
{
    g_autoptr(GError) error = NULL;
    struct known *k = libvirt_learn(opaque, xml, "libvirt", &error);

    if (!k) {
        g_warning("libvirt: domain %s: %s", uuid, error ? error->message : "too many domains");
        return;
    }
    k->seen = true;
    k->starting = false;
}

/* That it stopped may be told late, when the hook has told of its next start: then it is not the end of that. */
static void on_lifecycle(gpointer opaque, const char *uuid, const char *name, const char *event)
{
    struct libvirt *l = opaque;
    struct known *k = libvirt_known(l, uuid, NULL);
    const struct known stranger = { .name = (char *)name, .uuid = (char *)uuid };

    libvirt_announce(l, k ? k : &stranger, "VMTIER_LIBVIRT_DOMAIN", "event", event);
    if (k && !strcmp(event, "started"))
        k->starting = false;
    if (k && !strcmp(event, "stopped") && !k->starting)
        libvirt_forget(l, uuid);
}

void libvirt_start(struct daemon *d)
{
    static const struct libvirt_watcher watcher = { on_connection, on_domain, on_lifecycle };
    g_autofree char *run = g_path_get_dirname(d->config->qmp_socket);
    struct libvirt *l = g_new0(struct libvirt, 1);
    g_autoptr(GError) error = NULL;

    l->daemon = d;
    l->directory = g_build_filename(run, "domains", NULL);
    l->domains = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, known_free);
    d->libvirt = l;
    libvirt_load(l);
    if (!d->config->libvirt)
        return;
    l->module = libvirt_module(&error);
    if (l->module) {
        l->watch = l->module->watch(d->config->libvirt, &watcher, l);
        return;
    }
    g_warning("libvirt=%s: %s; going on without", d->config->libvirt, error->message);
    l->why_not = g_strdup(error->message);
}

void libvirt_stop(struct daemon *d)
{
    struct libvirt *l = g_steal_pointer(&d->libvirt);

    if (!l)
        return;
    if (l->watch)
        l->module->unwatch(l->watch);
    g_hash_table_unref(l->domains);
    g_free(l->directory);
    g_free(l->why_not);
    g_free(l);
}
