// SPDX-License-Identifier: GPL-2.0-or-later
/* What is shown of libvirt's domains, and what libvirt's hook asks: may this one start? */
#include "host/libvirt-internal.h"
#include "host/sharing.h"

#include <string.h>

/* --- what is shown ------------------------------------------------------------------------------------------ */

static void put_text(JsonObject *o, const char *key, const char *text)
{
    if (text)
        json_object_set_string_member(o, key, text);
    else
        json_object_set_null_member(o, key);
}

static JsonObject *view_known(const struct known *k)
{
    JsonObject *o = json_object_new();
    g_autofree char *summary = tiering_summary(&k->tiering);

    put_text(o, "name", k->name);
    put_text(o, "uuid", k->uuid);
    put_text(o, "settings", k->tiering.given ? summary : NULL);
    json_object_set_boolean_member(o, "required", k->tiering.required);
    put_text(o, "from", k->from);
    put_text(o, "problem", k->problem);
    return o;
}

JsonObject *libvirt_view_vm(struct daemon *d, const struct vm *vm)
{
    const struct known *k = d->libvirt ? libvirt_known(d->libvirt, vm->uuid, vm->name) : NULL;

    return k ? view_known(k) : NULL;
}

JsonObject *libvirt_view(struct daemon *d)
{
    JsonObject *o = json_object_new();
    JsonArray *domains = json_array_new();
    struct libvirt *l = d->libvirt;
    GHashTableIter iter;
    gpointer k;

    put_text(o, "uri", d->config->libvirt);
    json_object_set_boolean_member(o, "connected", l && l->connected);
    put_text(o, "reason", l ? l->why_not : NULL);
    if (l)
        g_hash_table_iter_init(&iter, l->domains);
    while (l && g_hash_table_iter_next(&iter, NULL, &k))
        json_array_add_object_element(domains, view_known(k));
    json_object_set_array_member(o, "domains", domains);
    return o;
}

static JsonNode *node_of(JsonObject *o)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, o);
    return node;
}

static JsonNode *query(JsonObject *args, gpointer opaque, GError **error)
{
    (void)args, (void)error;
    return node_of(libvirt_view(opaque));
}

/* --- the hook ------------------------------------------------------------------------------------------------ */

/* Why it is not to start, or NULL. One that would rather start without its guarantee does, and that is told. */
static char *prepare(struct libvirt *l, struct known *k)
{
    bool asks = k->required || k->tiering.n_pins || quota_is_given(&k->tiering.min);
    g_autofree char *refusal = asks ? libvirt_admit(l, k) : NULL;

    k->starting = true;
    if (k->required)
        return g_steal_pointer(&refusal);
    if (refusal && !k->problem && k->plugin && l->daemon->pool)
        libvirt_announce(l, k, "VMTIER_LIBVIRT_UNPROMISED", "reason", refusal);
    return NULL;
}

static JsonNode *hook(JsonObject *args, gpointer opaque, GError **error)
{
    struct libvirt *l = ((struct daemon *)opaque)->libvirt;
    const char *operation = json_object_get_string_member(args, "operation");
    struct known *k = libvirt_learn(l, json_object_get_string_member(args, "xml"), "hook", error);
    g_autofree char *refusal = NULL;
    JsonObject *o;

    if (!k && error && *error)
        return NULL;
    o = json_object_new();
    if (!k)
        return node_of(o);
    if (!strcmp(operation, "release") || !strcmp(operation, "stopped")) {
        libvirt_forget(l, k->uuid);
        return node_of(o);
    }
    refusal = !strcmp(operation, "prepare") ? prepare(l, k) : NULL;
    put_text(o, "refuse", refusal);
    put_text(o, "problem", k->problem);
    if (refusal)
        libvirt_forget(l, k->uuid);
    return node_of(o);
}

static const struct qmp_arg hook_args[] = {
    { "domain", QMP_STRING, true }, { "operation", QMP_STRING, true }, { "xml", QMP_STRING, true }, { 0 },
};

const struct qmp_command libvirt_commands[] = {
    { "query-vmtier-libvirt", NULL, query },
    { "vmtier-libvirt-hook", hook_args, hook },
    { 0 },
};
